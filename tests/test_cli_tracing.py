"""The command line of `trace`, and of `eval` with several memory rows, --keep and --figure."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COPY, NGRAMS, NTM, REPEAT_COPY, call, output_of, state_of
from PIL import Image
from test_cli import LSTM, MEMORY, cut, lengths, other_weights, refused

from ntmbench.claim import claimed
from ntmbench.files import read_rows
from ntmbench.folder import LENGTHS_COLUMNS, MEMORY_COLUMNS, RunFolder
from ntmbench.memory import load_trace
from ntmbench.saved import load_run

SNAPSHOTS = (0, 104, 144, 200)
"""Of a run of 240 sequences in batches of 8: 100 x 2^(n/2), each after the update that meets it."""
PICTURES = (".svg", ".png", ".npz")


@pytest.fixture(scope="module")
def long_run(tmp_path_factory) -> Path:
    """A run that has kept snapshots, only to be read."""
    out = tmp_path_factory.mktemp("long")
    words = ("run", "copy", "--model", "ntm", *COPY, *NTM, "--sequences", "240", "--out", out)
    assert call(words).exit_code == 0
    return out / "copy/ntm/seed0"


@pytest.fixture
def trained(long_run, tmp_path) -> Path:
    """A copy of it, to be written to."""
    return Path(shutil.copytree(long_run, tmp_path / MEMORY))


def rows_of(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a table as JSON has them."""
    rows = read_rows(path, columns, axes=True)
    return [{k: None if v != v else v for k, v in row.items()} for row in rows]


def scores(result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def own(rows: list[dict[str, Any]], *weights: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["weights"] in weights]


# eval with several memory rows


def test_several_memory_rows_are_as_many_evaluations(invoke, runs) -> None:
    """Point by point: chance and optimum, which know of no memory, once a point."""
    one, other = (
        scores(invoke("eval", MEMORY, "--memory-rows", rows, "--json")) for rows in (8, 16)
    )
    both = scores(invoke("eval", MEMORY, "--memory-rows", "8, 16", "--json"))
    expected = []
    for length in (3, 5):
        at = [[row for row in rows if row["length"] == length] for rows in (one, other)]
        expected += [*at[0], *own(at[1], "best")]
    assert both == expected and len(both) == 2 * (9 + 3)
    assert own(one, "best") != own(other, "best"), "the memory makes a difference"
    assert own(one, "chance", "optimum") == own(other, "chance", "optimum")
    backwards = scores(invoke("eval", MEMORY, "--memory-rows", "16,8", "--json"))
    assert sorted(map(str, backwards)) == sorted(map(str, both)) != list(map(str, backwards))


def test_several_memory_rows_are_printed_as_a_table(invoke, runs) -> None:
    result = invoke("eval", MEMORY, "--memory-rows", "8,16,5", "--at", "length=4")
    rows = scores(invoke("eval", MEMORY, "--memory-rows", "8,16,5", "--at", "length=4", "--json"))
    header, line = [
        text for text in result.stdout.splitlines() if "length=4" in text or "8 r" in text
    ]
    assert header.split() == ["point", "8", "rows", "16", "rows", "5", "rows"]
    wrong = [row["value"] for row in own(rows, "best") if row["metric"] == "wrong_bits"]
    found = [cell for cell in line.split() if cell not in ("length=4", "±")][::2]
    assert found == [f"{value:.4g}" for value in wrong] and len(wrong) == 3
    assert "3 of 3: scored length=4 with 5 memory rows" in result.stderr


def test_kept_scores_are_merged_and_replaced(invoke, runs) -> None:
    path = runs / "ntm/seed0/evals.csv"
    first = scores(invoke("eval", MEMORY, "--memory-rows", "8", "--keep", "--json"))
    assert rows_of(path, LENGTHS_COLUMNS) == first == lengths(runs / "ntm/seed0", "last")
    kept = path.read_bytes()
    both = scores(invoke("eval", MEMORY, "--memory-rows", "16,8", "--keep", "--json"))
    merged = [*first, *(row for row in own(both, "best") if row["memory_rows"] == 16)]
    assert rows_of(path, LENGTHS_COLUMNS) == merged
    invoke("eval", MEMORY, "--memory-rows", "16,8", "--keep")
    assert rows_of(path, LENGTHS_COLUMNS) == merged, "a second time adds nothing"
    words = ("--memory-rows", "16", "--at", "length=5", "--sequences", "3", "--keep")
    newer = scores(invoke("eval", MEMORY, *words, "--json"))
    after = rows_of(path, LENGTHS_COLUMNS)
    places = ("length", "memory_rows", "weights", "metric")

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in places)

    assert list(map(key, after)) == list(map(key, merged))
    fresh = {key(row): row for row in newer}
    assert after == [fresh.get(key(row), row) for row in merged] != merged
    last = scores(invoke("eval", MEMORY, "--weights", "last", "--keep", "--json"))
    assert own(rows_of(path, LENGTHS_COLUMNS), "last") == own(last, "last")
    path.unlink()
    result = invoke("eval", MEMORY, "--memory-rows", "8", "--keep")
    assert path.read_bytes() == kept and f"kept in {MEMORY}/evals.csv" in result.stdout


