import path from 'node:path'
import { systemClock } from '../../../shared/clock.ts'
import { openS3 } from '../../../shared/storage/s3/target.ts'
import { type S3Server, s3Server } from '../../harness/s3.ts'
import type { Bench } from '../bench.ts'
import type { Contestant } from '../contestant.ts'
import { writeDump } from '../corpora/dump.ts'
import { backUpToBucket, holdfast, removeRepository } from '../holdfast.ts'
import { resticTo } from '../peers.ts'
import { megabytes } from '../report.ts'

/** The dump file to an S3 server on this machine. It is nobody's own: what it takes of the processor is not counted. */
export async function s3(bench: Bench): Promise<void> {
  await using server = await s3Server()
  if (server === null) return console.log('\nno S3 server could be had: it is left out')
  const { mb, seed } = bench.options
  await bench.withSource(
    (folder) => writeDump(path.join(folder, 'dump.sql'), mb * 1e6, seed),
    async (folder, size) => {
      const input = { folder, database: null }
      const by = bench.present.filter(({ name }) => name === holdfast.name || name === 'restic')
      await bench.inTurns(
        { title: `one dump file, ${megabytes(size)} MB, to an S3 server`, size },
        by,
        async (contestant, round) => {
          const bucket = await server.makeBucket()
          const measured = await intoBucket(contestant, bucket, path.join(bench.folder, `bucket-${round}`))
          return { ...measured, stored: await emptied(server, bucket) }
        },
      )

      async function intoBucket(contestant: Contestant, bucket: string, work: string) {
        const { endpoint, region, env } = server as S3Server
        if (contestant !== holdfast) return resticTo(`s3:${endpoint}/${bucket}`, input, env)
        const place = { kind: 's3', bucket, prefix: 'bench', endpoint, region } as const
        const measured = await backUpToBucket(input, work, place, env)
        await removeRepository(work)
        return measured
      }
    },
  )
}

/** Removes what lies in a bucket, and tells how many bytes it was. */
async function emptied(server: S3Server, bucket: string): Promise<number> {
  const { endpoint, region, credentials } = server
  const config = { kind: 's3', bucket, endpoint, region, force_path_style: true } as const
  const target = await openS3(config, { name: 'bench', clock: systemClock, credentials })
  const objects: Array<{ key: string; size: number }> = []
  for await (const object of target.list('')) objects.push(object)
  for (const { key } of objects) await target.remove(key)
  await target.close()
  return objects.reduce((sum, { size }) => sum + size, 0)
}
