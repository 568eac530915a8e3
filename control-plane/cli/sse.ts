export interface ServerEvent {
  readonly name: string
  readonly data: string
}

/** Longest line that is held; the server's are far shorter. */
const MAX_LINE_CHARACTERS = 1024 * 1024

/** Server-Sent Events out of a response body (HTML standard, section 9.2.6): blank lines end events, comments are dropped. */
export async function* parseEvents(body: AsyncIterable<Uint8Array>): AsyncIterable<ServerEvent> {
  let name = 'message'
  let data: string[] = []
  for await (const line of lines(body)) {
    if (line === '') {
      if (data.length > 0) yield { name, data: data.join('\n') }
      name = 'message'
      data = []
      continue
    }
    const colon = line.indexOf(':')
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'event') name = value
    else if (field === 'data') data.push(value)
  }
}

async function* lines(body: AsyncIterable<Uint8Array>): AsyncIterable<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const bytes of body) {
    const parts = (rest + decoder.decode(bytes, { stream: true })).split('\n')
    rest = parts.pop() ?? ''
    if (rest.length > MAX_LINE_CHARACTERS) throw new Error('a line of the event stream is too long')
    for (const part of parts) yield part.replace(/\r$/, '')
  }
}