def test_kept_scores_of_two_axes(invoke, tmp_path) -> None:
    assert invoke("run", "repeat-copy", "--model", "ntm", *REPEAT_COPY, *NTM).exit_code == 0
    folder = tmp_path / "results/repeat_copy/ntm/seed0"
    words = ("--at", "repeats=1,length=2", "--memory-rows", "8,12", "--keep", "--json")
    rows = scores(invoke("eval", folder, *words))
    assert rows_of(folder / "evals.csv", LENGTHS_COLUMNS) == rows and len(rows) == 12
    picture = ("--memory-rows", "8,12", "--figure", "a.svg")
    assert invoke("eval", folder, *picture).exit_code == 0
    assert "length 3, repeats 2" in (tmp_path / "a.svg").read_text()


def test_nothing_is_kept_that_was_not_asked_for(invoke, runs, tmp_path) -> None:
    before = state_of(tmp_path)
    assert invoke("eval", MEMORY, "--memory-rows", "8,16").exit_code == 0
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("name", ["map.svg", "map.png", "sub/MAP.PNG"])
@pytest.mark.parametrize("run", [MEMORY, LSTM])
def test_a_figure_is_drawn(name, run, invoke, runs, tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    words = ("--memory-rows", "8,16") if run == MEMORY else ()
    result = invoke("eval", run, *words, "--figure", name)
    assert result.exit_code == 0 and f"kept in {name}" in result.stdout
    content = (tmp_path / name).read_bytes()
    invoke("eval", run, *words, "--figure", name)
    assert (tmp_path / name).read_bytes() == content
    assert not list(tmp_path.rglob(".map*"))
    if name.endswith("svg"):
        assert content.startswith(b"<?xml") and b">length 5<" in content
        assert (b">16<" if run == MEMORY else b">none<") in content
    else:
        assert Image.open(io.BytesIO(content)).size[0] > 100


EVAL_MISTAKES = [
    *[
        (f"{MEMORY} --memory-rows={rows}", ["--memory-rows", "whole numbers from 1", rows])
        for rows in ("0", "x", "8,", "8,0", "-8", "8.5", "8;16", "8,16x", "9" * 40)
    ],
    (f"{MEMORY} --memory-rows 8,8", ["--memory-rows", "8 twice"]),
    (f"{MEMORY} --memory-rows 8,2 --keep --figure a.svg", ["shift_range 1", "which is 2"]),
    (f"{LSTM} --memory-rows 8,16 --keep --figure a.svg", ["memory rows", "model"]),
    (f"{MEMORY} --keep --figure a.pdf", ["--figure", ".png or .svg", "a.pdf"]),
    (f"{MEMORY} --keep --figure svg", ["--figure", ".png or .svg"]),
    (f"{MEMORY} --keep --figure missing/a.svg", ["--figure", "no folder missing"]),
    (f"{MEMORY} --keep --figure results", ["--figure", "results"]),
    (f"{MEMORY} --keep --at size=3", ["size", "length"]),
    (f"{MEMORY} --keep --at length=0", ["--at", "length=0"]),
    ("nothing --keep", ["nothing", "no config.json"]),
]


@pytest.mark.parametrize(("words", "said"), EVAL_MISTAKES, ids=[row[0] for row in EVAL_MISTAKES])
def test_a_mistake_in_eval_is_named_and_nothing_is_kept(
    words, said, invoke, runs, tmp_path
) -> None:
    before = state_of(tmp_path)
    refused(invoke("eval", *words.split()), *said)
    assert state_of(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    ["", "length,memory_rows\n", "other,{}\n1,8,best,exact,1,1,1\n", "{}\n8,best,exact,1,1,1\n"],
    ids=["empty", "other columns", "another axis", "no axis"],
)
def test_kept_scores_that_are_damaged_are_named(content, invoke, runs, tmp_path) -> None:
    path = runs / "ntm/seed0/evals.csv"
    path.write_text(content.format(",".join(LENGTHS_COLUMNS)))
    before = state_of(tmp_path)
    refused(invoke("eval", MEMORY, "--keep"), "evals.csv", "corrupted")
    assert state_of(tmp_path) == before


def test_kept_scores_wait_for_no_other_process(invoke, runs, tmp_path) -> None:
    with claimed(RunFolder(runs / "ntm/seed0")):
        refused(invoke("eval", MEMORY, "--keep"), "another process is writing", MEMORY)
        refused(invoke("trace", MEMORY, "--out", "missing/a"), "missing")
    assert not (runs / "ntm/seed0/evals.csv").exists()


# trace


def test_trace_draws_and_tells_what_the_run_kept(invoke, runs, tmp_path) -> None:
    """At the last point of training: the trace of the run's end, to the last digit."""
    before, folder = state_of(tmp_path), runs / "ntm/seed0"
    result = invoke("trace", MEMORY)
    assert result.exit_code == 0, result.output
    added = {path: state_of(tmp_path)[path] for path in state_of(tmp_path).keys() - before.keys()}
    assert added.keys() == {f"{MEMORY}/trace-length=5{end}" for end in PICTURES}
    assert {path: state_of(tmp_path)[path] for path in before} == before
    assert added[f"{MEMORY}/trace-length=5.npz"] == (folder / "trace.npz").read_bytes()
    assert Image.open(io.BytesIO(added[f"{MEMORY}/trace-length=5.png"])).size[0] > 500
    trace = load_trace(folder / "trace.npz")
    score = f"{trace.loss_bits:.4g} bits, {trace.wrong_bits:.0f} wrong"
    assert "copy / ntm / seed 0" in result.stdout and score in result.stdout
    for path in added:
        assert f"kept in {path}" in result.stdout
    for row in rows_of(folder / "memory.csv", MEMORY_COLUMNS):
        known = row["sequences"] == 32
        assert known == isinstance(row["value"], float) and row["sequences"] in (0, 32)
        if known:
            assert f"{row['value']:.4g} ± {row['stderr']:.2g}" in result.stdout


def test_trace_as_json(invoke, runs) -> None:
    result = invoke("trace", MEMORY, "--json")
    content = json.loads(result.stdout)
    assert content["heads"] == rows_of(runs / "ntm/seed0/memory.csv", MEMORY_COLUMNS)
    assert {row["metric"] for row in content["heads"]} == {
        *("entropy_bits", "locations_used", "order_followed")
    }
    assert content["files"] == [f"{MEMORY}/trace-length=5{end}" for end in PICTURES]
    assert all(Path(path).exists() for path in content["files"])


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("--at length=7", "trace-length=7"),
        ("--seed 3", "trace-length=5-seed3"),
        ("--weights last", "trace-length=5-last"),
        ("--memory-rows 12", "trace-length=5-rows12"),
        (
            "--at length=2 --seed 9 --weights last --memory-rows 12",
            "trace-length=2-seed9-last-rows12",
        ),
    ],
)
def test_what_is_not_usual_is_in_the_name_and_in_the_trace(words, name, invoke, trained) -> None:
    (trained / "trace.npz").unlink()
    assert invoke("trace", MEMORY, *words.split()).exit_code == 0
    assert not (trained / "trace.npz").exists(), "only the usual trace is the run's"
    found = load_trace(trained / f"{name}.npz")
    assert found.point in name and found.sequence_seed == int(
        words.partition("--seed ")[2][:1] or 0
    )
    rows = 12 if "12" in words else 8
    assert found.heads["write_weightings"].shape[-1] == rows
    summary = json.loads((trained / "summary.json").read_text())
    which = summary if "last" in words else summary["best"]
    assert found.sequences == which["sequences"]
    weights = "last" if "last" in words else "best"
    again = load_run(trained).trace(
        {"length": int(found.point[7:])},
        weights=weights,
        sequence_seed=found.sequence_seed,
        memory_rows=rows,
    )
    assert np.array_equal(again.trace.outputs_TO, found.outputs_TO)
    assert {row["weights"] for row in again.memory} == {weights}


