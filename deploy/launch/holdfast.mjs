#!/usr/bin/env node
import process from 'node:process'
import { launch } from './runtime.mjs'

const [first, ...rest] = process.argv.slice(2)
// packs pass through a server in pieces of 64 KiB: of as much room as V8 takes for young objects it would hold 10 to 20 MB after a gigabyte
if (first === 'server') launch('control-plane/main.ts', rest, { product: true, flags: ['--max-semi-space-size=2'] })
else launch('control-plane/cli/main.ts', process.argv.slice(2), { product: true })
