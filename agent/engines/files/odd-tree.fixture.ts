import { createHash, randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import { createServer } from 'node:net'
import { HOSTILE_NAMES } from '../testing/names.ts'
import { isWithin, join } from './beneath.ts'
import { getAttribute, listAttributes, makeNode, setAttribute, setModified } from './posix.ts'

/** A tree with everything that a file system can hold, as far as this user may make it; and a description of any tree. */

const bytes = (text: string) => Buffer.from(text)
export const isRoot = process.geteuid?.() === 0

/** POSIX access list, version 2 (Linux, acl(5)): owner rw, user 12345 r, group r, mask r, others none. */
const ACCESS_LIST = Buffer.from(
  '02000000' + '01000600ffffffff' + '0200040039300000' + '04000400ffffffff' + '10000400ffffffff' + '20000000ffffffff',
  'hex',
)
/** vfs_cap_data, revision 2: cap_net_bind_service=ep. */
const CAPABILITY = Buffer.from('0100000200040000000000000000000000000000', 'hex')

export async function makeOddTree(root: string): Promise<void> {
  const at = (path: string | Buffer) => join(bytes(root), Buffer.from(path as string))
  const file = (path: string | Buffer, content: string | Buffer = 'content\n', mode = 0o644) => {
    fs.writeFileSync(at(path), content)
    fs.chmodSync(at(path), mode)
  }
  fs.mkdirSync(root)
  for (const folder of ['docs', 'docs/deep', 'empty', 'names', 'special', '--version', 'shared']) fs.mkdirSync(at(folder))
  fs.mkdirSync(at(Array.from({ length: 40 }, (_, i) => `level-${i}`).join('/')), { recursive: true })
  file('docs/readme.txt')
  file('docs/empty', '')
  file('docs/deep/random', randomBytes(2_500_000))
  file('docs/setuid', '#!/bin/sh\n', 0o4755)
  file('docs/secret', 'x', 0o600)
  file('--version/-rf', 'hyphens')
  for (const name of HOSTILE_NAMES) if (name !== '' && Buffer.byteLength(name) < 256) file(`names/${name}`, name)
  file(Buffer.concat([bytes('names/'), Buffer.from([0xff, 0xfe, 0x80, 0x41])]), 'not UTF-8')
  file(`names/${'n'.repeat(255)}`)
  fs.chmodSync(at('shared'), 0o3775)
  fs.chmodSync(at('empty'), 0o555)
  makeSparse(at('special/sparse'))
  fs.symlinkSync('/etc/passwd', at('special/absolute'))
  fs.symlinkSync('../docs/readme.txt', at('special/relative'))
  fs.symlinkSync(Buffer.from([0x2e, 0xff]), at('special/dangling'))
  fs.linkSync(at('docs/deep/random'), at('special/second-name'))
  fs.linkSync(at('docs/deep/random'), at('--version/third-name'))
  makeNode(at('special/fifo'), 'fifo', 0o640, { major: 0, minor: 0 })
  await makeSocket(at('special/socket'))
  setAttribute(at('docs/readme.txt'), bytes('user.note'), Buffer.from([0, 1, 2, 255]))
  setAttribute(at('docs'), bytes('user.empty'), Buffer.alloc(0))
  setAttribute(at('docs/secret'), bytes('system.posix_acl_access'), ACCESS_LIST)
  setAttribute(at('shared'), bytes('system.posix_acl_default'), ACCESS_LIST)
  if (isRoot) makePrivileged(at, file)
  setModified(at('docs/readme.txt'), 1_234_567_890_123_456_789n)
  setModified(at('docs/empty'), -86_400_000_000_001n)
  setModified(at('special/relative'), 1_111_111_111_000_000_001n)
  setModified(at('docs/deep'), 1_000_000_000_999_999_999n)
}

function makePrivileged(at: (path: string) => Buffer, file: (path: string, content: string, mode: number) => void): void {
  makeNode(at('special/null'), 'char-device', 0o666, { major: 1, minor: 3 })
  makeNode(at('special/disk'), 'block-device', 0o660, { major: 259, minor: 300_000 })
  file('special/capable', 'program', 0o755)
  fs.chownSync(at('docs/setuid'), 12_345, 54_321)
  fs.chmodSync(at('docs/setuid'), 0o4755)
  fs.chownSync(at('empty'), 4_000_000_000, 1)
  fs.lchownSync(at('special/absolute'), 7, 8)
  setAttribute(at('special/capable'), bytes('security.capability'), CAPABILITY)
  setAttribute(at('special/absolute'), bytes('trusted.link'), bytes('on the link itself'))
}

function makeSparse(path: Buffer): void {
  const fd = fs.openSync(path, 'w')
  fs.writeSync(fd, randomBytes(5000), 0, 5000, 1_000_000)
  fs.writeSync(fd, bytes('middle'), 0, 6, 12_000_000)
  fs.ftruncateSync(fd, 20_000_000)
  fs.closeSync(fd)
}

/** What binding a socket leaves behind. */
async function makeSocket(path: Buffer): Promise<void> {
  const short = `/tmp/hf-${randomBytes(6).toString('hex')}`
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(short, resolve))
  fs.renameSync(short, path)
  await new Promise<void>((resolve) => server.close(() => resolve()))
}

/** Every entry with all that is kept of it, one line each; with `within`, of these paths alone. */
export function describeTree(root: string, within?: readonly string[]): string {
  const inodes = new Map<bigint, string>()
  const lines: string[] = []
  const visit = (path: Buffer) => {
    const wanted = !within || within.some((part) => isWithin(path, bytes(part)))
    const address = path.length === 0 ? bytes(root) : join(bytes(root), path)
    const stat = fs.lstatSync(address, { bigint: true })
    if (wanted) lines.push(line(address, path, stat, inodes))
    if (!stat.isDirectory()) return
    for (const name of fs.readdirSync(address, { encoding: 'buffer' }).sort(Buffer.compare)) visit(join(path, name))
  }
  visit(Buffer.alloc(0))
  return lines.join('\n')
}

function line(address: Buffer, path: Buffer, stat: fs.BigIntStats, inodes: Map<bigint, string>): string {
  const first = inodes.get(stat.ino) ?? path.toString('latin1')
  inodes.set(stat.ino, first)
  const content = stat.isFile() ? createHash('sha256').update(fs.readFileSync(address)).digest('hex').slice(0, 16) : ''
  const link = stat.isSymbolicLink() ? fs.readlinkSync(address, { encoding: 'latin1' }) : ''
  const attributes = listAttributes(address).map((name) => `${name}=${getAttribute(address, name)?.toString('hex')}`)
  const size = stat.isFile() ? stat.size : 0n
  const facts = [stat.mode.toString(8), stat.uid, stat.gid, stat.mtimeNs, stat.rdev, size, content, link, ...attributes.sort()]
  return `${JSON.stringify(path.toString('latin1'))} ${JSON.stringify(first)} ${facts.join(' ')}`
}
