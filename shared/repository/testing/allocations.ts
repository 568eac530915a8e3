/**
 * What `work` asks of memory in buffers and typed arrays: the largest piece, in bytes. All of it is asked of these functions, by Node's zlib
 * too; objects and strings are on the heap, whose size a worker's limits bound.
 */
export async function largestAllocation<T>(work: () => T | Promise<T>): Promise<{ value: T; largest: number }> {
  let largest = 0
  const note = (bytes: number) => {
    largest = Math.max(largest, bytes)
  }
  const buffers = ['alloc', 'allocUnsafe', 'allocUnsafeSlow'] as const
  const arrays = ['Uint8Array', 'Uint16Array', 'Int32Array', 'Uint32Array', 'Float64Array', 'BigUint64Array'] as const
  const kept = [...buffers.map((name) => Buffer[name]), ...arrays.map((name) => globalThis[name])]
  const set = (target: object, name: string, value: unknown) =>
    Object.defineProperty(target, name, { value, configurable: true, writable: true })
  for (const name of buffers) {
    const own = Buffer[name]
    set(Buffer, name, (size: number, ...rest: []) => {
      note(size)
      return own(size, ...rest)
    })
  }
  for (const name of arrays) {
    const own = globalThis[name]
    const construct = (target: object, args: unknown[], newTarget: new () => unknown) => {
      if (typeof args[0] === 'number') note(args[0] * own.BYTES_PER_ELEMENT)
      return Reflect.construct(target as new () => object, args, newTarget)
    }
    set(globalThis, name, new Proxy(own, { construct }))
  }
  try {
    const value = await work()
    return { value, largest }
  } finally {
    for (const [n, name] of buffers.entries()) set(Buffer, name, kept[n])
    for (const [n, name] of arrays.entries()) set(globalThis, name, kept[buffers.length + n])
  }
}
