import path from 'node:path'
import { randomBase32 } from '../../ids.ts'

/** Of `sun_path`, without the zero at its end (unix(7)). */
const MAX_BYTES = 107
const NAME = /^holdfast-[0-9a-hjkmnp-tv-z]{26}\.sock$/

/**
 * The name of an object server's Unix socket: 130 random bits. Who finds a file of that name that another user cannot have put there is on the control plane's own host: nobody else could
 * know the name.
 */
export const newSocketName = (): string => `holdfast-${randomBase32(26)}.sock`

export const isSocketName = (name: string): boolean => NAME.test(name)

/** Whether it can be one of ours: a control plane that was taken over must not lead an agent to another program's socket. */
export function isSocketPath(at: string): boolean {
  return (
    path.isAbsolute(at) &&
    path.join(path.dirname(at), path.basename(at)) === at &&
    isSocketName(path.basename(at)) &&
    Buffer.byteLength(at) <= MAX_BYTES
  )
}
