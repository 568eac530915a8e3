import { closeSync, openSync, readFileSync } from 'node:fs'
import { mkdir, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import koffi from 'koffi'
import { available } from './cache.ts'
import { runCommand, tryCommand } from './commands.ts'
import { throwAwayFolder } from './folders.ts'
import { waitFor } from './wait.ts'

/** A file system of its own whose power can be cut: what was not synced is gone afterwards. */
export interface FragileDisk extends AsyncDisposable {
  /** Where it is mounted. */
  readonly path: string
  /** From now on nothing reaches the disk and every call fails, without the journal being flushed. */
  cut(): void
  /** The machine comes back: mounts it again, with what had reached the disk. */
  comeBack(): Promise<void>
  stop(): Promise<void>
}

/** An ext4 on a loop device, or null where that takes rights that we do not have. */
export function fragileDisk(megabytes = 96): Promise<FragileDisk | null> {
  const mayMount = () => process.getuid?.() === 0
  return available('file system with power cuts (ext4 on a loop device)', 'build', mayMount, () => makeDisk(megabytes))
}

async function makeDisk(megabytes: number): Promise<FragileDisk> {
  const folder = await throwAwayFolder()
  const image = path.join(folder.path, 'image')
  const mount = path.join(folder.path, 'mount')
  await writeFile(image, '')
  await truncate(image, megabytes * 1024 * 1024)
  await mkdir(mount)
  await runCommand('mkfs.ext4', ['-q', '-F', image])
  // an hour between commits by itself: only what was asked to be synced is; the device loses nothing, so it needs no flushes
  const attach = () => runCommand('mount', ['-o', 'loop,commit=3600,noatime,barrier=0', image, mount]).then(() => undefined)
  // an agent beside the control plane may just read an object from its file: its next read fails, and it closes it
  const detach = () => waitFor('nobody to have a file of the disk open', () => runCommand('umount', [mount]).then(() => true))
  const stop = async () => {
    if (readFileSync('/proc/mounts', 'utf8').includes(` ${mount} `)) await tryCommand('umount', ['-l', mount])
    await folder.remove()
  }
  try {
    await attach()
  } catch (error) {
    await stop()
    throw error
  }
  const comeBack = async () => {
    await detach()
    await attach()
  }
  return { path: mount, cut: () => shutDown(mount), comeBack, stop, [Symbol.asyncDispose]: stop }
}

/** FS_IOC_SHUTDOWN without flushing the log (linux/fs.h, ext4 and XFS). */
const SHUTDOWN = 0x8004587d
const NO_LOG_FLUSH = 2

function shutDown(mount: string): void {
  const ioctl = koffi.load(null).func('int ioctl(int fd, unsigned long request, const uint32_t *flags)')
  const fd = openSync(mount, 'r')
  try {
    if (ioctl(fd, SHUTDOWN, [NO_LOG_FLUSH]) !== 0) throw new Error(`the power of ${mount} could not be cut`)
  } finally {
    closeSync(fd)
  }
}
