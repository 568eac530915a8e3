import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import path from 'node:path'

/** How many are kept: an agent that runs still starts its jobs with the one that it was started with. */
const KEPT = 3
const PROGRAM = 'agent/jobs/child.mjs'

/**
 * The program of jobs in a few files, made of the sources as they stand (`deploy/build`), with which a job starts in half of the time. It is made when the sources have changed, in
 * the folder `build` of the project. Null where it cannot be: jobs then start from the sources.
 */
export function jobProgram(root, node) {
  const builder = path.join(root, 'deploy/build/main.ts')
  if (!existsSync(builder)) return null
  try {
    const folder = path.join(root, 'build', `job-${keyOf(root)}`)
    const program = path.join(folder, PROGRAM)
    if (!existsSync(program)) {
      // what goes wrong is said on standard error; a project that this user may not write is none
      spawnSync(node, ['--disable-warning=ExperimentalWarning', builder, folder], { stdio: ['ignore', 'ignore', 2], env: {} })
      if (!existsSync(program)) return null
      removeOld(root, folder)
    }
    return program
  } catch (error) {
    if (!['EACCES', 'EPERM', 'EROFS', 'ENOENT', 'ENOTDIR'].includes(error.code)) throw error
    // a project that this user may not read, or not all of one: jobs go without
    return null
  }
}

/** Of all that the program is made of, and of where it lies, which it knows. */
function keyOf(root) {
  const hash = createHash('sha256').update(root)
  const names = ['agent', 'shared', 'deploy/build'].flatMap((folder) => sources(root, folder))
  for (const name of [...names.sort(), 'package-lock.json']) {
    const bytes = readFileSync(path.join(root, name))
    hash.update(`\0${name}\0${bytes.length}\0`).update(bytes)
  }
  return hash.digest('hex').slice(0, 16)
}

function sources(root, folder) {
  return readdirSync(path.join(root, folder), { recursive: true })
    .map((name) => path.join(folder, name))
    .filter((name) => /(?<!\.test)\.(ts|mjs|json)$/.test(name) && !name.includes('/testing/'))
}

function removeOld(root, newest) {
  const at = (name) => statSync(name).mtimeMs
  try {
    const all = readdirSync(path.join(root, 'build')).map((name) => path.join(root, 'build', name))
    const old = all.filter((name) => name !== newest).sort((a, b) => at(b) - at(a))
    for (const name of old.slice(KEPT - 1)) {
      // at once, so that nobody starts half of it
      const gone = path.join(root, 'build', `.gone-${path.basename(name)}`)
      renameSync(name, gone)
      rmSync(gone, { recursive: true, force: true })
    }
  } catch (error) {
    // another launcher removes them too
    if (error.code !== 'ENOENT') throw error
  }
}
