import { spawn } from 'node:child_process'
import type { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'

/**
 * Ends the process groups and removes the folders of this process when it goes without having done so: killed by a limit or by
 * Ctrl-C, or crashed, it can do nothing itself. A program of its own, in a group of its own, started with the first process.
 */
export const watchdog = {
  addGroup: (pid: number) => {
    line ??= start()
    line.write(`+ group ${pid}\n`)
  },
  removeGroup: (pid: number) => void line?.write(`- group ${pid}\n`),
  addFolder: (folder: string) => {
    folders.add(folder)
    line?.write(`+ folder ${folder}\n`)
  },
  removeFolder: (folder: string) => {
    folders.delete(folder)
    line?.write(`- folder ${folder}\n`)
  },
}

const PROGRAM = fileURLToPath(new URL('./watchdog-process.ts', import.meta.url))
const folders = new Set<string>()
let line: Socket | undefined

function start(): Socket {
  const notes = process.env.HOLDFAST_TEST_PROCESSES
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', PROGRAM, ...(notes ? [notes] : [])], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  // a worker of vitest's whose vitest was ended from outside would go on to the end of its file
  process.once('disconnect', () => process.exit(1))
  // neither may keep a suite that is done from ending
  child.unref()
  const stdin = child.stdin as Socket
  stdin.unref()
  for (const folder of folders) stdin.write(`+ folder ${folder}\n`)
  return stdin
}
