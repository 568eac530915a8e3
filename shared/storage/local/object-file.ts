/**
 * Where an object's file lies, and which file it is: what the server of a local target answers at its Unix socket to a signed GET that accepts this type, in place of the bytes. An agent that
 * shares host and user with it then reads the file itself.
 */
export const OBJECT_FILE_TYPE = 'application/vnd.holdfast.object-file+json'

export interface ObjectFile {
  readonly path: string
  /** Number of the file system, and of the file in it (`st_dev` and `st_ino` of stat(2)), in decimal. */
  readonly device: string
  readonly inode: string
}
