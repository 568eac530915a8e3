import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'
import { expect, test } from 'vitest'
import { setNiceOfThreads } from './job-process.ts'

test.runIf(process.platform === 'linux')(
  'threads that a process has made before its priority was set come to have it',
  async () => {
    const child = spawn(process.execPath, ['-e', 'setInterval(() => undefined, 1000); console.log("begun")'])
    try {
      await once(child.stdout, 'data')
      const pid = child.pid as number
      const nices = () => new Set(readdirSync(`/proc/${pid}/task`).map((thread) => getPriority(Number(thread))))
      const nice = Math.min(19, getPriority() + 5)
      setPriority(pid, nice)
      expect(nices().size).toBe(2)
      setNiceOfThreads(pid)
      expect([...nices()]).toEqual([nice])
    } finally {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    // of one that has gone there is nothing to set
    setNiceOfThreads(child.pid as number)
  },
)
