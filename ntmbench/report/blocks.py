"""What a page is made of, whatever it is written as; and the renderer to Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """A heading: level 1 is the page's title. Plain text."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph. Of Markdown it holds `code`, **strong** and [link](#target), no more."""

    text: str


@dataclass(frozen=True)
class Note:
    """Paragraphs, as of `Text`, that stand out: what a reader must know first."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Bullets:
    """A list, its items as of `Text`."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of plain text or `code`, the first its header; the first column names the rows."""

    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Image:
    """A figure, drawn as `path`.png and `path`.svg; `words` say what it shows."""

    path: str
    words: str


@dataclass(frozen=True)
class Rule:
    """A line between the content and what is said about it."""


Block = Heading | Text | Note | Bullets | Table | Image | Rule


def markdown(blocks: Iterable[Block]) -> str:
    """The page as Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {plain(text)}"
        case Text(text):
            return text
        case Note(texts):
            return "\n>\n".join(f"> {text}" for text in texts)
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Table(rows):
            return _table(rows)
        case Image(path, words):
            return f"[![{words}]({path}.png)]({path}.svg)"
        case Rule():
            return "---"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(plain(cell) for cell in row) + " |" for row in rows]
    rule = "|" + "|".join([" --- "] + [" ---: "] * (len(rows[0]) - 1)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def plain(text: str) -> str:
    """`text` on one line, with what Markdown would take for markup in a table escaped."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
