import { readFileSync, rmSync } from 'node:fs'
import { mkdir, open, rm } from 'node:fs/promises'
import path from 'node:path'
import { available } from './cache.ts'
import { runCommand, tryCommand } from './commands.ts'
import { throwAwayFolder } from './folders.ts'

/** A file system of its own with little room, which a test fills to the last byte. */
export interface SmallDisk {
  readonly path: string
  /** Nothing more can be written from now on. */
  fill(): Promise<void>
  /** There is room again. */
  empty(): Promise<void>
  stop(): Promise<void>
}

const PART = 'file systems that can be full (tmpfs)'
const FILLER = '.filler'

/** Mounts at `folder`, which is made; null where mounting takes rights that we do not have. */
export async function smallDisk(folder: string, megabytes: number): Promise<SmallDisk | null> {
  if (!(await canMount())) return null
  await mkdir(folder, { recursive: true })
  await runCommand('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0755`, 'tmpfs', folder])
  const filler = path.join(folder, FILLER)
  return {
    path: folder,
    fill: () => fill(filler),
    empty: () => rm(filler, { force: true }),
    stop: async () => {
      rmSync(filler, { force: true })
      // lazily: a process that a test left must not keep the run from ending
      if (readFileSync('/proc/mounts', 'utf8').includes(` ${folder} `)) await tryCommand('umount', ['-l', folder])
    },
  }
}

/** In a mount of its own, since a right that is missing shows only when it is used. */
function canMount(): Promise<boolean | null> {
  return available(
    PART,
    'build',
    () => process.getuid?.() === 0,
    async () => {
      await using folder = await throwAwayFolder()
      const place = path.join(folder.path, 'm')
      await mkdir(place)
      await runCommand('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', place])
      await runCommand('umount', [place])
      return true
    },
  )
}

async function fill(filler: string): Promise<void> {
  const handle = await open(filler, 'a')
  try {
    for (let length = 1 << 20; length >= 1; length = length > 4096 ? length >> 4 : length >> 2) {
      await writeWhileRoom(handle, Buffer.alloc(length))
    }
  } finally {
    await handle.close()
  }
}

async function writeWhileRoom(handle: Awaited<ReturnType<typeof open>>, bytes: Buffer): Promise<void> {
  for (;;) {
    try {
      if ((await handle.write(bytes)).bytesWritten < bytes.length) return
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return
      throw error
    }
  }
}
