"""What FORMAT.md limits, and the one error for everything that breaks a rule of it."""

from typing import NoReturn

KIB, MIB = 1 << 10, 1 << 20

MAX_MANIFEST = 64 * MIB
MAX_PACK = 17 * MIB
MAX_DIRECTORY = 17 * MIB
MAX_CONTENTS = 32 * MIB
MAX_KEY_FILE = 1 * MIB
MAX_BLOCK = 4 * MIB
MAX_PAGE = 1 * MIB
MAX_WINDOW = 8 * MIB
MAX_BLOCKS = 65_535
MAX_CHUNKS = 4_096
MAX_ORIGINS = 1_000
MAX_OBJECTS = 200_000
MAX_ARTIFACTS = 1_000_000
MAX_ARTIFACT_ROW = 1 * MIB
MAX_INLINE = 2 * KIB
MAX_ENTRY = 768 * KIB
MAX_XATTRS = 10_000
MAX_U32 = 2**32 - 1
MAX_JSON_VALUES = 1_000_000
MAX_INTEGER = 2**53 - 1


class Refused(Exception):
    """The repository breaks a rule of its format. The message names the object and the rule."""


def refuse(what: str, why: str) -> NoReturn:
    raise Refused(f"{what}: {why}")


def require(holds: bool, what: str, why: str) -> None:
    if not holds:
        refuse(what, why)
