#!/usr/bin/env node
import process from 'node:process'
import { launch } from './runtime.mjs'

// an agent waits for most of its life, and what it makes is small: room for more young objects would be memory that is held for nothing
launch('agent/main.ts', process.argv.slice(2), { product: true, jobs: true, flags: ['--max-semi-space-size=2'] })
