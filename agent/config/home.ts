import { mkdir } from 'node:fs/promises'
import path from 'node:path'

/** Where one agent keeps what it is told and what it does. Several agents share a machine by having a home each. */
export interface AgentHome {
  /** agent.yaml: written by the host's administrator and by `source add`. */
  readonly config: string
  /** Identity, journal, lists of known chunks, scratch. */
  readonly state: string
}

/** `--home DIR` keeps both in one folder; without it root has /etc/holdfast and /var/lib/holdfast, others ~/.holdfast. */
export function agentHome(options: { home?: string; root: boolean; userHome: string }): AgentHome {
  if (options.home) return { config: path.resolve(options.home), state: path.resolve(options.home) }
  if (options.root) return { config: '/etc/holdfast', state: '/var/lib/holdfast' }
  const folder = path.join(options.userHome, '.holdfast')
  return { config: folder, state: folder }
}

/** Folders of the state, each mode 0700. */
export const stateFolders = (home: AgentHome) => ({
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
