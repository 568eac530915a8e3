import { statSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'

/** Where one agent keeps what it is told and what it does. Several agents share a machine by having a home each. */
export interface AgentHome {
  /** agent.yaml: written by the host's administrator and by `source add`. */
  readonly config: string
  /** Identity, journal, lists of known chunks, scratch. */
  readonly state: string
}

/**
 * `--home DIR` keeps both in one folder; without it the quickstart's agent where the user stands in its folder; else root has /etc/holdfast
 * and /var/lib/holdfast, others ~/.holdfast.
 */
export function agentHome(options: { home?: string; cwd: string; root: boolean; userHome: string }): AgentHome {
  const home = options.home ?? quickstartHome(options.cwd)
  if (home) return { config: path.resolve(home), state: path.resolve(home) }
  if (options.root) return { config: '/etc/holdfast', state: '/var/lib/holdfast' }
  const folder = path.join(options.userHome, '.holdfast')
  return { config: folder, state: folder }
}

/** Only one's own: a folder that somebody else put there must not make the agent work for their control plane. */
function quickstartHome(cwd: string): string | undefined {
  const home = path.join(cwd, 'data', 'agent')
  const identity = statSync(path.join(home, 'identity'), { throwIfNoEntry: false })
  return identity?.isDirectory() && identity.uid === process.getuid?.() ? home : undefined
}

/** Folders of the state, each mode 0700. */
export const stateFolders = (home: AgentHome) => ({
  /** What Node has compiled of our program for the processes of jobs: starting one then costs half as much. */
  compiled: path.join(home.state, 'compiled'),
  journal: path.join(home.state, 'journal'),
  known: path.join(home.state, 'known'),
  places: path.join(home.state, 'places'),
  scratch: path.join(home.state, 'scratch'),
})

export async function makeHome(home: AgentHome): Promise<void> {
  for (const folder of [home.config, home.state, ...Object.values(stateFolders(home))]) {
    await mkdir(folder, { recursive: true, mode: 0o700 })
  }
}
