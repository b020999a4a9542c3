"""The report's parts: who is best, curves and intervals, figures and their data, odd folders."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import PROGRAM, environment
from fake_runs import BITS, LENGTH, LOCATIONS, fake_config, fake_trace, write_run, write_trace
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from ntmbench.config import RunConfig
from ntmbench.errors import UserError
from ntmbench.files import write_json
from ntmbench.memory import save_trace
from ntmbench.report import parallel, pictures, write_report
from ntmbench.report.blocks import markdown
from ntmbench.report.curves import entry_curves, whole_curves
from ntmbench.report.drawing import Drawn, best_traces, figures_of
from ntmbench.report.entries import with_entries
from ntmbench.report.figures import curves_in_seconds, generalization, learning_curves
from ntmbench.report.heat import MISSING, heat
from ntmbench.report.matrix import matrix
from ntmbench.report.outcomes import (
    Rival,
    across_rows,
    best_rows,
    outcome,
    rival_rows,
    standing,
    verdict,
)
from ntmbench.report.parallel import Wanted, draw
from ntmbench.report.sections import page
from ntmbench.report.style import FILE_METADATA, house_style, styles, write_picture
from ntmbench.report.survival import survival
from ntmbench.report.tables import memory_rows, number_text, summarize
from ntmbench.results import Results, load_results
from ntmbench.stats import Estimate, bootstrap, bootstrap_each, kaplan_meier, median
from ntmbench.streams import stream

# Runs, as rows of `Results.runs`, and what `outcomes` reads of them.


def solved(at: float, loss: float = 0.01) -> dict[str, Any]:
    times = {"solved_sequences": float(at), "sequences": 1000.0}
    return {"status": "complete", "solved": True, "best_val_loss_bits": loss, **times}


def unsolved(loss: float, sequences: float = 1000.0, status: str = "complete") -> dict[str, Any]:
    times = {"solved_sequences": math.nan, "sequences": sequences}
    return {"status": status, "solved": False, "best_val_loss_bits": loss, **times}


def diverged(loss: float = 5.0, at: float = 300.0) -> dict[str, Any]:
    return unsolved(loss, at, "diverged")


@dataclass(eq=False)
class Runs:
    """In place of `Results`, for what reads nothing but `runs` and what they were trained on."""

    runs: pd.DataFrame
    examples: dict[str, RunConfig]


EASY = fake_config(train__vary={"length": [1, 2]})
EXAMPLES = {"x": RunConfig.from_dict(fake_config(), ""), "easy": RunConfig.from_dict(EASY, "")}


def results_of(
    *, task: str = "copy", levels: tuple[float, float] = (0.0, 84.0), **entries: list[dict]
) -> Any:
    """The runs of entries, a list an entry, its seeds counted from 1; levels: optimum, chance."""
    rows = [
        {"task": task, "entry": entry, "seed": seed, "profile": "standard", "config_id": "x", **run}
        | {"optimum_val_loss_bits": levels[0], "chance_val_loss_bits": levels[1]}
        for entry, runs in entries.items()
        for seed, run in enumerate(runs, start=1)
    ]
    return Runs(pd.DataFrame(rows), EXAMPLES)


def test_one_lucky_seed_is_not_the_best():
    """9 of 10 is at least 60 %, with 95 % confidence; 1 of 1 only 21 %."""
    steady = [*[solved(900)] * 9, unsolved(50.0)]
    found = standing(results_of(lucky=[solved(10)], steady=steady), "copy")
    assert found is not None and found.best == "steady"
    assert [rival.entry for rival in found.rivals] == ["lucky"]
    assert best_rows([found])[1][1:3] == ["steady", "9/10"]


def test_among_equals_the_best_wins_most_often():
    slow, fast = [solved(500)] * 3, [solved(100), solved(200), solved(700)]
    found = standing(results_of(slow=slow, fast=fast), "copy")
    assert found is not None and found.best == "fast"
    assert found.rivals[0].chance.value == pytest.approx(6 / 9)
    a, b = [unsolved(x) for x in (3.0, 4.0, 5.0)], [unsolved(x) for x in (1.0, 2.0, 9.0)]
    found = standing(results_of(a=a, b=b), "copy")
    assert found is not None and found.best == "b"
    assert found.rivals[0].chance.value == pytest.approx(6 / 9)


def test_rivals_come_the_strongest_first():
    runs = {"worst": [unsolved(9.0)] * 3, "best": [unsolved(1.0)] * 3, "next": [unsolved(2.0)] * 2}
    runs["next"] += [unsolved(0.5)]
    found = standing(results_of(**runs), "copy")
    assert found is not None and found.best == "best"
    assert [rival.entry for rival in found.rivals] == ["next", "worst"]
    assert best_rows([found])[1][4:6] == ["3", "next"]


def test_a_diverged_run_never_solves():
    assert outcome(diverged(at=300)).time == math.inf
    assert outcome(unsolved(5.0, 300)).time == 300
    assert outcome(diverged(math.nan)).loss == math.inf
    late = [solved(900)] * 3
    for other, chance in (([diverged(at=300)] * 3, 1.0), ([unsolved(5.0, 300)] * 3, 0.5)):
        found = standing(results_of(late=late, other=other), "copy")
        assert found is not None and (found.best, found.rivals[0].chance.value) == ("late", chance)
    found = standing(results_of(a=[solved(1), solved(1), diverged(0.001)], b=late), "copy")
    assert found is not None and found.best == "b"


def test_a_tie_is_told_apart_by_nothing():
    found = standing(results_of(a=[solved(100)] * 3, b=[solved(100)] * 3), "copy")
    assert found is not None and found.rivals[0].chance.value == 0.5
    assert best_rows([found])[1][-2:] == ["50%", "not told apart; 100% of pairs undecided"]


def test_smoke_runs_stand_aside():
    tiny = [solved(1) | {"profile": "smoke"}] * 3
    found = standing(results_of(tiny=tiny, big=[unsolved(50.0)]), "copy")
    assert found is not None and (found.best, found.rivals) == ("big", ())
    assert best_rows([found])[1][-1] == "nothing to compare with"
    alone = standing(results_of(tiny=tiny), "copy")
    assert alone is not None and alone.best == "tiny"


def test_only_finished_runs_compete():
    rows = {"a": [unsolved(1.0, status="unfinished"), unsolved(1.0, status="failed")]}
    assert standing(results_of(**rows), "copy") is None
    found = standing(results_of(**rows, b=[unsolved(90.0)]), "copy")
    assert found is not None and list(found.runs) == ["b"]


@pytest.mark.parametrize(
    "value, low, high, undecided, said",
    [
        (1.0, math.nan, math.nan, 0.0, "fewer than 3 seeds: no statement"),
        (1.0, 1.0, 1.0, 0.0, "no seed of the next best wins"),
        (0.9, 0.51, 1.0, 0.0, "the interval is over 1/2"),
        (0.9, 0.5, 1.0, 0.25, "not told apart; 25% of pairs undecided"),
        (0.2, 0.0, 0.4, 0.0, "the next best solves it less surely, but sooner"),
    ],
)
def test_verdict(value, low, high, undecided, said):
    chance = Estimate(value=value, low=low, high=high, count=6)
    assert verdict(Rival(entry="b", chance=chance, undecided=undecided)) == said


def test_the_surest_can_be_the_slower():
    runs = {"sure": [solved(900)] * 10, "quick": [*[solved(100)] * 9, unsolved(9.0)]}
    found = standing(results_of(**runs), "copy")
    assert found is not None and found.best == "sure"
    assert found.rivals[0].chance.value == pytest.approx(0.1) and found.rivals[0].chance.high < 0.5
    assert best_rows([found])[1][-1] == "the next best solves it less surely, but sooner"


def test_a_lower_loss_after_more_training_decides_nothing():
    runs = {"long": [unsolved(1.0, 5000)] * 3, "short": [unsolved(9.0, 1000)] * 3}
    found = standing(results_of(**runs), "copy")
    assert found is not None and found.rivals[0].chance.value == 0.5
    assert found.rivals[0].undecided == 1
    runs["short"] = [unsolved(0.5, 1000)] * 3  # lower, and after less: that does
    found = standing(results_of(**runs), "copy")
    assert found is not None and (found.best, found.rivals[0].chance.value) == ("short", 1)


def test_an_easier_variant_of_a_task_is_not_ranked():
    easy = [solved(1) | {"config_id": "easy"}] * 3
    found = standing(results_of(easy=easy, usual=[unsolved(9.0)] * 4), "copy")
    assert found is not None and (found.best, found.rivals) == ("usual", ())
    assert found.left_out == ("easy",)


def test_two_seeds_allow_no_statement():
    runs = {"a": [solved(100)] * 2, "b": [unsolved(3.0)] * 5}
    found = standing(results_of(**runs), "copy")
    assert found is not None
    assert best_rows([found])[1][-2:] == ["100%", "fewer than 3 seeds: no statement"]
    runs["a"] += [solved(100)]
    found = standing(results_of(**runs), "copy")
    assert found is not None and best_rows([found])[1][-1] == "no seed of the next best wins"


def test_paired_differences_are_over_common_seeds():
    """Seeds 1 to 6 and 1 to 5; the third has no loss on one side."""
    best = [solved(100, loss) for loss in (0.5, 0.25, 9.0, 1.0, 0.125, 7.0)]
    other = [unsolved(loss) for loss in (1.0, 3.0, math.nan, 2.5, 2.0)]
    found = standing(results_of(best=best, other=other), "copy")
    assert found is not None
    differences = np.array([0.5 - 1.0, 0.25 - 3.0, 1.0 - 2.5, 0.125 - 2.0])
    drawn = stream(0, "paired copy other").integers(4, size=(10_000, 4))
    low, high = np.quantile(differences[drawn].mean(1), [0.025, 0.975])
    (row,) = rival_rows(found)[1:]
    assert (row[0], row[3]) == ("other", number_text(differences.mean()))
    assert low < differences.mean() < high
    assert row[4:] == [
        f"{number_text(low)} to {number_text(high)}",
        "4 (1 without a loss left out)",
    ]


def test_few_common_seeds_have_a_difference_and_no_interval():
    runs = {"best": [solved(1, 0.5)] * 3, "other": [unsolved(2.5)] * 2}
    found = standing(results_of(**runs), "copy")
    assert found is not None and rival_rows(found)[1][3:] == ["-2", "-", "2"]
    found = standing(results_of(best=runs["best"], other=[unsolved(math.nan)] * 3), "copy")
    assert found is not None
    assert rival_rows(found)[1][3:] == ["-", "-", "0 (3 without a loss left out)"]


def test_all_tasks_together():
    """Scaled between optimum and chance: 0.1 to 0.3 on copy, 0.2 to 0.6 and infinite on n-grams."""
    copy = results_of(
        both=[solved(1, 8.4), solved(1, 16.8), unsolved(25.2)], one=[solved(1)] * 3, two=[solved(1)]
    )
    losses = [133 + 67 * share for share in (0.2, 0.4, 0.6)]
    ngrams = results_of(
        task="ngrams",
        levels=(133.0, 200.0),
        two=[unsolved(133.0)],
        both=[*map(unsolved, losses), diverged(math.nan)],
        else_=[solved(1)],
    )
    results: Any = Runs(pd.concat([copy.runs, ngrams.runs]), EXAMPLES)
    stands = [standing(results, task) for task in ("copy", "ngrams")]
    header, both, two = across_rows([one for one in stands if one is not None])
    assert "0 best possible, 1 chance" in header[2]
    middle = (0.2 + (0.4 + 0.6) / 2) / 2  # of four the lowest and the highest are left out
    assert both[:3] == ["both", "2/7", number_text(middle)]
    assert both[3].endswith(" to not finite")
    assert two == ["two", "1/2", number_text((0.01 / 84 + 0) / 2), "-"]
    assert len(across_rows([one for one in stands[:1] if one is not None])) == 1


# Written folders.


def loaded(root: Path) -> Results:
    return with_entries(load_results(root))


def words(root: Path) -> str:
    """The report's Markdown without its figures."""
    results = loaded(root)
    return markdown(page(results, summarize(results), {}))