def test_two_axes_and_a_point_in_any_order(invoke, tmp_path) -> None:
    assert invoke("run", "repeat-copy", "--model", "ntm", *REPEAT_COPY, *NTM).exit_code == 0
    folder = tmp_path / "results/repeat_copy/ntm/seed0"
    assert load_trace(folder / "trace.npz").point == "length=3,repeats=2"
    invoke("trace", folder, "--at", "repeats=1,length=2")
    assert load_trace(folder / "trace-length=2,repeats=1.npz").phases[1] == ["copies", 4]


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (("run", "copy", "--model", "lstm", *COPY), LSTM),
        (("run", "ngrams", "--model", "gru", *NGRAMS), "results/dynamic_ngrams/gru/seed0"),
    ],
)
def test_a_model_without_memory_has_its_outputs_drawn(words, folder, invoke, tmp_path) -> None:
    assert invoke(*words).exit_code == 0
    assert not (tmp_path / folder / "memory.csv").exists()
    result = invoke("trace", folder)
    assert result.exit_code == 0 and "no trace()" in result.stdout
    assert load_trace(tmp_path / folder / "trace.npz").heads == {}
    assert len(list((tmp_path / folder).glob("trace-*"))) == 3
    assert json.loads(invoke("trace", folder, "--json").stdout)["heads"] == []
    refused(invoke("trace", folder, "--memory-rows", "8"), "memory rows", "model")
    refused(invoke("trace", folder, "--over-training"), "no snapshots", "no trace()")


