"""A page as one HTML file that needs no other file, no network and, to be read, no script."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from ntmbench.report import svg
from ntmbench.report.blocks import (
    Block,
    Bullets,
    Cell,
    Choice,
    Fold,
    Heading,
    Image,
    Matrix,
    Note,
    Rule,
    Section,
    Table,
    Text,
    model_of,
)

WORSE = ("not reached", "diverged", "not finite")
"""What stands in place of a number that is worse than any."""
EMPTY = ("", "-")
NUMBER = re.compile(
    r"[<>]?\s*(?P<number>[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?)"
    r"\s?(?P<unit>%|[kMG]|/(?P<of>\d+))?(?=[\s;,)]|$)"
)
UNITS = {"%": 0.01, "k": 1e3, "M": 1e6, "G": 1e9, None: 1.0}


def html(blocks: Iterable[Block], svg_of: Callable[[str], str], title: str) -> str:
    """The page: the same bytes for the same blocks. `svg_of(image.path)` is a figure's SVG file."""
    return str(_Page(tuple(blocks), svg_of).whole(title))


@functools.cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_file("page.html.j2"))


@functools.cache
def _file(name: str) -> str:
    return resources.files("ntmbench.report").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _markdown() -> MarkdownIt:
    """`code`, **strong** and links within the page; all else is text."""
    parser = MarkdownIt("zero", {"html": False})
    parser.enable(["backticks", "emphasis", "link", "escape", "entity"])
    parser.validateLink = lambda url: url.startswith("#")
    return parser


