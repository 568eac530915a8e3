import { existsSync } from 'node:fs'
import { glob, readFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'

const ROOT = path.resolve(import.meta.dirname, '../..')

async function pages(): Promise<string[]> {
  const found: string[] = []
  for await (const file of glob(['*.md', '{docs,proto,shared,agent,control-plane,deploy,test}/**/*.md'], { cwd: ROOT }))
    found.push(file)
  return found
}

/** Files that a page links to, from the page's own folder. */
const linksOf = (text: string) => [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map((match) => match[1] ?? '')

describe('the documentation', () => {
  it('links only to what is there', async () => {
    const files = await pages()
    expect(files).toContain('README.md')
    const missing: string[] = []
    for (const file of files) {
      const text = await readFile(path.join(ROOT, file), 'utf8')
      for (const link of linksOf(text))
        if (!existsSync(path.join(ROOT, path.dirname(file), link))) missing.push(`${file}: ${link}`)
    }
    expect(missing).toEqual([])
  })

  it('names only npm scripts that are there', async () => {
    const { scripts } = JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8'))
    const unknown: string[] = []
    for (const file of await pages()) {
      const text = await readFile(path.join(ROOT, file), 'utf8')
      for (const [, name = ''] of text.matchAll(/npm run ([a-z:-]+)/g)) if (!(name in scripts)) unknown.push(`${file}: ${name}`)
    }
    expect(unknown).toEqual([])
  })

  it('names for each rule a test that is there', async () => {
    const text = await readFile(path.join(ROOT, 'docs/rules.md'), 'utf8')
    const named = [...text.matchAll(/\]\(\.\.\/([^)]+)\): (.+?)(?=<br>| \|$)/gm)].map(([, file = '', title = '']) => ({
      file,
      title,
    }))
    expect(named.length).toBeGreaterThan(100)
    const missing: string[] = []
    for (const { file, title } of named) {
      const suite = await readFile(path.join(ROOT, file), 'utf8').catch(() => '')
      if (!suite.includes(title) && !suite.includes(title.replaceAll("'", "\\'"))) missing.push(`${file}: ${title}`)
    }
    expect(missing).toEqual([])
    const rows = text.split('\n').filter((line) => /^\| (?!rule \||-)/.test(line))
    expect(rows.filter((row) => !/\]\(\.\.\/[^)]+\): /.test(row))).toEqual([])
  })
})