def test_a_run_of_before_gets_its_trace(invoke, runs) -> None:
    folder = runs / "ntm/seed0"
    kept = {name: (folder / name).read_bytes() for name in ("trace.npz", "memory.csv")}
    for name in kept:
        (folder / name).unlink()
    assert invoke("trace", MEMORY).exit_code == 0
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    assert not (folder / "claim").exists()


def test_trace_goes_where_it_is_told(invoke, runs, tmp_path) -> None:
    (tmp_path / "pictures").mkdir()
    invoke("trace", MEMORY, "--out", "pictures/mine.v1")
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        f"mine.v1{end}" for end in PICTURES
    }
    assert not list((runs / "ntm/seed0").glob("trace-*"))


@pytest.mark.filterwarnings("error")
def test_over_training_is_a_frame_for_each_snapshot_and_one_for_the_end(invoke, trained) -> None:
    folder = RunFolder(trained)
    assert tuple(folder.snapshots) == SNAPSHOTS
    result = invoke("trace", MEMORY, "--over-training", "--json")
    assert result.exit_code == 0, result.output
    path = Path(json.loads(result.stdout)["files"][-1])
    assert path.name == "trace-length=5.gif"
    with Image.open(path) as picture:
        assert picture.n_frames == len(SNAPSHOTS) + 1
    told = [line.split()[1] for line in result.stderr.splitlines() if line.startswith("after ")]
    assert told == [*map(str, SNAPSHOTS), "240"]
    traces = [one.trace for one in load_run(trained).trace_over_training()]
    assert [trace.sequences for trace in traces] == [*SNAPSHOTS, 240]
    assert all(np.array_equal(trace.inputs_TI, traces[0].inputs_TI) for trace in traces)
    assert len({trace.loss_bits for trace in traces}) == 5, "the weights of different moments"
    last = load_run(trained).trace(weights="last").trace
    assert np.array_equal(last.outputs_TO, traces[-1].outputs_TO)


