import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { bundle } from './bundle.ts'

// Makes the program of jobs in a folder, the only argument. It is there whole or not at all; of two at the same time one wins.

const [, , folder = ''] = process.argv
await mkdir(path.dirname(folder), { recursive: true })
const draft = await mkdtemp(path.join(path.dirname(folder), '.draft-'))
try {
  await bundle({ 'agent/jobs/child': 'agent/jobs/child.ts' }, draft)
  await rename(draft, folder)
} catch (error) {
  await rm(draft, { recursive: true, force: true })
  if (!['EEXIST', 'ENOTEMPTY'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
}
