import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { available, cacheRoot, exclusively } from './cache.ts'
import { runCommand, tryCommand } from './commands.ts'

/** The first of these that is a program on PATH, as an absolute path; null when there is none. */
export function onPath(...names: string[]): string | null {
  const folders = (process.env.PATH ?? '').split(path.delimiter)
  for (const name of names) {
    for (const folder of folders) if (existsSync(path.join(folder, name))) return path.join(folder, name)
  }
  return null
}

/** A program of Debian's packages, or null where it cannot be had. */
export function debianProgram(name: string, packages: readonly string[]): Promise<string | null> {
  return available(
    packages.join(', '),
    'build',
    () => onPath(name) !== null,
    async () => {
      await apt(packages)
      return onPath(name)
    },
  )
}

/**
 * Debian packages, installed unless they are there. Only as root and with HOLDFAST_TEST_REQUIRE=all: a person's machine is not
 * changed by a test run. Ask through `available('...', 'build', () => onPath('PROGRAM') !== null, () => apt([...]))`.
 */
export async function apt(packages: readonly string[]): Promise<void> {
  const missing: string[] = []
  for (const name of packages) {
    const asked = await tryCommand('dpkg-query', ['-W', '-f', '${db:Status-Status}', name])
    if (asked.stdout !== 'installed') missing.push(name)
  }
  if (missing.length === 0) return
  const shown = missing.join(' ')
  if (process.env.HOLDFAST_TEST_REQUIRE !== 'all')
    throw new Error(`not installed: ${shown}; HOLDFAST_TEST_REQUIRE=all installs it`)
  if (process.getuid?.() !== 0) throw new Error(`not installed: ${shown}; installing needs root`)
  await exclusively(path.join(cacheRoot, 'apt.lock'), () => install(missing))
}

async function install(packages: readonly string[]): Promise<void> {
  // apt-get waits for other users of the package system by itself when told so.
  const options = ['-o', 'DPkg::Lock::Timeout=600', '-o', 'Acquire::Retries=3']
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  const known = await tryCommand('apt-get', [...options, 'install', '--dry-run', '--no-install-recommends', ...packages], { env })
  if (known.status !== 0) await runCommand('apt-get', [...options, 'update'], { env })
  await withoutServices(() =>
    runCommand('apt-get', [...options, 'install', '--yes', '--quiet', '--no-install-recommends', ...packages], {
      env,
      timeoutMs: 20 * 60_000,
    }),
  )
}

/** A server's package starts it at once, on its usual port, unless this file forbids it. */
async function withoutServices<T>(work: () => Promise<T>): Promise<T> {
  const policy = '/usr/sbin/policy-rc.d'
  if (existsSync(policy)) return work()
  await writeFile(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    return await work()
  } finally {
    await rm(policy, { force: true })
  }
}
