import process from 'node:process'
import { launch } from './runtime.mjs'

// npm test
launch('test/run/main.ts', process.argv.slice(2), { endWithParent: true, jobs: true })
