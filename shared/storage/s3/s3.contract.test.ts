import { ListObjectVersionsCommand, S3Client } from '@aws-sdk/client-s3'
import { expect, test } from 'vitest'
import { startFaultProxy } from '../../../test/harness/fault-proxy.ts'
import { s3Server } from '../../../test/harness/s3.ts'
import { waitFor } from '../../../test/harness/wait.ts'
import { systemClock } from '../../clock.ts'
import { type ContractSubject, storageTargetContract } from '../contract.ts'
import { openTarget } from '../registry.ts'

async function prepare(versioned: boolean): Promise<ContractSubject | null> {
  const server = await s3Server()
  if (!server) return null
  const bucket = await server.makeBucket({ versioned })
  const proxy = await startFaultProxy({ upstream: server.endpoint })
  const open = (endpoint: string, expiration?: Date) =>
    openTarget(
      { kind: 's3', bucket, region: server.region, endpoint, force_path_style: true, prefix: 'some/prefix' },
      { credentials: { ...server.credentials, ...(expiration ? { expiration } : {}) } },
    )
  const target = await open(server.endpoint)
  const faulty = await open(proxy.origin)
  return {
    target,
    faulty: { target: faulty, proxy: proxy as never },
    ownCallsPassProxy: true,
    shortLived: async () => {
      // the address is to end with the credentials that sign it: 5 s before them, and seven seconds or more from now
      const ends = new Date(systemClock.now().getTime() + 14_000)
      return {
        target: await open(server.endpoint, ends),
        expire: () =>
          waitFor('the address to expire', () => systemClock.now().getTime() > ends.getTime() - 4_000).then(() => undefined),
      }
    },
    close: async () => {
      await Promise.all([target.close(), faulty.close()])
      await proxy.stop()
      await server.stop()
    },
  }
}

storageTargetContract('S3 (versitygw)', () => prepare(false))
storageTargetContract('S3 with versions (versitygw)', () => prepare(true))

test('remove takes every version and every delete marker of the key, and of no other', async (context) => {
  const server = await s3Server()
  if (!server) return context.skip('the service cannot be had on this machine')
  context.onTestFinished(() => server.stop())
  const bucket = await server.makeBucket({ versioned: true })
  const target = await openTarget(
    { kind: 's3', bucket, region: server.region, endpoint: server.endpoint, force_path_style: true },
    { credentials: server.credentials },
  )
  const { accessKeyId, secretAccessKey } = server.credentials
  const credentials = { accessKeyId, secretAccessKey: secretAccessKey.reveal() }
  const client = new S3Client({ endpoint: server.endpoint, region: server.region, forcePathStyle: true, credentials })
  context.onTestFinished(async () => {
    client.destroy()
    await target.close()
  })
  const versions = async () => {
    const page = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }))
    return [...(page.Versions ?? []), ...(page.DeleteMarkers ?? [])].map((version) => version.Key)
  }
  for (const body of ['first', 'second', 'third']) await target.put('keys/1', Buffer.from(body), { overwrite: true })
  await target.put('keys/10', Buffer.from('another'))
  expect((await versions()).filter((key) => key === 'keys/1')).toHaveLength(3)
  await target.remove('keys/1')
  expect(await versions()).toEqual(['keys/10'])
  expect((await target.probe()).versioned).toBe(true)
  expect(await versions()).toEqual(['keys/10'])
})

test('what is locked stays until its time, whoever removes it, where the bucket has locks; elsewhere it is stored without', async (context) => {
  const server = await s3Server()
  if (!server) return context.skip('the service cannot be had on this machine')
  context.onTestFinished(() => server.stop())
  const lockUntil = new Date(systemClock.now().getTime() + 3_600_000)
  for (const objectLock of [true, false]) {
    const bucket = await server.makeBucket({ objectLock })
    const target = await openTarget(
      { kind: 's3', bucket, region: server.region, endpoint: server.endpoint, force_path_style: true },
      { credentials: server.credentials },
    )
    context.onTestFinished(() => target.close())
    expect((await target.probe()).objectLock).toBe(objectLock)
    const body = Buffer.from('a head')
    await target.put('_audit/locked', body, { lockUntil })
    await target.put('_audit/open', body)
    const removed = target.remove('_audit/locked')
    if (objectLock) await expect(removed).rejects.toMatchObject({ code: expect.stringMatching(/^target_/) })
    else await removed
    await target.remove('_audit/open')
    expect(await target.head('_audit/open')).toBeNull()
    if (objectLock) expect(await target.get('_audit/locked')).toEqual(body)
  }
})
