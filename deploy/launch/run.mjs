import process from 'node:process'
import { launch } from './runtime.mjs'

// npm run: the entry is the first argument
const [entry = '', ...rest] = process.argv.slice(2)
launch(entry, rest, { endWithParent: true })
