import { Socket } from 'node:net'
import process from 'node:process'

// Loaded before the program by the launcher, which holds the other end of this stream. When the launcher is gone, even by
// kill -9, so is the person who waits for it: the program is asked to stop, and made to if it does not.
const leash = process.env.HOLDFAST_LEASH
delete process.env.HOLDFAST_LEASH
if (leash !== undefined) {
  const stream = new Socket({ fd: Number(leash), readable: true, writable: false })
  stream.once('close', () => {
    process.kill(process.pid, 'SIGTERM')
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), 30_000).unref()
  })
  stream.on('error', () => stream.destroy())
  stream.resume()
  stream.unref()
}
