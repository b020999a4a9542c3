"""The report as HTML: whole, valid, the same every time, and nothing in it that is not the page's.

What a browser makes of it is in test_browser.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import re
import time
import typing
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from ntmbench.report import blocks, svg
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
)
from ntmbench.report.style import COLOURS, GREY, house_style
from ntmbench.report.webpage import html, inline, slug, sort_keys, words

ROOT = Path(__file__).parent.parent
HOSTILE = "\"><img src=x onerror=alert(1)> '<script>alert(2)</script>&amp; {{ 7 * 7 }}"
VOID = {"meta", "link", "input", "hr", "br", "img"}


class Tree(HTMLParser):
    """A page's elements, with a check that every one that is opened is closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = ET.Element("page")
        self.stack = [self.root]
        self.feed(page)
        self.close()
        assert self.stack == [self.root], [element.tag for element in self.stack]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in <{tag}>: {names}"
        element = ET.SubElement(self.stack[-1], tag, {name: value or "" for name, value in attrs})
        if tag not in VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop().tag == tag, f"</{tag}> is out of place"

    def handle_data(self, data: str) -> None:
        if len(self.stack[-1]):
            last = self.stack[-1][-1]
            last.tail = (last.tail or "") + data
        else:
            self.stack[-1].text = (self.stack[-1].text or "") + data


def tree(*content: Block, drawing: str | None = None) -> ET.Element:
    return Tree(page(*content, drawing=drawing)).root


def page(*content: Block, drawing: str | None = None) -> str:
    return html(content, lambda path: drawing or figure(), "A title")


def text_of(element: ET.Element | None) -> str:
    assert element is not None
    return " ".join("".join(element.itertext()).split())


@functools.cache
def figure(
    name: str = "ntm", label: str = "ntm", colour: str = "#000000", fonttype: str = "none"
) -> str:
    """What matplotlib writes for a line of the model `name`: clipped, with a box and a legend."""
    drawn = io.StringIO()
    with house_style(), matplotlib.rc_context({"svg.fonttype": fonttype}):
        canvas = Figure(figsize=(4, 3))
        ax = canvas.subplots()
        (line,) = ax.plot([1, 2, 3], [1, 3, 2], "-o", color=colour, label=label)
        line.set_gid(f"model:{name}:1")
        ax.axvspan(1, 2, color=GREY, alpha=0.1, lw=0)
        ax.imshow([[0.0, 1.0]], extent=(1, 2, 1, 2))
        ax.text(2, 2, label, color=GREY, bbox={"facecolor": "white"})
        ax.text(1, 1, "on the map", color="white")
        canvas.legend()
        canvas.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return drawn.getvalue()


def everything(name: str = "ntm") -> tuple[Block, ...]:
    """A page of every kind of block, about a model and a task called `name`."""
    image = Image(f"figures/{name}-curves", f"The learning curves of {name}")
    cell = Cell("7/10", 0.7, ("9,000 sequences",), (0.0, 0.5, 1.7), ("l=1", "l=2", "l=9"), (True,))
    table = Table(
        [
            ["", "solved", "loss, bits"],
            [name, "7/10", "0.5 (0.1 to 1)"],
            ["chance", "-", "diverged"],
        ],
        0,
    )
    inside = (
        Heading(2, name),
        Text(f"The task `{name}`."),
        table,
        Choice("which", (("curves", image), (name, image))),
        Fold("More", (Heading(4, "Within"), Bullets(("a `b`", "**c**")), table)),
    )
    return (
        Heading(1, "Benchmark report"),
        Note(("**2 of 3** diverged", "see [Problems](#problems)")),
        Heading(2, "Solved seeds"),
        Matrix((name, "other"), ((name, (cell, None)), ("no section", (None, None)))),
        Section(name, inside),
        image,
        Heading(2, "Problems"),
        Rule(),
        Text("The end."),
    )