class _Page:
    """A page in the making: the ids that are taken, and where it has got to."""

    def __init__(self, blocks: tuple[Block, ...], svg_of: Callable[[str], str]):
        self.blocks, self.svg_of = blocks, svg_of
        self.ids: set[str] = set()
        self.level, self.heading, self.task = 1, "", ""
        self.choices = 0
        tasks = [block.task for block in _walk(blocks) if isinstance(block, Section)]
        # A dot, which no heading's id has, keeps the page's own ids apart from headings'.
        self.sections = {t: self.unique(f"task.{slug(t)}") for t in dict.fromkeys(tasks)}
        self.awaited = dict(self.sections)
        self.models = list(dict.fromkeys(_models(blocks)))
        helpers = {helper.__name__: helper for helper in (words, inline, number, key)}
        self.macros: Any = _template().make_module(helpers)

    def whole(self, title: str) -> Markup:
        script = _file("page.js")
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        content = self.show(self.blocks)
        most = max((len(b.views) for b in _walk(self.blocks) if isinstance(b, Choice)), default=0)
        return self.macros.page(
            title=title,
            style=Markup(_file("page.css")),
            dark=Markup(";".join(f"{svg.variable(old)}:{new}" for old, new in svg.DARK.items())),
            views=range(1, most + 1),
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            content=content,
            sections=self.sections,
            models=self.models,
        )

    def show(self, blocks: Iterable[Block]) -> Markup:
        return Markup("\n").join(map(self._show, blocks))

    def _show(self, block: Block) -> Markup:
        match block:
            case Heading(level, text):
                self.level, self.heading = level, text
                return self.macros.heading(level, self.anchor(text), text)
            case Text(text):
                return self.macros.text(text)
            case Note(texts):
                return self.macros.note(texts)
            case Bullets(items):
                return self.macros.bullets(items)
            case Table():
                return self._table(block)
            case Image():
                return self._figure(block)
            case Choice(what, views):
                self.choices += 1
                shown = [(name, self._figure(image)) for name, image in views]
                return self.macros.choice(f"choice.{self.choices}", what, shown)
            case Fold(title, inside):
                level = self.level = min(self.level + 1, 3)
                self.heading = title
                anchor = self.anchor(title)
                shown = self.show(inside)
                self.level = level
                return self.macros.fold(level, anchor, title, shown)
            case Matrix(entries, rows):
                shown = [
                    (task, self.sections.get(task), [(cell, _spark(cell)) for cell in cells])
                    for task, cells in rows
                ]
                columns = [(entry, model_of(entry)) for entry in entries]
                plots = any(c and c.errors for _, cells in rows for c in cells)
                return self.macros.matrix(self.label(), columns, shown, plots)
            case Section(task, inside):
                anchor = self.awaited.pop(task, None) or self.unique(self.sections[task])
                self.task = task
                shown = self.show(inside)
                self.task = ""
                return self.macros.section(anchor, task, shown)
            case Rule():
                return self.macros.rule()

    def _table(self, table: Table) -> Markup:
        header, *rows = table.rows
        keys = [sort_keys([row[column] for row in rows]) for column in range(len(header))]
        body = [
            (
                model_of(row[table.entries]) if table.entries >= 0 else None,
                row[table.tasks] if table.tasks >= 0 else None,
                [(cell, keys[column] and keys[column][index]) for column, cell in enumerate(row)],
            )
            for index, row in enumerate(rows)
        ]
        head = [(text, bool(keys[column])) for column, text in enumerate(header)]
        return self.macros.table(self.label(), head, body)

    def _figure(self, image: Image) -> Markup:
        name = self.unique(f"fig.{slug(image.path.rpartition('/')[2])}")
        return self.macros.figure(svg.inline(self.svg_of(image.path), name, image.words), image)

    def anchor(self, text: str) -> str:
        return self.unique(slug(text))

    def unique(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self.ids:
            count += 1
            name = f"{wanted}-{count}"
        self.ids.add(name)
        return name

    def label(self) -> str:
        """What a table is called: the heading that it stands under, and its task."""
        heading = self.heading.replace("`", "") or "Table"
        return heading if self.task in ("", self.heading) else f"{self.task}: {heading}"


def _walk(blocks: Iterable[Block]) -> Iterator[Block]:
    for block in blocks:
        yield block
        if isinstance(block, Fold | Section):
            yield from _walk(block.blocks)


def _models(blocks: Iterable[Block]) -> Iterator[str]:
    """The models of the matrix; without one, those that tables name."""
    inside = list(_walk(blocks))
    matrices = [block for block in inside if isinstance(block, Matrix)]
    tables = [block for block in inside if isinstance(block, Table) and block.entries >= 0]
    for matrix in matrices:
        yield from map(model_of, matrix.entries)
    for table in () if matrices else tables:
        entries = (row[table.entries] for row in table.rows[1:])
        yield from (model_of(entry) for entry in entries if entry not in EMPTY)


def _spark(cell: Cell | None) -> Markup | None:
    return svg.spark(cell) if cell and cell.errors else None


def slug(text: str) -> str:
    """The anchor that GitHub gives to a heading of this text; never empty."""
    kept = re.sub(r"[^\w\- ]", "", " ".join(text.split()).lower())
    return kept.replace(" ", "-") or "section"


def inline(text: str) -> Markup:
    """The Markdown of a paragraph."""
    return Markup(_markdown().renderInline(text))


def words(text: str) -> Markup:
    """Plain text with `code`."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    shown = [
        escape(p) if i % 2 == 0 else Markup("<code>{}</code>").format(p)
        for i, p in enumerate(parts)
    ]
    return Markup("").join(shown)


def number(text: str) -> Markup:
    """A number, with what stands after it in brackets set apart."""
    value, bracket, rest = text.partition(" (")
    if not bracket:
        return words(text)
    return Markup('{}<span class="range">{}</span>').format(words(value), words(bracket + rest))


def key(value: float) -> str:
    """A sort key as the script reads it."""
    return "Infinity" if math.isinf(value) else f"{value:.12g}"


def sort_keys(cells: Sequence[str]) -> list[float | None]:
    """What the cells of a column of numbers are sorted by, None for an empty one.

    A ratio and a percentage are shares; of a range it is the first number; what was not reached is
    infinite. An empty list for a column of text: one where fewer than half of the cells, empty ones
    aside, are numbers.
    """
    keys = [_sort_key(cell) for cell in cells]
    filled = [key for key, cell in zip(keys, cells, strict=True) if not _is_empty(cell)]
    numbers = [key for key in filled if key is not None]
    return keys if numbers and 2 * len(numbers) >= len(filled) else []


def _is_empty(cell: str) -> bool:
    return cell.strip() in EMPTY or cell.startswith("- ")


def _sort_key(cell: str) -> float | None:
    text = cell.strip().strip("`")
    if text.startswith(WORSE):
        return math.inf
    found = NUMBER.match(text)
    if found is None:
        return None
    value = float(found["number"].replace(",", ""))
    if found["of"]:
        return value / int(found["of"]) if int(found["of"]) else None
    return value * UNITS[found["unit"]]
