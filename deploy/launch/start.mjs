import process from 'node:process'
import { launch } from './runtime.mjs'

// npm start
launch('deploy/quickstart/main.ts', process.argv.slice(2), { endWithParent: true, product: true, jobs: true })