def table_of(text: str, heading: str, section: str = "") -> list[dict[str, str]]:
    """The first table after a heading, a row a dict."""
    after = text[text.index(section) :]
    after = after[after.index(heading) :]
    lines = after[after.index("\n|") + 1 :].split("\n\n")[0].splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    """On copy five ntm (one diverged, one unsolved), two lstm, a gru that is unfinished."""
    root = tmp_path_factory.mktemp("several")
    for seed, step in ((1, 3), (2, 5), (3, 5), (4, None)):
        write_run(root, fake_config(seed=seed), solved_step=step, traced=seed != 3)
    write_run(root, fake_config(seed=5), status="diverged", steps=1)
    for seed in (1, 2):
        config = fake_config(model="lstm", seed=seed)
        write_run(root, config, solved_step=None, traced=True)
    write_run(root, fake_config(model="gru"), status="unfinished")
    write_run(root, fake_config("repeat_copy", "gru", 1), status="diverged", steps=1)
    for seed in (1, 2):
        write_run(root, fake_config("repeat_copy", "lstm", seed))
    return root


@pytest.fixture(scope="module")
def results(several) -> Results:
    return loaded(several)


def test_matrix_cells(results):
    found = matrix(results, summarize(results))
    assert found.entries == ("gru", "lstm", "ntm")
    (copy, (gru, lstm, ntm)), (repeat, (gru_2, lstm_2, ntm_2)) = found.rows
    assert (copy, repeat, ntm_2) == ("copy", "repeat_copy", None)
    assert ntm.solved == "3/5" and ntm.share == 0.6 and ntm.lines[0] == "5,000 sequences"
    assert ntm.lines[-1] == "1 diverged" and lstm.lines[0] == "not reached"
    assert (gru.solved, gru.lines) == ("-", ("1 unfinished",)) and math.isnan(gru.share)
    assert gru_2.lines == ("not reached", "loss diverged", "1 diverged")
    assert lstm_2.solved == "2/2" and len(lstm_2.lines) == 2


