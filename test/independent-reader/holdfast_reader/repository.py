"""Section 2: a folder of backups, the identities that open them, and the key that proves where they come from."""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

import pyrage

from .backup import Backup
from .manifest import Manifest, check_history, read_manifest, verifying_key_of
from .pack import Pack
from .refused import MAX_MANIFEST, refuse, require

V = TypeVar("V")


class Newest(Generic[V]):
    """The few values that were used last."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.values: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        if key not in self.values:
            self.values[key] = make()
            if len(self.values) > self.limit:
                self.values.popitem(last=False)
        self.values.move_to_end(key)
        return self.values[key]


class Repository:
    def __init__(self, folder: Path, identity_text: str, verifying_key: str | None = None) -> None:
        self.folder = folder
        lines = identity_text.splitlines()
        secret = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        try:
            self.identities = [pyrage.x25519.Identity.from_str(line) for line in secret]
        except pyrage.IdentityError:
            refuse("identity file", "a line of it is no X25519 identity of age")
        found = [match[1] for line in lines if (match := re.fullmatch(r"# verifying key: (hfv1\S+)\s*", line))]
        verifying_key = verifying_key or (found[0] if found else None)
        self.verifying_key = verifying_key_of(verifying_key) if verifying_key else None
        self.packs: Newest[Pack] = Newest(8)
        self.blocks: Newest[list[tuple[bytes, bytes]]] = Newest(16)
        self.opened: Newest[Backup] = Newest(64)
        self.manifests = self.read_manifests()

    def read_manifests(self) -> dict[str, Manifest]:
        found: dict[str, Manifest] = {}
        for file in sorted(self.folder.glob("*/*/*/manifest.json")):
            place = file.parent.relative_to(self.folder).as_posix()
            require(file.stat().st_size <= MAX_MANIFEST, place, "its manifest is too large")
            found[place] = read_manifest(file.read_bytes(), place, self.verifying_key)
        check_history(list(found.values()))
        return found

    def backup(self, place: str) -> Backup:
        if place not in self.manifests:
            refuse(place, "there is no such backup")
        return self.opened.get(place, lambda: Backup(self, self.manifests[place]))

    def file(self, place: str, name: str) -> Path:
        return self.folder / place / name


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
