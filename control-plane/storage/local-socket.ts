import { readdir, rm } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import path from 'node:path'
import type { Logger } from '../../shared/log.ts'
import { isSocketName, isSocketPath, newSocketName } from '../../shared/storage/local/socket-path.ts'
import { bound, SERVER_OPTIONS } from './server-bounds.ts'

export interface LocalSocket {
  readonly path: string
  readonly server: Server
}

/**
 * The same server at a Unix socket in the folder, without TLS: for agents on this host, whose bytes never leave its memory. A TLS connection hands Node 16 KiB at a time, and takes half as
 * much processor time again for an object sent or received. A socket that an earlier control plane left behind is taken away. Null, and logged, where there can be none: a
 * path that is too long, a file system without sockets. All go over HTTPS then.
 */
export async function listenAtSocket(folder: string, answer: RequestListener, log: Logger): Promise<LocalSocket | null> {
  try {
    for (const name of await readdir(folder)) if (isSocketName(name)) await rm(path.join(folder, name), { force: true })
    const socket = path.join(path.resolve(folder), newSocketName())
    if (!isSocketPath(socket)) {
      log.info(
        { folder },
        'the path of the data folder is too long for a socket: agents on this host send their objects over HTTPS',
      )
      return null
    }
    const server = bound(createServer(SERVER_OPTIONS, answer))
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ path: socket }, () => resolve())
    })
    return { path: socket, server }
  } catch (error) {
    log.info(
      { err: error, folder },
      'no socket could be made in the data folder: agents on this host send their objects over HTTPS',
    )
    return null
  }
}
