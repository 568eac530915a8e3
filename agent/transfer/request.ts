import type { Dispatcher } from 'undici'
import ask from 'undici/lib/api/api-request.js'

export interface Request extends Pick<Dispatcher.RequestOptions, 'method' | 'headers' | 'body'> {
  readonly dispatcher: Dispatcher
  readonly signal: AbortSignal
}

/**
 * As undici's `request`. Its main module has a browser's fetch, caches, proxies and mocks besides, 4 MB and 40 ms of processor time for each job, so the three files that are
 * used of it are named here and in connections.ts; its version is pinned.
 */
export function request(address: string, { dispatcher, ...options }: Request): Promise<Dispatcher.ResponseData> {
  const { origin, pathname, search } = new URL(address)
  return ask.call(dispatcher, { ...options, origin, path: `${pathname}${search}` })
}
