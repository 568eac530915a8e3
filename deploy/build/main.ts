import { chmod, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { bundle } from './bundle.ts'

// Makes the program of jobs in a folder, the only argument. It is there whole or not at all; of two at the same time one wins. Whoever runs it reads it, nobody else may write there.

const ANOTHER_WAS_FIRST = ['EEXIST', 'ENOTEMPTY']
const NOT_OURS_TO_WRITE = ['EACCES', 'EPERM', 'EROFS']

const [, , folder = ''] = process.argv
try {
  await make()
} catch (error) {
  if (!NOT_OURS_TO_WRITE.includes((error as NodeJS.ErrnoException).code ?? '')) throw error
}

async function make(): Promise<void> {
  await mkdir(path.dirname(folder), { recursive: true, mode: 0o755 })
  const draft = await mkdtemp(path.join(path.dirname(folder), '.draft-'))
  try {
    await bundle({ 'agent/jobs/child': 'agent/jobs/child.ts' }, draft)
    await chmod(draft, 0o755)
    await rename(draft, folder)
  } catch (error) {
    await rm(draft, { recursive: true, force: true })
    if (!ANOTHER_WAS_FIRST.includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}
