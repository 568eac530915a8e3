import { invalid } from './artifacts.ts'

const MAX_LINE_BYTES = 1024 * 1024

/**
 * Lines of UTF-8 text that end in a newline and nothing else: node:readline would cut at U+2028 too, which names may hold.
 * A longer line than 1 MiB throws, since the bytes may be anybody's.
 */
export async function* linesOf(bytes: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let rest: Buffer[] = []
  let size = 0
  for await (const piece of bytes) {
    let from = 0
    for (let at = piece.indexOf(10); at >= 0; at = piece.indexOf(10, from)) {
      yield Buffer.concat([...rest, piece.subarray(from, at)]).toString('utf8')
      rest = []
      size = 0
      from = at + 1
    }
    if (from === piece.length) continue
    // the source may use its buffer again
    rest.push(Buffer.from(piece.subarray(from)))
    size += piece.length - from
    if (size > MAX_LINE_BYTES) throw invalid(`has a line of more than ${MAX_LINE_BYTES} bytes where lines are short`)
  }
  if (size > 0) yield Buffer.concat(rest).toString('utf8')
}
