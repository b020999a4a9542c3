"""How every figure looks: colours, scales, ticks, and files that are the same bytes every time."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullLocator
from PIL import Image

from ntmbench.files import atomic_path
from ntmbench.report.blocks import model_of
from ntmbench.report.references import Reference

# Okabe and Ito 2008, "Color Universal Design", without the yellow, which fades on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
MARKS = ("o", "s", "^", "v", "P", "X", "*", "p")
GREY = "#555555"
LEVELS: dict[str, Any] = {"chance": ":", "optimum": (0, (6, 2, 1, 2))}
SEED: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.4}  # one seed among others
DPI = 150
Styles = dict[str, dict[str, Any]]
LINEAR_BELOW = 0.1  # bits: a symmetric log axis is linear under it, so that zero has a place

FILE_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}
"""No date and no version in a picture: the same bytes every time."""

PLACE = re.compile(rb' (?:d|x|y|points)="[^"]*"')  # of an SVG, in points
LONG = re.compile(rb"-?\d+\.\d{3,}")
"""Of a place: hundredths are finer than any screen, and half as long."""

RC = {
    "svg.hashsalt": "ntmbench",
    "svg.fonttype": "none",  # text stays text: found, read aloud, and in the page's own font
    "text.parse_math": False,  # a task or a tag may have a $ in its name
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.titley": 1.0,  # finding a height that clears all labels takes a third of the drawing
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "path.simplify": True,
}


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """The same settings whatever the user's matplotlibrc says; the global ones come back after."""
    with matplotlib.style.context(["default", RC]):
        yield


def styles(names: Iterable[str]) -> Styles:
    """A colour, line and mark for each name; the three go round in cycles of different lengths."""
    return {
        name: {
            "color": COLOURS[index % len(COLOURS)],
            "linestyle": LINES[index % len(LINES)],
            "marker": MARKS[index % len(MARKS)],
        }
        for index, name in enumerate(sorted(set(names)))
    }


def write_picture(figure: Figure, path: Path, kind: str, dpi: int = DPI) -> None:
    """Write one file of a `kind` of `FILE_METADATA`, smaller than matplotlib would.

    A PNG has 256 colours, a third as large so: the farthest a value moved by that, in the 40
    figures of the reference report, was 17 of 255. An SVG has places to a hundredth of a point.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=FILE_METADATA[kind], dpi=dpi)
    if kind == "png":
        whole = Image.open(buffer).convert("RGB")
        few = whole.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(path, format=kind, optimize=True, dpi=(dpi, dpi))
    else:
        path.write_bytes(PLACE.sub(_rounded, buffer.getvalue()))


def _rounded(place: re.Match[bytes]) -> bytes:
    return LONG.sub(lambda n: (b"%.2f" % float(n[0])).rstrip(b"0").rstrip(b"."), place[0])


def save(figure: Figure, path: Path, dpi: int = DPI) -> None:
    """Write `path`.png and `path`.svg, each in one step and without a date in it."""
    marked = [artist for artist in _artists(figure) if _is_of_model(artist.get_gid())]
    for number, artist in enumerate(marked):
        artist.set_gid(f"{artist.get_gid()}:{number}")
    for kind in FILE_METADATA:
        with atomic_path(path.with_name(f"{path.name}.{kind}")) as temporary:
            write_picture(figure, temporary, kind, dpi)
        figure.set_layout_engine("none")  # laid out once, for both


def _artists(figure: Figure) -> Iterator[Artist]:
    """What may be marked as a model's; `figure.findobj` would make every tick of every axis."""
    for parent in (figure, *figure.axes):
        yield from parent.get_children()
    for made in figure.legends:
        yield from (handle for handle in made.legend_handles if handle is not None)
        yield from made.get_texts()


def _is_of_model(gid: str | None) -> bool:
    return gid is not None and gid.startswith("model:")


def gid(entry: str) -> str:
    """What marks an artist as being of an entry's model, by which a page can be filtered."""
    return f"model:{model_of(entry)}"


def legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """One legend for all `axes`, under them, each label once."""
    handles: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        entry_inches = 0.75 + 0.07 * max(map(len, handles))  # the line and the gap, then letters
        columns = max(1, min(len(handles), 4, int(figure.get_figwidth() / entry_inches)))
        made = figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=columns,
            handlelength=3.5,
        )
        shown = zip(handles.values(), made.legend_handles, made.get_texts(), strict=True)
        for handle, *copies in shown:
            for copy in copies:
                if copy is not None:
                    copy.set_gid(handle.get_gid())


def count_axis(ax: Axes) -> None:
    """Counts along x as 20k, 1M."""
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def loss_axis(ax: Axes, optimum: float, values: Iterable[float]) -> None:
    """The y axis of a loss: symmetric log down to zero where the optimum is zero, else linear.

    `values` are what must be seen; a linear axis starts just under the optimum.
    """
    seen = [value for value in values if math.isfinite(value)] or [1.0]
    if optimum > 1e-6:
        low, high = min([optimum, *seen]), max([optimum, *seen])
        margin = 0.06 * (high - low) or 1.0
        ax.set_ylim(low - margin, high + margin)
        return
    ax.set_yscale("symlog", linthresh=LINEAR_BELOW, linscale=0.6)
    decades = math.ceil(math.log10(max(*seen, 1.0))) + 1
    ticks = [0.0, *(10.0**power for power in range(-1, decades))]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ax.set_ylim(min(-0.02, *seen), max(*seen, 1.0) * 2)


def level(ax: Axes, reference: Reference, value: float, colour: str) -> None:
    """A labelled horizontal line at a reference level, or a note at the edge where it is out."""
    high, name = ax.get_ylim()[1], reference.kind
    text = f"{reference.label} {value:,.4g}"
    # Curves begin high and end low: the labels stand in the other corners.
    side, x = ("left", 0.01) if name == "optimum" else ("right", 0.99)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    look: dict[str, Any] = {"color": colour, "fontsize": 8, "ha": side, "bbox": box}
    if value > high:
        ax.annotate(f"{text} ↑", (x, 0.985), xycoords="axes fraction", va="top", **look)
        return
    ax.axhline(value, color=colour, linestyle=LEVELS[name], linewidth=1.2)
    place: dict[str, Any] = {"xytext": (0, 3), "textcoords": "offset points", "va": "bottom"}
    ax.annotate(text, (x, value), xycoords=("axes fraction", "data"), **place, **look)


def reference_colour(reference: Reference, styles: Styles) -> str:
    """Grey for a reference that all entries share, else the colour of the first that has it."""
    return GREY if reference.shared else styles[reference.entries[0]]["color"]


def finite(values: Iterable[float]) -> np.ndarray:
    """The values, with infinities as NaN: a line breaks there."""
    array = np.asarray(list(values), dtype=np.float64)
    return np.where(np.isfinite(array), array, np.nan)
