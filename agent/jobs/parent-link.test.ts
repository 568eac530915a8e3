import { expect, it } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import type { FromChild } from './messages.ts'
import { ParentLink } from './parent-link.ts'

function link() {
  const sent: FromChild[] = []
  const stop = new AbortController()
  return { sent, stop, link: new ParentLink((message) => void sent.push(message), stop.signal) }
}

it('each call is settled by its own answer', async () => {
  const { link: calls, sent } = link()
  const [first, second] = [calls.calls.openBackups('a'), calls.calls.openBackups('b')]
  expect(sent).toMatchObject([
    { call: 1, argument: 'a' },
    { call: 2, argument: 'b' },
  ])
  calls.settle({ type: 'error', call: 2, error: { code: 'attempt_fenced', message: 'over', retry: false } })
  calls.settle({ type: 'answer', call: 1, value: { backups: [] } })
  await expect(second).rejects.toMatchObject({ code: 'attempt_fenced' })
  await expect(first).resolves.toEqual({ backups: [] })
})

it('an abort ends a call that waits for a control plane that is away, at once and with its reason, and lets no other begin', async () => {
  const { link: calls, sent, stop } = link()
  const waiting = calls.calls.signGets([{ key: 'k' }])
  stop.abort(new HoldfastError('lease_lost', 'the lease has ended'))
  await expect(waiting).rejects.toMatchObject({ code: 'lease_lost' })
  await expect(calls.calls.signGets([{ key: 'k' }])).rejects.toMatchObject({ code: 'lease_lost' })
  expect(sent).toHaveLength(1)
  // an answer that comes late is nobody's
  calls.settle({ type: 'answer', call: 1, value: { requests: [] } })
})
