#!/usr/bin/env node
import process from 'node:process'
import { launch } from './runtime.mjs'

launch('agent/main.ts', process.argv.slice(2))
