import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import path from 'node:path'
import { HoldfastError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import { argumentList, environment } from './arguments.ts'
import { launch, type Running } from './running.ts'
import type { Arg, ToolOptions, Tools } from './tools.ts'

const MAX_OUTPUT_BYTES = 16 * 1024 * 1024

/** `path`: where tools are looked for, and the children's own PATH; folders that are not absolute are left out. */
export function createTools(options: { path: string; log: Logger }): Tools {
  const folders = options.path.split(path.delimiter).filter((folder) => path.isAbsolute(folder))
  const start = (tool: string, args: readonly Arg[], how: ToolOptions): Running => {
    const running = launch(tool, argumentList(args), environment(folders.join(path.delimiter), how.env), how)
    // names alone: a value may be a secret
    options.log.debug({ tool, pid: running.pid, env: Object.keys(how.env ?? {}) }, 'tool started')
    return running
  }
  return {
    find: (name, first = []) => find(name, [...first, ...folders]),
    start,
    run: async (tool, args, how) => collect(start(tool, args, how), path.basename(tool), how),
  }
}

async function find(name: string, folders: readonly string[]): Promise<string> {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.+-]*$/.test(name)) {
    throw new HoldfastError('invalid_name', `tool name ${JSON.stringify(name)} is not allowed`, {
      hint: 'Give the name of the program alone; the folders are searched in order.',
    })
  }
  for (const folder of folders) {
    const candidate = path.join(folder, name)
    if (path.isAbsolute(folder) && (await isExecutable(candidate))) return candidate
  }
  throw new HoldfastError('tool_missing', `${name} was not found on this host`, {
    hint: `Install the package that contains ${name}, or name its folder in the source's configuration.`,
    context: { tool: name, folders },
  })
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK)
    return (await stat(file)).isFile()
  } catch {
    // not there, or not ours to run: either way the next folder's turn
    return false
  }
}

async function collect(running: Running, tool: string, how: ToolOptions): Promise<{ stdout: Buffer; stderr: string }> {
  const limit = how.maxOutputBytes ?? MAX_OUTPUT_BYTES
  const pieces: Buffer[] = []
  let size = 0
  running.stdin.end(how.input)
  // an event and no iterator: when the child is ended from outside, `done` is what reports it
  running.stdout.on('data', (piece: Buffer) => {
    size += piece.length
    if (size > limit) void running.kill()
    else pieces.push(piece)
  })
  try {
    await running.done
  } catch (error) {
    if (size <= limit || how.signal.aborted) throw error
  }
  if (size > limit) {
    throw new HoldfastError('too_large', `${tool} printed more than ${limit} bytes`, {
      hint: 'Narrow down what is asked for, for example by choosing parts of the source.',
    })
  }
  return { stdout: Buffer.concat(pieces), stderr: running.stderr() }
}