def test_matrix_errors_are_shares_of_chance(results):
    """At a point of n vectors an entry gets 0.0001 n^1.5 (1 + 0.3 seed) / 3 wrong of 8 n / 3."""
    found = matrix(results, summarize(results))
    (_, (gru, lstm, ntm)), (_, (gru_2, lstm_2, _)) = found.rows
    lengths = np.array([10, 20, 30, 50, 120])
    assert ntm.points == lstm.points == tuple(f"length={n}" for n in lengths)
    assert ntm.trained == lstm.trained == (True, True, False, False, False)
    share = 0.0001 * np.sqrt(lengths) / 8
    assert lstm.errors == pytest.approx(share * (1 + 0.3 * 1.5))
    assert ntm.errors == pytest.approx(share * (1 + 0.3 * 3))  # the fifth seed is the worst
    assert gru.errors == () and set(gru_2.errors) == {math.inf}
    drawn = [tuple(map(int, re.findall(r"\d+", point))) for point in lstm_2.points]
    assert lstm_2.trained == tuple(max(pair) <= 10 for pair in drawn) and len(drawn) > 2
    assert True in lstm_2.trained and False in lstm_2.trained


def test_a_point_is_trained_only_where_all_are(tmp_path):
    write_run(tmp_path, fake_config())
    write_run(tmp_path, fake_config(tag="long", train__vary={"length": [20, 60]}))
    found = loaded(tmp_path)
    ((_, (one, _)),) = matrix(found, summarize(found)).rows
    assert one is not None and one.trained == (False, True, False, False, False)


# Curves.


def bands(figure: Figure) -> list[Any]:
    return [c for ax in figure.axes for c in ax.collections if "FillBetween" in type(c).__name__]


def test_the_interval_of_a_curve_is_a_bootstrap_of_its_median(results):
    curves = entry_curves(results, "copy")
    seeds = whole_curves(curves["ntm"].seeds, curves["ntm"].runs, []).to_numpy()
    assert seeds.shape == (12, 5)
    wanted = bootstrap_each(seeds, median, stream(0, "curve x"))
    found = curves["ntm"].interval("x")
    assert np.array_equal(found, wanted) and (found[0] < found[1]).all()
    assert np.isnan(curves["lstm"].interval("x")).all()  # two seeds


def test_a_band_is_drawn_from_three_seeds_on(results, tmp_path):
    looks = styles(results.runs["entry"])
    (band,) = bands(learning_curves(results, "copy", looks))
    assert to_rgba(looks["ntm"]["color"])[:3] == tuple(band.get_facecolor()[0][:3])
    low, high = entry_curves(results, "copy")["ntm"].interval("copy ntm")
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert {(1000.0 * step, value) for step, value in enumerate(low, start=1)} <= corners
    tops = np.minimum(high, 1e6)  # above what is shown; an infinite one cannot be drawn
    assert {(1000.0 * step, value) for step, value in enumerate(tops, start=1)} <= corners
    assert not bands(learning_curves(results, "repeat_copy", looks))


def test_curves_in_seconds_stand_at_each_seeds_seconds(results):
    curves = results.curves.assign(seconds=results.curves["seconds"] * results.curves["seed"] ** 2)
    slower = dataclasses.replace(results, curves=curves)
    ax = curves_in_seconds(slower, "copy", styles(results.runs["entry"])).axes[0]
    thin = [line for line in ax.lines if line.get_linewidth() == 0.7]
    ends = sorted(float(np.asarray(line.get_xdata())[-1]) for line in thin)
    assert ends == sorted([*(30.0 * k for k in (1, 4, 9, 16, 1, 4, 1)), 2.5 * 25])
    middle = {str(line.get_label()): line for line in ax.lines if line.get_linewidth() == 2.2}
    assert np.asarray(middle["ntm"].get_xdata())[-1] == 30 * np.median([1, 4, 9, 16])
    assert np.asarray(middle["lstm"].get_xdata())[-1] == 30 * np.median([1, 4])
    wanted = entry_curves(results, "copy")["ntm"].median
    assert np.array_equal(np.asarray(middle["ntm"].get_ydata()), wanted)
    assert "seconds" in ax.get_xlabel()


