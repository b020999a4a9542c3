"""Files written so that a crash loses nothing and a reader never sees half of one: JSON and CSV.

Nothing here imports torch or pandas.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ntmbench.errors import UserError


def json_ready(value: Any) -> Any:
    """`value` with every number that is not finite replaced by None: NaN is not JSON."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class Unwritable(UserError):
    """A file cannot be written; `full` if no other could be either, for want of room."""

    def __init__(self, path: Path, error: OSError) -> None:
        self.full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        why = error.strerror or error
        super().__init__(f"cannot write {path}: {why}; what was saved earlier is whole")


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission and their like into a UserError naming the file."""
    try:
        yield
    except OSError as error:
        raise Unwritable(path, error) from error


def json_text(content: Any) -> str:
    """`content` as JSON over several lines; numbers that are not finite become null."""
    return json.dumps(json_ready(content), indent=2, allow_nan=False)


def timestamp() -> str:
    """The present time as ISO 8601 writes it, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block ends well, and vanishes when not.

    Raises:
        UserError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with write_errors(path):
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `path` in one step: a reader sees the old file or the new one, never half of it."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as JSON, in one step; numbers that are not finite become null."""
    write_bytes(path, f"{json_text(content)}\n".encode())


def csv_line(values: Iterable[Any]) -> str:
    """A line of CSV: floats in full precision; None and what is not finite as an empty field."""
    cells = ("" if json_ready(value) is None else str(value) for value in values)
    return ",".join(cells) + "\n"


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole CSV file in one step."""
    lines = [csv_line(header), *(csv_line(row[name] for name in header) for row in rows)]
    write_bytes(path, "".join(lines).encode())


def read_csv_text(
    path: Path, columns: Sequence[str], *, axes: bool, torn_tail: bool = False
) -> str:
    """The text of a CSV file of a run, checked: `columns`, after the task's axes if `axes`.

    With `torn_tail`, a last line without its newline is dropped: it was being written.

    Raises:
        UserError: the file is missing or is not such a table.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is corrupted or cannot be read: {error}") from error
    whole = text[: text.rfind("\n") + 1]
    if whole != text and not torn_tail:
        raise UserError(f"{path} is corrupted: its last line is torn")
    if torn_tail and not whole:
        return csv_line(columns)
    lines = whole.splitlines()
    header = lines[0].split(",") if lines else []
    extra = header[: len(header) - len(columns)]
    twice = len(set(header)) < len(header)
    if header[len(extra) :] != list(columns) or bool(extra) != axes or twice:
        wanted = ",".join([*(["<axes>"] if axes else []), *columns])
        raise UserError(
            f"{path} is corrupted: it has the columns '{','.join(header)}', wanted {wanted}"
        )
    for number, line in enumerate(lines, start=1):
        if line.count(",") != len(header) - 1:
            raise UserError(f"{path} is corrupted: line {number} has not {len(header)} fields")
    return whole


def read_rows(path: Path, columns: Sequence[str], *, axes: bool) -> list[dict[str, Any]]:
    """The rows of a CSV file of a run: numbers as numbers, empty fields as NaN.

    Raises:
        UserError: the file is missing or is not such a table.
    """
    header, *lines = read_csv_text(path, columns, axes=axes).splitlines()
    names = header.split(",")
    return [dict(zip(names, map(cell, line.split(",")), strict=True)) for line in lines]


def cell(text: str) -> int | float | str:
    """What `csv_line` wrote: a whole number, a number (NaN if empty), else text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text or "nan")
    return text


def append_line(path: Path, line: str) -> None:
    """Append `line` to `path`, and see it onto the disk; UserError if it cannot be written."""
    with write_errors(path), open(path, "a", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