def test_every_kind_of_block_is_shown():
    kinds = {type(block) for block in everything()} | {Text, Bullets, Choice, Fold, Table, Image}
    assert kinds == set(typing.get_args(blocks.Block))
    root = tree(*everything())
    assert text_of(root.find(".//h1")) == "Benchmark report"
    assert text_of(root.find(".//title")) == "A title"
    assert [text_of(p) for p in root.findall(".//aside/p")] == ["2 of 3 diverged", "see Problems"]
    assert text_of(root.find(".//section[@data-task='ntm']/p/code")) == "ntm"
    assert [text_of(e) for e in root.findall(".//details[@class='fold']//li/*")] == ["b", "c"]
    assert root.find(".//main/hr") is not None
    assert len(root.findall(".//figure/div/svg")) == 3


def test_it_stands_alone_and_forbids_all_else():
    text = page(*everything())
    root = Tree(text).root
    policies = root.findall(".//meta[@http-equiv='Content-Security-Policy']")
    assert "default-src 'none'" in policies[0].get("content", "")
    for element in root.iter():
        assert element.tag not in ("img", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "action", "data", "srcset"):
            value = element.get(name, "#")
            assert value.startswith(("#", "data:")), (element.tag, name, value)
    assert "url(" not in text.replace("url(#", "") and "@import" not in text
    assert (root.find(".//html") or root)[0].tag == "head" and 'lang="en"' in text


def test_ids_are_unique_and_links_lead_somewhere():
    root = tree(*everything(), *everything())
    ids = Counter(element.get("id") for element in root.iter() if "id" in element.attrib)
    assert len(ids) > 20 and max(ids.values()) == 1
    targets = {e.get("href", "")[1:] for e in root.iter() if e.get("href", "").startswith("#")}
    targets |= {name for e in root.iter() for v in e.attrib.values() for name in used(v)}
    targets |= {e.get("for", "") for e in root.findall(".//label[@for]")}
    assert {"problems", "task.ntm", "page.content", "choice.2.1"} <= targets <= set(ids)


def used(value: str) -> list[str]:
    return re.findall(r"url\(#([^)]+)\)", value)


def test_the_same_bytes_twice():
    assert page(*everything()) == page(*everything())


@pytest.mark.parametrize("name", [HOSTILE, "a|b", "日本", "?", "x" * 300, "model:a:1", "`"])
def test_hostile_names_stay_names(name):
    label = name if name.isascii() and len(name) < 200 else "ntm"  # what the font can write
    root = tree(*everything(name), drawing=figure(name, label))
    plain = tree(*everything("ntm"), drawing=figure("ntm", label))
    assert [e.tag for e in root.iter() if e.tag != "code"] == [
        e.tag for e in plain.iter() if e.tag != "code"
    ]
    for element in root.iter():
        assert not [key for key in element.attrib if key.startswith("on")]
    assert len(root.findall(".//script")) == 1
    assert {e.get("data-task") for e in root.findall(".//section")} == {name}
    boxes = root.findall(".//input[@name='model']")
    assert [box.get("value") for box in boxes] == [blocks.model_of(name), "other"]
    artists = [e for e in root.iter("g") if e.get("data-model") is not None]
    assert len(artists) == 3 and {e.get("data-model") for e in artists} == {name}
    assert "49" not in [text_of(e) for e in root.iter("h2")]


def test_a_file_that_is_not_only_a_drawing():
    drawing = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'viewBox="0 0 90 9" onload="alert(1)"><script>alert(2)</script><style>*{fill:red}</style>'
        '<foreignObject><p>x</p></foreignObject><a xlink:href="javascript:alert(3)"><path/></a>'
        '<image xlink:href="https://example.com/x.png"/><use href="other.svg#a"/>'
        '<path style="fill: url(https://example.com/#x); stroke: red"/></svg>'
    )
    shown = svg.inline(drawing, "fig.x", "words")
    assert "alert" not in shown and "example" not in shown and "other.svg" not in shown
    assert Counter(e.tag for e in ET.fromstring(shown).iter()) == Counter(
        ["svg", "title", "image", "use", "path"]
    )


