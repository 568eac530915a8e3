import { z } from 'zod'
import { policySchema } from '../../control-plane/domain/policy.ts'
import type { RealRequest } from './api-fleet.ts'

/** What the document of the API says of one of its operations, and how a request of it is known by method and path. */
export interface DocumentedOperation {
  readonly id: string
  /** Names something in its path. */
  readonly named: boolean
  is(request: { readonly method: string; readonly url: string }): boolean
}

interface Parameter {
  readonly name: string
  readonly in: string
  examples?: Record<string, { value: string }>
}
interface Operation {
  readonly operationId: string
  parameters?: Parameter[]
  readonly requestBody?: { readonly content: Record<string, { example?: unknown }> }
}
export interface Document {
  readonly paths: Record<string, Record<string, Operation>>
  readonly components: { readonly schemas: Record<string, object> }
}

export function operationsOf(document: Document): DocumentedOperation[] {
  return Object.entries(document.paths).flatMap(([route, methods]) =>
    Object.entries(methods).map(([method, { operationId }]) => {
      const pattern = new RegExp(`^${route.replaceAll(/\{\w+\}/g, '[^/]+')}$`)
      const is: DocumentedOperation['is'] = (request) =>
        request.method === method.toUpperCase() && pattern.test(request.url.replace(/^\w+:\/\/[^/]+/, '').replace(/[?#].*/s, ''))
      return { id: operationId, named: route.includes('{'), is }
    }),
  )
}

/** The document with real requests as its examples, with what a policy is, which it leaves open, and without a header that is named. */
export function withExamples(document: Document, real: Readonly<Record<string, RealRequest>>, without?: string): Document {
  const changed = structuredClone(document)
  for (const operation of Object.values(changed.paths).flatMap((methods) => Object.values(methods))) {
    const { path = {}, body } = real[operation.operationId] ?? {}
    operation.parameters = operation.parameters?.filter(({ name }) => name !== without)
    for (const parameter of operation.parameters ?? []) {
      const values = parameter.in === 'path' ? path[parameter.name] : undefined
      if (values) parameter.examples = Object.fromEntries(values.map((value, n) => [`real-${n}`, { value }]))
    }
    const content = operation.requestBody?.content['application/json']
    if (content && body) content.example = body
  }
  const policy = z.toJSONSchema(policySchema, { io: 'input', unrepresentable: 'any' }) as { properties: Record<string, unknown> }
  // any other is refused before the rest of it matters; and a target that is made up would be a folder of this machine
  policy.properties.targets = { const: ['primary'] }
  changed.components.schemas.FleetFile = {
    type: 'object',
    properties: { policies: { type: 'object', additionalProperties: policy } },
    additionalProperties: false,
  }
  return changed
}

/** A configuration of schemathesis by which most of the values that it thinks up for paths and for plain texts of bodies are real ones. */
export function withRealValues(real: Readonly<Record<string, RealRequest>>): string {
  const lines = [
    // streams are read to their end
    ...['max-stream-events = 1000000', '[phases.examples]', 'fill-missing = true'],
    // ids that it finds in answers would use up what is there for another request
    ...['[phases.examples.extra-data-sources]', 'responses = false', '[phases.coverage.extra-data-sources]', 'responses = false'],
  ]
  for (const [operation, { path = {}, body = {} }] of Object.entries(real)) {
    const texts = Object.entries(body).flatMap(([name, value]): [string, readonly string[]][] =>
      typeof value === 'string' ? [[`body.${name}`, [value]]] : isTexts(value) ? [[`body.${name}[*]`, value]] : [],
    )
    const values = [...Object.entries(path).map(([name, ids]): [string, readonly string[]] => [`path.${name}`, ids]), ...texts]
    if (values.length === 0) continue
    for (const [n, [, entries]] of values.entries())
      lines.push(`[dictionaries.${operation}-${n}]`, `values = ${JSON.stringify(entries)}`)
    // a stream of a job that is not over has no end
    const probability = operation === 'jobEvents' ? '1.0' : '0.8'
    lines.push('[[operations]]', `include-operation-id = "${operation}"`, '[operations.parameters]')
    for (const [n, [name]] of values.entries())
      lines.push(`"${name}" = { dictionary = "${operation}-${n}", probability = ${probability} }`)
  }
  return `${lines.join('\n')}\n`
}

const isTexts = (value: unknown): value is string[] => Array.isArray(value) && value.every((one) => typeof one === 'string')
