import { lstatSync, readdirSync, renameSync } from 'node:fs'
import { HoldfastError } from '../../../shared/errors.ts'
import { Beneath, join } from './beneath.ts'
import { exchange, renameToNew } from './posix.ts'
import { printable } from './report.ts'

interface Step {
  readonly path: Buffer
  readonly how: 'placed' | 'exchanged'
}

/**
 * Chosen parts into a folder that exists: each file takes the place of the one there at one moment, and what was there
 * goes to the staging folder. A failure undoes the steps before it. Folders that exist keep their attributes, and what
 * else is in them.
 */
export function merge(staged: Buffer, live: Buffer): void {
  const [from, to] = [new Beneath(staged), new Beneath(live)]
  const done: Step[] = []
  try {
    mergeFolder(from, to, Buffer.alloc(0), done)
  } catch (error) {
    for (const step of done.reverse()) undo(from, to, step)
    throw error
  } finally {
    from.close()
    to.close()
  }
}

function mergeFolder(from: Beneath, to: Beneath, folder: Buffer, done: Step[]): void {
  for (const name of readdirSync(from.folder(folder), { encoding: 'buffer' })) {
    const path = join(folder, name)
    const isFolder = lstatSync(from.entry(path)).isDirectory()
    const there = lstatSync(to.entry(path), { throwIfNoEntry: false })
    if (!there) done.push(place(from, to, path))
    else if (isFolder && there.isDirectory()) mergeFolder(from, to, path, done)
    else if (isFolder || there.isDirectory()) throw clash(path)
    else if (exchange(from.entry(path), to.entry(path))) done.push({ path, how: 'exchanged' })
    // a file system that cannot exchange names: still whole or not at all, but this step is not undone
    else renameSync(from.entry(path), to.entry(path))
  }
}

function place(from: Beneath, to: Beneath, path: Buffer): Step {
  if (!renameToNew(from.entry(path), to.entry(path))) renameSync(from.entry(path), to.entry(path))
  return { path, how: 'placed' }
}

function undo(from: Beneath, to: Beneath, step: Step): void {
  if (step.how === 'exchanged') exchange(from.entry(step.path), to.entry(step.path))
  else renameSync(to.entry(step.path), from.entry(step.path))
}

function clash(path: Buffer): HoldfastError {
  return new HoldfastError('conflict', `${printable(path)} is a folder on one side and none on the other`, {
    hint: 'Restore the part into a new folder, and move it by hand.',
  })
}
