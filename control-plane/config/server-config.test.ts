import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadServerConfig } from './server-config.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'hf-config-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function load(yaml: string | null, environment: Record<string, string> = {}, over = {}) {
  const file = path.join(folder, 'server.yaml')
  if (yaml !== null) await writeFile(file, yaml)
  return await loadServerConfig({ ...(yaml === null ? {} : { file }), environment, cwd: '/base', over })
}

test('without a file everything has a default, and nothing listens beyond the loopback address', async () => {
  expect(await load(null)).toEqual({
    home: '/base/data',
    catalog: { kind: 'embedded', folder: '/base/data/catalog' },
    advertise: ['127.0.0.1'],
    listen: {
      api: { host: '127.0.0.1', port: 7440 },
      agents: { host: '127.0.0.1', port: 7443 },
      enrolment: { host: '127.0.0.1', port: 7444 },
      objects: { host: '127.0.0.1', port: 7445 },
    },
    tls: null,
    targets: { primary: { kind: 'local', path: '/base/data/store' } },
    defaultTarget: 'primary',
    keyring: { path: '/base/data/keyring', shared: false },
    recoveryRecipients: [],
    parallelJobs: 50,
    parallelJobsPerAgent: 2,
    unlockSeconds: 7200,
    whoScrapes: 'anyone',
    logLevel: 'info',
    olderPolicy: null,
  })
})

test('the file of the documentation is understood, its paths from its own folder', async () => {
  await writeFile(path.join(folder, 'c.pem'), 'CERT')
  await writeFile(path.join(folder, 'k.pem'), 'KEY')
  const config = await load(`
catalog: postgres://holdfast@db/holdfast
advertise: cp.example.com
listen: { api: 0.0.0.0:7440, agents: "[::]:7443", tls: { cert: c.pem, key: k.pem } }
targets:
  primary:   { kind: s3, bucket: acme-backups, region: eu-central-1, prefix: holdfast }
  secondary: { kind: s3, bucket: acme-backups-west, region: eu-west-1 }
default_target: secondary
keys: { service: keyring, path: /run/secrets/keyring }
recovery_recipients: [ age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq ]
`)
  expect(config).toMatchObject({
    catalog: { kind: 'postgres' },
    advertise: ['cp.example.com'],
    listen: { agents: { host: '::', port: 7443 }, enrolment: { host: '::', port: 7444 } },
    tls: { cert: 'CERT' },
    targets: { primary: { bucket: 'acme-backups' } },
    defaultTarget: 'secondary',
    keyring: { path: '/run/secrets/keyring', shared: true },
    whoScrapes: 'viewer',
  })
  expect(config.tls?.key.reveal()).toBe('KEY')
  expect(JSON.stringify(config)).not.toContain('holdfast@db')
})

test('variables win over the file, options over variables', async () => {
  const environment = { HOLDFAST_LISTEN_API: '127.0.0.1:1', HOLDFAST_HOME: 'h', HOLDFAST_TARGETS: '{a: {kind: local, path: x}}' }
  const config = await load('listen: { agents: "127.0.0.1:9" }\nhome: /elsewhere\n', environment, {
    listen: { api: '127.0.0.1:2' },
  })
  expect(config.listen).toMatchObject({ api: { port: 2 }, agents: { port: 9 }, enrolment: { port: 10 } })
  expect(config.home).toBe('/base/h')
  expect(config.targets).toEqual({ a: { kind: 'local', path: '/base/x' } })
  expect(config.defaultTarget).toBe('a')
})

