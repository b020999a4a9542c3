"""What the command line's own notations mean: seeds, points, settings."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from ntmbench.errors import UserError, unknown

SETTABLE = ("params", "train", "evaluate", "solved", "model")
MOST_SEED = 2**63 - 1
MOST_SEEDS = 10_000


def parse_seeds(text: str) -> list[int]:
    """The seeds that `0-9`, `3` or `0-2,7` name.

    Raises:
        UserError: not of this form, an empty range, a seed named twice, or more than 10,000.
    """
    seeds: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise UserError(f"seeds must be like 0-9 or 0-2,7, not '{text}'")
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
        fits = equals and axis and value.isdecimal() and int(value) >= 1
        if not fits or axis in point:
            raise UserError(f"--at needs axis=NUMBER[,axis=NUMBER], numbers from 1, not '{text}'")
        point[axis] = int(value)
    return point


def _toml_value(text: str) -> Any:
    """The one value that `text` is in TOML; TOMLDecodeError if it is none, or more than one."""
    table = tomllib.loads(f"value = {text}")
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
            raise UserError(f"--set {keys}: '{value}' is not a TOML value: {error}") from error
        parsed = value.strip()
    table: dict[str, Any] = {path[-1]: parsed}
    for key in reversed(path[:-1]):
        table = {key: table}
    return table
