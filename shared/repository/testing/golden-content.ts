import type { BackupSink, TreeInput } from '../../artifacts.ts'
import { dumpLike, entries, file, pieces, seededBytes } from './content.ts'

/** What the backups of the golden repository hold: made from seeds, so that it can be made again and compared. */

export interface GoldenStream {
  readonly name: string
  readonly part?: string
  readonly facts?: Readonly<Record<string, string>>
  readonly chunking: { kind: 'content-defined'; averageBytes: number } | { kind: 'fixed'; bytes: number }
  readonly compressible?: boolean
  readonly bytes: Buffer
}

export interface GoldenTree {
  readonly name: string
  readonly facts?: Readonly<Record<string, string>>
  /** Fresh each time: contents are read once. */
  readonly entries: () => TreeInput[]
}

export interface GoldenContent {
  readonly streams: readonly GoldenStream[]
  readonly trees: readonly GoldenTree[]
}

const TEXT = { kind: 'content-defined', averageBytes: 4096 } as const
const BINARY = { kind: 'content-defined', averageBytes: 65_536 } as const
const PAGES = { kind: 'fixed', bytes: 1024 } as const
/** Of lengths from none to two chunks of 512 bytes. */
const TINY = [0, 1, 511, 512, 513, 1024]

/** A dump, from a given day on with lines in its midst that were not there before. */
function dump(day: number): Buffer {
  const whole = dumpLike(7, 1_500_000)
  if (day === 0) return whole
  const middle = 400_000 + 300_000 * day
  return Buffer.concat([
    whole.subarray(0, middle),
    dumpLike(70 + day, 9000),
    whole.subarray(middle),
    Buffer.from('one more line\n'),
  ])
}

/** Pages, of which each day changes a few. */
function pages(day: number): Buffer {
  const bytes = seededBytes(8, 150_100)
  if (day > 0) for (let n = 0; n < 5; n++) seededBytes(80 + day, 1024).copy(bytes, ((n * 31 + day) % 140) * 1024)
  return bytes
}

/** Days with artifacts, and with entries of one tree, for more than one page. */
const isWide = (day: number): boolean => day % 3 === 0

const manyStreams = (): GoldenStream[] =>
  Array.from({ length: 260 }, (_, n) => ({
    name: `many ${n}`,
    chunking: TEXT,
    facts: { long: `${n} `.repeat(500) },
    bytes: seededBytes(n, 20),
  }))

/** A source with everything that an engine can hand over. */
export const wholeSource = (day: number): GoldenContent => ({
  streams: [
    { name: 'dump', chunking: TEXT, facts: { columns: 'a, b' }, bytes: dump(day) },
    { name: 'pages', part: 'p', chunking: PAGES, compressible: false, bytes: pages(day) },
    { name: 'archive', chunking: BINARY, compressible: false, bytes: seededBytes(9, 500_000) },
    { name: 'zeros', chunking: TEXT, bytes: Buffer.alloc(300_000) },
    ...TINY.map((length) => ({
      name: `tiny ${length}`,
      chunking: { kind: 'fixed', bytes: 512 } as const,
      bytes: seededBytes(10, length),
    })),
    // UTF-8 sorts these the other way round than UTF-16 does
    { name: '\u{10000} ../ä\n', chunking: TEXT, bytes: Buffer.from('named beyond the first plane') },
    { name: '\uFFFD', part: 'ü', chunking: TEXT, bytes: Buffer.from('named at the end of the first plane') },
    ...(isWide(day) ? manyStreams() : []),
  ],
  trees: [
    { name: 'tree', facts: { root: '/srv' }, entries: () => everyType(day) },
    ...(isWide(day) ? [{ name: 'links', entries: manyLinks }] : []),
    { name: 'nothing', entries: () => [] },
  ],
})

/** A small source: `seed` makes it another one. */
export const smallSource = (seed: number, length = 60_000): GoldenContent => ({
  streams: [{ name: 'archive', chunking: BINARY, compressible: false, bytes: seededBytes(seed, length) }],
  trees: [{ name: 'tree', entries: () => everyType(seed) }],
})