test.each([
  ['unknown: 1', {}, 'unknown'],
  ['listen: { apii: "x:1" }', {}, 'apii'],
  ['targets: { a: { kind: s3, bucket: b1b, secret_key: x } }', {}, 'secret_key'],
  ['targets: { a: { kind: s3, bucket: b1b, object_lock: 30d } }', {}, 'object_lock'],
  ['targets: { a: { kind: gcs, bucket: b1b } }', {}, 'targets.a.kind'],
  ['targets: { a: { kind: azure, bucket: b1b } }', {}, 'targets.a.kind'],
  ['listen: { api: "x" }', {}, 'host:port'],
  ['listen: { api: "x:70000" }', {}, '65535'],
  ['a: [', {}, 'server.yaml is not valid YAML: line 1, column 5: '],
  ['a: 1\na: 2', {}, 'server.yaml is not valid YAML: line 2, column 1: '],
  ['home: &x a\nadvertise: *x', {}, 'server.yaml uses YAML aliases'],
  ['just text', {}, 'does not hold settings'],
  ['{}', { HOLDFAST_LISTEN: 'x' }, 'HOLDFAST_LISTEN'],
  ['{}', { HOLDFAST_TARGETS: '{a: [' }, 'HOLDFAST_TARGETS'],
  ['{}', { HOLDFAST_PARALLEL_JOBS: 'many' }, 'parallel_jobs'],
  ['{}', { HOLDFAST_UNLOCK_WAIT: '5s' }, 'unlock_wait'],
  ['unlock_wait: soon', {}, 'unlock_wait'],
  ['unlock_wait: 2d', {}, 'unlock_wait'],
  ['default_target: nothing', {}, 'nothing'],
  ['catalog: mysql://x', {}, 'catalog'],
  ['catalog: postgres://x\nkeys: { path: /k }', {}, 'no target is configured'],
])('what is not understood is refused by name: %s %j', async (yaml, environment, named) => {
  await expect(load(yaml, environment as Record<string, string>)).rejects.toMatchObject({
    code: 'invalid_config',
    message: expect.stringContaining(named),
  })
})

test("with a shared catalog a keyring or a target on one node's disk is refused", async () => {
  const catalog = 'catalog: postgres://db/holdfast\n'
  await expect(load(catalog)).rejects.toThrow('keyring')
  await expect(load(`${catalog}keys: { path: /k }\ntargets: { a: { kind: local, path: /x } }`)).rejects.toThrow('target a')
})

test('the variables of older scripts make a target, unless the file has some', async () => {
  const older = {
    BACKUP_STORAGE: 's3',
    BACKUP_S3_BUCKET: 'old-bucket',
    BACKUP_S3_REGION: 'eu-west-1',
    BACKUP_S3_PREFIX: '/daily/',
  }
  expect((await load('{}', older)).targets).toEqual({
    backup: { kind: 's3', bucket: 'old-bucket', region: 'eu-west-1', prefix: 'daily' },
  })
  expect((await load('targets: { a: { kind: local, path: /x } }', older)).targets).toEqual({ a: { kind: 'local', path: '/x' } })
  expect((await load('{}', { BACKUP_PATH: '/srv/backups' })).targets).toEqual({ backup: { kind: 'local', path: '/srv/backups' } })
  await expect(load('{}', { BACKUP_STORAGE: 'local' })).rejects.toThrow('BACKUP_PATH is missing')
  await expect(load('{}', { BACKUP_PATH: '/x', BACKUP_ENCRYPTION: 'false' })).rejects.toThrow(
    'BACKUP_ENCRYPTION=false cannot be done',
  )
})

test('the schedule and the retention of older scripts make a policy for every source', async () => {
  const older = { BACKUP_PATH: '/srv/backups', BACKUP_SCHEDULE: '0 2 * * *', BACKUP_RETENTION_DAYS: '30' }
  expect((await load('{}', older)).olderPolicy).toEqual({
    select: {},
    targets: ['backup'],
    recipients: 'all',
    schedule: { full: '0 2 * * *', timezone: 'UTC' },
    retention: { duration: 30 * 86_400 },
  })
  expect((await load('{}', { ...older, BACKUP_ENABLED: 'false' })).olderPolicy).toBeNull()
  expect((await load('targets: { a: { kind: local, path: /x } }', older)).olderPolicy).toBeNull()
  await expect(load('{}', { ...older, BACKUP_SCHEDULE: 'often' })).rejects.toThrow('BACKUP_SCHEDULE')
  await expect(load('{}', { ...older, BACKUP_RETENTION_DAYS: 'x' })).rejects.toThrow('BACKUP_RETENTION_DAYS')
})
