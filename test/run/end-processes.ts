import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { tryCommand } from '../harness/commands.ts'

/** Its descendants at this moment: from /proc, and from `ps` where there is none (a bare Linux has no `ps`). */
export async function descendantsOf(pid: number): Promise<number[]> {
  const children = new Map<number, number[]>()
  for (const [child, parent] of existsSync('/proc/self/stat') ? await fromProc() : await fromPs()) {
    children.set(parent, [...(children.get(parent) ?? []), child])
  }
  const found: number[] = []
  const visit = (at: number) => {
    for (const child of children.get(at) ?? []) {
      found.push(child)
      visit(child)
    }
  }
  visit(pid)
  return found
}

type ChildAndParent = readonly [child: number, parent: number]

async function fromProc(): Promise<ChildAndParent[]> {
  const found: ChildAndParent[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    // one that ended since has no file any more
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '')
    const parent = /^.*\) \S (\d+)/s.exec(stat)?.[1]
    if (parent !== undefined) found.push([Number(name), Number(parent)])
  }
  return found
}

async function fromPs(): Promise<ChildAndParent[]> {
  const { stdout } = await tryCommand('ps', ['-A', '-o', 'pid=,ppid='])
  return stdout
    .trim()
    .split('\n')
    .map((row) => {
      const [child = 0, parent = 0] = row.trim().split(/\s+/).map(Number)
      return [child, parent] as const
    })
}

/**
 * Ends a process that hangs with all its descendants. They are listed before the first is killed: the children of a killed
 * process belong to nobody that we know.
 */
export async function endTree(pid: number): Promise<void> {
  const all = [pid, ...(await descendantsOf(pid))]
  for (const one of all) endNow(one)
}

/** Ends the process groups that startProcess noted in `folder` and nobody stopped. Gives how many there were, those that the watchdog ended included. */
export async function endNoted(folder: string): Promise<number> {
  if (!existsSync(folder)) return 0
  let ended = 0
  for (const name of await readdir(folder)) {
    if (/^\d+\.left$/.test(name) || (/^\d+$/.test(name) && endNow(-Number(name)))) ended += 1
  }
  return ended
}

function endNow(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL')
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
    throw error
  }
}
