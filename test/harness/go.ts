import { chmod, cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { cached, isCached } from './cache.ts'
import { runCommand } from './commands.ts'

export interface GoProgram {
  /** The module and its exact version. */
  readonly module: string
  readonly version: string
  /** The package of `main`, from the module's root: `.`, `./cmd/NAME`. */
  readonly package: string
  /** Build in a module of our own that requires it, for a module whose own go.mod can't be built from (mongo-tools). */
  readonly required?: boolean
}

/** GOTOOLCHAIN=local: never another compiler than the installed one. */
const GO_ENV = { GOTOOLCHAIN: 'local', CGO_ENABLED: '0', GOFLAGS: '-mod=mod -buildvcs=false' }

/** Whether `goModule` has built it here before. */
export function goModulePresent(program: GoProgram): boolean {
  return isCached(cacheName(program), program.version)
}

/**
 * A program of a Go module, built once into the cache; the module proxy's checksum database vouches for what is downloaded.
 * Gives the path of the program. Takes minutes the first time: ask through `available(..., 'build', ...)`.
 */
export async function goModule(program: GoProgram): Promise<string> {
  const folder = await cached(cacheName(program), program.version, async (draft) => {
    const source = path.join(draft, 'source')
    const output = path.join(draft, programName(program))
    await (program.required ? requireModule(program, source) : copyModule(program, source))
    const main = program.required ? path.posix.join(program.module, program.package) : program.package
    await runCommand('go', ['build', '-trimpath', '-ldflags=-s -w', '-o', output, main], {
      cwd: source,
      env: GO_ENV,
      timeoutMs: 20 * 60_000,
    })
    await rm(source, { recursive: true, force: true })
  })
  return path.join(folder, programName(program))
}

/** `go install` refuses a module with replace directives, so it is built inside a writable copy of its own folder. */
async function copyModule(program: GoProgram, source: string): Promise<void> {
  const answer = await runCommand('go', ['mod', 'download', '-json', `${program.module}@${program.version}`], { env: GO_ENV })
  const { Dir } = JSON.parse(answer) as { Dir: string }
  await cp(Dir, source, { recursive: true })
  await makeWritable(source)
}

async function requireModule(program: GoProgram, source: string): Promise<void> {
  await mkdir(source)
  await writeFile(path.join(source, 'go.mod'), `module built.test\n\ngo 1.21\n\nrequire ${program.module} ${program.version}\n`)
}

/** The module cache is read-only, and so is a copy of it. */
async function makeWritable(folder: string): Promise<void> {
  await chmod(folder, 0o755)
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const at = path.join(folder, entry.name)
    if (entry.isDirectory()) await makeWritable(at)
    else if (entry.isFile()) await chmod(at, 0o644)
  }
}

function programName(program: GoProgram): string {
  const last = path.posix.basename(program.package === '.' ? program.module : program.package)
  return last === 'main' ? path.posix.basename(path.posix.dirname(program.package)) : last
}

function cacheName(program: GoProgram): string {
  return `go-${programName(program)}`
}
