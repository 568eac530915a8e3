import { closeSync, openSync, writeSync } from 'node:fs'
import { dumpLike } from '../../../shared/repository/testing/content.ts'

// Writes so many MB into a named pipe: the same rows again and again, each kilobyte with a number of its own, so that no chunk comes twice and making
// them costs next to nothing. Arguments: the pipe, MB.

const [, , fifo = '', mb = ''] = process.argv
const PIECE = 4 * 1024 * 1024
const NUMBERED = 1024

const rows = dumpLike(1, PIECE)
const pipe = openSync(fifo, 'w')
for (let written = 0, n = 0; written < Number(mb) * 1e6; written += PIECE) {
  for (let at = 0; at < PIECE; at += NUMBERED) rows.write((n++).toString(16).padStart(10, '0'), at, 'latin1')
  for (let done = 0; done < PIECE; ) done += writeSync(pipe, rows, done)
}
closeSync(pipe)
