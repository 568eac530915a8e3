import { createHash } from 'node:crypto'
import pino from 'pino'
import { FakeClock } from '../../../shared/fake-clock.ts'
import type { Secret } from '../../../shared/secret.ts'
import type { IdempotencyState, IdempotencyStore } from '../../catalog/idempotency.ts'
import type { AuditEvent } from '../../domain/audit-chain.ts'
import type { Api } from '../app.ts'
import type { Caller } from '../operations.ts'
import { type ApiOptions, createApi } from '../server.ts'
import { type FakeOperations, fakeOperations } from './fake-operations.ts'

const caller = (keyName: string, role: Caller['role'], sources: string[] = []): Caller => ({
  keyId: `id-${keyName}`,
  keyName,
  role,
  sources,
})

const key = (character: string) => `hfk_${character.repeat(26)}`
/** A key of each kind. */
export const KEYS = { viewer: key('v'), operator: key('p'), admin: key('a'), limited: key('m') } as const
export const authorization = (name: keyof typeof KEYS) => ({ authorization: `ApiKey ${KEYS[name]}` })

export interface FakeApi {
  readonly app: Api
  readonly operations: FakeOperations
  readonly audit: AuditEvent[]
  readonly clock: FakeClock
  /** Keys that were taken away. */
  readonly revoked: Set<string>
}

/** The real server on fakes of everything behind it. `limited` is an operator for `db1/*` alone. */
export async function fakeApi(over: Partial<FakeOperations> = {}, options: Partial<ApiOptions> = {}): Promise<FakeApi> {
  const clock = new FakeClock('2026-11-21T02:00:00Z')
  const operations = fakeOperations(over)
  const audit: AuditEvent[] = []
  const revoked = new Set<string>()
  const callers = new Map<string, Caller>([
    [KEYS.viewer, caller('viewer', 'viewer')],
    [KEYS.operator, caller('operator', 'operator')],
    [KEYS.admin, caller('admin', 'admin')],
    [KEYS.limited, caller('limited', 'operator', ['db1/*'])],
  ])
  const app = await createApi({
    operations,
    keys: {
      find: async (sent: Secret) => {
        const found = callers.get(sent.reveal())
        return found && !revoked.has(found.keyId) ? found : null
      },
      current: async (keyId) => [...callers.values()].find((one) => one.keyId === keyId && !revoked.has(keyId)) ?? null,
    },
    audit: async (event) => void audit.push(event),
    idempotency: memoryIdempotency(),
    clock,
    log: pino({ level: 'silent' }),
    version: '0.1.0',
    ready: async () => undefined,
    metrics: async () => ({ contentType: 'text/plain; version=0.0.4; charset=utf-8', body: '# nothing\n' }),
    whoScrapes: 'anyone',
    ...options,
  })
  return { app, operations, audit, clock, revoked }
}

export function memoryIdempotency(): IdempotencyStore {
  const rows = new Map<string, { hash: string; state: IdempotencyState }>()
  const at = (request: { keyId: string; key: string }) => `${request.keyId} ${request.key}`
  return {
    begin: async (request) => {
      const hash = createHash('sha256').update(request.requestSha256).digest('hex')
      const row = rows.get(at(request))
      if (!row) {
        rows.set(at(request), { hash, state: { state: 'at_work' } })
        return { state: 'new' }
      }
      return row.hash === hash ? row.state : { state: 'other_request' }
    },
    finish: async (request, answer) => {
      const row = rows.get(at(request))
      if (row) row.state = { state: 'answered', ...answer }
    },
    forget: async (request) => void rows.delete(at(request)),
  }
}
