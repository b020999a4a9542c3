"""Figures of traces and heat maps: that what they show and say is what the numbers are."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from test_memory import fake_trace, few_examples, one_hot

from ntmbench.errors import UserError
from ntmbench.memory import KINDS, Trace
from ntmbench.report.animation import animation, save_animation
from ntmbench.report.heat import heat, memory_rows_figure, save_picture
from ntmbench.report.traces import (
    SEEN,
    save_trace_figure,
    shown_locations,
    trace_figure,
    weighting_rows,
)


def panels(figure: Figure) -> dict[str, Axes]:
    """The panels by their titles, which those of parameters share; scales have none."""
    found = {ax.get_title(loc="left"): ax for ax in figure.axes}
    return {title: ax for title, ax in found.items() if title}


def image_of(ax: Axes) -> np.ndarray:
    (image,) = ax.images
    return np.asarray(image.get_array())


def weighting_panels(figure: Figure) -> dict[str, Axes]:
    """By kind and number: "write 1"."""
    found = {}
    for title, ax in panels(figure).items():
        match = re.match(r"(read|write) weighting( \d+)?", title)
        if match:
            found[f"{match[1]}{match[2] or ' 1'}"] = ax
    return found


def lines_at(ax: Axes) -> list[float]:
    """Where a vertical line goes through the panel."""
    marks = [
        line
        for lines in ax.collections
        if isinstance(lines, LineCollection)
        for line in lines.get_segments()
    ]
    return sorted(float(ends[0, 0]) for ends in marks if len(set(ends[:, 0])) == 1)


def with_weightings(write_TN: np.ndarray, read_TN: np.ndarray) -> Trace:
    trace = fake_trace(length=(len(write_TN) - 1) // 2)
    changed = {"write_weightings": write_TN[:, None], "read_weightings": read_TN[:, None]}
    return dataclasses.replace(trace, heads=trace.heads | changed)


# The figure of a trace


@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_every_head_has_a_panel_on_one_scale(pairs) -> None:
    trace = fake_trace(pairs=pairs, rows=20)
    for number, array in enumerate(trace.heads.values()):
        array *= np.float32(1 - number / 100)  # no two panels alike
    trace.heads["write_weightings"][:] *= (1 - np.arange(pairs) / 10)[:, None]
    found = weighting_panels(trace_figure(trace))
    assert set(found) == {f"{kind} {n}" for kind in KINDS for n in range(1, pairs + 1)}
    shown = shown_locations([trace])
    for name, ax in found.items():
        kind, number = name.split()
        weightings = trace.heads[f"{kind}_weightings"][:, int(number) - 1]
        assert np.array_equal(image_of(ax), weightings[:, shown].T)
        assert ax.images[0].get_clim() == (0, 1), "a weight of 1 is as bright in every panel"
        assert ax.get_ylabel() == "location"
        low, high = ax.get_ylim()
        assert low < high, "location 0 is at the bottom"


def test_sides_and_axes() -> None:
    """What is given and written on the left; the steps on one axis, named under the last row."""
    trace = fake_trace(pairs=2)
    figure = trace_figure(trace)
    named = panels(figure)
    left = {round(named[name].get_position().x0, 3) for name in ("inputs", "targets", "adds")}
    right = {round(named[name].get_position().x0, 3) for name in ("reads", "errors")}
    assert len(left) == len(right) == 1 and min(left) < min(right)
    places = {name: ax.get_position() for name, ax in named.items()}
    boxes = [ax.get_position() for ax in figure.axes]
    assert all(0 <= b.x0 < b.x1 <= 1 and 0 <= b.y0 < b.y1 <= 1 for b in boxes)
    for a in places:
        for b in places:
            assert a == b or not places[a].overlaps(places[b]), (a, b)
    scales = [ax for ax in figure.axes if not ax.get_title(loc="left")]
    for name, ax in named.items():
        assert ax.get_xlim() == (-0.5, 8.5), name
    said = [ax.get_xlabel() for ax in figure.axes if ax.get_xlabel()]
    assert said == ["step", "step"]
    lowest = min(place.y0 for place in places.values())
    assert all(ax.get_position().y0 == lowest for ax in figure.axes if ax.get_xlabel())
    assert {"bit", "|output - target|", "weighting"} <= {ax.get_ylabel() for ax in scales}
    text = figure.texts[0].get_text()
    for words in ("copy / ntm@größer / seed 7, length=4", "12,000 sequences", "0.3 bits, 2 wrong"):
        assert words in text


def test_lines_stand_where_phases_begin() -> None:
    trace = fake_trace(phases=[["vectors", 0], ["copies", 5], ["", 7]])
    figure = trace_figure(trace)
    for title, ax in panels(figure).items():
        assert lines_at(ax) == [4.5, 6.5], title
    named = [(t.get_text(), ax) for ax in figure.axes for t in ax.texts if t.get_text()]
    assert sorted(name for name, _ in named) == ["copies", "copies", "vectors", "vectors"]
    assert {ax.get_title(loc="left") for _, ax in named} == {"inputs", "outputs, P(1)"}


def test_inputs_outputs_targets_and_errors() -> None:
    """Black is 1, white 0; where nothing is scored, nothing is shown."""
    trace = fake_trace()
    sides = ("inputs", "outputs, P(1)", "targets", "errors")
    found = {name: image_of(panels(trace_figure(trace))[name]) for name in sides}
    grey = matplotlib.colormaps["Greys"]
    np.testing.assert_allclose(found["inputs"], grey(trace.inputs_TI.T))
    scored = trace.mask_T > 0
    for name, array, colours in (
        ("outputs, P(1)", trace.outputs_TO, grey),
        ("targets", trace.targets_TO, grey),
        ("errors", abs(trace.outputs_TO - trace.targets_TO), matplotlib.colormaps["Reds"]),
    ):
        np.testing.assert_allclose(found[name][:, scored], colours(array.T)[:, scored])
        blank = found[name][:, ~scored].reshape(-1, 4)
        assert len(np.unique(blank, axis=0)) == 1 and 0.5 < blank[0, 0] < 0.95
    assert not np.array_equal(found["errors"][:, scored], found["targets"][:, scored])


def test_vectors_and_parameters() -> None:
    trace = fake_trace(pairs=2)
    figure = trace_figure(trace)
    found = panels(figure)
    for name in ("adds", "reads"):
        flat = trace.heads[name].reshape(9, -1).T
        assert np.array_equal(image_of(found[name]), flat)
        assert found[name].images[0].get_clim() == (-1, 1)
    drawn = {
        (ax.get_title(loc="left"), round(ax.get_position().x0, 2)): [
            np.asarray(line.get_ydata()) for line in ax.lines if len(line.get_xdata()) == 9
        ]
        for ax in figure.axes
        if ax.get_title(loc="left") in ("key strength", "gate", "mean shift", "gamma")
    }
    assert len(drawn) == 8
    for (label, x), lines in drawn.items():
        kind = "write" if x < 0.5 else "read"
        if label == "mean shift":
            assert [set(line.tolist()) for line in lines] == [{1.0}, {1.0}]
            continue
        values_TH = trace.heads[f"{kind}_{label.replace(' ', '_')}"]
        np.testing.assert_array_equal(np.stack(lines, 1), values_TH)


@pytest.mark.parametrize(
    "missing",
    [
        ("write_weightings", "adds"),
        ("reads", "adds", "erases"),
        ("read_gate", "write_gate", "read_key_strength"),
    ],
)
def test_what_a_model_does_not_tell_is_left_out(missing) -> None:
    trace = fake_trace()
    kept = {name: array for name, array in trace.heads.items() if name not in missing}
    found = panels(trace_figure(dataclasses.replace(trace, heads=kept)))
    expected = {"write weighting", "adds", "reads", "gate"}
    gone = {name.replace("write_weightings", "write weighting") for name in missing}
    gone |= {"gate"} if "read_gate" in missing else set()
    titles = {title.split(",")[0] for title in found}
    assert titles & expected == expected - gone


def test_a_model_without_memory_has_its_sequence_alone() -> None:
    figure = trace_figure(fake_trace(heads={}))
    assert set(panels(figure)) == {"inputs", "outputs, P(1)", "targets", "errors"}


def test_heads_of_unequal_numbers() -> None:
    trace = fake_trace(pairs=3)
    trace.heads["write_weightings"] = trace.heads["write_weightings"][:, :1]
    found = weighting_panels(trace_figure(trace))
    assert set(found) == {"write 1", "read 1", "read 2", "read 3"}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_drawn_without_it(bad, tmp_path) -> None:
    """The last weights of a run that diverged: heads, outputs and scores that are no numbers."""
    trace = fake_trace(loss_bits=bad, wrong_bits=math.nan)
    heads = {name: np.full_like(array, bad) for name, array in trace.heads.items()}
    trace = dataclasses.replace(trace, heads=heads, outputs_TO=np.full_like(trace.outputs_TO, bad))
    save_trace_figure(trace, tmp_path / "trace")
    assert (tmp_path / "trace.png").stat().st_size > 1000
    partly = fake_trace()
    for array in partly.heads.values():
        array[3] = bad
    save_trace_figure(partly, tmp_path / "partly")
    save_animation([trace, partly], tmp_path / "both.gif")


def test_a_figure_that_cannot_be_written_is_the_users_error(tmp_path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        save_trace_figure(fake_trace(), tmp_path / "missing" / "trace")
    with pytest.raises(UserError, match="cannot write"):
        save_animation([fake_trace()], tmp_path / "missing" / "a.gif")


# The locations that are shown


@pytest.mark.parametrize(
    ("used", "rows", "first", "count"),
    [
        (range(40, 60), 128, 38, 24),
        (range(118, 138), 128, 116, 24),
        ([5], 128, 3, 16),
        ([0], 128, 126, 16),
        (range(20), 24, 0, 24),
        ([], 24, 0, 24),
        ([3], 16, 0, 16),
    ],
)
def test_a_stretch_of_locations_is_shown(used, rows, first, count) -> None:
    """What is used, two more before and after it, at least sixteen; all where that is most."""
    weightings = np.zeros((9, rows), np.float32)
    for number, location in enumerate(used):
        weightings[number % 9, location % rows] = 0.2
    trace = with_weightings(weightings, np.zeros_like(weightings))
    expected = [(first + n) % rows for n in range(count)]
    assert shown_locations([trace]).tolist() == expected
    other = with_weightings(np.zeros_like(weightings), weightings)
    assert shown_locations([other]).tolist() == expected
    assert shown_locations([fake_trace(heads={})]).tolist() == []


weights = st.one_of(
    *map(st.just, (0.0, SEEN, 0.04999, 0.01, 0.02)), st.floats(0, 0.06), st.floats(0, 1)
)


@settings(few_examples, max_examples=40)
@given(st.dictionaries(st.integers(0, 63), weights, max_size=6), weights)
def test_what_is_not_shown_is_as_small_as_is_said(drawn, rest) -> None:
    weightings = np.full((9, 64), min(rest, SEEN), np.float32)
    for location, weight in drawn.items():
        weightings[location % 9, location] = weight
    trace = with_weightings(weightings, weightings * np.float32(0.5))
    shown = shown_locations([trace])
    hidden = np.setdiff1d(np.arange(64), shown)
    assert len(set(shown.tolist())) == len(shown) >= 16
    assert set(np.flatnonzero((weightings > np.float32(SEEN)).any(0))) <= set(shown.tolist())
    (row,) = weighting_rows(trace, shown)
    for kind, paint in zip(("write", "read"), row.panels, strict=True):
        assert paint is not None
        ax = Figure().subplots()
        paint(ax)
        title = ax.get_title(loc="left")
        assert title.startswith(f"{kind} weighting")
        told = re.search(r"(\d+) of 64 locations \(beyond: under ([\d.]+)\)", title)
        assert bool(told) == bool(len(hidden)), title
        if told:
            most = float(trace.heads[f"{kind}_weightings"][:, :, hidden].max())
            assert int(told[1]) == len(shown) and most < float(told[2]) <= most + 0.0101


@pytest.mark.parametrize("first", [0, 40, 120])
def test_a_location_is_called_by_its_number(first) -> None:
    used = (first + np.arange(9)) % 128
    trace = with_weightings(one_hot(used, 128), one_hot(used, 128))
    for ax in weighting_panels(trace_figure(trace)).values():
        values = image_of(ax)
        for step, location in enumerate(used):
            row = int(values[:, step].argmax())
            assert values[row, step] == 1
            assert ax.yaxis.get_major_formatter()(row, 0) == str(location)


# Priorities


def test_the_most_linear_head_is_drawn_against_the_priority() -> None:
    steps, priorities = 9, np.array([0.6, -0.4, 0.2, -1.0, 0, 0, 0, 0, 0], np.float32)
    linear, other = (10 + 5 * priorities).round().astype(int), [3, 9, 1, 3, *[0] * 5]
    trace = fake_trace(pairs=2, input_channels=[["bits", 2], ["priority", 1]])
    inputs = np.concatenate([trace.inputs_TI[:, :2], priorities[:, None]], 1)
    writes = np.stack([one_hot(other, 32), one_hot(linear, 32)], 1)
    heads = trace.heads | {"write_weightings": writes}
    figure = trace_figure(dataclasses.replace(trace, inputs_TI=inputs, heads=heads))
    found = panels(figure)
    (scatter,) = [ax for title, ax in found.items() if title.startswith("write 2: location")]
    assert "R² = 1.00" in scatter.get_title(loc="left")
    points, line = scatter.lines
    assert points.get_xdata().tolist() == pytest.approx(priorities[:4].tolist())
    assert points.get_ydata().tolist() == linear[:4].tolist()
    assert line.get_ydata().tolist() == pytest.approx([5, 15])
    assert (scatter.get_xlabel(), scatter.get_ylabel()) == ("priority", "location")
    shares = [bar.get_height() for bar in found["linear in the priority"].patches]
    assert shares[1] == pytest.approx(1) and 0 <= shares[0] < 0.9 and len(shares) == 2
    assert [ax.get_xlabel() for ax in figure.axes].count("step") == 2 and steps == 9
    plain = trace_figure(dataclasses.replace(trace, heads=heads))
    assert any("location against" in title for title in panels(plain))
    other_task = dataclasses.replace(trace, heads=heads, input_channels=[["bits", 3]])
    assert not any("location against" in title for title in panels(trace_figure(other_task)))


# Heat maps


def heat_texts(values: Any) -> list[list[str]]:
    figure = Figure()
    ax = figure.subplots()
    array = np.array(values, float)
    heat(ax, array, [f"d{n}" for n in range(len(array))], [f"a{n}" for n in range(array.shape[1])])
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        f"a{n}" for n in range(array.shape[1])
    ]
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    return [[texts[column, row] for column in range(array.shape[1])] for row in range(len(array))]


def test_cells_say_their_numbers() -> None:
    assert heat_texts([[0, 0.005, 1.23456], [1234.5, math.nan, math.inf]]) == [
        ["0", "0.005", "1.23"],
        ["1.23e+03", "-", "inf"],
    ]
    assert heat_texts([[math.nan]]) == [["-"]] and heat_texts([[math.inf]]) == [["inf"]]
    assert heat_texts([[0.0]]) == [["0"]]


def test_a_larger_number_is_a_brighter_cell_and_its_text_is_readable() -> None:
    figure = Figure()
    ax = figure.subplots()
    values = np.array([[0, 0.01, 0.1, 1, 10, 100, math.inf, math.nan]])
    heat(ax, values, ["x"], [str(n) for n in range(8)])
    shades = image_of(ax)[0]
    assert shades[0] == 0 and (np.diff(shades[:6]) > 0.05).all() and shades[5] == shades[6] == 1
    assert ax.images[0].get_clim() == (0, 1)
    cells = ax.images[0].to_rgba(image_of(ax))[0, :, :3]
    for cell, text in zip(cells, ax.texts, strict=True):
        background = cell @ [0.2126, 0.7152, 0.0722]
        letters = np.array(matplotlib.colors.to_rgb(text.get_color())).mean()
        assert abs(background - letters) > 0.3


def test_points_by_memory_rows() -> None:
    rows = [
        {"length": n, "memory_rows": m, "weights": w, "metric": k, "value": n + m / 1000}
        for n in (30, 10)
        for m in (64, 8, 128)
        for w in ("best", "last")
        for k in ("wrong_bits", "exact")
    ]
    for row in rows:
        row["value"] += 1000 * (row["weights"] != "best") + 500 * (row["metric"] == "exact")
    rows = [row for row in rows if (row["length"], row["memory_rows"]) != (10, 64)]
    figure = memory_rows_figure(rows, ("length",), "best", "a run")
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["length 30", "length 10"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["8", "64", "128"]
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["30", "30.1", "30.1", "10", "-", "10.1"]
    assert "a run" in figure.get_suptitle() and "memory rows" in ax.get_xlabel()


def test_a_picture_is_the_same_bytes_twice(tmp_path) -> None:
    row = {"length": 3, "memory_rows": None, "weights": "best", "metric": "wrong_bits", "value": 1}
    for name in ("a.png", "b.png", "a.svg", "b.svg"):
        save_picture(memory_rows_figure([row], ("length",), "best", "x"), tmp_path / name)
    for end in ("png", "svg"):
        a, b = ((tmp_path / f"{name}.{end}").read_bytes() for name in "ab")
        assert a == b and len(a) > 500
    assert b">none<" in (tmp_path / "a.svg").read_bytes()


# Animations


def frames_of(content: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(content)) as picture:
        found = []
        for number in range(picture.n_frames):
            picture.seek(number)
            found.append(np.asarray(picture.convert("RGB")))
    return found


def test_an_animation_has_a_frame_a_trace_of_one_size() -> None:
    traces = [fake_trace(sequences=n, loss_bits=9.0 / (n + 1)) for n in (0, 100, 200)]
    traces[0] = dataclasses.replace(traces[0], loss_bits=math.nan)
    for array in traces[0].heads.values():
        array[:] = 1 / array.shape[-1]
    content = animation(traces)
    frames = frames_of(content)
    assert len(frames) == 3 and len({frame.shape for frame in frames}) == 1
    assert frames[0].shape[0] > 200 and frames[0].std() > 10
    assert not np.array_equal(frames[0], frames[1]) and not np.array_equal(frames[1], frames[2])
    assert animation(traces) == content
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.info["loop"] == 0, "for ever"


def test_a_loss_that_is_equal_costs_no_frame() -> None:
    """Only the counts in the title differ."""
    traces = [fake_trace(sequences=n) for n in (1, 2, 3, 4)]
    assert len(frames_of(animation(traces))) == 4


def test_an_animation_of_one_trace() -> None:
    assert len(frames_of(animation([fake_trace()]))) == 1


def test_a_sequence_without_named_phases_is_drawn() -> None:
    trace = dataclasses.replace(fake_trace(length=4), phases=[])
    assert len(trace_figure(trace).axes) == len(trace_figure(fake_trace(length=4)).axes)
