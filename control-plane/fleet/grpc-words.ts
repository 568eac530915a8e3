import { setLogger } from '@grpc/grpc-js'
import type { Logger } from '../../shared/log.ts'

/** That a port could not be had: the error that grpc-js throws then says it too, with the reason that this line lacks. */
const NO_PORT = /^No address added out of total/

/** What grpc-js would print to standard error goes into our log. It has one voice for the whole process: the last log given takes it. */
export function grpcWordsTo(log: Logger): void {
  const say = (message: unknown) => {
    const text = String(message)
    if (!NO_PORT.test(text)) log.warn({ grpc: text.slice(0, 2000) }, 'grpc-js has something to say')
  }
  setLogger({ error: say, info: say, debug: say })
}