def test_published_losses_after_sequences_are_not_drawn_against_seconds(results, tmp_path):
    looks = styles(results.runs["entry"])

    def marks(figure: Figure) -> list[str]:
        labels = [str(c.get_label()) for c in figure.axes[0].collections]
        return [label for label in labels if label.startswith("published")]

    assert marks(learning_curves(results, "copy", looks)) == ["published: ntm", "published: ntm-ff"]
    assert marks(curves_in_seconds(results, "copy", looks)) == []
    write_run(tmp_path, fake_config("dynamic_ngrams"))
    ngrams = loaded(tmp_path)
    for draws in (learning_curves, curves_in_seconds):
        assert len(marks(draws(ngrams, "dynamic_ngrams", looks))) == 1  # no one knows when


# Figures.


def test_survival_steps_are_kaplan_meiers(results):
    figure = survival(results, "copy", styles(results.runs["entry"]))
    ax = figure.axes[0]
    lines = {str(line.get_label()): line for line in ax.lines}
    assert [label for label in lines if "(" in label] == ["lstm (0/2)", "ntm (3/5)"]
    times = [3000.0, 5000.0, 5000.0, 12_000.0, math.inf]
    curve = kaplan_meier(times, [True, True, True, False, False])
    step = lines["ntm (3/5)"]
    assert step.get_drawstyle() == "steps-post"
    x, y = np.asarray(step.get_xdata()), np.asarray(step.get_ydata())
    assert x.tolist() == [0, *curve.times, 12_000] and len(curve.times) == 2
    assert y.tolist() == [1, *curve.unsolved, curve.unsolved[-1]] == [1, 0.8, 0.4, 0.4]
    ticks = [line for line in ax.lines if line.get_marker() == "|"]
    places = [
        list(zip(np.asarray(t.get_xdata()), np.asarray(t.get_ydata()), strict=True)) for t in ticks
    ]
    assert places == [[(12_000, 1), (12_000, 1)], [(12_000, curve.unsolved[-1])]]
    (band,) = bands(figure)
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert {(t, v) for t, v in zip(curve.times, curve.low, strict=True)} <= corners
    assert {(t, v) for t, v in zip(curve.times, curve.high, strict=True)} <= corners
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["lstm (0/2)", "ntm (3/5)"]


def test_what_diverged_never_drops(results):
    """It ends at 1,000 sequences, and is unsolved at 12,000 still."""
    ax = survival(results, "repeat_copy", styles(results.runs["entry"])).axes[0]
    (step,) = (line for line in ax.lines if str(line.get_label()) == "gru (0/1)")
    assert np.asarray(step.get_xdata()).tolist() == [0, 12_000]
    assert np.asarray(step.get_ydata()).tolist() == [1, 1]
    assert all(len(np.asarray(t.get_xdata())) == 0 for t in ax.lines if t.get_marker() == "|")


def test_bars_of_generalization_are_intervals_of_medians(tmp_path):
    """Of nine seeds, of which the interval leaves out the lowest and the highest; of two none."""
    for model, count in (("ntm", 9), ("lstm", 2)):
        for seed in range(1, count + 1):
            write_run(tmp_path, fake_config(model=model, seed=seed))
    results = loaded(tmp_path)
    figure = generalization(results, "copy", styles(results.runs["entry"]))
    for ax, share in zip(figure.axes, (1, 1 / 3), strict=True):
        bars = {
            c.get_gid(): [segment[:, 1] for segment in c.get_segments() if segment.size]
            for c in ax.collections
            if str(c.get_gid()).startswith("model:")
        }
        assert bars["model:lstm"] == []
        for length, (low, high) in zip((10, 20, 30, 50, 120), bars["model:ntm"], strict=True):
            scores = [
                share * 0.0001 * length**1.5 * (1 + 0.3 * (seed % 5)) for seed in range(1, 10)
            ]
            metric = "loss_bits" if share == 1 else "wrong_bits"
            rng = stream(0, f"copy ntm length={length} {metric}")
            wanted = bootstrap([scores], median, rng)
            assert (low, high) == pytest.approx((wanted.low, wanted.high))
            assert min(scores) < low < high


@pytest.fixture
def kinds():
    """`kinds(results, task)`: what is drawn, without the files."""

    def drawn(results: Results, task: str) -> Drawn:
        found, wanted = figures_of(results)
        for figure in wanted:
            figure.make()
        return found[task]

    return drawn


def test_predictions_are_drawn_where_the_best_predictor_is_unsure(tmp_path, kinds, monkeypatch):
    seen: list[list[str]] = []

    def spy(traces: dict) -> Figure:
        seen.append(list(traces))
        return original(traces)

    original = pictures.predictions
    monkeypatch.setattr(pictures, "predictions", spy)
    for task in ("copy", "dynamic_ngrams"):
        for model in ("ntm", "lstm", "gru"):
            run = write_run(tmp_path, fake_config(task, model), traced=True)
            if model == "gru":  # of another sequence
                trace = fake_trace(fake_config(task, model))
                other = dataclasses.replace(trace, inputs_TI=1 - trace.inputs_TI)
                save_trace(run.trace_file, other)
    found = loaded(tmp_path)
    assert "predictions" not in kinds(found, "copy").images
    assert "example" in kinds(found, "copy").images
    seen.clear()
    drawn = kinds(found, "dynamic_ngrams")
    assert "predictions" in drawn.images and "repeats" not in drawn.images
    assert seen == [["lstm", "ntm"]]
    assert list(drawn.traces) == ["ntm"]  # the others have no heads


def cells_of(ax: Any) -> dict[tuple[int, int], str]:
    """The numbers on a heat map, by row and column."""
    return {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}


