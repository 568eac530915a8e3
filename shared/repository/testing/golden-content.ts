import type { BackupSink, TreeInput } from '../../artifacts.ts'
import { dumpLike, entries, file, pieces, seededBytes } from './content.ts'

/** What the golden repository holds: a full and an incremental of one source. */

const chunking = { kind: 'content-defined', averageBytes: 4096 } as const

const dump = dumpLike(7, 24_000)
export const GOLDEN_STREAMS: ReadonlyArray<Record<string, Buffer>> = [
  { dump, pages: seededBytes(8, 5000), empty: Buffer.alloc(0) },
  { dump: Buffer.concat([dump, Buffer.from('one more line\n')]), pages: seededBytes(8, 5000), empty: Buffer.alloc(0) },
]

const ODD_NAME = Buffer.from([0x64, 0x2f, 0xff, 0xfe, 0x0a])

/** Fresh each time: contents are read once. */
export const goldenTree = (day: number): TreeInput[] => [
  { path: Buffer.alloc(0), type: 'directory', mode: 0o755, uid: 0, gid: 0, mtimeNs: 1n, size: 0 },
  { path: Buffer.from('d'), type: 'directory', mode: 0o1777, uid: 1, gid: 2, mtimeNs: -1n, size: 0 },
  file({ path: ODD_NAME, bytes: seededBytes(20 + day, 3000), identity: `odd ${day}` }),
  file({ path: 'd/same', bytes: seededBytes(30, 4000), identity: 'same' }),
  file({ path: 'd/sparse', extents: [{ offset: 8192, bytes: seededBytes(31, 100) }], size: 1_000_000, identity: 'sparse' }),
  { ...file({ path: 'd/again', size: 4000 }), content: undefined, hardLinkTo: Buffer.from('d/same') },
  {
    path: Buffer.from('link'),
    type: 'symlink',
    mode: 0o777,
    uid: 0,
    gid: 0,
    mtimeNs: 2n,
    size: 0,
    linkTarget: Buffer.from('d/same'),
  },
  {
    path: Buffer.from('null'),
    type: 'char-device',
    mode: 0o666,
    uid: 0,
    gid: 0,
    mtimeNs: 3n,
    size: 0,
    device: { major: 1, minor: 3 },
  },
  file({
    path: 'x',
    bytes: seededBytes(33, 10),
    more: { xattrs: [{ name: Buffer.from('user.x'), value: Buffer.from([0, 255]) }] },
  }),
]

export async function writeGolden(sink: BackupSink, day: number): Promise<void> {
  const streams = GOLDEN_STREAMS[day] ?? {}
  await sink.stream({ name: 'dump', chunking, facts: { columns: 'a, b' } }, pieces(streams.dump as Buffer))
  await sink.stream(
    { name: 'pages', part: 'p', chunking: { kind: 'fixed', bytes: 1024 }, compressible: false },
    pieces(streams.pages as Buffer),
  )
  await sink.stream({ name: 'empty', chunking }, pieces(streams.empty as Buffer))
  await sink.tree({ name: 'tree', chunking }, entries(goldenTree(day)))
}
