import { appendFileSync } from 'node:fs'
import type { Note } from '../run/reporter.ts'

/** A line or more for the end of the test run, whether tests passed or not; on the console where a suite is run by itself. */
export function say(text: string): void {
  const file = process.env.HOLDFAST_TEST_NOTES
  if (file) appendFileSync(file, `${JSON.stringify({ note: 'said', text } satisfies Note)}\n`)
  else console.log(text)
}
