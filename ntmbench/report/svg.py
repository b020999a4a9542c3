"""SVG for a page: matplotlib's files made fit to stand in it, and the small plots of its matrix.

A figure's names become its own, its colours the page's, and its text the page's font. What a
drawing has no need of (scripts, handlers, links, styles for a whole document) does not come along.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from itertools import zip_longest

from markupsafe import Markup, escape

from ntmbench.report.blocks import Cell

DARK = {
    "#000000": "#e8e6e1",  # ink
    "#ffffff": "#16191d",  # paper
    "#555555": "#a7adb5",
    "#b0b0b0": "#767d86",
    "#0072b2": "#3f8fd8",
    "#d55e00": "#ec6630",
    "#009e73": "#0fae7c",
    "#cc79a7": "#dd8fc8",
    "#e69f00": "#f7c64a",
    "#56b4e9": "#97d3ff",
}
"""What the colours of our figures turn into on a dark page: of the same hue, and as far apart for
the colour-blind (the nearest two are 15 CIELAB units apart, by the simulation of Machado et al.
2009; on white 16)."""

PIXELS = 4 / 3  # a point of matplotlib's, in CSS pixels
DRAWN = {
    *("svg", "g", "defs", "use", "symbol", "title", "desc", "text", "tspan", "image"),
    *("path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "marker"),
    *("clipPath", "mask", "pattern", "linearGradient", "radialGradient", "stop"),
}
MODEL = re.compile(r"model:(.*):\d+", re.DOTALL)
COLOUR = re.compile(r"#[0-9a-f]{6}\b", re.IGNORECASE)
REFERENCE = re.compile(r"url\(\s*[\"']?#([^)\"']+)[\"']?\s*\)")
OUTSIDE = re.compile(r"url\(\s*[\"']?(?!#)[^)]*\)")
PLACES = ("d", "x", "y", "points")
FAMILY = re.compile(r"font-family:[^;]*(;\s*|$)")
FONT = re.compile(r"(font:[^;]*?[\d.]+px )[^;]*")


def variable(colour: str) -> str:
    """The CSS variable that holds what `colour` is drawn as."""
    return f"--c-{colour.lstrip('#').lower()}"


def inline(text: str, slug: str, words: str) -> Markup:
    """The SVG file `text` as an element of a page, its ids starting with `slug`.

    An artist whose id is `model:NAME:NUMBER` bears data-model="NAME". `words` say what it shows.
    """
    root = ET.fromstring(text)
    _drop(root)
    names = _referenced(root)
    for element in root.iter():
        _attributes(element, names, slug)
    natural = float(root.get("viewBox", "0 0 480 0").split()[2]) * PIXELS
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": words, "style": f"--natural:{natural:.0f}px"}
    title = ET.Element("title")
    title.text = words
    root.insert(0, title)
    return Markup(ET.tostring(root, encoding="unicode"))


def _drop(element: ET.Element) -> None:
    """Strip namespaces, blanks, and all that is not drawn, below `element` and in it."""
    element.tag = _local(element.tag)
    is_text = element.tag in ("text", "tspan")
    if not is_text and element.text and not element.text.strip():
        element.text = None
    for child in list(element):
        if _local(child.tag) not in DRAWN:
            element.remove(child)
            continue
        if not is_text:
            child.tail = None
        _drop(child)


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _referenced(root: ET.Element) -> set[str]:
    """The ids that something in the drawing points to."""
    names = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            names |= set(REFERENCE.findall(value))
            if _local(key) == "href" and value.startswith("#"):
                names.add(value[1:])
    return names


def _attributes(element: ET.Element, names: set[str], slug: str) -> None:
    """Rewrite the element's attributes for the page."""
    kept: dict[str, str] = {}
    for key, value in element.attrib.items():
        name = _local(key)
        if name == "id":
            model = MODEL.fullmatch(value)
            if model:
                kept["data-model"] = model[1]
            if value in names:
                kept["id"] = f"{slug}.{value}"
        elif name == "href":
            if value.startswith("#"):
                kept["href"] = f"#{slug}.{value[1:]}"
            elif value.startswith("data:image/png;base64,"):
                kept["href"] = re.sub(r"\s+", "", value)
        elif not name.startswith("on"):
            value = OUTSIDE.sub("none", REFERENCE.sub(rf"url(#{slug}.\1)", value))
            if name in PLACES:
                value = " ".join(value.split())
            kept[name] = _style(value, element.tag) if name == "style" else value
    element.attrib.clear()
    element.attrib.update(kept)


def _style(style: str, tag: str) -> str:
    """An inline style in the page's colours and, for text, without a font of its own."""
    style = FONT.sub(r"\1var(--font)", FAMILY.sub("", style)).strip().rstrip(";")
    on_a_drawing = tag in ("text", "tspan")  # white letters stand on something dark: they stay

    def themed(found: re.Match[str]) -> str:
        colour = found[0].lower()
        if colour not in DARK or (on_a_drawing and colour == "#ffffff"):
            return colour
        return f"var({variable(colour)},{colour})"

    return COLOUR.sub(themed, style)


WIDTH, COIN, FLOOR = 96.0, 6.0, 30.0  # of a small plot: its width, where y is 1, where y is 0


def spark(cell: Cell) -> Markup:
    """A column for each of the cell's errors: 0 is flat, a coin's reach the upper line.

    What is above a coin's is cut there and bears an arrow head; trained points are shaded.
    """
    step = WIDTH / max(len(cell.errors), 1)
    gap = min(2.0, step / 4)
    shades, columns, words = [], [], []
    for index, (error, point, trained) in enumerate(
        zip_longest(cell.errors, cell.points[: len(cell.errors)], cell.trained)
    ):
        if error is None:
            break
        left = index * step
        words.append(_said(error, point or str(index + 1), bool(trained)))
        if trained:
            shades.append(f'<path d="M{left:.2f} 0h{step:.2f}V{FLOOR:g}h-{step:.2f}z"/>')
        if math.isnan(error):
            middle, half = left + step / 2, min(step / 2 - gap, 3.0)
            columns.append(f'<path d="M{middle - half:.2f} 18h{2 * half:.2f}v3h-{2 * half:.2f}z"/>')
        elif error > 0:
            columns.append(_column(left + gap / 2, step - gap, error))
    label = escape("share of chance errors: " + ", ".join(words))
    return Markup(
        f'<svg class="spark" viewBox="0 0 {WIDTH:g} {FLOOR + 1:g}" role="img" '
        f'aria-label="{label}"><title>{label}</title>'
        f'<g class="trained">{"".join(shades)}</g>'
        f'<path class="coin" d="M0 {COIN:g}H{WIDTH:g}"/>'
        f'<g class="errors">{"".join(columns)}</g>'
        f'<path class="floor" d="M0 {FLOOR:g}H{WIDTH:g}"/></svg>'
    )


def _column(left: float, width: float, error: float) -> str:
    height = max(min(error, 1.0) * (FLOOR - COIN), 1.0)
    column = f"M{left:.2f} {FLOOR:g}v-{height:.2f}h{width:.2f}v{height:.2f}z"
    if error > 1:
        half, foot = width / 2, COIN - 1.5
        column += f"M{left:.2f} {foot:g}h{width:.2f}l-{half:.2f} -{foot:g}z"
    return f'<path d="{column}"/>'


def _said(error: float, point: str, trained: bool) -> str:
    value = "no score" if math.isnan(error) else f"{error:.3f}"
    return f"{point} {value}" + (" (trained)" if trained else "")
