import { afterAll } from 'vitest'
import { removeTemporaryFolders } from './temporary-folders.ts'

// Set up before every file of tests: a process in which vitest runs them is ended from outside and never comes to its 'exit'. As the first hook it is
// the last one that runs.
afterAll(removeTemporaryFolders)
