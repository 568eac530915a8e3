"""Section 6: whether a stream was cut where FORMAT.md says. A reader does not need this; a format that is kept does."""

from collections.abc import Iterator
from typing import Any

from .backup import Backup
from .body import Run
from .refused import require
from .sealing import derive


def gear_table(gear_key: bytes) -> list[int]:
    table = derive(gear_key, b"", "holdfast/1 gear", 1024)
    return [int.from_bytes(table[at : at + 4], "little") for at in range(0, 1024, 4)]


def next_cut(data: bytes, average: int, gear: list[int]) -> int:
    """The length of the first chunk of what is left of an artifact."""
    bits = average.bit_length() - 1
    h = 0
    for number in range(average // 4, min(len(data), 4 * average)):
        h = (h << 1) + gear[data[number]] & 0xFFFF_FFFF
        if h >> (32 - (bits + 1 if number < average else bits - 1)) == 0:
            return number + 1
    return min(len(data), 4 * average)


def check_cuts(backup: Backup, artifact: dict[str, Any], gear_key: bytes) -> None:
    chunking, what = artifact["chunking"], f"{backup.place}, {artifact['name']!r}"
    chunks = (chunk for run, _ in backup.records(artifact) if isinstance(run, Run) for _, chunk in backup.chunks(run))
    if chunking["kind"] == "fixed":
        last = None
        for chunk in chunks:
            require(
                last in (None, chunking["bytes"]) and len(chunk) <= chunking["bytes"], what, "a chunk is not of the fixed length"
            )
            last = len(chunk)
        return
    average, gear = chunking["average_bytes"], gear_table(gear_key)
    for chunk, following in with_following(chunks, 4 * average):
        cut = next_cut(chunk + following, average, gear)
        require(cut == len(chunk), what, f"a chunk of {len(chunk)} bytes should have been cut at {cut}")


def with_following(chunks: Iterator[bytes], enough: int) -> Iterator[tuple[bytes, bytes]]:
    """Each chunk with the bytes behind it, of which a cut that is missing would show in the first few."""
    held: list[bytes] = []
    for chunk in chunks:
        held.append(chunk)
        if sum(map(len, held[1:])) >= enough:
            yield held[0], b"".join(held[1:])
            held.pop(0)
    while held:
        yield held[0], b"".join(held[1:])
        held.pop(0)
