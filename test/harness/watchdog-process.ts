import { renameSync, rmSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'

/** The program of watchdog.ts. Its standard input ends when the process that it serves has gone, in whatever way. */

const [notes] = process.argv.slice(2)
const groups = new Set<number>()
const folders = new Set<string>()

for await (const line of createInterface({ input: process.stdin })) {
  const [sign, kind, ...rest] = line.split(' ')
  const name = rest.join(' ')
  if (kind === 'group') sign === '+' ? groups.add(Number(name)) : groups.delete(Number(name))
  if (kind === 'folder') sign === '+' ? folders.add(name) : folders.delete(name)
}
for (const pid of groups) {
  try {
    process.kill(-pid, 'SIGKILL')
    if (notes) renameSync(path.join(notes, String(pid)), path.join(notes, `${pid}.left`))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
// what was killed a moment ago may still be writing
for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