def test_two_axes_show_medians(results, kinds):
    assert "repeats" in kinds(results, "repeat_copy").images
    assert "repeats" not in kinds(results, "copy").images
    lengths = results.lengths.astype({"value": float})
    gone = (lengths["seed"] == 2) & (lengths["point"] == lengths["point"].iloc[-1])
    figure = pictures.two_axes(dataclasses.replace(results, lengths=lengths[~gone]), "repeat_copy")
    (ax,) = (ax for ax in figure.axes if ax.get_title() == "lstm")
    down = [float(t.get_text()) for t in ax.get_yticklabels()]
    across = [float(t.get_text()) for t in ax.get_xticklabels()]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("length", "repeats") and ax.get_title() == "lstm"
    found = cells_of(ax)
    assert len(found) == len(down) * len(across) > 1
    points = {
        (r["length"], r["repeats"]): r["point"]
        for r in lengths[lengths["task"] == "repeat_copy"].to_dict("records")
    }
    shown = 0
    for (row, column), text in found.items():
        place = (down[row], across[column])
        if place in points:
            wrong = [0.0001 * math.prod(place) ** 1.5 * (1 + 0.3 * s) / 3 for s in (1, 2)]
            lost = points[place] == lengths["point"].iloc[-1]  # a seed without a score is the worst
            assert text == ("inf" if lost else f"{np.median(wrong):.3g}")
            shown += 1
        else:
            assert text == "-"
    assert shown == len(points)


def test_memory_rows_are_drawn_from_two_sizes_on(tmp_path, kinds):
    for seed in (1, 2):
        write_run(tmp_path, fake_config(seed=seed), memory_rows=(24,))
    assert "memory-rows" not in kinds(loaded(tmp_path), "copy").images
    write_run(tmp_path, fake_config(seed=3), memory_rows=(48, 24))
    found = loaded(tmp_path)
    assert "memory-rows" in kinds(found, "copy").images
    (ax,) = pictures.by_memory_rows(found, "copy").axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["24", "48"]
    assert [t.get_text() for t in ax.get_yticklabels()][::4] == ["length 10", "length 120"]
    cells = cells_of(ax)
    assert (cells[0, 0], cells[4, 0]) == (f"{10 * 2 / 24:.3g}", f"{120 * 2 / 24:.3g}")
    assert (cells[0, 1], cells[4, 1]) == (f"{10 * 3 / 48:.3g}", f"{120 * 3 / 48:.3g}")
    assert ax.get_title() == "ntm, 1 to 3 seeds a cell"


def test_a_heat_map_says_what_is_missing_and_can_be_read():
    values = np.array([[0.0, 0.003, 0.02, 0.1], [0.4, 2.0, 9.0, 40.0], [5e3, 1e5, np.nan, np.inf]])
    ax = Figure().subplots()
    heat(ax, values, list("abc"), list("wxyz"))
    colours = ax.images[0].to_rgba(ax.images[0].get_array())
    assert tuple(colours[2, 2]) == to_rgba(MISSING)
    assert tuple(colours[2, 3]) == tuple(colours[2, 1]) != tuple(colours[2, 0])
    assert cells_of(ax) | {(2, 2): "-", (2, 3): "inf", (0, 0): "0"} == cells_of(ax)

    def light(colour: Any) -> float:
        parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour[:3]]
        return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))

    shades = np.linspace(0, 1, 201)  # as the highest value is 1
    ax = Figure().subplots()
    heat(ax, 0.01 * np.expm1(shades * np.log1p(100))[None], ["a"], [""] * 201)
    for cell, text in zip(ax.images[0].to_rgba(shades[None])[0], ax.texts, strict=True):
        low, high = sorted([light(cell), light(to_rgba(text.get_color()))])
        assert (high + 0.05) / (low + 0.05) >= 4.5, text.get_text()


# Traces.


def test_the_trace_is_of_the_seed_with_the_lowest_loss(results, several):
    """The third of ntm has the lowest, and no trace."""
    notes: list[str] = []
    assert list(best_traces(results, "copy", notes)) == ["lstm"]
    assert notes == ["`copy/ntm/seed3` has no trace; `ntmbench trace RUN` makes one."]
    runs = results.runs.copy()
    best = (runs["task"] == "copy") & (runs["entry"] == "ntm") & (runs["seed"] == 4)
    runs.loc[best, "best_val_loss_bits"] = 1e-12
    found = best_traces(dataclasses.replace(results, runs=runs), "copy", notes)
    assert (found["ntm"].seed, found["ntm"].label) == (4, "ntm")
    runs.loc[best, "best_val_loss_bits"] = math.nan
    assert "ntm" not in best_traces(dataclasses.replace(results, runs=runs), "copy", notes)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def about(**changes: Any) -> Any:
    """What changes the words in a trace's file, its arrays as they are."""

    def change(path: Path) -> None:
        with np.load(path) as file:
            arrays = dict(file)
        words = json.loads(str(arrays.pop("about"))) | changes
        np.savez(path, about=np.array(json.dumps(words)), **arrays)

    return change


def arrays(**changes: np.ndarray) -> Any:
    def change(path: Path) -> None:
        with np.load(path) as file:
            np.savez(path, **(dict(file) | changes))

    return change


STEPS = 2 * LENGTH
HOW: dict[str, Any] = {
    "torn": torn,
    "empty": lambda path: path.write_bytes(b""),
    "no archive": lambda path: path.write_bytes(b"\x93NUMPY" + b"x" * 50),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "phases": about(phases=[["a"], 3]),
    "phases are text": about(phases="abc"),
    "a phase at a word": about(phases=[["a", "b"]]),
    "channels": about(input_channels=[["bits", "three"]]),
    "no channels": about(output_channels=[]),
    "too many channels": about(input_channels=[["bits", 99], ["priority", 1]]),
    "a number for a task": about(task=3, point=None),
    "sequences": about(sequences="many"),
    "NaN": arrays(outputs_TO=np.full((STEPS, BITS), np.nan)),
    "infinite": arrays(write_weightings=np.full((STEPS, 1, LOCATIONS), np.inf)),
    "NaN in heads": arrays(
        read_weightings=np.full((STEPS, 1, LOCATIONS), np.nan),
        write_weightings=np.full((STEPS, 1, LOCATIONS), np.nan),
        read_key_strength=np.full((STEPS, 1), np.nan),
    ),
    "complex": arrays(outputs_TO=np.full((STEPS, BITS), 1j)),
    "a mask of text": arrays(mask_T=np.array(["a"] * STEPS)),
    "heads that differ": arrays(read_weightings=np.ones((STEPS, 3, 5)) / 5),
}