def test_pictures_are_the_same_bytes_in_another_process(invoke, program, trained, tmp_path) -> None:
    for name in ("a", "b"):
        assert invoke("trace", MEMORY, "--over-training", "--out", name).exit_code == 0
    output_of(program(tmp_path, "trace", MEMORY, "--over-training", "--out", "c"))
    for end in (*PICTURES, ".gif"):
        contents = {(tmp_path / f"{name}{end}").read_bytes() for name in "abc"}
        assert len(contents) == 1 and len(contents.pop()) > 1000, end


TRACE_MISTAKES = [
    (f"{MEMORY} --at length", ["--at", "axis=NUMBER"]),
    (f"{MEMORY} --at length=0", ["--at", "length=0", "from 1"]),
    (f"{MEMORY} --at lenght=5", ["lenght", "did you mean 'length'?"]),
    (f"{MEMORY} --at length=5,repeats=2", ["repeats", "length"]),
    (f"{MEMORY} --seed -1", ["--seed", "-1"]),
    (f"{MEMORY} --weights first", ["first", "best", "last"]),
    (f"{MEMORY} --memory-rows 0", ["--memory-rows", "0"]),
    (f"{MEMORY} --memory-rows 2", ["shift_range 1", "memory_rows, which is 2"]),
    (f"{MEMORY} --out missing/a", ["--out", "no folder missing"]),
    (f"{MEMORY} --out results/copy/ntm/seed0/config.json/a", ["--out", "no folder"]),
    (f"{MEMORY} --out .", ["--out"]),
    (f"{MEMORY} --out /", ["--out"]),
    (f"{MEMORY} --over-training", ["kept no snapshots", "train.snapshots"]),
    ("nothing", ["nothing", "no config.json"]),
    ("results", ["results", "no config.json", MEMORY]),
]


@pytest.mark.parametrize(("words", "said"), TRACE_MISTAKES, ids=[row[0] for row in TRACE_MISTAKES])
def test_a_mistake_in_trace_is_named_and_nothing_is_written(
    words, said, invoke, runs, tmp_path
) -> None:
    before = state_of(tmp_path)
    refused(invoke("trace", *words.split()), *said)
    assert state_of(tmp_path) == before


def test_an_unfinished_run_is_not_traced(invoke, interrupted, tmp_path) -> None:
    before = state_of(tmp_path)
    refused(invoke("trace", interrupted), "unfinished", "ntmbench resume")
    assert state_of(tmp_path) == before


TRACED_DAMAGE = {
    "cut weights": (lambda f: cut(f / "best.safetensors"), ["best.safetensors", "corrupted"]),
    "no weights": (lambda f: (f / "best.safetensors").unlink(), ["best.safetensors"]),
    "other weights": (lambda f: other_weights(f, "best"), ["best.safetensors", "do not fit"]),
    "cut snapshot": (
        lambda f: cut(f / "snapshots/144.safetensors"),
        ["snapshots/144.safetensors", "corrupted"],
    ),
    "other snapshot": (
        lambda f: shutil.copy(
            f.parents[1] / "lstm/seed0/best.safetensors", f / "snapshots/144.safetensors"
        ),
        ["snapshots/144.safetensors", "do not fit"],
    ),
    "cut last weights": (lambda f: cut(f / "last.safetensors"), ["last.safetensors", "corrupted"]),
    "cut config": (lambda f: cut(f / "config.json"), ["config.json", "corrupted"]),
    "cut summary": (lambda f: cut(f / "summary.json"), ["summary.json", "corrupted"]),
}


