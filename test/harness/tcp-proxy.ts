import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A line that a test cuts: TCP to one port of 127.0.0.1, which may change. */
export interface TcpProxy extends AsyncDisposable {
  readonly port: number
  /** Where new connections go. */
  upstreamPort: number
  /** Connections are refused while it is cut, and those that stand are reset. */
  cut(): void
  /** Nothing passes any more in either direction while the connections stand: a firewall that lost its state. */
  hold(): void
  /** New connections pass again; held ones are reset. */
  mend(): void
  stop(): Promise<void>
}

export async function startTcpProxy(upstreamPort: number): Promise<TcpProxy> {
  const pairs = new Set<readonly [Socket, Socket]>()
  let state: 'open' | 'cut' | 'held' = 'open'
  const server = createServer((down) => {
    if (state === 'cut') return down.resetAndDestroy()
    const up = connect({ host: '127.0.0.1', port: proxy.upstreamPort })
    const pair = [down, up] as const
    pairs.add(pair)
    for (const [one, other] of [pair, [up, down] as const]) {
      one.on('error', () => other.resetAndDestroy())
      one.on('close', () => {
        pairs.delete(pair)
        other.destroy()
      })
      one.pipe(other)
    }
    if (state === 'held') stall(pair)
  })
  const reset = () => {
    for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy()
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const stop = async () => {
    reset()
    await new Promise<void>((resolve) => server.close(() => resolve()))
  }
  const proxy: TcpProxy = {
    port: (server.address() as AddressInfo).port,
    upstreamPort,
    cut: () => {
      state = 'cut'
      reset()
    },
    hold: () => {
      state = 'held'
      for (const pair of pairs) stall(pair)
    },
    mend: () => {
      if (state === 'held') reset()
      state = 'open'
    },
    stop,
    [Symbol.asyncDispose]: stop,
  }
  return proxy
}

function stall([down, up]: readonly [Socket, Socket]): void {
  down.unpipe(up)
  up.unpipe(down)
  down.pause()
  up.pause()
}
