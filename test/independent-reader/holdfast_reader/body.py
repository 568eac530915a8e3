"""Sections 7 and 9: bodies, which are runs, holes and entries."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .cursor import Cursor
from .refused import MAX_CHUNKS, MAX_ENTRY, MAX_U32, MAX_XATTRS, require

TYPES = ("file", "directory", "symlink", "fifo", "socket", "char-device", "block-device")


@dataclass(frozen=True, order=True)
class Run:
    origin: int
    pack: int
    block: int
    first: int
    count: int


@dataclass(frozen=True)
class Hole:
    length: int


@dataclass
class Entry:
    path: bytes
    type: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    link_target: bytes | None = None
    hard_link_to: bytes | None = None
    device: tuple[int, int] | None = None
    xattrs: list[tuple[bytes, bytes]] = field(default_factory=list)


Record = Run | Hole | Entry
BEFORE_ALL = Run(0, 0, 0, 0, 0)


def records(page: Cursor) -> Iterator[tuple[Record, bytes]]:
    """The records of one page, each with its bytes."""
    before = BEFORE_ALL
    while page.left:
        start, head = page.at, page.u8()
        record: Record
        if head < 64:
            record = before = run(page, head, before)
        elif head == 64:
            record = Hole(page.varint())
            require(record.length > 0, page.what, "a hole without a length")
        else:
            require(head == 65, page.what, f"a record that begins with {head}")
            record = entry(Cursor(page.counted(MAX_ENTRY), page.what))
        yield record, page.data[start : page.at]


def body(pages: Iterable[Cursor]) -> Iterator[tuple[Record, bytes]]:
    for page in pages:
        yield from records(page)


def run(page: Cursor, flags: int, before: Run) -> Run:
    require(flags & 1 == 1, page.what, f"a record that begins with {flags}")
    origin = page.varint() if flags & 2 else before.origin
    pack = page.varint() if flags & 4 else before.pack
    block = page.varint() if flags & 8 else before.block
    expected = 0 if flags & 14 else before.first + before.count
    first = page.varint() if flags & 16 else expected
    count = page.varint() if flags & 32 else 1
    require(1 <= count and first + count <= MAX_CHUNKS, page.what, f"a run of {count} chunks from {first}")
    return Run(origin, pack, block, first, count)


def safe_path(path: bytes, what: str) -> bytes:
    bad = path != b"" and any(segment in (b"", b".", b"..") for segment in path.split(b"/"))
    require(not bad and b"\0" not in path, what, f"the path {path[:100]!r} could leave the tree")
    return path


def entry(rest: Cursor) -> Entry:
    what = rest.what
    path = safe_path(rest.counted(MAX_ENTRY), what)
    number, flags = rest.u8(), rest.u8()
    require(number < len(TYPES) and flags < 16, what, f"{path[:100]!r} is of an unknown type or has unknown flags")
    mode, uid, gid = rest.varint(0o7777), rest.varint(MAX_U32), rest.varint(MAX_U32)
    made = Entry(path, TYPES[number], mode, uid, gid, rest.i64(), rest.varint())
    if flags & 1:
        made.link_target = rest.counted(MAX_ENTRY)
    if flags & 2:
        made.hard_link_to = safe_path(rest.counted(MAX_ENTRY), what)
    if flags & 4:
        made.device = (rest.varint(MAX_U32), rest.varint(MAX_U32))
    if flags & 8:
        for _ in range(rest.varint(MAX_XATTRS)):
            made.xattrs.append((rest.counted(MAX_ENTRY), rest.counted(MAX_ENTRY)))
    rest.end()
    is_link = made.type == "symlink"
    require((made.link_target is not None) == is_link, what, f"{path[:100]!r}: a link target, or none, for a {made.type}")
    require(b"\0" not in (made.link_target or b""), what, f"{path[:100]!r}: a NUL in its link target")
    return made
