import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

const EVERY_MS = 30
const PROGRAM = 'agent/jobs/child'

/** A process of a job, by what it has open. */
interface Worker {
  readonly pid: number
  readonly parent: number
  readonly jobId: string | null
  /** Below the watched folder but for its own scratch, what it has open for writing, and the draft of a tree that it has locked: what it makes. */
  readonly writes: readonly string[]
}

/**
 * While restores are at work, looks thirty times a second at every process of a job, past the product's own locks: no two of them may work on one restore, and no two
 * may have files of one place open for writing, or drafts of one place locked.
 */
export class RestoreWatch {
  readonly #folder: string
  readonly #restores = new Set<string>()
  readonly #violations = new Set<string>()
  readonly #others = new Set<number>()
  #timer: NodeJS.Timeout | undefined
  /** How often it saw a restore at work: a watch that never did proves nothing. */
  seen = 0

  constructor(folder: string) {
    this.#folder = folder
  }

  /** A job that is a restore, from now until `rest`. */
  add(jobId: string): void {
    this.#restores.add(jobId)
    this.#timer ??= setInterval(() => this.#look(), EVERY_MS)
  }

  get violations(): readonly string[] {
    return [...this.#violations]
  }

  /** The job makes something outside of its scratch: it has its place. */
  makes(jobId: string): boolean {
    return this.workers().some((worker) => worker.jobId === jobId && worker.writes.length > 0)
  }

  /** No restore is at work. */
  rest(): void {
    clearInterval(this.#timer)
    // while nobody looks, the number of one that has ended may become a job's
    this.#others.clear()
    this.#timer = undefined
  }

  /** Processes of jobs in this folder that are alive. */
  workers(): readonly Worker[] {
    const found: Worker[] = []
    const alive = new Set<number>()
    for (const name of readdirSync('/proc')) {
      const pid = Number(name)
      if (!Number.isInteger(pid)) continue
      alive.add(pid)
      const worker = this.#others.has(pid) ? null : this.#worker(pid)
      if (worker) found.push(worker)
    }
    for (const pid of this.#others) if (!alive.has(pid)) this.#others.delete(pid)
    // a tool that a job has just forked looks like the job until it has become the tool
    return found.filter(({ parent }) => !found.some(({ pid }) => pid === parent))
  }

  #look(): void {
    const jobs = new Map<string, number>()
    const places = new Map<string, number>()
    for (const { pid, jobId, writes } of this.workers()) {
      if (jobId === null || !this.#restores.has(jobId)) continue
      this.seen += 1
      const other = jobs.get(jobId)
      if (other !== undefined) this.#violations.add(`processes ${other} and ${pid} work on the restore ${jobId} at once`)
      jobs.set(jobId, pid)
      for (const place of new Set(writes.map(placeOf))) {
        const writer = places.get(place)
        if (writer !== undefined) this.#violations.add(`processes ${writer} and ${pid} write ${place} at once`)
        places.set(place, pid)
      }
    }
  }

  /** Null for what is no process of a job, or has gone. */
  #worker(pid: number): Worker | null {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1')
      // one that is no program of Node's will never be a job; others may still be on their way to exec
      if (!command.includes(PROGRAM)) {
        // in the middle of an exec there is no command line at all
        if (command !== '' && !command.includes('node')) this.#others.add(pid)
        return null
      }
      const own = openFiles(pid).filter(({ file }) => file.startsWith(`${this.#folder}/`))
      if (own.length === 0) return null
      const scratch = own.map(({ file }) => /\/scratch\/([a-z0-9]+)\//.exec(file)?.[1]).find((id) => id !== undefined)
      const makes = ({ file, writable, locked }: OpenFile) => writable || (locked && isDraft(file))
      const writes = own.filter((one) => makes(one) && !/\/(scratch|places|known|journal)\//.test(one.file))
      const parent = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1])
      return { pid, parent, jobId: scratch ?? null, writes: writes.map(({ file }) => file) }
    } catch (error) {
      if (['ENOENT', 'ESRCH', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return null
      throw error
    }
  }
}

interface OpenFile {
  readonly file: string
  readonly writable: boolean
  /** By flock(2). */
  readonly locked: boolean
}

function openFiles(pid: number): OpenFile[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      const file = readlinkSync(`/proc/${pid}/fd/${fd}`)
      const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1')
      const flags = /^flags:\s+(\d+)/m.exec(info)?.[1] ?? '0'
      return [{ file, writable: (Number.parseInt(flags, 8) & 3) !== 0, locked: /^lock:.* FLOCK /m.test(info) }]
    } catch (error) {
      // closed meanwhile
      if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
      throw error
    }
  })
}

const isDraft = (file: string): boolean => /\/\.holdfast-new-[0-9a-f]+-[a-z0-9]+$/.test(file)

/** A draft beside a place is named for it and ends in a random part: `.holdfast-new-<place>-<random>`. */
const placeOf = (file: string): string => file.replace(/(\/\.holdfast-new-[0-9a-f]+)-[a-z0-9]+.*/, '$1')