@pytest.mark.parametrize("how", HOW)
def test_a_broken_trace_is_said_and_no_end(tmp_path, kinds, how):
    """Or drawn, where it can be; the rest of the report is as it was."""
    run = write_run(tmp_path, fake_config("dynamic_ngrams"), traced=True)
    write_run(tmp_path, fake_config("dynamic_ngrams", "ntm-ff"), traced=True)
    HOW[how](run.trace_file)
    results = loaded(tmp_path)
    drawn = kinds(results, "dynamic_ngrams")
    assert "ntm-ff" in drawn.traces and "predictions" in drawn.images
    if "ntm" not in drawn.traces:
        (note,) = drawn.notes
        assert note.startswith("`dynamic_ngrams/ntm/seed1`: trace.npz is corrupted: ")
        assert str(tmp_path) not in note
        assert note in markdown(page(results, summarize(results), {"dynamic_ngrams": drawn}))


# Sections.


def test_every_run_is_listed(results, several):
    rows = table_of(words(several), "### Every run", "\n## copy")
    keys = [(row["entry"], row["seed"], row["status"]) for row in rows]
    wanted = [("ntm", str(seed), "complete") for seed in (1, 2, 3, 4)] + [("ntm", "5", "diverged")]
    wanted += [("lstm", "1", "complete"), ("lstm", "2", "complete"), ("gru", "1", "unfinished")]
    assert sorted(keys) == sorted(wanted)
    solved = {(row["entry"], row["seed"]): row["solved after, sequences"] for row in rows}
    assert solved["ntm", "2"] == "5,000" and solved["ntm", "4"] == "not reached"
    assert solved["gru", "1"] == "-"


def test_numbers_of_the_memory_are_those_of_memory_csv(results, several):
    rows = {row["entry"] + row["seed"]: row for row in table_of(words(several), "### The memory")}
    assert list(rows) == ["ntm1", "ntm2", "ntm4"]
    table = pd.read_csv(several / "copy/ntm/seed2/memory.csv").set_index(["head", "metric"])
    value = table["value"].to_dict()
    assert value["read 1", "order_followed"] > 0 and value["write 1", "locations_used"] > 0
    row = rows["ntm2"]
    assert row["read entropy, bits"] == number_text(value["read 1", "entropy_bits"])
    assert row["locations written"] == f"{value['write 1', 'locations_used']:.0%}"
    assert row["order followed"] == f"{value['read 1', 'order_followed']:.0%}"
    assert "linear in the priority, R²" not in row
    two = pd.concat([results.memory, results.memory.assign(head="read 2", value=0.5)])
    again = memory_rows(dataclasses.replace(results, memory=two), "copy")
    means = dict(zip(again[0], again[2], strict=True))
    half = (value["read 1", "entropy_bits"] + 2 * 0.5) / 3  # a row of `write` is renamed too
    assert means["read entropy, bits"] == number_text(half)
    assert means["order followed"] == "100%"  # the most of all heads


def test_the_footer_names_commands_commits_machines_and_versions(tmp_path):
    run = write_run(tmp_path, fake_config())
    write_run(tmp_path, fake_config(seed=2))
    text = run.config_file.read_text()
    for old, new in (("0123abc", "fffffff"), ("a CPU", "another CPU"), ("2.9.0", "2.8.0")):
        assert old in text
        text = text.replace(old, new)
    run.config_file.write_text(text)
    sweeps = tmp_path / ".sweeps"
    sweeps.mkdir()
    for name, command, started in (
        ("a", "ntmbench sweep later", "2026-02-02"),
        ("b", "ntmbench sweep sooner --seeds `3`", "2026-01-01"),
        ("c", "ntmbench sweep later", "2026-03-03"),
    ):
        write_json(sweeps / f"{name}.json", {"command": command, "started": started})
    for name, content in (("d", "{"), ("e", "[]"), ("f", '{"command": "no time"}')):
        (sweeps / f"{name}.json").write_text(content)
    (sweeps / "g.json").write_bytes(b"\xff\xfe")
    lines = words(tmp_path).split("\n---\n")[1].splitlines()
    said = dict(line.removeprefix("- ").split(": ", 1) for line in lines if line.startswith("- "))
    commands = said["Commands of the sweeps"]
    assert commands.index("sooner") < commands.index("later") and commands.count("later") == 1
    assert "no time" not in commands
    assert said["Commits"] == "0123abc (runs: 1); fffffff (runs: 1)"
    assert said["Machines"].count("(runs: 1)") == 2 and "another CPU, 2 cores" in said["Machines"]
    assert said["torch versions"] == "2.8.0+cpu (runs: 1); 2.9.0+cpu (runs: 1)"
    assert said["Python versions"] == "3.12.3 (runs: 2)" and "0.1.0" in said["ntmbench versions"]


@pytest.mark.parametrize(
    "change, key, values",
    [
        ({"task__version": 2}, "task.version", ["1", "2"]),
        ({"train__batch_size": 7}, "train.batch_size", ["1", "7"]),
        ({"profile": "paper"}, "profile", ['"standard"', '"paper"']),
    ],
)
def test_what_differs_is_another_entry_and_said(tmp_path, change, key, values):
    for seed in (1, 2):
        write_run(tmp_path, fake_config(seed=seed))
    one = write_run(tmp_path, fake_config(seed=3))
    content = json.loads(one.config_file.read_text())
    for name, value in change.items():
        section, _, rest = name.partition("__")
        target = content["config"][section] if rest else content["config"]
        target[rest or section] = value
    one.config_file.write_text(json.dumps(content))
    text = words(tmp_path)
    first, second = table_of(text, "### Configurations that differ")
    assert [name for name in first if "`" in name] == [f"`{key}`"]
    assert [first[f"`{key}`"], second[f"`{key}`"]] == values
    assert first["entry"].startswith("ntm #1") and second["entry"].startswith("ntm #2")
    assert [first["solved seeds"], second["solved seeds"]] == ["2/2", "1/1"]


