import { Argument, type Command } from 'commander'
import { EXIT, type ExitStatus } from '../../../shared/exit-status.ts'
import type { Io } from '../io.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof SHELLS)[number]

export function completionCommand(program: Command, io: Io, finish: (status: ExitStatus) => void): void {
  program
    .command('completion')
    .summary('print a completion script for a shell')
    .description('Prints a script, to be sourced: source <(holdfast completion bash)')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .action((shell: Shell) => {
      io.out(scriptOf(shell, program))
      finish(EXIT.done)
    })
}

interface Words {
  /** "" for the program, "agents invite" for a command below. */
  readonly path: string
  readonly words: readonly { readonly word: string; readonly about: string }[]
}

/** What may follow each command: commands below it and its options. Taken from the commands themselves. */
function wordsOf(command: Command, path: string): Words[] {
  const below = command.commands.map((one) => ({ word: one.name(), about: one.summary() || one.description() }))
  const options = command.options.filter((one) => one.long).map((one) => ({ word: one.long ?? '', about: one.description }))
  return [
    { path, words: [...below, ...options] },
    ...command.commands.flatMap((one) => wordsOf(one, path === '' ? one.name() : `${path} ${one.name()}`)),
  ]
}

function scriptOf(shell: Shell, program: Command): string {
  const all = wordsOf(program, '')
  if (shell === 'fish') return fish(all)
  const bash = bashScript(all)
  return shell === 'bash' ? bash : `autoload -U +X bashcompinit && bashcompinit\n${bash}`
}

/** The words typed so far that are no options are the path; the longest path that is a command decides. */
function bashScript(all: readonly Words[]): string {
  const cases = all.map(({ path, words }) => `    '${path}') words='${words.map(({ word }) => word).join(' ')}' ;;`)
  return `_holdfast() {
  local word path='' words='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case "$word" in
      -*) ;;
      *) case " ${all.map(({ path }) => path.replaceAll(' ', '_')).join(' ')} " in
           *" \${path:+\${path// /_}_}$word "*) path="\${path:+$path }$word" ;;
         esac ;;
    esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _holdfast holdfast
`
}

function fish(all: readonly Words[]): string {
  const quoted = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
  const lines = all.flatMap(({ path, words }) => {
    const when =
      path === ''
        ? '__fish_use_subcommand'
        : path
            .split(' ')
            .map((name) => `__fish_seen_subcommand_from ${name}`)
            .join('; and ')
    return words.map(({ word, about }) => {
      const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-a ${word}`
      return `complete -c holdfast -n ${quoted(when)} ${what} -d ${quoted(about)}`
    })
  })
  return `complete -c holdfast -f\n${lines.join('\n')}\n`
}
