import { readFile, symlink } from 'node:fs/promises'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { rolldown } from 'rolldown'
import { throwAwayFolder } from '../../harness/folders.ts'

/**
 * The programs that seeds start again and again, each as one file: to start one then costs a third. Their code is what it is, and knows itself where
 * its own file lies: what it starts beside itself is found there.
 */
export interface Programs {
  readonly agent: string
  readonly job: string
  /** What Node has compiled of them: beside them, since they lie elsewhere in each run. */
  readonly compiled: string
}

const ROOT = path.resolve(import.meta.dirname, '../../..')

let made: Promise<Programs> | undefined

/** Made once, and gone with this process. */
export function programs(): Promise<Programs> {
  made ??= make()
  return made
}

async function make(): Promise<Programs> {
  const { path: folder } = await throwAwayFolder()
  // what is not bundled is found from there
  await symlink(path.join(ROOT, 'node_modules'), path.join(folder, 'node_modules'))
  const at = { agent: path.join(folder, 'agent.mjs'), job: path.join(folder, 'job.mjs'), compiled: path.join(folder, 'compiled') }
  await bundle('test/fault/data-path/agent-program.ts', at.agent)
  await bundle('agent/jobs/child.ts', at.job)
  return at
}

async function bundle(input: string, file: string): Promise<void> {
  const made = await rolldown({
    input: path.join(ROOT, input),
    platform: 'node',
    // it loads a library of its own from where it is
    external: ['koffi'],
    plugins: [
      {
        name: 'own-place',
        load: async (id) => {
          if (!id.endsWith('.ts') || id.includes('node_modules')) return null
          const code = await readFile(id, 'utf8')
          return { code: code.replaceAll('import.meta.url', JSON.stringify(pathToFileURL(id).href)), moduleType: 'ts' }
        },
      },
    ],
  })
  await made.write({ file, format: 'esm', codeSplitting: false })
  await made.close()
}
