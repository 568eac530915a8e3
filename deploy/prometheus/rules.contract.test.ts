import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { available } from '../../test/harness/cache.ts'
import { runCommand, tryCommand } from '../../test/harness/commands.ts'
import { apt, onPath } from '../../test/harness/debian.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')
const RULES = path.join(import.meta.dirname, 'rules.yml')

interface AlertRule {
  readonly alert: string
  readonly expr: string
  readonly annotations: { readonly runbook_url: string }
}

const alerts = async (): Promise<AlertRule[]> => parse(await readFile(RULES, 'utf8')).groups[0].rules

describe('the alert rules', () => {
  it('stand on metrics that the control plane has', async () => {
    const source = await readFile(path.join(ROOT, 'control-plane/metrics/metrics.ts'), 'utf8')
    for (const { alert, expr } of await alerts()) {
      const metrics = [...new Set(expr.match(/\b(?:backup|restore|holdfast)_[a-z_]+/g))]
      expect([alert, metrics.length]).not.toEqual([alert, 0])
      for (const metric of metrics) expect([alert, metric, source.includes(`'${metric}'`)]).toEqual([alert, metric, true])
    }
  })

  it('each link a runbook that is there and speaks of it', async () => {
    for (const { alert, annotations } of await alerts()) {
      const file = path.join(ROOT, annotations.runbook_url)
      expect([alert, path.basename(file), existsSync(file)]).toEqual([alert, `${alert}.md`, true])
      expect(await readFile(file, 'utf8')).toContain(`# ${alert}`)
    }
  })

  describe('judged by promtool', () => {
    let promtool: string | null
    beforeAll(async () => {
      const find = async () => {
        const there = onPath('promtool')
        if (there === null) await apt(['prometheus'])
        const tool = there ?? onPath('promtool')
        if (tool === null) throw new Error('the package prometheus has no promtool')
        return tool
      }
      promtool = await available('promtool', 'build', () => onPath('promtool') !== null, find)
    }, 600_000)

    it('are valid', async (test) => {
      if (promtool === null) return test.skip('promtool is not here')
      expect(await runCommand(promtool, ['check', 'rules', RULES])).toContain('SUCCESS')
    })

    it('fire when they should and are quiet otherwise', async (test) => {
      if (promtool === null) return test.skip('promtool is not here')
      const files = ['rules.test.yml', 'rules-slow.test.yml'].map((name) => path.join(import.meta.dirname, name))
      const judged = await tryCommand(promtool, ['test', 'rules', ...files])
      expect([judged.status, judged.stdout + judged.stderr]).toEqual([0, expect.stringContaining('SUCCESS')])
      const tested = (await Promise.all(files.map((file) => readFile(file, 'utf8')))).join('')
      for (const { alert } of await alerts()) expect(tested).toContain(`alertname: ${alert}\n`)
    })
  })
})
