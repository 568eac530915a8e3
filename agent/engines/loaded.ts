import type { Engine } from './engine.ts'

/** What an engine is known by before it does anything. */
type Known = 'kind' | 'config' | 'abilities'
/** What it does. */
export type EngineWork<Config> = Omit<Engine<Config>, Known>

/**
 * An engine whose code is loaded when it has something to do. A job needs one of them, and an agent those of its own sources: the others would be processor
 * time and memory of each.
 */
export function loadedWhenUsed<Config>(
  known: Pick<Engine<Config>, Known>,
  load: () => Promise<{ readonly work: EngineWork<Config> }>,
): Engine<Config> {
  const work = async () => (await load()).work
  return {
    ...known,
    discover: async (run) => (await work()).discover(run),
    describe: async (config, run) => (await work()).describe(config, run),
    preflight: async (plan, run) => (await work()).preflight(plan, run),
    backup: async (plan, sink, run) => (await work()).backup(plan, sink, run),
    preview: async (plan, source, run) => (await work()).preview(plan, source, run),
    restore: async (plan, source, run) => (await work()).restore(plan, source, run),
    placeKey: async (place) => (await work()).placeKey(place),
    count: async (place, run) => (await work()).count(place, run),
    check: async (place, expected, run) => (await work()).check(place, expected, run),
    sandbox: async (config, run) => (await work()).sandbox(config, run),
  }
}
