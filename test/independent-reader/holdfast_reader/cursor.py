"""Integers, counted bytes and text out of untrusted bytes. No length is believed before it is compared with what is there."""

import json
from typing import Any

from .refused import MAX_INTEGER, MAX_JSON_VALUES, refuse, require


class Cursor:
    def __init__(self, data: bytes, what: str) -> None:
        self.data = data
        self.what = what
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, length: int) -> bytes:
        require(length <= self.left, self.what, f"{length} bytes were announced, {self.left} are left")
        self.at += length
        return self.data[self.at - length : self.at]

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def i64(self) -> int:
        return int.from_bytes(self.take(8), "little", signed=True)

    def varint(self, limit: int = MAX_INTEGER) -> int:
        value = 0
        for position in range(8):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                require(byte != 0 or position == 0, self.what, "a number is longer than it need be")
                require(value <= limit, self.what, f"{value} is above the limit of {limit}")
                return value
        refuse(self.what, "a number is longer than eight bytes")

    def counted(self, limit: int) -> bytes:
        return self.take(self.varint(limit))

    def end(self) -> None:
        require(self.left == 0, self.what, f"{self.left} bytes are left over")


def parse_json(data: bytes, what: str) -> Any:
    """JSON without the things that two readers could understand differently."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        require(len({key for key, _ in pairs}) == len(pairs), what, "a name stands twice in one object")
        return dict(pairs)

    def no_constant(text: str) -> None:
        refuse(what, f"{text} is no JSON")

    values = sum(data.count(sign) for sign in (b",", b"[", b"{"))
    require(values <= MAX_JSON_VALUES, what, f"JSON of {values} values")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        refuse(what, f"no JSON: {error}")


def canonical(value: Any) -> bytes:
    """RFC 8785 for values whose names are ASCII and whose numbers are integers, as everything signed here is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")
