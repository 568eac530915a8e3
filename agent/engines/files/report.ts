import type { Finding } from '../../../shared/results.ts'
import type { Run } from '../engine.ts'

/** Of each kind, this many are told one by one; a tree of a million unreadable files makes no million findings. */
const TOLD_SINGLY = 20

interface Kind {
  readonly severity: Finding['severity']
  readonly what: string
  readonly hint: string
}

/** What can happen to single entries. Errors leave something out that the user counts on. */
export const KINDS = {
  file_changed: {
    severity: 'warning',
    what: 'changed while it was read',
    hint: 'Its content may mix two states; use an engine that knows the store, or a hook that holds its writer.',
  },
  file_vanished: {
    severity: 'warning',
    what: 'vanished before it was read',
    hint: 'Nothing needs to be done if it was a temporary file.',
  },
  file_unreadable: {
    severity: 'error',
    what: 'could not be read and is not in the backup',
    hint: "Give the agent's user the right to read it, or exclude it.",
  },
  folder_unreadable: {
    severity: 'error',
    what: 'could not be listed; nothing of what is in it is in the backup',
    hint: "Give the agent's user the right to read it, or exclude it.",
  },
  xattr_unreadable: {
    severity: 'warning',
    what: 'has extended attributes that could not be read',
    hint: 'Run the agent as root where access lists and capabilities have to be kept.',
  },
  file_system_left_out: {
    severity: 'info',
    what: 'is another file system and was left out',
    hint: 'Make it a source of its own if it holds data.',
  },
  owner_not_restored: {
    severity: 'warning',
    what: 'belongs to the user of the agent now',
    hint: 'Run the restore as root to give files back to their owners.',
  },
  xattr_not_restored: {
    severity: 'warning',
    what: 'did not get all of its extended attributes',
    hint: 'Run the restore as root, onto a file system that keeps extended attributes.',
  },
  entry_not_restored: {
    severity: 'error',
    what: 'could not be made',
    hint: 'Devices need root; a further name of a file needs the file in the backup.',
  },
  old_tree_left: {
    severity: 'warning',
    what: 'is what the restore replaced, and could not be removed',
    hint: 'Remove it by hand; nothing uses it any more.',
  },
  leftover_left: {
    severity: 'warning',
    what: 'is what a restore left that was killed, and could not be removed',
    hint: 'Remove it by hand; nothing uses it any more.',
  },
} as const satisfies Record<string, Kind>

export type ReportKind = keyof typeof KINDS

export class Report {
  readonly #run: Run
  readonly #counts = new Map<ReportKind, number>()

  constructor(run: Run) {
    this.#run = run
  }

  say(kind: ReportKind, path: Buffer, cause?: unknown): void {
    const count = (this.#counts.get(kind) ?? 0) + 1
    this.#counts.set(kind, count)
    if (count > TOLD_SINGLY) return
    const { severity, what, hint } = KINDS[kind]
    const code = cause instanceof Error && 'code' in cause ? ` (${String(cause.code)})` : ''
    this.#run.finding({ code: kind, severity, message: `${printable(path)} ${what}${code}`, hint })
  }

  countOf(kind: ReportKind): number {
    return this.#counts.get(kind) ?? 0
  }

  /** One more finding for each kind that was not told in full. */
  close(): void {
    for (const [kind, count] of this.#counts) {
      if (count <= TOLD_SINGLY) continue
      const { severity, what, hint } = KINDS[kind]
      this.#run.finding({ code: kind, severity, message: `${count - TOLD_SINGLY} more entries: each ${what}`, hint })
    }
  }
}

export function printable(path: Buffer): string {
  return JSON.stringify(path.length === 0 ? '.' : path.toString('utf8').slice(0, 500))
}