@pytest.mark.parametrize("fonttype", ["none", "path"])
def test_a_figure_becomes_part_of_the_page(fonttype):
    drawing = figure(fonttype=fonttype)
    root = ET.fromstring(svg.inline(drawing, "fig.copy-curves", 'The "words" <of> it'))
    assert root.attrib.keys() == {"viewBox", "role", "aria-label", "style"}
    assert root.get("role") == "img" and root.get("style") == "--natural:384px"
    assert root.get("aria-label") == 'The "words" <of> it' == root.findtext("title")
    assert not [e for e in root.iter() if e.tag in ("metadata", "style")]
    ids = {e.get("id") for e in root.iter() if "id" in e.attrib}
    targets = {name for e in root.iter() for v in e.attrib.values() for name in used(v)}
    targets |= {v[1:] for e in root.iter() if (v := e.get("href", "")).startswith("#")}
    assert ids and ids == targets and all(name.startswith("fig.copy-curves.") for name in targets)
    (artist,) = (e for e in root.iter() if e.get("data-model") == "ntm")
    assert artist.find(".//path") is not None
    (raster,) = root.iter("image")
    assert re.fullmatch(r"data:image/png;base64,[\w+/=]+", raster.get("href", ""))
    texts = {e.text: e.get("style", "") for e in root.iter("text")}
    assert bool(texts) == (fonttype == "none")
    assert not [style for style in texts.values() if "DejaVu" in style]
    if texts:
        assert "font-size: 9px" in texts["ntm"] or "font-size: 10px" in texts["ntm"]


def test_the_fonts_shorthand_keeps_what_is_not_a_family():
    text = "<text style=\"font: italic 700 9px 'DejaVu Sans', sans-serif; fill: #ffffff\">x</text>"
    shown = svg.inline(f'<svg viewBox="0 0 9 9">{text}</svg>', "a", "b")
    assert 'style="font: italic 700 9px var(--font); fill: #ffffff"' in shown


@pytest.mark.parametrize("colour", [*COLOURS, GREY, "#FFFFFF", "#b0b0b0"])
def test_known_colours_follow_the_scheme(colour):
    name = f"--c-{colour[1:].lower()}"
    assert f"var({name},{colour.lower()})" in svg.inline(figure(colour=colour), "a", "b")
    assert f"{name}:{svg.DARK[colour.lower()]}" in page()


def test_other_colours_and_white_letters_stay():
    shown = svg.inline(figure(colour="#123456"), "a", "b")
    assert "stroke: #123456" in shown
    (on_map,) = (e for e in ET.fromstring(shown).iter("text") if e.text == "on the map")
    assert on_map.get("style", "").endswith("fill: #ffffff")


def test_dark_colours_can_be_seen_on_dark_paper():
    dark = svg.DARK["#ffffff"]
    for colour in (*COLOURS, GREY):
        assert contrast(svg.DARK[colour.lower()], dark) > 4.5
    assert contrast(svg.DARK["#000000"], dark) > 12


