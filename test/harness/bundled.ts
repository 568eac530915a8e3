import { symlink } from 'node:fs/promises'
import path from 'node:path'
import { bundle } from '../../deploy/build/bundle.ts'
import { throwAwayFolder } from './folders.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')

/** Programs of tests, bundled as the launcher bundles that of jobs (`bundle`); the folder that they lie in, which goes with this process. */
export async function bundled(programs: Readonly<Record<string, string>>): Promise<string> {
  const { path: folder } = await throwAwayFolder()
  // what is not bundled is found from there
  await symlink(path.join(ROOT, 'node_modules'), path.join(folder, 'node_modules'))
  await bundle(programs, folder)
  return folder
}
