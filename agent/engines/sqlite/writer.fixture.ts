import { DatabaseSync } from 'node:sqlite'

/**
 * A program that never stops writing: each transaction moves money between accounts, so that the sum stays, and adds one
 * row to the history. Checkpoints come often, so that the log is begun anew again and again. First argument: the file.
 */
const db = new DatabaseSync(process.argv[2] ?? '', { timeout: 10_000 })
db.exec(`pragma wal_autocheckpoint = 40; pragma synchronous = off`)
const move = db.prepare('update accounts set balance = balance + ?, pad = randomblob(200) where id = ?')
const note = db.prepare('insert into history (what) values (hex(randomblob(50)))')
const count = db.prepare('update meta set transactions = transactions + 1')
// a test that was killed must not leave its writer behind
const parent = process.ppid
for (let n = 0; process.ppid === parent; n++) {
  db.exec('begin immediate')
  for (const [amount, id] of [
    [-1, (n * 7919) % 5000],
    [1, (n * 104_729) % 5000],
  ]) {
    move.run(amount ?? 0, (id ?? 0) + 1)
  }
  note.run()
  count.run()
  db.exec('commit')
  if (n % 200 === 0) db.exec('pragma wal_checkpoint(restart)')
  if (n === 50) process.stdout.write('writing\n')
  if (n % 20 === 0) await new Promise((resolve) => setImmediate(resolve))
}
