import { createHash, randomUUID } from 'node:crypto'
import type { BackupSource } from '../../../shared/artifacts.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Finding, Fingerprint } from '../../../shared/results.ts'
import type { Engine, Place, RestorePlan, Run } from '../engine.ts'
import { type FakeConfig, fakeConfig } from './config.ts'
import { countLines, type Parts, placeExists, placeFile, placeName, readPlace, removePlace, writePlace } from './store.ts'

/** An engine for tests that can be told to be slow, fail, hang and lie. Registered by tests alone. */
export const fakeEngine: Engine<FakeConfig> = {
  kind: 'fake',
  config: fakeConfig,
  abilities: {
    kinds: ['full', 'incremental', 'differential'],
    parts: 'part',
    mapping: false,
    tenants: false,
    pointInTime: false,
    overwrite: 'swap',
  },

  discover: async () => [],

  describe: async (config) => ({ place: config.place }),

  placeKey: async (place) => placeFile(place),

  async preflight(plan) {
    try {
      if (plan.action === 'backup') await readPlace({ config: plan.config, targetName: null })
      return []
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      return [{ code: error.code, severity: 'error', message: error.message, ...(error.hint ? { hint: error.hint } : {}) }]
    }
  },

  async backup(plan, sink, run) {
    run.signal.throwIfAborted()
    const chosen = choose(await readPlace({ config: plan.config, targetName: null }), plan.parts)
    const moved = { bytes: 0 }
    for (const [part, own] of chosen) {
      const bytes = generated(plan.config, part) ?? own
      chosen.set(part, bytes)
      const meta = { name: part, part, chunking: { kind: 'content-defined', averageBytes: 65_536 } } as const
      await sink.stream(meta, pieces(bytes, plan.config, moved, run))
    }
    run.signal.throwIfAborted()
    const { counts, facts } = fingerprintOf(chosen)
    for (const [part, lie] of Object.entries(plan.config.lie)) counts[part] = Math.max(0, (counts[part] ?? 0) + lie)
    return { counts, facts }
  },

  async preview(plan, source) {
    let bytes = 0
    for await (const artifact of source.artifacts()) bytes += artifact.bytes
    const name = placeName(plan)
    const exists = await placeExists(plan)
    return { creates: exists ? [] : [name], replaces: exists ? [{ what: name }] : [], bytes, findings: [] }
  },

  async restore(plan, source, run) {
    run.signal.throwIfAborted()
    placeFile(plan)
    if (!plan.overwrite) await refuseExisting(plan)
    const parts = await collect(plan, source, run)
    run.signal.throwIfAborted()
    await writePlace(plan, parts, () => run.fenced())
  },

  count: async (place) => fingerprintOf(await readPlace(place)),

  async check(place, expected) {
    return differences(fingerprintOf(await readPlace(place)), expected)
  },

  async sandbox(config) {
    const place = { config, targetName: `sandbox-${randomUUID()}` }
    return { place, dispose: () => removePlace(place) }
  },
}

async function refuseExisting(place: Place<FakeConfig>): Promise<void> {
  if (!(await placeExists(place))) return
  throw new HoldfastError('source_exists', `place ${JSON.stringify(placeName(place))} exists`, {
    hint: 'Restore into another name, or with --overwrite to replace it as a whole.',
  })
}

async function collect(plan: RestorePlan<FakeConfig>, source: BackupSource, run: Run): Promise<Parts> {
  const names: Parts = new Map()
  for await (const artifact of source.artifacts()) names.set(artifact.name, Buffer.alloc(0))
  const chosen = choose(names, plan.parts)
  const moved = { bytes: 0 }
  for (const part of chosen.keys()) {
    const got: Buffer[] = []
    for await (const piece of source.openStream(part)) got.push(await step(piece, plan.config, moved, run))
    chosen.set(part, Buffer.concat(got))
  }
  return chosen
}

function choose(parts: Parts, wanted: readonly string[]): Parts {
  if (wanted.length === 0) return new Map(parts)
  return new Map(
    wanted.map((part) => {
      const bytes = parts.get(part)
      if (bytes) return [part, bytes]
      throw new HoldfastError('not_found', `part ${JSON.stringify(part.slice(0, 100))} is not there`, {
        hint: 'List the parts and choose from those.',
      })
    }),
  )
}

async function* pieces(bytes: Buffer, config: FakeConfig, moved: { bytes: number }, run: Run): AsyncGenerator<Buffer> {
  for (let offset = 0; offset < bytes.length; offset += config.piece_bytes) {
    yield await step(bytes.subarray(offset, offset + config.piece_bytes), config, moved, run)
  }
}

async function step(piece: Buffer, config: FakeConfig, moved: { bytes: number }, run: Run): Promise<Buffer> {
  run.signal.throwIfAborted()
  if (config.slow_ms > 0) await run.clock.sleep(config.slow_ms, run.signal)
  if (config.hang_ms > 0 && moved.bytes === 0) await run.clock.sleep(config.hang_ms)
  run.signal.throwIfAborted()
  moved.bytes += piece.length
  if (config.fail_at_byte !== undefined && moved.bytes >= config.fail_at_byte) {
    throw new HoldfastError('tool_failed', `the fake tool failed at byte ${config.fail_at_byte}`, { hint: 'It was told to.' })
  }
  return piece
}

/** Lines of hexadecimal, the same for the same seed and part. */
function generated(config: FakeConfig, part: string): Buffer | null {
  if (!config.generate) return null
  const { bytes, seed } = config.generate
  const lines: string[] = []
  for (let line = 0; line * 65 < bytes; line++) lines.push(createHash('sha256').update(`${seed} ${part} ${line}`).digest('hex'))
  return Buffer.from(`${lines.join('\n')}\n`).subarray(0, bytes)
}

function fingerprintOf(parts: Parts): Fingerprint {
  return { counts: Object.fromEntries([...parts].map(([part, bytes]) => [part, countLines(bytes)])), facts: { engine: 'fake' } }
}

function differences(found: Fingerprint, expected: Fingerprint): Finding[] {
  const findings: Finding[] = []
  const hint = 'Compare the place with its backup.'
  for (const [part, count] of Object.entries(expected.counts)) {
    const actual = found.counts[part]
    if (actual === undefined) findings.push({ code: 'part_missing', severity: 'error', message: `part ${part} is missing`, hint })
    else if (actual !== count) {
      findings.push({
        code: 'count_mismatch',
        severity: 'error',
        message: `part ${part} has ${actual} lines, not ${count}`,
        hint,
      })
    }
  }
  for (const part of Object.keys(found.counts)) {
    if (!Object.hasOwn(expected.counts, part)) {
      findings.push({ code: 'part_unexpected', severity: 'error', message: `part ${part} was not in the backup`, hint })
    }
  }
  return findings
}
