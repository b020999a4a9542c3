"""A memory over training as an animation: one sequence, traced with later and later weights."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from ntmbench.files import write_bytes
from ntmbench.memory import Trace
from ntmbench.report.panels import Row, composed, name_panel
from ntmbench.report.style import COLOURS, GREY, LINEAR_BELOW, house_style
from ntmbench.report.traces import sequence_rows, shown_locations, weighting_rows

DPI = 80
FRAME_MS, LAST_MS = 450, 2500


def animation(traces: list[Trace]) -> bytes:
    """A GIF with a frame a trace, in order; all show the locations that the last one uses."""
    shown = shown_locations(traces[-1:])
    frames = [_frame(traces, number, shown) for number in range(len(traces))]
    size = (max(frame.width for frame in frames), max(frame.height for frame in frames))
    frames = [_padded(frame, size) for frame in frames]
    buffer = io.BytesIO()
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    rest: dict[str, Any] = {"append_images": frames[1:], "duration": durations, "loop": 0}
    frames[0].save(buffer, format="GIF", save_all=True, optimize=False, **rest)
    return buffer.getvalue()


def save_animation(traces: list[Trace], path: Path) -> None:
    """Write `animation` into a .gif, in one step. UserError if it cannot be written."""
    with house_style():
        write_bytes(path, animation(traces))


def _frame(traces: list[Trace], number: int, shown: np.ndarray) -> Image.Image:
    trace = traces[number]
    rows = [*sequence_rows(trace), *weighting_rows(trace, shown)]
    losses = [one.loss_bits for one in traces]
    counts = [one.sequences for one in traces]
    rows.append(Row(0.8, [lambda ax: _progress(ax, counts, losses, number), None], timed=False))
    canvas = FigureCanvasAgg(composed(rows, trace))
    canvas.figure.set_dpi(DPI)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _progress(ax: Axes, counts: list[int], losses: list[float], number: int) -> None:
    """The sequence's loss over training, and where this frame stands."""
    finite = [loss if math.isfinite(loss) else math.nan for loss in losses]
    ax.plot(counts, finite, color=GREY, linewidth=1)
    ax.plot(counts[number], finite[number], "o", color=COLOURS[1])
    ax.set_xscale("symlog", linthresh=100)
    ax.set_yscale("symlog", linthresh=LINEAR_BELOW)
    ax.set_xlabel("training sequences", fontsize=8)
    name_panel(ax, "loss of this sequence, bits", 8)


def _padded(frame: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The frame in 128 colours; every frame of a GIF is of one size."""
    whole = Image.new("RGB", size, "white")
    whole.paste(frame)
    return whole.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
