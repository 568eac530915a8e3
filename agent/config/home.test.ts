import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { agentHome } from './home.ts'

let cwd: string
beforeEach(async () => {
  cwd = await mkdtemp(path.join(tmpdir(), 'home-'))
})
afterEach(() => rm(cwd, { recursive: true }))

it('is the folder that is named, whatever lies where the user stands', async () => {
  await mkdir(path.join(cwd, 'data', 'agent', 'identity'), { recursive: true })
  expect(agentHome({ home: '/srv/agent', cwd, root: true, userHome: '/root' })).toEqual({
    config: '/srv/agent',
    state: '/srv/agent',
  })
})

it("is the quickstart's agent in the quickstart's folder", async () => {
  await mkdir(path.join(cwd, 'data', 'agent', 'identity'), { recursive: true })
  const home = path.join(cwd, 'data', 'agent')
  expect(agentHome({ cwd, root: true, userHome: '/root' })).toEqual({ config: home, state: home })
})

it('is the system’s for root and the user’s own for others', () => {
  expect(agentHome({ cwd, root: true, userHome: '/root' })).toEqual({ config: '/etc/holdfast', state: '/var/lib/holdfast' })
  expect(agentHome({ cwd, root: false, userHome: '/home/u' })).toEqual({
    config: '/home/u/.holdfast',
    state: '/home/u/.holdfast',
  })
})
