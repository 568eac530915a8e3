"""The command line. Prints JSON; exits 1 with one line when the repository breaks a rule of its format."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .backup import Backup
from .describe import describe
from .refused import Refused
from .repository import Repository
from .restore import restore
from .verify import verify


def main() -> int:
    options = arguments()
    try:
        for row in COMMANDS[options.command](options):
            print(json.dumps(row, ensure_ascii=True))
    except Refused as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return 1
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="holdfast_reader", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {
        "list": "every backup with its artifacts",
        "verify": "read and check everything",
        "restore": "write backups to a folder",
    }.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--repository", type=Path, required=True, help="the folder that holds <host>/<source>/<id>")
        command.add_argument("--identity", type=Path, required=True, action="append", help="an age identity file")
        command.add_argument("--verifying-key", help="hfv1...; the one in the identity file unless given")
        command.add_argument("--backup", action="append", help="<host>/<source>/<id>; every one that is not deleted unless given")
        if name == "restore":
            command.add_argument("--to", type=Path, required=True, help="a folder that is not there yet")
    described = commands.add_parser("describe", help="what lies in folders, or what a file is")
    described.add_argument("paths", nargs="+")
    return parser.parse_args()


def open_repository(options: argparse.Namespace) -> Repository:
    identities = "\n".join(file.read_text() for file in options.identity)
    return Repository(options.repository, identities, options.verifying_key)


def chosen(options: argparse.Namespace) -> Iterator[Backup]:
    repository = open_repository(options)
    for place in options.backup or repository.manifests:
        backup = repository.backup(place)
        if options.backup or not backup.deleted:
            yield backup


def run_list(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    repository = open_repository(options)
    for place in options.backup or repository.manifests:
        backup = repository.backup(place)
        facts, commit = backup.facts, backup.manifest.commit
        row = {field: facts[field] for field in ("host", "source", "id", "engine", "type", "attempt", "recipients")}
        row |= {"place": place, "sequence": commit["sequence"], "committed_at": commit["committed_at"]}
        row |= {"origin": "verified" if backup.manifest.origin_verified else "not verified", "state": backup.state}
        row["leans_on"] = [lean["id"] for lean in facts["leans_on"]]
        row["attempts"] = [key["attempt"] for key in facts["keys"]]
        row["packs"] = len(backup.pack_names)
        if backup.state == "open":
            row["fingerprint"] = backup.contents["fingerprint"]
            fields = ("kind", "name", "part", "facts", "bytes", "digest", "entries", "chunking")
            row["artifacts"] = [{field: one[field] for field in fields if field in one} for one in backup.artifacts()]
        yield row


def run_verify(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for backup in chosen(options):
        yield {"place": backup.place} | verify(backup)


def run_restore(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for backup in chosen(options):
        yield {"place": backup.place, "artifacts": restore(backup, options.to / backup.place)}


def run_describe(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for path in options.paths:
        yield {"path": path, "entries": list(describe(os.fsencode(path)))}


COMMANDS = {"list": run_list, "verify": run_verify, "restore": run_restore, "describe": run_describe}

if __name__ == "__main__":
    sys.exit(main())
