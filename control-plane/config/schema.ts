import { z } from 'zod'
import { NAME } from '../../shared/ids.ts'
import { targetConfigSchema } from '../../shared/storage/config.ts'
import { parseDuration } from '../../shared/units.ts'

/** server.yaml as it is written. Unknown keys are refused; everything has a default but what cannot have one. */

const file = z.string().min(1).max(4000)
/** `host:port`; an IPv6 host in brackets. */
const endpoint = z
  .string()
  .max(300)
  .regex(/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):\d{1,5}$/, 'is not host:port')
  .refine((text) => Number(text.slice(text.lastIndexOf(':') + 1)) <= 65_535, 'has a port above 65535')
const host = z
  .string()
  .max(253)
  .regex(/^[A-Za-z0-9:][A-Za-z0-9.:-]*$/, 'is not a host name or address')

/** In seconds. Beyond a day the job's own deadline would end it. */
const unlockWait = z
  .string()
  .regex(/^(\d{1,9}[smhd])+$/, 'write a number and a unit, s, m, h or d: 30m, 2h')
  .transform(parseDuration)
  .refine((seconds) => seconds >= 60 && seconds <= 86_400, 'has to be between a minute and a day')

export const serverConfigSchema = z.strictObject({
  home: file.default('data').describe('where the embedded catalog, the keyring and the first admin key lie'),
  catalog: z
    .string()
    .max(4000)
    .regex(/^(embedded|postgres(ql)?:\/\/.+)$/, 'is neither "embedded" nor a postgres:// address')
    .default('embedded'),
  advertise: z
    .union([host, z.array(host).min(1).max(20)])
    .optional()
    .describe('names under which agents reach this control plane; the first stands in invitations'),
  listen: z
    .strictObject({
      api: endpoint.default('127.0.0.1:7440'),
      agents: endpoint.default('127.0.0.1:7443'),
      enrolment: endpoint.optional().describe("the port after the agents' when left out"),
      objects: endpoint.optional().describe("the second port after the agents' when left out"),
      tls: z.strictObject({ cert: file, key: file }).optional().describe("for the operators' API"),
    })
    .prefault({}),
  targets: z.record(z.string().regex(NAME), targetConfigSchema).default({}),
  default_target: z.string().regex(NAME).optional().describe('the first target when left out'),
  keys: z
    .strictObject({
      service: z.literal('keyring').default('keyring'),
      path: file.optional().describe('of the keyring file; in the home folder when left out'),
    })
    .prefault({}),
  recovery_recipients: z
    .array(z.string().regex(/^age1[0-9a-z]{10,120}$/))
    .max(100)
    .default([]),
  parallel_jobs: z.int().min(1).max(10_000).default(50),
  parallel_jobs_per_agent: z.int().min(1).max(100).default(2),
  unlock_wait: unlockWait.default(2 * 3600),
  metrics: z
    .enum(['anyone', 'key'])
    .optional()
    .describe('who may scrape; when left out, anyone if the API listens on the loopback address only'),
  log_level: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
})
export type ServerFile = z.infer<typeof serverConfigSchema>
