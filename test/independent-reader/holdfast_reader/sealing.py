"""Sections 3 and 4: keys that come of keys, sealed bytes, age files, zstd frames."""

import pyrage
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .refused import MAX_WINDOW, refuse, require

PADDING, DIRECTORY, FOOTER = 0xFFFF_FFFD, 0xFFFF_FFFE, 0xFFFF_FFFF
TAG = 16


def derive(secret: bytes, salt: bytes, info: str, length: int = 32) -> bytes:
    return HKDF(SHA256(), length, salt, info.encode()).derive(secret)


def check_value(data_key: bytes, place: str, attempt: int) -> bytes:
    return derive(data_key, b"", f"holdfast/1 check\0{place}\0{attempt}")


def index_key(data_key: bytes, place: str, attempt: int) -> bytes:
    return derive(data_key, b"", f"holdfast/1 index\0{place}\0{attempt}")


def unseal(key: bytes, sealed: bytes, kind: str, place: str, attempt: int, name: str, number: int) -> bytes:
    what = f"{place}/{name}"
    require(len(sealed) >= TAG, what, f"{kind} {number} is shorter than its tag")
    additional = "\0".join(["holdfast/1", kind, place, str(attempt), name, str(number)]).encode()
    try:
        return AESGCM(key).decrypt(number.to_bytes(4, "little") + bytes(8), sealed, additional)
    except InvalidTag:
        refuse(what, f"{kind} {number} does not open: changed, or sealed with another key or for another place")


def decompress(frame: bytes, length: int, what: str) -> bytes:
    """One zstd frame. What the frame says of itself is compared before the library allocates by it."""
    try:
        parameters = zstandard.get_frame_parameters(frame)
        declared = zstandard.frame_content_size(frame)
        require(declared in (-1, length), what, f"a frame of {declared} bytes where {length} are announced")
        require(parameters.window_size <= MAX_WINDOW, what, "the window of a frame is too large")
        decoded = zstandard.ZstdDecompressor().decompress(frame, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        refuse(what, f"no zstd frame: {error}")
    require(len(decoded) == length, what, f"{len(decoded)} bytes where {length} are announced")
    return decoded


def open_age(data: bytes, identities: list[pyrage.x25519.Identity]) -> bytes | None:
    """The payload, or None when it is sealed to others."""
    try:
        return pyrage.decrypt(data, identities)
    except pyrage.DecryptError:
        return None


def padme(n: int) -> int:
    if n < 2:
        return n
    e = n.bit_length() - 1
    step = 1 << (e - e.bit_length())
    return (n + step - 1) // step * step
