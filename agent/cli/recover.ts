import { Command, Option } from 'commander'
import type { ListOptions, RecoverDeps, RestoreOptions } from './recovering.ts'
import { collect, URL_VARIABLE } from './settings.ts'

/** `recover list` and `recover restore`: the agent's program, a store and an identity are enough; no control plane is asked. */
export function recoverCommand(deps: RecoverDeps): Command {
  return new Command('recover')
    .description('list and restore backups without the control plane, with the store and a recovery key alone')
    .addCommand(
      withStore(new Command('list'))
        .description('what the store holds, and whether it comes from this fleet')
        .option('--source <host/name>', 'only this source')
        .addOption(new Option('--format <format>').choices(['table', 'json']).default('table'))
        .action(async (options: ListOptions) => (await work()).list(options, deps)),
    )
    .addCommand(
      withStore(new Command('restore'))
        .description('restore a backup: files and sqlite with --to, a database with --engine and --url')
        .argument('<id>', 'its id, a unique beginning or ending of it, or latest:host/name')
        .option('--to <folder>', 'the folder to make (files), or in which to make the file (sqlite), or for --raw')
        .option('--engine <kind>', "the backup's engine, when it is restored by way of a server")
        .option('--url <url>', 'the database to make, without a password: postgres://user@host/name')
        .option(
          '--url-file <file>',
          `file that holds the same with its password; - reads standard input. ${URL_VARIABLE} does the same`,
        )
        .option('--option <key=value>', 'a further setting of the engine, as of a source; may be repeated', collect, [])
        .option('--config <file>', "settings of a source of the backup's engine, YAML or JSON, in place of --url and --option")
        .option('--name <name>', 'new name beside what --url or --config names')
        .option('--part <part>', 'only this part; may be repeated', collect, [])
        .option('--overwrite', 'replace what exists')
        .option('--raw', 'write the streams of the backup as files, without an engine')
        .action(async (id: string, options: RestoreOptions) => (await work()).restore(id, options, deps)),
    )
}

const withStore = (command: Command): Command =>
  command
    .requiredOption('--store <store>', 'a folder, or s3://bucket/prefix with the usual AWS credentials')
    .requiredOption('--identity <file>', 'the recovery key: an age identity file')
    .option('--verifying-key <key>', "the fleet's verifying key (hfv1...), where the identity file does not carry it")

/** Loaded when it is asked for: an agent that runs would hold the reader of backups for ever. */
const work = () => import('./recovering.ts')