def test_a_grid_is_a_row_a_setting(grid):
    rows = table_of(words(grid), "### Configurations that differ")
    assert len(rows) == 30
    best = [row for row in rows if "best of the task" in row["entry"]]
    assert [row["`train.learning_rate`"] for row in best] == ["0.007"]
    assert [row["sequences to solve, median"] for row in best] == ["2,000"]
    assert [row["`train.learning_rate`"] for row in rows] == [f"{0.001 * k:g}" for k in GRID]


GRID = range(1, 31)


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Path:
    """Thirty learning rates; the seventh solves soonest."""
    root = tmp_path_factory.mktemp("grid")
    for k in GRID:
        config = fake_config(seed=k, train__learning_rate=round(0.001 * k, 3))
        write_run(root, config, solved_step=2 if k == 7 else 9)
    return root


# Whole reports.

HOSTILE = 'a<b>&"c"\'{{x}}|$_$'


def hostile(root: Path) -> None:
    for model, tag in ((HOSTILE, ""), ("ntm", HOSTILE)):
        config = fake_config(tag=tag)
        run = write_run(root, config, traced=True, memory_rows=(24, 48))
        content = json.loads(run.config_file.read_text())
        content["config"]["task"] |= {"name": HOSTILE, "summary": f"Do {HOSTILE}.", "source": "<s>"}
        content["config"]["model"]["name"] = model
        run.config_file.write_text(json.dumps(content))
        write_trace(run, {**config, "task": {"name": HOSTILE}, "tag": HOSTILE})
    (root / HOSTILE).mkdir()
    shutil.copytree(root / "copy/ntm/seed1", root / HOSTILE / HOSTILE / "seed1")
    broken = write_run(root, fake_config(tag=HOSTILE, seed=2), status="unfinished")
    write_json(
        broken.failure_file,
        {"schema": 1, "kind": "x", "message": HOSTILE, "attempts": 1, "output": ""},
    )
    (root / HOSTILE / "broken/seed1").mkdir(parents=True)
    (root / HOSTILE / "broken/seed1/config.json").write_text(HOSTILE)


def failed(root: Path) -> None:
    for seed in (1, 2):
        run = write_run(root, fake_config(seed=seed), status="unfinished", steps=3)
        failure = {"kind": "exception", "message": "ValueError: no", "attempts": 1, "output": ""}
        write_json(run.failure_file, {"schema": 1, **failure})


def without_validation(root: Path) -> None:
    for seed in (1, 2, 3):
        write_run(root, fake_config(seed=seed), status="diverged", steps=1)


def smoke(root: Path) -> None:
    for seed in (1, 2, 3):
        write_run(root, fake_config(seed=seed, profile="smoke"), traced=True)


FOLDERS = {
    failed: "-; 2 failed",
    without_validation: "0/3; not reached; loss diverged; 3 diverged",
    smoke: "3/3; 10,000 sequences; ",
    lambda root: write_run(root, fake_config(), traced=True): "1/1; 10,000 sequences; ",
    hostile: "1/1; 10,000 sequences; ",
}


@pytest.mark.parametrize("make", FOLDERS, ids=["failed", "diverged", "smoke", "one", "hostile"])
def test_odd_folders(tmp_path, make):
    runs, out = tmp_path / "runs", tmp_path / "out"
    runs.mkdir()
    make(runs)
    html = write_report(runs, out).read_text(encoding="utf-8")
    text = (out / "report.md").read_text(encoding="utf-8")
    row = text[text.index("## Solved seeds") :].split("\n\n")[1].splitlines()[2]
    assert FOLDERS[make] in row.replace("\\|", "")
    assert_self_contained(html, tmp_path)
    assert {path.parent for path in out.rglob("*.*")} == {out, out / "figures", out / "tables"}
    for target in re.findall(r"\]\(((?:figures|tables)/[^)]*)\)", text):
        assert (out / target).is_file(), target
    if make is hostile:
        marked = re.sub("`[^`\n]*`", "", text)  # in code it is only a text
        assert "<b>" not in html + marked and "<s>" not in html + text
        assert "{{x}}" in html and html.count("<script>") == 1
        assert "failed.json" not in text and "the same run as" in text
    assert ("SMOKE" in text) == (make is smoke)


def assert_self_contained(html: str, *folders: Path) -> None:
    """Nothing is loaded, and no path of the machine is told."""
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"'\s<)]*", html)) <= namespaces
    sources = re.findall(r"\b(?:src|href|action|data|poster)=\"([^\"]*)\"", html)
    assert sources and all(source.startswith(("#", "data:")) for source in sources)
    assert not re.findall(r"url\((?!#)|@import|<(?:iframe|object|embed|base)\b", html)
    for folder in folders:
        assert str(folder) not in html


def test_a_grid_of_thirty_settings(grid, tmp_path):
    html = write_report(grid, tmp_path).read_text(encoding="utf-8")
    assert_self_contained(html, grid, tmp_path)
    assert html.count("best of the task") == 1


@pytest.mark.slow  # a minute; benchmarks/report.py measures the same
def test_two_hundred_runs(tmp_path, capsys):
    """How long it takes is printed: see it with -s."""
    runs = tmp_path / "runs"
    tasks = ("copy", "repeat_copy", "associative_recall", "dynamic_ngrams", "priority_sort")
    for task in tasks:
        for model in ("ntm", "ntm-ff", "lstm", "gru"):
            for seed in range(10):
                rows = (24, 48) if (task, model, seed) == ("copy", "ntm", 0) else ()
                config = fake_config(task, model, seed)
                write_run(runs, config, traced=True, memory_rows=rows)
    start, cpu = time.perf_counter(), time.process_time()
    page = write_report(runs, tmp_path / "out")
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    megabytes = page.stat().st_size / 1e6
    with capsys.disabled():
        said = f"{took:.1f} s ({cpu:.1f} s of CPU), {megabytes:.2f} MB"
        print(f"\n  200 runs: {said}", end=" ") if os.environ.get("NTMBENCH_TIMES") else None
    assert megabytes < 5
    html = page.read_text(encoding="utf-8")
    assert_self_contained(html, tmp_path)
    text = (tmp_path / "out/report.md").read_text(encoding="utf-8")
    assert all(f"\n| {task} | 10/10; " in text for task in tasks)
    assert "### All tasks together" in text and html.count("<section ") == len(tasks)


