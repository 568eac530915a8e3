"""Everything that can be checked of a backup, down to each chunk, and its index (section 10)."""

from collections.abc import Iterator
from typing import Any

from .backup import CONTENTS, Backup, position
from .body import BEFORE_ALL, Hole, Record, Run, records
from .cursor import Cursor, parse_json
from .cuts import check_cuts
from .pack import DATA, INDEX, Block, Pack
from .refused import MAX_ARTIFACTS, MAX_CONTENTS, MAX_ENTRY, refuse, require
from .repository import sha256_of
from .sealing import index_key, open_age, padme
from .shape import ATTEMPT, HEX32, ID, NAME, exactly, fields, record, rows

# Which chunks of which block are used, as a number with a bit for each.
Used = dict[tuple[int, int, int], int]

INDEX_FIELDS = {
    "format": exactly(1),
    "host": NAME,
    "source": NAME,
    "id": ID,
    "gear_key": HEX32,
    "keys": rows(record({"attempt": ATTEMPT, "key": HEX32}), 1000),
    "origins": CONTENTS["origins"],
    "chunks": rows(position, MAX_ARTIFACTS),
    "trees": rows(position, MAX_ARTIFACTS),
}


def verify(backup: Backup) -> dict[str, Any]:
    check_objects(backup)
    blocks = chunks = 0
    for number in range(len(backup.pack_names)):
        pack = backup.pack(number)
        pack.check_padding()
        for block in pack.blocks:
            check_block(pack, block)
        blocks, chunks = blocks + len(pack.blocks), chunks + len(pack.lengths) // 4
    used, counts = check_artifacts(backup)
    index = "checked" if check_index(backup, used) else "sealed to others"
    return {"packs": len(backup.pack_names), "blocks": blocks, "chunks": chunks, "index": index} | counts


def check_objects(backup: Backup) -> None:
    for row in backup.facts["objects"]:
        file = backup.repository.file(backup.place, row["name"])
        what = f"{backup.place}/{row['name']}"
        if row["name"].startswith("keys/") and not file.exists():
            continue  # After a rotation another file may hold the keys; that one does is checked when they are opened.
        require(file.is_file(), what, "missing")
        require(file.stat().st_size == row["size"], what, "its length is not that of the manifest")
        require(sha256_of(file) == row["sha256"], what, "its SHA-256 is not that of the manifest")


def check_block(pack: Pack, block: Block) -> None:
    if block.kind == DATA:
        pack.chunks(block)
    else:
        pack.decode(block)


def check_artifacts(backup: Backup) -> tuple[Used, dict[str, int]]:
    """Reads every artifact to its end, and checks that what it leans on is what the manifest names."""
    used: Used = {}
    artifacts = entries = total = 0
    gear_key = bytes.fromhex(backup.contents["gear_key"])
    for artifact in backup.artifacts():
        for one, _ in backup.records(artifact):
            if isinstance(one, Run):
                mark(used, one)
        read = backup.stream(artifact) if artifact["kind"] == "stream" else backup.tree(artifact)
        for piece in read:
            total += len(piece) if isinstance(piece, bytes) else len(piece[1]) if isinstance(piece, tuple) else 0
        if artifact["kind"] == "stream":
            check_cuts(backup, artifact, gear_key)
        artifacts, entries = artifacts + 1, entries + artifact.get("entries", 0)
    leaned_on = {origin for origin, _, _ in used} - {0}
    require(leaned_on == set(range(1, len(backup.origins))), backup.place, "it leans on other backups than its manifest says")
    return used, {"artifacts": artifacts, "entries": entries, "bytes": total}


def mark(used: Used, one: Run) -> None:
    key = (one.origin, one.pack, one.block)
    used[key] = used.get(key, 0) | ((1 << one.count) - 1) << one.first


def check_index(backup: Backup, used: Used) -> bool:
    """False when it is sealed to others: no rotation renews it, and nobody needs it to restore."""
    what = f"{backup.place}/index/{backup.facts['attempt']}"
    value = open_index(backup, what)
    if value is None:
        return False
    require(value["gear_key"] == backup.contents["gear_key"], what, "another gear key than in the contents")
    require(value["origins"] == backup.contents["origins"], what, "other origins than in the contents")
    for row in value["keys"]:
        attempt = row["attempt"]
        require(attempt in backup.data_keys, what, f"a key of attempt {attempt}, which the backup does not use")
        right = index_key(backup.data_keys[attempt], backup.place, attempt).hex()
        require(row["key"] == right, what, f"a wrong index key of attempt {attempt}")
    require(len(value["keys"]) == len(backup.data_keys), what, "a key is missing")
    listed: Used = {}
    last = BEFORE_ALL
    for one in chunk_records(backup, value["chunks"]):
        if not isinstance(one, Run):
            refuse(what, "a chunk page has more than runs")
        start = (one.origin, one.pack, one.block, one.first)
        require(
            start >= (last.origin, last.pack, last.block, last.first + last.count), what, "its chunks are not sorted, each once"
        )
        mark(listed, one)
        last = one
    require(listed == used, what, "its chunks are not those that the contents reference")
    for pack, block in value["trees"]:
        check_tree_page(backup.pack(pack).page(block, INDEX, 4, what), used)
    return True


def open_index(backup: Backup, what: str) -> dict[str, Any] | None:
    file = backup.repository.file(backup.place, f"index/{backup.facts['attempt']}")
    require(file.stat().st_size <= MAX_CONTENTS, what, "too large")
    payload = open_age(file.read_bytes(), backup.repository.identities)
    if payload is None:
        return None
    require(padme(len(payload)) == len(payload), what, "its length is no Padmé length")
    inside = Cursor(payload, what)
    require(inside.take(8) == b"HFINDX1\n", what, "it does not begin as an index")
    value = fields(parse_json(inside.take(inside.u32()), what), what, INDEX_FIELDS)
    require(not any(inside.take(inside.left)), what, "what is added to it is not zeros")
    backup.check_place(value, what)
    return value


def chunk_records(backup: Backup, pages: list[list[int]]) -> Iterator[Record]:
    for pack, block in pages:
        for one, _ in records(backup.pack(pack).page(block, INDEX, 3, backup.place)):
            yield one


def check_tree_page(page: Cursor, used: Used) -> None:
    while page.left:
        row = Cursor(page.counted(MAX_ENTRY), page.what)
        row.take(16)
        row.varint()
        for one, _ in records(row):
            if isinstance(one, Run):
                mask = ((1 << one.count) - 1) << one.first
                known = used.get((one.origin, one.pack, one.block), 0)
                require(known & mask == mask, page.what, "a file's chunks are not those that the contents reference")
            else:
                require(isinstance(one, Hole), page.what, "a file has more than runs and holes")
