import { requireRecipient } from '../../shared/age/age.ts'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import type { ConnectRequest, Hello, Source } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { NAME } from '../../shared/ids.ts'

/** An agent that connects and says nothing holds a stream no longer than this. */
const HELLO_MS = 10_000
const MAX_SOURCES = 2000
const MAX_JOURNAL = 10_000
const MAX_PAIRS = 100

/** The first message of a stream, checked: what an agent says of itself ends up in the catalog and on screens. */
export async function requireHello(incoming: AsyncIterator<ConnectRequest>, clock: Clock, signal: AbortSignal): Promise<Hello> {
  const timer = new AbortController()
  const late = clock.sleep(HELLO_MS, AbortSignal.any([timer.signal, signal])).then(() => 'late' as const)
  try {
    const first = await Promise.race([incoming.next(), late])
    const message = first === 'late' || first.done ? undefined : first.value.message
    if (message?.$case !== 'hello') throw refused('a stream has to begin with a hello')
    return checked(message.value)
  } finally {
    late.catch(() => 'the hello came first')
    timer.abort()
  }
}

function checked(hello: Hello): Hello {
  for (const [what, text] of Object.entries({
    'agent version': hello.agentVersion,
    instance: hello.instance,
    'operating system': hello.os,
    architecture: hello.arch,
  })) {
    requireLine(what, text, 200)
  }
  requirePairs('labels', hello.labels)
  if (hello.journal.length > MAX_JOURNAL) throw refused(`more than ${MAX_JOURNAL} journal entries`)
  requireSources(hello.sources)
  return { ...hello, ageRecipient: requireRecipient(hello.ageRecipient) }
}

/** Also for `sources_changed`. */
export function requireSources(sources: readonly Source[]): void {
  if (sources.length > MAX_SOURCES) throw refused(`more than ${MAX_SOURCES} sources`)
  const seen = new Set<string>()
  for (const source of sources) {
    if (!NAME.test(source.name) || source.name.includes('..'))
      throw refused(`source name ${JSON.stringify(source.name.slice(0, 100))}`)
    if (seen.has(source.name)) throw refused(`source ${source.name} twice`)
    seen.add(source.name)
    if (!/^[a-z][a-z0-9-]{0,31}$/.test(source.engine)) throw refused(`engine of source ${source.name}`)
    requirePairs(`labels of source ${source.name}`, source.labels)
    requirePairs(`facts of source ${source.name}`, source.facts)
  }
}

function requirePairs(what: string, pairs: Readonly<Record<string, string>>): void {
  const entries = Object.entries(pairs)
  if (entries.length > MAX_PAIRS) throw refused(`more than ${MAX_PAIRS} ${what}`)
  for (const [key, value] of entries) {
    requireLine(what, key, 100)
    requireLine(what, value, 1000)
  }
}

function requireLine(what: string, text: string, max: number): void {
  // control characters would reach terminals and logs; NUL is refused by PostgreSQL
  if (text.length > max || /\p{Cc}/u.test(text)) throw refused(`${what} longer than ${max} characters or with control characters`)
}

const refused = (what: string) =>
  new HoldfastError('invalid_argument', `the hello was refused: ${what}`, {
    hint: 'Update the agent, or correct its configuration.',
  })
