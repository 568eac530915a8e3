import { createInterface } from 'node:readline'
import type { DatabaseSync } from 'node:sqlite'
import { countAll } from './child-count.ts'
import { pin } from './child-pin.ts'
import type { Reply, Request } from './messages.ts'
import { openDatabase } from './open.ts'

/**
 * A process of its own for everything that SQLite does: a count or a check of a large database is one call that nothing
 * but a kill can end; and closing any handle of a file drops all POSIX locks that a process has on it, so that the one
 * that reads the raw file must not be the one that holds the snapshot.
 */

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const say = (reply: Reply) => process.stdout.write(`${JSON.stringify(reply)}\n`)

async function serve(request: Request): Promise<void> {
  const db = openDatabase(request.path, request.task === 'lock', request.busyMs)
  // closed as it should be, the last user takes the files beside the database away. But a locked one may have another
  // name by the time the lock ends: those files then belong to the database that has taken its place
  if (request.task !== 'lock') {
    process.on('SIGTERM', () => {
      db.close()
      process.exit(1)
    })
  }
  if (request.task === 'count') say({ counted: countAll(db, request.integrity) })
  else if (request.task === 'lock') await lock(db)
  else await hold(db, request)
  db.close()
}

async function hold(db: DatabaseSync, request: Request & { task: 'pin' }): Promise<void> {
  say({ pinned: pin(db, request.path) })
  for (;;) {
    const { value, done } = await lines.next()
    if (value === 'count') say({ counted: countAll(db, request.integrity) })
    if (value !== 'release' && !done) continue
    db.exec('rollback')
    return void say({ released: true })
  }
}

async function lock(db: DatabaseSync): Promise<void> {
  // before the first access: a database in WAL mode is then locked as a whole, and its log needs no shared memory
  db.exec('pragma locking_mode = exclusive')
  db.exec('begin exclusive')
  db.exec('commit')
  const mode = db.prepare('pragma journal_mode').get()
  if (mode?.journal_mode === 'wal') db.exec('pragma wal_checkpoint(truncate)')
  db.exec('begin exclusive')
  say({ locked: true })
  // for ever: it is killed
  await new Promise(() => setInterval(() => undefined, 60_000))
}

try {
  const { value } = await lines.next()
  await serve(JSON.parse(String(value)) as Request)
} catch (error) {
  const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) : -1
  say({ failed: { code, message: error instanceof Error ? error.message : String(error) } })
  process.exitCode = 1
}
lines.return?.()
process.stdin.destroy()
