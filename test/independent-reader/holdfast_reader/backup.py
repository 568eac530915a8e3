"""Sections 3, 7, 8 and 11: an opened backup: its keys, its contents, and the bytes of its artifacts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .body import Entry, Hole, Record, Run, body
from .cursor import Cursor, parse_json
from .manifest import Manifest, decode_base64
from .pack import DATA, PAGE, Pack, Sealer
from .refused import MAX_ARTIFACT_ROW, MAX_ARTIFACTS, MAX_CONTENTS, MAX_INLINE, MAX_KEY_FILE, Refused, refuse, require
from .sealing import check_value, decompress, derive, index_key, open_age, padme, unseal
from .shape import ATTEMPT, HEX32, ID, NAME, exactly, fields, integer, mapping, record, rows, text

if TYPE_CHECKING:
    from .repository import Repository

POSITION = integer(0, 2**32 - 1)


def position(value: Any, what: str) -> None:
    rows(POSITION, 2, least=2)(value, what)


KEYS = {
    "format": exactly(1),
    "host": NAME,
    "source": NAME,
    "id": ID,
    "keys": rows(record({"attempt": ATTEMPT, "key": HEX32}), 1000),
}
CONTENTS = {
    "format": exactly(1),
    "host": NAME,
    "source": NAME,
    "id": ID,
    "engine": text(),
    "type": text(),
    "gear_key": HEX32,
    "fingerprint": record({"counts": mapping(integer()), "facts": mapping(text())}),
    "origins": rows(record({"id": ID, "manifest_sha256": HEX32}), 1000),
    "artifacts": record(
        {
            "count": integer(0, MAX_ARTIFACTS),
            "pages": rows(record({"pack": POSITION, "block": POSITION, "first": text()}), MAX_ARTIFACTS),
        }
    ),
}
ARTIFACT = {
    "kind": exactly("stream", "tree"),
    "name": text(),
    "facts": mapping(text()),
    "bytes": integer(),
    "digest": HEX32,
}


def chunking(value: Any, what: str) -> None:
    if isinstance(value, dict) and value.get("kind") == "fixed":
        fields(value, what, {"kind": exactly("fixed"), "bytes": integer(512, 2**20)})
    else:
        sizes = exactly(*(1 << power for power in range(12, 21)))
        fields(value, what, {"kind": exactly("content-defined"), "average_bytes": sizes})


def body_form(value: Any, what: str) -> None:
    if isinstance(value, dict) and "inline" in value:
        fields(value, what, {"inline": text(limit=4 * MAX_INLINE)})
    else:
        fields(value, what, {"pages": rows(position, MAX_ARTIFACTS)})


class Backup:
    def __init__(self, repository: Repository, manifest: Manifest) -> None:
        self.repository, self.manifest = repository, manifest
        self.place, self.facts = manifest.place, manifest.facts
        self.objects = {row["name"]: row for row in self.facts["objects"]}
        self.pack_names = [name for name in self.objects if name.startswith("packs/")]

    # keys

    def key_files(self) -> list[Path]:
        """Those that are there, by number: the one of the facts may be gone after a rotation."""
        folder = self.repository.file(self.place, "keys")
        found = [file for file in folder.glob("*") if file.name.isdecimal() and not file.name.startswith("0")]
        return sorted(found, key=lambda file: int(file.name))

    @property
    def deleted(self) -> bool:
        return not self.key_files()

    @property
    def state(self) -> str:
        if self.deleted:
            return "deleted"
        return "sealed to others" if any(origin.missing_keys for origin in self.origins) else "open"

    @property
    def missing_keys(self) -> list[int]:
        return sorted({row["attempt"] for row in self.facts["keys"]} - set(self.data_keys))

    def require_keys(self) -> None:
        require(not self.deleted, self.place, "deleted: it has a manifest and no keys")
        require(
            not self.missing_keys, self.place, f"no key file gives these identities the keys of the attempts {self.missing_keys}"
        )

    @cached_property
    def data_keys(self) -> dict[int, bytes]:
        wanted = {row["attempt"]: row["check"] for row in self.facts["keys"]}
        keys: dict[int, bytes] = {}
        for file in self.key_files():
            for attempt, key in self.open_keys(file).items():
                if check_value(key, self.place, attempt).hex() == wanted.get(attempt):
                    keys[attempt] = key
        return keys

    def open_keys(self, file: Path) -> dict[int, bytes]:
        what = f"{self.place}/keys/{file.name}"
        require(file.stat().st_size <= MAX_KEY_FILE, what, "too large")
        payload = open_age(file.read_bytes(), self.repository.identities)
        if payload is None:
            return {}
        value = fields(parse_json(payload, what), what, KEYS)
        self.check_place(value, what)
        return {row["attempt"]: bytes.fromhex(row["key"]) for row in value["keys"]}

    def check_place(self, value: dict[str, Any], what: str) -> None:
        require(f"{value['host']}/{value['source']}/{value['id']}" == self.place, what, "it belongs to another backup")

    # contents

    @cached_property
    def contents(self) -> dict[str, Any]:
        attempt = self.facts["attempt"]
        name = f"contents/{attempt}"
        what = f"{self.place}/{name}"
        self.require_keys()
        file = self.repository.file(self.place, name)
        require(file.stat().st_size <= MAX_CONTENTS, what, "too large")
        data = Cursor(file.read_bytes(), what)
        require(padme(data.left) == data.left, what, "its length is no Padmé length")
        require(data.take(8) == b"HFCONT1\n", what, "it does not begin as contents")
        require(attempt in self.data_keys, what, "the manifest names no key for its attempt")
        key = derive(self.data_keys[attempt], data.take(32), "holdfast/1 contents")
        inside = Cursor(unseal(key, data.take(data.left), "contents", self.place, attempt, name, 0), what)
        frame_length, json_length = inside.u32(), inside.u32()
        require(json_length <= MAX_CONTENTS, what, "its JSON is too large")
        value = fields(parse_json(decompress(inside.take(frame_length), json_length, what), what), what, CONTENTS)
        require(not any(inside.take(inside.left)), what, "what is added to it is not zeros")
        self.check_place(value, what)
        require(
            (value["engine"], value["type"]) == (self.facts["engine"], self.facts["type"]), what, "not what the manifest says"
        )
        leans_on = [{"id": row["id"], "manifest_sha256": row["manifest_sha256"]} for row in self.facts["leans_on"]]
        require(value["origins"] == leans_on, what, "its origins are not those of the manifest")
        return value

    @cached_property
    def origins(self) -> list[Backup]:
        found: list[Backup] = [self]
        for row in self.facts["leans_on"]:
            place = f"{row['host']}/{row['source']}/{row['id']}"
            origin = self.repository.backup(place)
            require(origin.manifest.sha256 == row["manifest_sha256"], self.place, f"leans on another {place} than there is")
            require(origin.manifest.source == self.manifest.source, self.place, f"leans on {place} of another source")
            found.append(origin)
        return found

    def pack(self, number: int) -> Pack:
        require(number < len(self.pack_names), self.place, f"names pack {number}, of {len(self.pack_names)}")
        name = self.pack_names[number]
        return self.repository.packs.get((self.place, name), lambda: self.open_pack(name))

    def open_pack(self, name: str) -> Pack:
        self.require_keys()
        attempt = int(name[len("packs/") :].split("-")[0])
        require(attempt in self.data_keys, f"{self.place}/{name}", "the manifest names no key for its attempt")
        key = self.data_keys[attempt]
        sealer = Sealer(self.place, attempt, index_key(key, self.place, attempt), key)
        return Pack(self.repository.file(self.place, name), name, self.objects[name]["size"], sealer)

    # artifacts

    def artifacts(self) -> Iterator[dict[str, Any]]:
        listed = self.contents["artifacts"]
        before, count = b"", 0
        for page in listed["pages"]:
            cursor = self.pack(page["pack"]).page(page["block"], PAGE, 1, self.place)
            first = True
            while cursor.left:
                row = self.artifact_row(cursor.counted(MAX_ARTIFACT_ROW), cursor.what)
                name = row["name"].encode("utf-8")
                require(
                    not first or row["name"] == page["first"], cursor.what, "its first artifact is another than the contents say"
                )
                require(count == 0 or before < name, cursor.what, "its artifacts are not sorted")
                before, count, first = name, count + 1, False
                yield row
        require(count == listed["count"], self.place, f"{count} artifacts where its contents say {listed['count']}")

    def artifact_row(self, data: bytes, what: str) -> dict[str, Any]:
        value = parse_json(data, what)
        is_tree = isinstance(value, dict) and value.get("kind") == "tree"
        required = ARTIFACT | {"chunking": chunking, "body": body_form} | ({"entries": integer()} if is_tree else {})
        return fields(value, what, required, {"part": text()})

    def records(self, artifact: dict[str, Any]) -> Iterator[tuple[Record, bytes]]:
        form, what = artifact["body"], f"{self.place}, {artifact['name']!r}"
        if "inline" in form:
            inline = decode_base64(form["inline"], what)
            require(len(inline) <= MAX_INLINE, what, "its inline body is too large")
            return body([Cursor(inline, what)])
        return body(self.pack(pack).page(block, PAGE, 2, what) for pack, block in form["pages"])

    def chunks(self, run: Run) -> Iterator[tuple[bytes, bytes]]:
        """The names and the bytes of a run's chunks."""
        require(run.origin < len(self.origins), self.place, f"names origin {run.origin}, of {len(self.origins) - 1}")
        origin = self.origins[run.origin]
        pack = origin.pack(run.pack)
        block = pack.block(run.block, self.place)
        require(block.kind == DATA, self.place, f"a run names a block of {pack.what} that is no data")
        require(
            run.first + run.count <= block.chunks,
            self.place,
            f"a run names more chunks than block {run.block} of {pack.what} has",
        )
        yield from self.repository.blocks.get((pack.what, run.block), lambda: pack.chunks(block))[
            run.first : run.first + run.count
        ]

    def stream(self, artifact: dict[str, Any]) -> Iterator[bytes]:
        """The bytes of a stream. The last of them are given out only after the whole was compared with the contents."""
        what = f"{self.place}, {artifact['name']!r}"
        digest, length = hashlib.sha256(), 0
        held = b""
        for record, _ in self.records(artifact):
            if not isinstance(record, Run):
                refuse(what, "the body of a stream has more than runs")
            for name, chunk in self.chunks(record):
                digest.update(name)
                length += len(chunk)
                yield held
                held = chunk
        require(length == artifact["bytes"], what, f"{length} bytes where its contents say {artifact['bytes']}")
        require(digest.hexdigest() == artifact["digest"], what, "its chunks have another digest than its contents say")
        yield held

    def tree(self, artifact: dict[str, Any]) -> Iterator[Entry | tuple[int, bytes]]:
        """Each entry, and after a file's entry its data as (offset, bytes). What is between them is holes."""
        what = f"{self.place}, {artifact['name']!r}"
        digest, sizes, entries = hashlib.sha256(), 0, 0
        current: Entry | None = None
        offset = 0
        for record, data in self.records(artifact):
            digest.update(data)
            if isinstance(record, Entry):
                self.check_filled(current, offset, what)
                current, offset, entries = record, 0, entries + 1
                sizes += record.size if has_content(record) else 0
                yield record
                continue
            if current is None or not has_content(current):
                refuse(what, "content that belongs to no file")
            if isinstance(record, Hole):
                offset += record.length
                continue
            for _, chunk in self.chunks(record):
                yield offset, chunk
                offset += len(chunk)
        self.check_filled(current, offset, what)
        require(entries == artifact["entries"], what, f"{entries} entries where its contents say {artifact['entries']}")
        require(sizes == artifact["bytes"], what, f"files of {sizes} bytes where its contents say {artifact['bytes']}")
        require(digest.hexdigest() == artifact["digest"], what, "its records have another digest than its contents say")

    def check_filled(self, entry: Entry | None, offset: int, what: str) -> None:
        if entry is not None and has_content(entry):
            require(offset == entry.size, what, f"{entry.path[:100]!r} has {offset} bytes where its size is {entry.size}")


def has_content(entry: Entry) -> bool:
    return entry.type == "file" and entry.hard_link_to is None
