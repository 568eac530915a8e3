import { Command, Option } from 'commander'
import { addCommand } from '../../shared/add-command.ts'
import type { Finding, FoundSource } from '../../shared/results.ts'
import { sizeText } from '../../shared/size-text.ts'
import type { CliDeps } from './deps.ts'
import { looking } from './looking.ts'

/** `discover`: what is here, what this agent may read of it, and the command that would protect it. Changes nothing. */
export function discoverCommand(deps: CliDeps): Command {
  return new Command('discover')
    .description('what is on this host and how to protect it')
    .addOption(new Option('--format <format>').choices(['table', 'json']).default('table'))
    .action(async (options: { format: string }, command: Command) => {
      const { home } = command.optsWithGlobals<{ home?: string }>()
      const findings: Finding[] = []
      const found = await discoverHere(deps, (finding) => findings.push(finding))
      if (options.format === 'json') return deps.print(JSON.stringify({ items: found, findings }, null, 2))
      for (const source of found) printFound(source, home, deps)
      for (const finding of findings) deps.print(`! ${finding.message}`)
      if (found.length === 0)
        deps.print(
          'nothing was found that an engine knows; add files with: holdfast-agent source add NAME --engine files --path DIR',
        )
    })
}

export async function discoverHere(
  deps: Pick<CliDeps, 'environment' | 'stop'>,
  finding: (finding: Finding) => void,
): Promise<FoundSource[]> {
  // here and not at the start: an agent that runs does it in a job's process
  const { discover } = await import('../jobs/discover.ts')
  return looking(deps, { signal: deps.stop, finding }, discover)
}

function printFound(source: FoundSource, home: string | undefined, deps: CliDeps): void {
  const size = source.size_bytes === undefined ? '' : `  ${sizeText(source.size_bytes)}`
  deps.print(`${source.engine}  ${source.title}${size}`)
  for (const [name, value] of Object.entries(source.facts)) deps.print(`    ${name}: ${value}`)
  for (const finding of source.findings)
    deps.print(`    ${finding.severity}: ${finding.message}${finding.hint ? ` ${finding.hint}` : ''}`)
  deps.print(`    protect it: ${addCommand(source, home)}`)
}
