import process from 'node:process'
import { launch } from './runtime.mjs'

// npm start
launch('control-plane/quickstart/main.ts', process.argv.slice(2), { endWithParent: true })
