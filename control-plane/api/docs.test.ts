import { afterEach, expect, test } from 'vitest'
import { ACCESS } from './access.ts'
import { type FakeApi, fakeApi } from './testing/fake-api.ts'

let api: FakeApi
afterEach(() => api.app.close())

test('the OpenAPI document is the pinned one (a change of the API is seen in review)', async () => {
  api = await fakeApi()
  const document = (await api.app.inject('/openapi.json')).json()
  expect(document.openapi).toBe('3.1.0')
  await expect(`${JSON.stringify(document, null, 2)}\n`).toMatchFileSnapshot('openapi.json')
})

test('every route of the API is in the document, with its refusals', async () => {
  api = await fakeApi()
  const { paths } = (await api.app.inject('/openapi.json')).json()
  for (const name of Object.keys(ACCESS)) {
    const [method, url] = name.split(' ') as [string, string]
    if (url.startsWith('/docs') || url === '/openapi.json') continue
    const operation = paths[url.replace(/:(\w+)/g, '{$1}')]?.[method.toLowerCase()]
    expect(operation, name).toMatchObject({ operationId: expect.any(String), summary: expect.any(String) })
    expect(operation.responses['4XX'].content['application/problem+json'], name).toBeDefined()
  }
})

test('the documentation is browsable without loading anything from elsewhere', async () => {
  api = await fakeApi()
  const page = await api.app.inject('/docs/')
  expect(page.statusCode).toBe(200)
  expect(page.body).not.toMatch(/(src|href)="https?:/)
  expect(page.headers['content-security-policy']).toContain("default-src 'self'")
  const script = /src="([^"]+)"/.exec(page.body)?.[1] ?? ''
  const asset = await api.app.inject(new URL(script, 'http://x/docs/').pathname)
  expect(asset.headers['content-type']).toContain('javascript')
  expect(asset.body.length).toBeGreaterThan(100_000)
})
