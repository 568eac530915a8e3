import { defineConfig } from 'vitest/config'

// Limits for a machine under load. A test that waits for a state is done long before.
const project = (name: string, include: string[], testTimeout: number) => ({
  test: {
    name,
    include,
    testTimeout,
    hookTimeout: testTimeout,
    expect: { poll: { timeout: 30_000 } },
    pool: 'forks' as const,
    setupFiles: ['shared/repository/testing/remove-folders.ts'],
  },
})

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...project(
            'unit',
            ['{agent,control-plane,shared}/**/*.test.ts', 'test/{harness,run,rules}/**/*.test.ts', 'deploy/**/*.test.ts'],
            60_000,
          ).test,
          exclude: ['**/*.contract.test.ts', '**/node_modules/**'],
        },
      },
      project('contracts', ['{agent,control-plane,shared,deploy}/**/*.contract.test.ts'], 180_000),
      project('stories', ['test/scenarios/**/*.test.ts'], 300_000),
      project('faults', ['test/fault/**/*.test.ts'], 600_000),
    ],
  },
})
