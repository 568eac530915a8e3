"""What lies in a folder, as rows that can be compared: a restored tree, seen by the file system and not by the reader."""

import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Any

TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char-device",
    stat.S_IFBLK: "block-device",
}


def escape(name: bytes) -> str:
    """Any bytes as ASCII: printable ones but % stand for themselves, others are %XX. What is long is its length and hash."""
    if len(name) > 200:
        return f"{len(name)} bytes, {hashlib.sha256(name).hexdigest()}"
    return "".join(chr(byte) if 32 <= byte < 127 and byte != 37 else f"%{byte:02X}" for byte in name)


def describe(root: bytes) -> Iterator[dict[str, Any]]:
    links: dict[tuple[int, int], bytes] = {}
    for path in sorted(walk(root, b"")):
        full = os.path.join(root, path) if path else root
        info = os.lstat(full)
        kind = TYPES[stat.S_IFMT(info.st_mode)]
        row: dict[str, Any] = {"path": escape(path), "type": kind, "mode": stat.S_IMODE(info.st_mode)}
        row |= {"uid": info.st_uid, "gid": info.st_gid, "mtime_ns": str(info.st_mtime_ns)}
        if kind == "file":
            row |= {"size": info.st_size, "sha256": digest_of(full)}
            if info.st_nlink > 1:
                row["same_as"] = escape(links.setdefault((info.st_dev, info.st_ino), path))
            elif info.st_blocks * 512 < info.st_size // 2:
                row["sparse"] = True
        if kind == "symlink":
            row["link_target"] = escape(os.readlink(full))
        if kind.endswith("device"):
            row["device"] = [os.major(info.st_rdev), os.minor(info.st_rdev)]
        xattrs = {
            escape(os.fsencode(name)): os.getxattr(full, name, follow_symlinks=False)
            for name in os.listxattr(full, follow_symlinks=False)
        }
        row["xattrs"] = {name: escape(value) for name, value in sorted(xattrs.items())}
        yield row


def walk(root: bytes, path: bytes) -> Iterator[bytes]:
    yield path
    full = os.path.join(root, path) if path else root
    if stat.S_ISDIR(os.lstat(full).st_mode):
        for name in os.listdir(full):
            yield from walk(root, os.path.join(path, name) if path else name)


def digest_of(file: bytes) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
