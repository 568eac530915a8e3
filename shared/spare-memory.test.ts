import { createHash } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { FakeClock } from './fake-clock.ts'
import { keepLeavingSpareMemory, leaveSpareMemory, leavingAsBytesPass, smapsOf, unchangedMappings } from './spare-memory.ts'

/** What of our program file is in memory. */
function resident(): number {
  const file = readlinkSync('/proc/self/exe')
  const mappings = readFileSync('/proc/self/smaps', 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
  return mappings
    .filter((mapping) => mapping.split('\n', 1)[0]?.endsWith(` ${file}`))
    .reduce((sum, mapping) => sum + Number(/^Rss: +(\d+) kB$/m.exec(mapping)?.[1]) * 1024, 0)
}

describe.runIf(process.platform === 'linux')('the program file', () => {
  it('leaves memory, and what runs goes on', () => {
    const before = resident()
    leaveSpareMemory()
    // what this test and the threads beside it need is back at once
    expect(resident()).toBeLessThan(before * 0.7)
    expect(createHash('sha256').update('abc').digest('hex')).toMatch(/^ba7816bf8f01cfea4141/)
  })
})

it('what a job does not use is given back again and again, from the second time on after its garbage was collected, until it ends', async () => {
  const clock = new FakeClock()
  const ended = new AbortController()
  const done: string[] = []
  const kept = keepLeavingSpareMemory(clock, ended.signal, {
    leave: () => void done.push('leave'),
    collect: () => void done.push('collect'),
  })
  await clock.advance(8_000)
  const all = ['leave', 'collect', 'leave', 'collect', 'leave', 'collect', 'leave']
  expect(done).toEqual(all)
  ended.abort()
  await kept
  expect(done).toEqual(all)
})

it('a server gives back what it does not use with every so many bytes that pass it, be it in large objects or small ones', () => {
  let left = 0
  const passed = leavingAsBytesPass(() => left++)
  for (let n = 0; n < 12; n++) passed(16 * 1024 * 1024)
  expect(left).toBe(3)
  for (let n = 0; n < 1024; n++) passed(64 * 1024)
  expect(left).toBe(4)
})

const mapping = (range: string, mode: string, file: string, { anonymous = 0, swap = 0 } = {}) =>
  `${range} ${mode} 00000000 fe:00 247278                     ${file}\nRss:  8 kB\nAnonymous:         ${anonymous} kB\nSwap:      ${swap} kB\nVmFlags: rd mr \n`
const program = '/opt/node with blanks'

describe('mappings of the program file', () => {
  it('are given back where nothing was ever changed in them', () => {
    const smaps = mapping('1000-3000', 'r--p', program) + mapping('5000-9000', 'r-xp', program)
    expect(unchangedMappings(smaps, program)).toEqual([
      { from: 0x1000n, to: 0x3000n },
      { from: 0x5000n, to: 0x9000n },
    ])
  })

  it.each([
    ['that can be written', mapping('1000-3000', 'rw-p', program)],
    ['with a changed page in memory', mapping('1000-3000', 'r--p', program, { anonymous: 4 })],
    ['with a changed page in swap', mapping('1000-3000', 'r--p', program, { swap: 4 })],
    ['of a library', mapping('1000-3000', 'r--p', '/lib/libc.so.6')],
    ['of the same name with more to it', mapping('1000-3000', 'r--p', `${program} (deleted)`)],
    ['of which the kernel does not say it', '1000-3000 r--p 00000000 fe:00 247278 /opt/node with blanks\nRss:  8 kB\n'],
    ['of no file', mapping('1000-3000', 'r--p', '')],
  ])('are left alone: one %s', (_what, smaps) => {
    expect(unchangedMappings(smaps, program)).toEqual([])
  })
})

describe('what the kernel says of mappings', () => {
  const before = mapping('100-200', 'rw-p', '') + mapping('300-400', 'rw-p', '')
  const ours = mapping('1000-3000', 'r--p', program) + mapping('3000-9000', 'rw-p', program)
  const after = mapping('9000-a000', 'rw-p', '') + mapping('a000-b000', 'r--p', '/lib/libc.so.6')

  /** Gives a text in pieces of that length, and counts them. */
  const inPieces = (text: string, length: number) => {
    const pieces = { read: 0, next: () => text.slice(length * pieces.read, length * ++pieces.read) }
    return pieces
  }

  it.each([
    ['behind others', before + ours + after],
    ['first of all', ours + after],
    ['last of all', before + ours],
    ['nowhere', before + after],
  ])('is read in pieces of any length, with the program %s', (_where, smaps) => {
    for (let length = 1; length <= smaps.length; length++) {
      const said = smapsOf(program, inPieces(smaps, length).next)
      expect(unchangedMappings(said, program)).toEqual(unchangedMappings(smaps, program))
    }
  })

  it('is read no further than to the mapping behind those of the program, and what lies before them is not kept', () => {
    const length = 64
    const smaps = before.repeat(20) + ours + after.repeat(20)
    const pieces = inPieces(smaps, length)
    const said = smapsOf(program, pieces.next)
    const end = before.length * 20 + ours.length
    // to the end of the line that names the next one
    expect(pieces.read * length).toBeLessThan(end + 2 * length + smaps.slice(end).indexOf('\n'))
    expect(said.length).toBeLessThan(ours.length + before.length + 2 * length)
  })
})
