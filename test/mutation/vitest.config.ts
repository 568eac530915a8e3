import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'
import { MODULES } from './modules.ts'

const tests = MODULES[process.env.HOLDFAST_MUTATED_MODULE ?? '']?.tests ?? []

/** In the order of modules.ts: what is quick and near comes first, and a mutant that it finds costs no more. */
class InOrder extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => tests.findIndex((test) => moduleId.endsWith(`/${test}`))
    return files.toSorted((a, b) => place(a) - place(b))
  }
}

// What mutation testing runs a module's unit tests with. Paths are from its copy of the project.
export default defineConfig({
  test: {
    include: tests.map((test) => `shared/repository/${test}`),
    testTimeout: 120_000,
    hookTimeout: 120_000,
    setupFiles: ['test/mutation/setup.ts', 'shared/repository/testing/remove-folders.ts'],
    sequence: { sequencer: InOrder },
  },
})
