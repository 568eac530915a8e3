import { writeFileSync } from 'node:fs'
import { TestFleet } from './fleet.ts'
import { writeGolden } from './golden-content.ts'

/**
 * Writes a repository with the writer of today: `node shared/repository/testing/make-golden.ts FILE`. Run once for each version of the
 * format; a file that exists is never made again, since later versions have to read what this one wrote.
 */
const fleet = await TestFleet.create()
const full = await fleet.backup(0, (sink) => writeGolden(sink, 0))
await fleet.backup(1, (sink) => writeGolden(sink, 1), { base: full })
const golden = {
  identity: fleet.identity.reveal(),
  agent_identity: fleet.agentIdentity.reveal(),
  verifying_key: fleet.verifyingKey,
  objects: Object.fromEntries([...fleet.objects.objects].map(([key, bytes]) => [key, bytes.toString('base64')])),
}
writeFileSync(process.argv[2] as string, `${JSON.stringify(golden, null, 1)}\n`, { flag: 'wx' })
