import { expect, test } from 'vitest'
import { chooseEntries, dropConstraints } from './archive-list.ts'
import type { Closure } from './closure.ts'

/** As pg_restore 18 prints it, with names that try to look like something else. */
const LIST = `;
; Archive created at 2026-01-01 00:00:00 UTC
;     dbname: odd
;
1; 0 0 ENCODING - ENCODING
6; 2615 16390 SCHEMA - s postgres
224; 1259 16412 TABLE public ch postgres
2596; 0 0 COMMENT public COLUMN ch.id postgres
221; 1259 16392 TABLE s 999; 1259 16412 TABLE public ch postgres
2598; 0 0 ACL s TABLE t\u2028x postgres
223; 1259 16404 MATERIALIZED VIEW public mv postgres
300; 0 0 TABLE ATTACH public part postgres
2432; 2606 16416 FK CONSTRAINT public ch ch_id_fkey postgres
2433; 0 0 COMMENT public CONSTRAINT ch_id_fkey ON ch postgres
2584; 0 16404 MATERIALIZED VIEW DATA public mv postgres
not a line of pg_restore
`

const closure = (keys: string[], more: Partial<Closure> = {}): Closure => ({
  keys: new Set(keys),
  relations: new Set(),
  listed: [],
  holdsAll: () => true,
  ...more,
})

test('entries are chosen by catalog and OID; what has none goes with the one before it', () => {
  expect(chooseEntries(LIST, closure(['1259 16412'])).kept).toEqual(['1', '224', '2596'])
  expect(chooseEntries(LIST, closure(['1259 16392'])).kept).toEqual(['1', '221', '2598'])
  expect(chooseEntries(LIST, closure(['1259 16404'])).kept).toEqual(['1', '223', '2584'])
})

test('a partition is attached when it is chosen, whatever stands before', () => {
  expect(chooseEntries(LIST, closure([], { listed: ['public part'] })).kept).toEqual(['1', '300'])
})

test('a foreign key that cannot hold goes, with its comment, and is counted', () => {
  const chosen = chooseEntries(LIST, closure(['1259 16412', '2606 16416'], { holdsAll: () => false }))
  expect(chosen).toEqual({ kept: ['1', '224', '2596'], dropped: 1 })
  const all = dropConstraints(LIST, (key) => key !== '2606 16416')
  expect(all.dropped).toBe(1)
  expect(all.kept).toEqual(['1', '6', '224', '2596', '221', '2598', '223', '300', '2584'])
})
