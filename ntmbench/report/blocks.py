"""What a page is made of, whatever it is written as: Markdown here, HTML in `webpage`."""

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
    """Rows of plain text or `code`, the first its header; the first column names the rows.

    entries, tasks: the columns that name an entry or a task, by which a page can be filtered; none
    if negative.
    """

    rows: Sequence[Sequence[str]]
    entries: int = -1
    tasks: int = -1


@dataclass(frozen=True)
class Image:
    """A figure, drawn as `path`.png and `path`.svg; `words` say what it shows."""

    path: str
    words: str


@dataclass(frozen=True)
class Choice:
    """Views of one thing, each with its name: a page shows one at a time, the first to begin."""

    what: str
    views: tuple[tuple[str, Image], ...]


@dataclass(frozen=True)
class Fold:
    """What only some readers want: closed under its title until they open it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Cell:
    """One model on one task, at a glance.

    solved: "7/10". share: of the seeds, 0 to 1, NaN where none is finished. lines: what else to
    say, such as the time to solve. errors: wrong bits as a share of chance, 0 (none) to 1 (a coin)
    and above, for each point of the evaluation in order; NaN where there is no score. points: their
    names. trained: whether training draws each of them.
    """

    solved: str
    share: float
    lines: tuple[str, ...] = ()
    errors: tuple[float, ...] = ()
    points: tuple[str, ...] = ()
    trained: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Matrix:
    """Tasks by entries; a cell is None where an entry has no run of a task."""

    entries: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]


@dataclass(frozen=True)
class Section:
    """Everything about one task."""

    task: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Rule:
    """A line between the content and what is said about it."""


Block = Heading | Text | Note | Bullets | Table | Image | Choice | Fold | Matrix | Section | Rule


def model_of(entry: str) -> str:
    """The model of an entry, by which readers filter: `ntm` of `ntm@wide #2 (smoke)`."""
    return entry.partition("@")[0].partition(" ")[0]


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
            return f"[![{plain(words)}]({path}.png)]({path}.svg)"
        case Choice(_, views):
            return "\n\n".join(_markdown(image) for _, image in views)
        case Fold(title, inside):
            return "\n\n".join([f"### {plain(title)}", *map(_markdown, inside)])
        case Matrix(entries, rows):
            cells = [[task, *map(_cell_text, row)] for task, row in rows]
            return _table([["task", *entries], *cells])
        case Section(_, inside):
            return "\n\n".join(map(_markdown, inside))
        case Rule():
            return "---"


def _cell_text(cell: Cell | None) -> str:
    return "-" if cell is None else "; ".join([cell.solved, *cell.lines])


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(plain(cell) for cell in row) + " |" for row in rows]
    rule = "|" + "|".join([" --- "] + [" ---: "] * (len(rows[0]) - 1)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def plain(text: str) -> str:
    """`text` on one line, with what Markdown would take for markup in a table escaped."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
