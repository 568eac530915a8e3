/** The parts of the repository that mutation testing changes, and the unit tests that have to notice; all in shared/repository. */
export interface MutatedModule {
  readonly files: readonly string[]
  readonly tests: readonly string[]
}

export const MODULES: Readonly<Record<string, MutatedModule>> = {
  chunker: { files: ['chunker.ts'], tests: ['chunker.test.ts'] },
  sealer: { files: ['sealer.ts'], tests: ['sealer.test.ts'] },
  contents: { files: ['contents.ts'], tests: ['contents.test.ts'] },
  packer: { files: ['packer.ts', 'pack.ts', 'whole-pack.ts'], tests: ['pack.test.ts', 'packer.test.ts'] },
  reader: { files: ['reader.ts'], tests: ['reader.test.ts'] },
  writer: { files: ['writer.ts'], tests: ['writer.test.ts'] },
}
