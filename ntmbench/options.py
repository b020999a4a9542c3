"""What the command line's own notations mean: seeds, points, settings, grids, shards, durations."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass
from typing import Any

from ntmbench.errors import UserError, unknown

SETTABLE = ("params", "train", "evaluate", "solved", "model")
MOST_SEED = 2**63 - 1
MOST_SEEDS = 10_000
MOST_COUNT = 2**31 - 1
"""Of steps, items, memory rows: no machine holds more."""
MOST_DIGITS = 30
"""Of a number in an option: more are a mistake, and Python refuses thousands of them."""


def parse_seeds(text: str) -> list[int]:
    """The seeds that `0-9`, `3` or `0-2,7` name.

    Raises:
        UserError: not of this form, an empty range, a seed named twice, or more than 10,000.
    """
    seeds: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not _is_number(low) or (dash and not _is_number(high)):
            raise UserError(f"seeds must be like 0-9 or 0-2,7, not '{shortened(text)}'")
        first, last = int(low), int(high if dash else low)
        if last < first:
            raise UserError(f"seeds '{part}' is an empty range: {first} is over {last}")
        if last - first >= MOST_SEEDS:
            raise UserError(f"seeds '{part}' is more than {MOST_SEEDS:,} seeds")
        if last > MOST_SEED:
            raise UserError(f"a seed must be at most {MOST_SEED}, not {last}")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds '{text}' names a seed twice")
    return seeds


def parse_point(text: str) -> dict[str, int]:
    """The point that `length=50,repeats=10` names.

    Raises:
        UserError: not of this form, or a value under 1.
    """
    point = {}
    for part in text.split(","):
        axis, equals, value = part.strip().partition("=")
        fits = equals and axis and _is_number(value) and 1 <= int(value) <= MOST_COUNT
        if not fits or axis in point:
            form = f"--at needs axis=NUMBER[,axis=NUMBER], numbers from 1 to {MOST_COUNT:,}"
            raise UserError(f"{form}, not '{shortened(text)}'")
        point[axis] = int(value)
    return point


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= MOST_DIGITS


def shortened(text: str) -> str:
    """`text`, or its beginning and how long it is."""
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text):,} characters)"


def _toml_value(text: str) -> Any:
    """The one value that `text` is in TOML; TOMLDecodeError if it is none, or more than one."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (RecursionError, ValueError) as error:  # nested, or with digits, without end
        if isinstance(error, tomllib.TOMLDecodeError):
            raise
        raise tomllib.TOMLDecodeError("too long or too deep") from error
    if list(table) != ["value"]:
        raise tomllib.TOMLDecodeError("more than one value")
    return table["value"]


def parse_override(text: str) -> dict[str, Any]:
    """The nested table that `section.key=VALUE` describes; VALUE is TOML, a bare word is text.

    Raises:
        UserError: the form is wrong or the section cannot be set.
    """
    keys, equals, value = text.partition("=")
    path = keys.strip().split(".")
    if not equals or len(path) < 2 or not all(path):
        raise UserError(f"--set needs section.key=VALUE, not '{text}'")
    if path[0] not in SETTABLE:
        raise unknown("section in --set", path[0], SETTABLE)
    try:
        parsed = _toml_value(value)
    except tomllib.TOMLDecodeError as error:
        if not re.fullmatch(r"\s*[A-Za-z][\w+-]*\s*", value):
            given = shortened(value)
            raise UserError(f"--set {keys}: '{given}' is not a TOML value: {error}") from error
        parsed = value.strip()
    table: dict[str, Any] = {path[-1]: parsed}
    for key in reversed(path[:-1]):
        table = {key: table}
    return table


@dataclass(frozen=True)
class Axis:
    """A setting, `section.key`, with the values that a sweep gives it in turn."""

    key: str
    values: list[Any]


def parse_grid(text: str) -> Axis:
    """The axis that `section.key=[a,b,c]` names; the list is TOML.

    Raises:
        UserError: the form is wrong, the section cannot be set, or the list is empty or repeats.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    form = "--grid needs section.key=[a,b,c], a list in TOML (text in quotes)"
    form = f"{form}, not '{shortened(text)}'"
    if not equals:
        raise UserError(form)
    try:
        values = _toml_value(value)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{form}: {error}") from error
    if not isinstance(values, list) or not values:
        raise UserError(form)
    parse_override(f"{key}=0")  # the section and the form of the key
    for number, one in enumerate(values):
        if repr(one) in map(repr, values[:number]):
            raise UserError(f"--grid {key} names {one!r} twice")
    return Axis(key, values)


def parse_shard(text: str) -> tuple[int, int]:
    """Number and count of the part that `2/8` names: the second of eight.

    Raises:
        UserError: not of this form, or not within 1 to the count.
    """
    number, slash, count = text.partition("/")
    fits = slash and _is_number(number) and _is_number(count)
    if not fits or not 1 <= int(number) <= int(count):
        given = shortened(text)
        raise UserError(f"--shard needs i/n with i from 1 to n, such as 2/8, not '{given}'")
    return int(number), int(count)


def parse_rows(text: str) -> list[int]:
    """The numbers of memory rows that `64,128,256` names, each once, in order.

    Raises:
        UserError: not of this form, or a number under 1 or named twice.
    """
    rows = []
    for part in text.split(","):
        if not _is_number(part.strip()) or not 1 <= int(part) <= MOST_COUNT:
            form = f"--memory-rows needs whole numbers from 1 to {MOST_COUNT:,}, such as 64,128,256"
            raise UserError(f"{form}, not '{shortened(text)}'")
        if int(part) in rows:
            raise UserError(f"--memory-rows names {int(part)} twice")
        rows.append(int(part))
    return rows


UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """The seconds that `90`, `90s`, `15m` or `1.5h` name.

    Raises:
        UserError: not of this form, or not over 0.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
    if not 0 < seconds < math.inf:
        given = shortened(text)
        raise UserError(f"a duration must be like 90s, 15m or 2h, over 0, not '{given}'")
    return seconds


def parse_names(text: str) -> list[str]:
    """The names in a list with commas, each once, in order.

    Raises:
        UserError: an empty name, or one given twice.
    """
    names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise UserError(f"'{text}' has an empty name; names are separated by single commas")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"'{text}' names {name} twice")
    return names
