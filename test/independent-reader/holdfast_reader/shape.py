"""Checks of JSON: exactly the fields that FORMAT.md names, each of its kind and within its bounds."""

import re
from collections.abc import Callable
from typing import Any

from .refused import MAX_INTEGER, require

Check = Callable[[Any, str], Any]


def fields(value: Any, what: str, required: dict[str, Check], optional: dict[str, Check] | None = None) -> dict[str, Any]:
    allowed = required | (optional or {})
    require(isinstance(value, dict), what, "no JSON object")
    for name in required:
        require(name in value, what, f"{name} is missing")
    for name, field in value.items():
        require(name in allowed, what, f"{name[:60]!r} is no field of it")
        allowed[name](field, f"{what}, {name}")
    return value


def record(required: dict[str, Check], optional: dict[str, Check] | None = None) -> Check:
    return lambda value, what: fields(value, what, required, optional)


def text(pattern: str = ".*", limit: int = MAX_INTEGER) -> Check:
    expression = re.compile(pattern, re.DOTALL)

    def check(value: Any, what: str) -> str:
        require(isinstance(value, str), what, "no text")
        require(len(value) <= limit, what, f"longer than {limit}")
        require(expression.fullmatch(value) is not None, what, f"{value[:80]!r} is not of the form {pattern}")
        return value

    return check


def integer(least: int = 0, most: int = MAX_INTEGER) -> Check:
    def check(value: Any, what: str) -> int:
        require(type(value) is int, what, "no integer")
        require(least <= value <= most, what, f"{value} is not between {least} and {most}")
        return value

    return check


def rows(check: Check, limit: int, least: int = 0) -> Check:
    def check_rows(value: Any, what: str) -> list[Any]:
        require(isinstance(value, list), what, "no list")
        require(least <= len(value) <= limit, what, f"{len(value)} rows, between {least} and {limit} are allowed")
        for number, row in enumerate(value):
            check(row, f"{what} {number}")
        return value

    return check_rows


def exactly(*allowed: Any) -> Check:
    return lambda value, what: require(
        any(value == one and type(value) is type(one) for one in allowed), what, f"{value!r} is none of {allowed}"
    )


def optional(check: Check) -> Check:
    return lambda value, what: None if value is None else check(value, what)


def mapping(check: Check) -> Check:
    def check_mapping(value: Any, what: str) -> dict[str, Any]:
        require(isinstance(value, dict), what, "no JSON object")
        for name, one in value.items():
            check(one, f"{what}, {name[:60]!r}")
        return value

    return check_mapping


BASE32 = "0-9a-hjkmnp-tv-z"
HEX32 = text("[0-9a-f]{64}")
NAME = text(r"(?!.*\.\.)[a-z0-9][a-z0-9._-]{0,62}")
ID = text(rf"[0-9]{{8}}T[0-9]{{6}}Z-[{BASE32}]{{10}}")
NUMBER = "[1-9][0-9]{0,5}"
ATTEMPT = integer(1, 999_999)
