import { mkdir, readFile, readlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect, test } from 'vitest'
import { TestHoldfast } from '../harness/holdfast.ts'
import { waitFor } from '../harness/wait.ts'

/** What a process has in memory of the program file that it runs. */
async function residentProgram(pid: number): Promise<number> {
  const file = await readlink(`/proc/${pid}/exe`)
  const mappings = (await readFile(`/proc/${pid}/smaps`, 'latin1')).split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
  return mappings
    .filter((mapping) => mapping.split('\n', 1)[0]?.endsWith(` ${file}`))
    .reduce((sum, mapping) => sum + Number(/^Rss: +(\d+) kB$/m.exec(mapping)?.[1]) * 1024, 0)
}

test.runIf(process.platform === 'linux')(
  'an agent that waits does not keep in memory what its start used of Node, and works on',
  async () => {
    await using holdfast = await TestHoldfast.start()
    const folder = path.join(holdfast.folder.path, 'data')
    await mkdir(folder)
    await writeFile(path.join(folder, 'file'), 'content')
    const agent = await holdfast.addAgent('db1', { sources: { data: { engine: 'files', path: folder } } })
    const { pid } = agent.process
    // it has 50 MB and more of it while it starts
    await waitFor('the agent to leave it', async () => (await residentProgram(pid)) < 32_000_000)
    const done = await holdfast.operator.done(await holdfast.operator.startBackup('db1/data', 'full'))
    expect(done).toMatchObject({ status: 'succeeded' })
    expect(agent.process.ended).toBeUndefined()
  },
)
