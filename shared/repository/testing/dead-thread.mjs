import { parentPort } from 'node:worker_threads'

// A thread that ends when it is given something.
parentPort.on('message', () => process.exit(0))
