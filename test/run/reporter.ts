import { appendFileSync } from 'node:fs'
import path from 'node:path'
import type { Reporter, TestCase, TestModule } from 'vitest/node'

/** What the reporter notes, a line each as it happens, so that a suite that hangs or dies has been counted up to there. */
export type Note =
  | { readonly note: 'begin'; readonly file: string }
  | {
      readonly note: 'test'
      readonly file: string
      readonly test: string
      readonly state: 'passed' | 'failed' | 'skipped'
      /** Why it was skipped, or failed. */
      readonly why?: string
    }
  /** By a test, for the end of the run. */
  | { readonly note: 'said'; readonly text: string }
  | { readonly note: 'end'; readonly file: string; readonly broken?: string }

/** Beside vitest's own output: notes results for the run's last lines. */
export default class NotingReporter implements Reporter {
  readonly #file = process.env.HOLDFAST_TEST_NOTES

  onTestModuleQueued(module: TestModule): void {
    this.#note({ note: 'begin', file: fileOf(module) })
  }

  onTestCaseResult(test: TestCase): void {
    const result = test.result()
    if (result.state === 'pending') return
    const why = result.state === 'skipped' ? result.note : result.errors?.map((error) => error.message).join('; ')
    this.#note({ note: 'test', file: fileOf(test.module), test: test.fullName, state: result.state, ...(why ? { why } : {}) })
  }

  /** A file that could not be loaded has no tests that could fail. */
  onTestModuleEnd(module: TestModule): void {
    const why = module.errors().map((error) => error.message)
    this.#note({ note: 'end', file: fileOf(module), ...(why.length > 0 ? { broken: why.join('; ') } : {}) })
  }

  #note(note: Note): void {
    if (this.#file) appendFileSync(this.#file, `${JSON.stringify(note)}\n`)
  }
}

function fileOf(module: TestModule): string {
  return path.relative(process.cwd(), module.moduleId)
}
