#!/usr/bin/env node
import process from 'node:process'
import { launch } from './runtime.mjs'

const [first, ...rest] = process.argv.slice(2)
if (first === 'server') launch('control-plane/main.ts', rest, { product: true })
else launch('control-plane/cli/main.ts', process.argv.slice(2), { product: true })
