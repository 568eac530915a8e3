import { parentPort } from 'node:worker_threads'

// A thread that dies of an error when it is given something.
parentPort.on('message', () => {
  throw new Error('broken on purpose')
})
