import { describe, expect, it } from 'vitest'
import type { Finding } from '../../shared/results.ts'
import { requireNoError } from './preflight.ts'

const finding = (code: string, severity: Finding['severity'] = 'error'): Finding => ({ code, severity, message: code })
const thrownBy = (...findings: Finding[]): unknown => {
  try {
    requireNoError(findings)
    return null
  } catch (error) {
    return error
  }
}

describe('pre-flight', () => {
  it('warnings alone keep no job from its work', () => {
    expect(thrownBy(finding('standby', 'info'), finding('source_unreachable', 'warning'))).toBeNull()
  })

  it('what may have passed at the next try is tried again', () => {
    const away = finding('source_unreachable')
    expect(thrownBy(away)).toMatchObject({ code: 'preflight_failed', retry: true })
    expect(thrownBy(away, finding('disk_full'))).toMatchObject({ retry: true })
  })

  it('what lasts ends the job, and is the reason that is named', () => {
    const error = thrownBy(finding('source_unreachable'), finding('source_denied'))
    expect(error).toMatchObject({ code: 'preflight_failed', retry: false, message: expect.stringContaining('source_denied') })
    expect(thrownBy(finding('constructor'))).toMatchObject({ retry: false })
  })
})
