import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'

/**
 * Makes `node_modules` be what package-lock.json says. It is filled in a folder of its own by `npm ci` and then renamed into
 * place, so that it is never half there: an installation that was killed leaves nothing that counts, and of two at the
 * same time one wins. A node_modules that is a link belongs to someone else and is left alone.
 */
export function ensureInstalled(root) {
  const lockFile = path.join(root, 'package-lock.json')
  if (!existsSync(lockFile) || isLink(path.join(root, 'node_modules')) || whatIsMissing(root) === null) return
  process.stderr.write('holdfast: installing what it needs (once; half a minute) ...\n')
  removeLeftovers(root)
  const draft = mkdtempSync(path.join(root, `.install-${process.pid}-`))
  try {
    for (const name of ['package.json', 'package-lock.json', '.npmrc']) {
      if (existsSync(path.join(root, name))) cpSync(path.join(root, name), path.join(draft, name))
    }
    npmCi(draft)
    const missing = whatIsMissing(draft)
    if (missing !== null) throw new Error(`npm left out ${missing}; run the command again, or look at npm's registry settings`)
    putInPlace(root, draft)
  } finally {
    rmSync(draft, { recursive: true, force: true })
  }
}

/**
 * The first package that the lock file wants here and node_modules lacks, or null. npm writes its own list last, so a list
 * that is there is complete; but npm drops an optional package that it could not fetch without an error.
 */
export function whatIsMissing(root) {
  const lock = readJson(path.join(root, 'package-lock.json'))
  const list = path.join(root, 'node_modules', '.package-lock.json')
  if (!existsSync(list)) return 'everything'
  const installed = readJson(list).packages ?? {}
  for (const [name, wanted] of Object.entries(lock.packages ?? {})) {
    if (name === '') continue
    const here = installed[name]
    if (here === undefined ? needed(wanted) : here.version !== wanted.version || here.integrity !== wanted.integrity) return name
  }
  return null
}

/** Optional packages are needed when they are made for exactly this kind of machine. */
function needed(wanted) {
  if (!wanted.optional && !wanted.devOptional) return true
  if (wanted.os === undefined || wanted.cpu === undefined) return false
  const libc = isGlibc() ? 'glibc' : 'musl'
  return (
    names(wanted.os, process.platform) &&
    names(wanted.cpu, process.arch) &&
    (wanted.libc === undefined || names(wanted.libc, libc))
  )
}

/** npm writes one name or a list of them. */
function names(list, name) {
  return [list].flat().includes(name)
}

let glibc
function isGlibc() {
  glibc ??= process.report?.getReport().header.glibcVersionRuntime !== undefined
  return glibc
}

function npmCi(folder) {
  const own = process.env.npm_execpath
  const [command, ...first] = own?.endsWith('npm-cli.js') ? [process.execPath, own] : ['npm']
  // No package may run a program at installation; none of ours needs to. A setting that leaves packages out is overruled.
  const args = [
    ...first,
    'ci',
    '--ignore-scripts',
    '--include=dev',
    '--include=optional',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ]
  // Standard output stays the program's own: `holdfast list --format json` may be what installs.
  const done = spawnSync(command, args, { cwd: folder, stdio: ['ignore', 2, 2], env: cleanEnvironment() })
  if (done.error) throw new Error('npm could not be started; install Node 20 or later with npm', { cause: done.error })
  if (done.status !== 0) throw new Error(`npm ci failed (${done.signal ?? `exit status ${done.status}`}); its message is above`)
}

/** npm hands its settings down by environment; `npm start --prefix X` must not steer the inner one to another folder. */
function cleanEnvironment() {
  const { npm_config_prefix: _prefix, npm_config_local_prefix: _local, npm_config_omit: _omit, ...rest } = process.env
  return { ...rest, NODE_ENV: '' }
}

function putInPlace(root, draft) {
  const final = path.join(root, 'node_modules')
  const old = path.join(draft, 'old')
  for (let attempt = 0; attempt < 5; attempt += 1) {
    if (existsSync(final)) {
      if (whatIsMissing(root) === null) return // another installation was first
      tryRename(final, old)
    }
    if (tryRename(path.join(draft, 'node_modules'), final)) return
    rmSync(old, { recursive: true, force: true })
  }
  throw new Error(`${final} could not be replaced`)
}

function tryRename(from, to) {
  try {
    renameSync(from, to)
    return true
  } catch (error) {
    if (['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(error.code)) return false
    throw error
  }
}

/** Folders of installations that were killed. */
function removeLeftovers(root) {
  for (const name of readdirSync(root)) {
    const owner = /^\.install-(\d+)-/.exec(name)?.[1]
    if (owner !== undefined && !isAlive(Number(owner))) rmSync(path.join(root, name), { recursive: true, force: true })
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

function isLink(file) {
  return lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() ?? false
}

function readJson(file) {
  return JSON.parse(readFileSync(file, 'utf8'))
}