@pytest.mark.parametrize("damage", TRACED_DAMAGE)
def test_trace_names_a_damaged_file(damage, invoke, trained, finished, tmp_path) -> None:
    shutil.copytree(finished.folder / LSTM, trained.parents[1] / "lstm/seed0")
    change, words = TRACED_DAMAGE[damage]
    change(trained)
    result = invoke("trace", MEMORY, "--over-training")
    refused(result, *words)
    assert not list(trained.glob("trace-*")), "all is read before anything is written"


def test_a_trace_that_is_damaged_is_not_needed(invoke, trained) -> None:
    """`trace` computes; what was kept is only the report's."""
    (trained / "trace.npz").write_bytes(b"half")
    assert invoke("trace", MEMORY).exit_code == 0
    assert load_trace(trained / "trace-length=5.npz").task == "copy"


# A run again


def test_overwriting_a_run_takes_its_pictures_and_evaluations_away(invoke, trained) -> None:
    invoke("trace", MEMORY, "--over-training")
    invoke("eval", MEMORY, "--memory-rows", "8,16", "--keep")
    (trained / "notes.txt").write_text("the user's own")
    names = {path.name for path in trained.iterdir()}
    assert {"evals.csv", "snapshots", "trace-length=5.gif", "trace-length=5.svg"} <= names
    words = ("run", "copy", "--model", "ntm", *COPY, *NTM, "--overwrite")
    assert invoke(*words, "--set", "train.snapshots=0", "--sequences", "240").exit_code == 0
    assert {path.name for path in trained.iterdir()} == {
        *("config.json", "curve.csv", "lengths.csv", "summary.json", "memory.csv", "trace.npz"),
        *("best.safetensors", "last.safetensors", "notes.txt"),
    }
    refused(invoke("trace", MEMORY, "--over-training"), "no snapshots", "train.snapshots was 0")
    assert invoke(*words, "--sequences", "240").exit_code == 0
    assert tuple(RunFolder(trained).snapshots) == SNAPSHOTS


MINE = """
from ntmbench.models.ntm import NTM

class Mine(NTM):
    def trace(self, inputs_BTI, state=None):
        return super().trace(inputs_BTI, state) | {EXTRA}
"""


def test_a_models_wrong_trace_costs_no_training(invoke, tmp_path, monkeypatch) -> None:
    """It is named at the run's end, which is complete; mended, `trace` makes up for it."""
    words = ("run", "copy", "--model", "mine_traced:Mine", *COPY, *NTM)
    folder = tmp_path / "results/copy/mine_traced.Mine/seed0"
    for extra, named in (('"weights": inputs_BTI', "no 'weights'"), ("**exit(0)", "SystemExit: 0")):
        (tmp_path / "mine_traced.py").write_text(MINE.replace("EXTRA", extra))
        sys.modules.pop("mine_traced", None)
        result = invoke(*words, "--overwrite")
        assert result.exit_code == 0 and "could not be traced" in result.output + result.stderr
        assert named in json.loads((folder / "summary.json").read_text())["untraced"]
        assert (folder / "lengths.csv").exists() and not (folder / "trace.npz").exists()
        refused(invoke("trace", folder), "trace()", named)
    (tmp_path / "mine_traced.py").write_text(MINE.replace("EXTRA", ""))
    del sys.modules["mine_traced"]
    assert invoke("trace", folder).exit_code == 0
    assert (folder / "memory.csv").exists() and (folder / "trace.npz").exists()