const PLAIN = { mode: 0o644, uid: 0, gid: 0, size: 0 }
const ODD_NAME = Buffer.from([0x64, 0x2f, 0xff, 0xfe, 0x0a])

function everyType(day: number): TreeInput[] {
  const node = (path: string, type: TreeInput['type'], more: Partial<TreeInput> = {}): TreeInput => ({
    ...PLAIN,
    path: Buffer.from(path),
    type,
    mtimeNs: 1_600_000_000_000_000_001n,
    ...more,
  })
  const user = (name: string, ...value: number[]) => ({ name: Buffer.from(name), value: Buffer.from(value) })
  const sparse = [
    { offset: 8192, bytes: seededBytes(31, 100_000) },
    { offset: 2_000_896, bytes: seededBytes(32, 5000) },
  ]
  return [
    node('', 'directory', { mode: 0o755, mtimeNs: 1n }),
    node('d', 'directory', { mode: 0o1777, uid: 1, gid: 2, mtimeNs: -1n }),
    file({ path: ODD_NAME, bytes: seededBytes(200 + day, 30_000), identity: `odd ${day}` }),
    file({ path: 'd/same', bytes: seededBytes(30, 40_000), identity: 'same' }),
    file({ path: 'd/sparse', extents: sparse, size: 5_000_000, identity: 'sparse' }),
    file({ path: 'd/only a hole', extents: [], size: 1_000_000, identity: 'hole' }),
    file({ path: 'd/empty', bytes: Buffer.alloc(0), identity: 'empty' }),
    { ...file({ path: 'd/again', size: 40_000 }), content: undefined, hardLinkTo: Buffer.from('d/same') },
    node('d/deep', 'directory', { mode: 0o500 }),
    node('d/deep/er', 'directory', { mode: 0o2750, gid: 5 }),
    file({ path: 'd/deep/er/set-user-id', bytes: seededBytes(34, 700), identity: 'suid', more: { mode: 0o4711, uid: 65_534 } }),
    node('link', 'symlink', { mode: 0o777, linkTarget: Buffer.from('d/same'), mtimeNs: 2n }),
    node('link to nothing', 'symlink', { mode: 0o777, linkTarget: Buffer.from([0x2f, 0xfe, 0x80]) }),
    node('fifo', 'fifo', { mode: 0o600, uid: 7 }),
    node('socket', 'socket', { mode: 0o755 }),
    node('null', 'char-device', { mode: 0o666, device: { major: 1, minor: 3 }, mtimeNs: 3n }),
    node('disk', 'block-device', { mode: 0o660, gid: 6, device: { major: 259, minor: 70_000 } }),
    file({ path: 'x', bytes: seededBytes(33, 10), more: { xattrs: [user('user.x', 0, 255), user('user.none')] } }),
    ...(day % 2 === 1 ? [file({ path: `of day ${day}`, bytes: dumpLike(300 + day, 20_000) })] : []),
  ]
}

function manyLinks(): TreeInput[] {
  const root: TreeInput = { ...PLAIN, path: Buffer.alloc(0), type: 'directory', mode: 0o700, mtimeNs: 4n }
  const link = (n: number): TreeInput => ({
    ...PLAIN,
    path: Buffer.from(`link ${n}`),
    type: 'symlink',
    mode: 0o777,
    mtimeNs: BigInt(n),
    linkTarget: Buffer.from(`${n}/`.repeat(500)),
  })
  return [root, ...Array.from({ length: 300 }, (_, n) => link(n))]
}

export async function writeGolden(sink: BackupSink, { streams, trees }: GoldenContent): Promise<void> {
  for (const { bytes, ...meta } of streams) await sink.stream(meta, pieces(bytes))
  for (const tree of trees) await sink.tree({ name: tree.name, facts: tree.facts, chunking: TEXT }, entries(tree.entries()))
}