def contrast(one: str, other: str) -> float:
    """WCAG 2's."""
    low, high = sorted(luminance(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_contrast_by_hand():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def test_a_table_names_its_rows_and_columns():
    root = tree(*everything())
    table = root.find(".//section/div/table")
    assert table is not None and table.get("aria-label") == "ntm"
    heads = table.findall("thead/tr/th")
    assert [text_of(th) for th in heads] == ["name", "solved", "loss, bits"]
    assert all(th.get("scope") == "col" for th in heads)
    assert [th.get("class") for th in heads] == [None, "n", "n"]
    rows = table.findall("tbody/tr")
    assert [row.get("data-model") for row in rows] == ["ntm", "chance"]
    assert [text_of(row[0]) for row in rows] == ["ntm", "chance"]
    assert all(row[0].get("scope") == "row" for row in rows)
    assert [[cell.get("data-key") for cell in row] for row in rows] == [
        [None, "0.7", "0.5"],
        [None, None, "Infinity"],
    ]
    plain = tree(Heading(2, "A `b`"), Table([["run"], ["x"]])).find(".//table")
    assert plain is not None and plain.get("aria-label") == "A b"
    assert "data-model" not in plain.findall(".//tr")[1].attrib


def test_the_matrix():
    root = tree(*everything())
    matrix = root.find(".//div[@class='scroll matrix']/table")
    assert matrix is not None
    heads = matrix.findall("thead/tr/th")
    assert [th.get("data-model") for th in heads] == [None, "ntm", "other"]
    first, second = matrix.findall("tbody/tr")
    assert first.get("data-task") == "ntm" and second.get("data-task") == "no section"
    assert first.find("th/a").get("href") == "#task.ntm"  # type: ignore[union-attr]
    assert root.find(".//section[@id='task.ntm']") is not None
    assert second.find("th/a") is None and text_of(second.find("th")) == "no section"
    cell, none = first.findall("td")
    assert text_of(cell.find("strong")) == "7/10" and "9,000 sequences" in text_of(cell)
    share = cell.find("span[@class='share']")
    assert share is not None and share.get("style") == "--share: 70%"
    assert text_of(none) == "other \N{EN DASH} no runs" and none.find("svg") is None
    assert [td.get("data-model") for td in (cell, none)] == ["ntm", "other"]


def test_a_share_of_nothing_has_no_bar():
    matrix = Matrix(("a",), (("t", (Cell("-", math.nan),)),))
    assert tree(matrix).find(".//span[@class='share']") is None
    assert "Small plots" not in page(matrix)


def test_the_small_plot():
    """Heights by hand: the floor is at 30, a coin at 6; none is no column, little is one unit."""
    errors = (0.0, 1e-6, 0.5, 1.0, 2.0, math.nan)
    points = ("a=1", "a=2", "a=3", "a=4", "a=5", 'a="<6>"')
    shown = svg.spark(Cell("", 0, (), errors, points, (True, True, False, False, False, False)))
    root = ET.fromstring(shown)
    columns = [path.get("d", "") for path in root.findall("g[@class='errors']/path")]
    *columns, cross = columns
    assert "v" in cross and " 30" not in cross  # no score: a mark that stands on nothing
    heights = [float(re.findall(r" 30v-([\d.]+)h", d)[0]) for d in columns]
    assert heights == [1, 12, 24, 24]
    assert [d.count("z") for d in columns] == [1, 1, 1, 2]  # the last bears an arrow head
    assert len(root.findall("g[@class='trained']/path")) == 2
    assert root.get("aria-label") == root.findtext("title")
    assert root.get("aria-label") == (
        "share of chance errors: a=1 0.000 (trained), a=2 0.000 (trained), a=3 0.500, "
        'a=4 1.000, a=5 2.000, a="<6>" no score'
    )
    numbers = [float(n) for d in columns for n in re.findall(r"-?[\d.]+", d)]
    assert max(map(abs, numbers)) <= 96


def test_a_choice_needs_no_script():
    root = tree(*everything())
    choice = root.find(".//fieldset[@class='choice']")
    assert choice is not None and text_of(choice.find("legend")) == "which"
    radios, labels = choice.findall("input"), choice.findall("label")
    assert [r.get("id") for r in radios] == [label.get("for") for label in labels]
    assert ["checked" in r.attrib for r in radios] == [True, False]
    assert len({r.get("name") for r in radios}) == 1
    assert len(choice.findall("div[@class='views']/div")) == 2
    style = text_of(root.find(".//style"))
    assert ":nth-of-type(2):checked" in style and ":nth-of-type(3):checked" not in style


def test_headings_step_down_one_at_a_time():
    root = tree(*everything())
    levels = [int(e.tag[1]) for e in root.iter() if re.fullmatch(r"h\d", e.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize(
    "heading, anchor",
    [
        ("Problems", "problems"),
        ("Loss, bits a sequence", "loss-bits-a-sequence"),
        ("ntm@wide #2 (smoke)", "ntmwide-2-smoke"),
        ("dynamic_ngrams", "dynamic_ngrams"),
        ("a - b", "a---b"),
        ("Über `x`", "über-x"),
        ("???", "section"),
    ],
)
def test_anchors_are_githubs(heading, anchor):
    assert slug(heading) == anchor
    root = tree(Heading(1, "Top"), Heading(2, heading), Heading(2, heading))
    assert [e.get("id") for e in root.iter("h2")] == [anchor, f"{anchor}-1"]


@pytest.mark.parametrize(
    "text, shown",
    [
        ("`a<b>` and **c**", "<code>a&lt;b&gt;</code> and <strong>c</strong>"),
        ("see [Problems](#problems).", 'see <a href="#problems">Problems</a>.'),
        ("[x](https://example.com)", "[x](https://example.com)"),
        ("[x](javascript:alert(1))", "[x](javascript:alert(1))"),
        ("![x](#y)", '!<a href="#y">x</a>'),
        ("<b>bold</b>", "&lt;b&gt;bold&lt;/b&gt;"),
        ("a \\| b &lt;c>", "a | b &lt;c&gt;"),
        ('"quoted" & more', "&quot;quoted&quot; &amp; more"),
        ("<https://example.com>", "&lt;https://example.com&gt;"),
    ],
)
def test_markdown(text, shown):
    assert inline(text) == shown


@pytest.mark.parametrize(
    "text, shown",
    [
        ("`a` <b> **c**", "<code>a</code> &lt;b&gt; **c**"),
        ("a ` b", "a ` b"),
        ("`<i>`", "<code>&lt;i&gt;</code>"),
    ],
)
def test_words(text, shown):
    assert words(text) == shown


INF = math.inf


@pytest.mark.parametrize(
    "cells, keys",
    [
        (["1,234", "12k", "-", "", "1e-05", "-3"], [1234, 12_000, None, None, 1e-5, -3]),
        (["7/10", "3/4 (1 diverged)", "- (1 unfinished)", "0/0"], [0.7, 0.75, None, None]),
        (["44 %", "44% to 100%", "0%"], [0.44, 0.44, 0]),
        (["0.00506 (0.00411 to 0.00601)", "< 1e-09", "2.50 (1 to diverged)"], [0.00506, 1e-9, 2.5]),
        (["5", "not reached", "diverged (1 to diverged)", "not finite"], [5, INF, INF, INF]),
        (["10,000", "not said", "1,000,000 (beyond our curves)"], [10_000, None, 1e6]),
        (["`0.5`", "3M", "1.5"], [0.5, 3e6, 1.5]),
        (["length=10", "length=20"], []),
        (["2026-01-01", "0.1.0", "3sum", "4"], []),
        (["diverged", "not reached"], [INF, INF]),
        (["-", ""], []),
        ([], []),
    ],
)
def test_sort_keys(cells, keys):
    assert sort_keys(cells) == keys


def test_without_tasks_or_models_there_is_nothing_to_filter():
    root = tree(Heading(1, "Title"), Text("Words."))
    assert root.find(".//header") is None and root.find(".//main/p") is not None


def test_models_come_from_tables_where_there_is_no_matrix():
    rows = [["", "x"], ["ntm@a #2", "1"], ["-", "2"], ["ntm", "3"], ["lstm (smoke)", "4"]]
    boxes = tree(Fold("f", (Table(rows, 0),))).findall(".//input[@name='model']")
    assert [box.get("value") for box in boxes] == ["ntm", "lstm"]


def test_two_sections_of_one_task():
    root = tree(Section("copy", ()), Section("copy", ()), Section("Copy", ()))
    anchors = [e.get("id") for e in root.iter("section")]
    assert anchors == ["task.copy", "task.copy-2", "task.copy-1"]
    assert [e.get("href") for e in root.findall(".//nav//a")] == ["#task.copy", "#task.copy-1"]


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the source tree")
def test_the_wheel_holds_what_a_page_is_made_of():
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    inside = {file.distribution_path for file in builder.recurse_included_files()}
    assert {f"ntmbench/report/page.{end}" for end in ("css", "html.j2", "js")} <= inside


def test_a_large_page():
    """40 figures of some 40 KB, and 60 tables: a fraction of a second, here with much to spare."""
    path = '<path d="' + "M 1.25 2.5 \nL 3.75 5 \n" * 20 + '" style="stroke: #0072b2"/>'
    drawing = f'<svg viewBox="0 0 9 9"><g id="a">{path * 80}</g></svg>'
    assert 35_000 < len(drawing) < 45_000
    rows = [["entry", *(f"length={n}" for n in range(8))]]
    rows += [[f"ntm #{n}", *["0.5 (0.1 to 0.9)"] * 8] for n in range(12)]
    content = [Image(f"figures/{n}", "words") for n in range(40)] + [Table(rows, 0)] * 60
    start = time.process_time()
    text = html(content, lambda path: drawing, "t")
    assert time.process_time() - start < 5
    assert text.count("<svg") == 40 and text.count("<table") == 60
