import { HoldfastError } from '../../shared/errors.ts'
import type { Operations } from '../api/operations.ts'

export const cleanupOperations = (): Pick<Operations, 'previewCleanup' | 'cleanup'> => ({
  previewCleanup: async () => {
    throw new HoldfastError('not_supported', 'retention is not wired yet')
  },
  cleanup: async () => {
    throw new HoldfastError('not_supported', 'retention is not wired yet')
  },
})
