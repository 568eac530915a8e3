"""Streams to files, trees to folders. Writes only below a folder that it makes itself."""

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from .backup import Backup
from .body import Entry
from .describe import escape
from .refused import refuse, require

NODES = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "char-device": stat.S_IFCHR, "block-device": stat.S_IFBLK}


def restore(backup: Backup, to: Path) -> list[dict[str, Any]]:
    """A row for each artifact: where it lies now, and which entries this user may not make."""
    to.mkdir(parents=True)
    done = []
    for number, artifact in enumerate(backup.artifacts()):
        target = to / str(number)
        row = {
            field: artifact[field]
            for field in ("kind", "name", "part", "facts", "bytes", "digest", "entries")
            if field in artifact
        }
        row["path"] = target.as_posix()
        if artifact["kind"] == "stream":
            with target.open("xb") as out:
                for piece in backup.stream(artifact):
                    out.write(piece)
        else:
            row["left_out"] = TreeRestore(backup, artifact, os.fsencode(target)).run()
        done.append(row)
    return done


class TreeRestore:
    def __init__(self, backup: Backup, artifact: dict[str, Any], root: bytes) -> None:
        self.backup, self.artifact, self.root = backup, artifact, root
        self.what = f"{backup.place}, {artifact['name']!r}"
        self.directories: list[Entry] = []
        self.links: list[Entry] = []
        self.left_out: list[str] = []

    def run(self) -> list[str]:
        os.mkdir(self.root, 0o700)
        entry: Entry | None = None
        out: BinaryIO | None = None
        for item in self.backup.tree(self.artifact):
            if isinstance(item, tuple):
                require(out is not None, self.what, "content that belongs to no file")
                if out is not None:
                    out.seek(item[0])
                    out.write(item[1])
                continue
            self.finish(entry, out)
            entry, out = item, self.begin(item)
        self.finish(entry, out)
        for link in self.links:
            os.link(self.inside(link.hard_link_to or b""), self.inside(link.path), follow_symlinks=False)
        for directory in reversed(self.directories):  # Last: what is made in a directory changes its time.
            self.attributes(directory)
        return self.left_out

    def inside(self, path: bytes) -> bytes:
        """Where a path of the tree lies. No part of it may be a link, which could lead out of the folder."""
        full = self.root
        *parents, last = path.split(b"/") if path else [b""]
        for segment in parents:
            full = os.path.join(full, segment)
            if not os.path.lexists(full):
                os.mkdir(full, 0o700)
            require(stat.S_ISDIR(os.lstat(full).st_mode), self.what, f"{escape(path)} lies in what is no directory")
        return os.path.join(full, last) if last else full

    def begin(self, entry: Entry) -> BinaryIO | None:
        path = self.inside(entry.path)
        if entry.hard_link_to is not None:
            self.links.append(entry)
        elif entry.type == "directory":
            if not os.path.lexists(path):
                os.mkdir(path, 0o700)
            require(stat.S_ISDIR(os.lstat(path).st_mode), self.what, f"{escape(entry.path)} stands twice")
            self.directories.append(entry)
        elif os.path.lexists(path):
            refuse(self.what, f"{escape(entry.path)} stands twice")
        elif entry.type == "file":
            return open(path, "xb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600))
        elif entry.type == "symlink":
            os.symlink(entry.link_target or b"", path)
        else:
            self.make_node(entry, path)
        return None

    def make_node(self, entry: Entry, path: bytes) -> None:
        try:
            os.mknod(path, NODES[entry.type] | 0o600, os.makedev(*(entry.device or (0, 0))))
        except PermissionError:
            self.left_out.append(escape(entry.path))

    def finish(self, entry: Entry | None, out: BinaryIO | None) -> None:
        if out is not None and entry is not None:
            out.truncate(entry.size)
            out.close()
        if entry is not None and entry.hard_link_to is None and entry.type != "directory":
            self.attributes(entry)

    def attributes(self, entry: Entry) -> None:
        path = self.inside(entry.path)
        if not os.path.lexists(path):
            return  # It was left out.
        if os.geteuid() == 0:
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        for name, value in entry.xattrs:
            os.setxattr(path, name, value, follow_symlinks=False)
        if entry.type != "symlink":
            os.chmod(path, entry.mode)  # After the owner: chown takes the set-user-id bit away.
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
