import { hash } from 'node:crypto'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { arch, platform } from 'node:os'
import { cached } from './cache.ts'
import { runCommand } from './commands.ts'

const PLATFORMS: Readonly<Record<string, string>> = {
  'linux-x64': 'manylinux_2_17_x86_64',
  'linux-arm64': 'manylinux_2_17_aarch64',
  'darwin-x64': 'macosx_10_13_x86_64',
  'darwin-arm64': 'macosx_11_0_arm64',
}

export interface WheelOptions {
  /** The Python it was made for; 3.12 unless told. Only its files are used, so it need not be installed. */
  readonly python?: string
  /** Another platform tag than this machine's usual one. */
  readonly platform?: string
  /** SHA-256 sums, one a platform: any other file is refused. */
  readonly sha256: readonly string[]
}

/** One wheel of PyPI unpacked in the cache, without what it depends on. Gives the folder that holds its packages. */
export function pypiWheel(name: string, version: string, options: WheelOptions): Promise<string> {
  return cached(`pypi-${name}`, version, async (folder) => {
    const tag = options.platform ?? PLATFORMS[`${platform()}-${arch()}`]
    if (tag === undefined) throw new Error(`no wheel of ${name} is known for ${platform()} on ${arch()}`)
    const hashes = options.sha256.map((sum) => `--hash=sha256:${sum}`).join(' ')
    const requirements = `${folder}.txt`
    await writeFile(requirements, `${name}==${version} ${hashes}\n`)
    try {
      await runCommand('python3', [
        '-m',
        'pip',
        'install',
        '--quiet',
        '--disable-pip-version-check',
        '--no-deps',
        '--no-compile',
        '--ignore-requires-python', // pip would hold the wheel against the Python that pip itself runs on
        '--only-binary=:all:',
        '--require-hashes',
        ...['--python-version', options.python ?? '3.12', '--platform', tag, '--target', folder, '-r', requirements],
      ])
    } finally {
      await rm(requirements, { force: true })
    }
  })
}

/** The packages of a requirements file, with all that they need, for the Python that is here. Gives the folder for PYTHONPATH. */
export async function pypiPackages(name: string, requirements: string): Promise<string> {
  const python = (await runCommand('python3', ['-c', 'import sys; print("%d.%d" % sys.version_info[:2])'])).trim()
  const version = hash('sha256', await readFile(requirements)).slice(0, 16)
  return cached(name, `${version}-python${python}`, async (draft) => {
    await runCommand('python3', [
      ...['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--only-binary=:all:'],
      ...['--target', draft, '-r', requirements],
    ])
  })
}