@pytest.mark.parametrize("what", ["out", "out/figures", "out/tables/runs.csv", "out/report.html"])
def test_what_cannot_be_written_is_the_users_error(tmp_path, several, what):
    path = tmp_path / what
    if what.endswith((".csv", ".html")):
        (path / "in the way").mkdir(parents=True)
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_text("a file")
    write_run(tmp_path / "runs", fake_config(), status="unfinished", steps=2)
    with pytest.raises(UserError, match=r"cannot write .*out"):
        write_report(tmp_path / "runs", tmp_path / "out")
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_command_says_what_cannot_be_written(tmp_path, several):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/tables").write_text("a file")
    done = subprocess.run(
        [PROGRAM, "report", several, "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 2 and done.stdout == ""
    assert "cannot write" in done.stderr and str(tmp_path / "out") in done.stderr
    assert "Traceback" not in done.stderr


def test_the_whole_command_never_imports_torch(tmp_path):
    write_run(tmp_path / "runs", fake_config("dynamic_ngrams"), traced=True, memory_rows=(24, 48))
    code = (
        "import sys; from ntmbench.cli import main; "
        "main(['report', 'runs', '--out', 'out'], standalone_mode=False); "
        "print(sorted({'torch', 'safetensors', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stdout.splitlines()[-2:] == ["report: out/report.html", "['pandas']"]


def test_what_cannot_be_drawn_says_so_in_its_place(tmp_path):
    """In this process and in forked ones; the other figures are drawn."""

    def broken() -> Figure:
        raise ValueError("no axis shows this")

    for count in (2, parallel.FEWEST_TO_FORK):
        wanted = [Wanted(f"{count}-{n}", broken if n == 1 else Figure) for n in range(count)]
        assert draw(wanted, tmp_path) == [
            f"{count}-1 could not be drawn: ValueError: no axis shows this"
        ]
        assert "no axis shows this" in (tmp_path / f"{count}-1.svg").read_text()
        assert all((tmp_path / f"{one.path}.png").exists() for one in wanted)


def test_a_drawing_that_is_killed_ends_in_a_message(tmp_path):
    wanted = [Wanted(str(n), lambda: os._exit(9)) for n in range(parallel.FEWEST_TO_FORK)]
    if len(os.sched_getaffinity(0)) > 1:
        with pytest.raises(UserError, match="was killed"):
            draw(wanted, tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        ("lengths.csv", lambda text: text.replace("length,", "entry,", 1)),
        ("lengths.csv", lambda text: text.replace("\n10,", "\ninf,")),
        ("config.json", lambda text: text.replace('"copy"', '"co\\ud800py"', 1)),
        ("config.json", lambda text: text.replace('"copy"', '"co\\u0001py"', 1)),
        ("config.json", lambda text: text.replace('"params": {', f'"params": {{"x": {"[" * 9000}')),
    ],
)
def test_a_hostile_file_is_a_problem_of_its_run(tmp_path, damage):
    write_run(tmp_path, fake_config())
    run = write_run(tmp_path, fake_config(seed=2))
    file, change = damage
    (run.path / file).write_text(change((run.path / file).read_text()))
    results = load_results(tmp_path)
    assert list(results.runs["seed"]) == [1] and list(results.problems["path"]) == [
        "copy/ntm/seed2"
    ]
    words(tmp_path).encode()


def test_scores_too_large_to_draw_are_not_known(tmp_path):
    run = write_run(tmp_path, fake_config())
    text = run.lengths_file.read_text()
    run.lengths_file.write_text(re.sub(r"(best,loss_bits),[^,]*", r"\1,1e308", text))
    found = load_results(tmp_path).lengths
    best = found[(found["weights"] == "best") & (found["metric"] == "loss_bits")]
    assert len(best) and best["value"].isna().all()


def test_hostile_notes_of_sweeps_are_left_out(tmp_path):
    write_run(tmp_path, fake_config())
    (tmp_path / ".sweeps").mkdir()
    (tmp_path / ".sweeps" / "a.json").write_text("[" * 200_000)
    (tmp_path / ".sweeps" / "b.json").write_text('{"command": "\\ud800 go", "started": "x"}')
    assert load_results(tmp_path).commands == ("\\ud800 go",)
    words(tmp_path).encode()


def test_an_svg_is_matplotlibs_with_places_to_a_hundredth(tmp_path):
    """Nothing else of the file changes, and no place by more than half of that."""
    with house_style():
        figure = Figure()
        axes = figure.subplots()
        axes.plot([0, 1, 2], [1 / 3, 12345.678, -1e-5], marker="o")
        axes.set_title("1.23456")
        figure.savefig(tmp_path / "whole.svg", metadata=FILE_METADATA["svg"])
        write_picture(figure, tmp_path / "short.svg", "svg")
    whole, short = ((tmp_path / f"{name}.svg").read_text() for name in ("whole", "short"))
    place, number = re.compile(r' (?:d|x|y|points)="([^"]*)"'), re.compile(r"-?\d[\d.]*")
    assert place.sub("", short) == place.sub("", whole)
    before, after = (number.findall(" ".join(place.findall(text))) for text in (whole, short))
    assert max(len(text.partition(".")[2]) for text in before) > 2
    assert max(len(text.partition(".")[2]) for text in after) == 2
    numbers = [[float(text) for text in found] for found in (before, after)]
    assert numbers[1] == pytest.approx(numbers[0], rel=0, abs=0.00501)
