"""Sections 4 and 5: packs, their directories and blocks."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .cursor import Cursor
from .refused import MAX_BLOCK, MAX_BLOCKS, MAX_CHUNKS, MAX_DIRECTORY, MAX_PACK, MAX_PAGE, require
from .sealing import DIRECTORY, FOOTER, PADDING, TAG, decompress, derive, padme, unseal

MAGIC = b"HFPACK1\n"
TRAILER = 64
DATA, PAGE, INDEX = 0, 1, 2
KINDS = {DATA: "data", PAGE: "page", INDEX: "index"}


@dataclass(frozen=True)
class Block:
    number: int
    kind: int
    codec: int
    offset: int
    sealed: int
    decoded: int
    first_chunk: int
    chunks: int


@dataclass(frozen=True)
class Sealer:
    """What opens the packs of one attempt. Without a data key only directories and the index open."""

    place: str
    attempt: int
    index_key: bytes
    data_key: bytes | None


class Pack:
    def __init__(self, file: Path, name: str, size: int, sealer: Sealer) -> None:
        self.file, self.name, self.size, self.sealer = file, name, size, sealer
        self.what = f"{sealer.place}/{name}"
        require(len(MAGIC) + TRAILER <= size <= MAX_PACK, self.what, f"{size} bytes are no length of a pack")
        require(file.stat().st_size == size, self.what, "its length is not that of the manifest")
        require(self.read(0, len(MAGIC)) == MAGIC, self.what, "it does not begin as a pack")
        trailer = self.read(size - TRAILER, TRAILER)
        self.salt = trailer[:32]
        footer = Cursor(self.unseal(trailer[32:], "footer", FOOTER), self.what)
        self.directory_length, self.padding_length, blocks, chunks = (footer.u32() for _ in range(4))
        footer.end()
        self.body_end = size - TRAILER - self.directory_length - self.padding_length
        self.read_directory(blocks, chunks)

    def read(self, offset: int, length: int) -> bytes:
        require(0 <= offset and offset + length <= self.size, self.what, "a part of it lies outside of it")
        with self.file.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
        require(len(data) == length, self.what, "it is shorter than the manifest says")
        return data

    def unseal(self, sealed: bytes, kind: str, number: int) -> bytes:
        key = self.data_key if kind in ("data", "page") else self.index_key
        return unseal(key, sealed, kind, self.sealer.place, self.sealer.attempt, self.name, number)

    @cached_property
    def index_key(self) -> bytes:
        return derive(self.sealer.index_key, self.salt, "holdfast/1 pack index")

    @cached_property
    def data_key(self) -> bytes:
        require(self.sealer.data_key is not None, self.what, "there is no key to its data")
        return derive(self.sealer.data_key or b"", self.salt, "holdfast/1 pack data")

    def read_directory(self, blocks: int, chunks: int) -> None:
        require(self.directory_length <= MAX_DIRECTORY and blocks <= MAX_BLOCKS, self.what, "its directory is too large")
        require(
            TAG + 14 * blocks + 36 * chunks == self.directory_length, self.what, "its directory has another length than its rows"
        )
        require(self.body_end >= len(MAGIC), self.what, "its footer names more bytes than it has")
        offset = self.body_end + self.padding_length
        rows = Cursor(self.unseal(self.read(offset, self.directory_length), "directory", DIRECTORY), f"{self.what}, directory")
        self.blocks: list[Block] = []
        at, first = len(MAGIC), 0
        for number in range(blocks):
            kind, codec, sealed, decoded, count = rows.u8(), rows.u8(), rows.u32(), rows.u32(), rows.u32()
            require(kind in KINDS and codec in (0, 1), self.what, f"block {number} is of an unknown kind or codec")
            require(decoded <= (MAX_BLOCK if kind == DATA else MAX_PAGE), self.what, f"block {number} is too large")
            require(count <= MAX_CHUNKS and (count > 0) == (kind == DATA), self.what, f"block {number} has {count} chunks")
            require(codec == 1 or sealed == decoded + TAG, self.what, f"block {number} is stored, with another length")
            self.blocks.append(Block(number, kind, codec, at, sealed, decoded, first, count))
            at, first = at + sealed, first + count
        require(at == self.body_end, self.what, "its blocks do not fill it")
        require(first == chunks, self.what, "its footer counts other chunks than its blocks")
        self.lengths, self.names = rows.take(4 * chunks), rows.take(32 * chunks)
        rows.end()
        for block in self.blocks:
            if block.kind == DATA:
                require(
                    sum(self.chunk_lengths(block)) == block.decoded, self.what, f"chunks of block {block.number} do not fill it"
                )

    def chunk_lengths(self, block: Block) -> list[int]:
        own = Cursor(self.lengths[4 * block.first_chunk : 4 * (block.first_chunk + block.chunks)], self.what)
        return [own.u32() for _ in range(block.chunks)]

    def chunk_name(self, block: Block, chunk: int) -> bytes:
        at = 32 * (block.first_chunk + chunk)
        return self.names[at : at + 32]

    def block(self, number: int, what: str) -> Block:
        require(number < len(self.blocks), what, f"names block {number} of {self.what}, which has {len(self.blocks)}")
        return self.blocks[number]

    def decode(self, block: Block) -> bytes:
        opened = self.unseal(self.read(block.offset, block.sealed), KINDS[block.kind], block.number)
        return decompress(opened, block.decoded, f"{self.what}, block {block.number}") if block.codec == 1 else opened

    def page(self, number: int, kind: int, first_byte: int, what: str) -> Cursor:
        block = self.block(number, what)
        require(block.kind == kind, what, f"block {number} of {self.what} is no {KINDS[kind]}")
        cursor = Cursor(self.decode(block), f"{self.what}, block {number}")
        require(cursor.u8() == first_byte, cursor.what, f"no page of kind {first_byte}")
        return cursor

    def chunks(self, block: Block) -> list[tuple[bytes, bytes]]:
        """All chunks of a block of data with their names, each compared with its own."""
        rest = Cursor(self.decode(block), f"{self.what}, block {block.number}")
        lengths = self.chunk_lengths(block)
        chunks = [(self.chunk_name(block, number), rest.take(length)) for number, length in enumerate(lengths)]
        for number, (name, chunk) in enumerate(chunks):
            require(hashlib.sha256(chunk).digest() == name, rest.what, f"chunk {number} has another SHA-256 than its name")
        return chunks

    def check_padding(self) -> None:
        require(padme(self.size) == self.size, self.what, "its length is no Padmé length")
        if self.padding_length:
            zeros = self.unseal(self.read(self.body_end, self.padding_length), "padding", PADDING)
            require(not any(zeros), self.what, "its padding is not zeros")
