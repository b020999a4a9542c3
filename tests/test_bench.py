"""The measurements of `ntmbench bench`: what is counted, that parts add up, what is printed.

No test asserts a time.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ntmbench import bench
from ntmbench.bench import BATCHES, MODELS, NEVER, TITLES, Bench, as_text, forward_flops, take_turns
from ntmbench.engine.layout import lay_out
from ntmbench.engine.shapes import FF, GRU, LSTM, Shape
from ntmbench.files import json_ready
from ntmbench.resolve import make_model
from ntmbench.tasks import load_task
from ntmbench.train import Update


@pytest.fixture(scope="module", autouse=True)
def _same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def tiny(task: str = "copy", threads: int = 1, tell=lambda line: None) -> Bench:
    """The shortest there is: two repetitions of one update, or of what an engine makes at a go."""
    return Bench(task=load_task(task), threads=threads, tell=tell, repetitions=2, seconds=0.0)


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def measured(told: list[str]) -> dict:
    return tiny(tell=told.append).measure()


# Operations


def shape(**sizes) -> Shape:
    """Two hidden units, three inputs, one output; no memory unless `sizes` says so."""
    nothing = {"heads": 0, "rows": 0, "width": 0, "shifts": 0, "reads": 0, "head_columns": 0}
    unused = ("content", "location", "row_floor", "learned_memory", "reads_after_writes")
    flags = dict.fromkeys(unused, 0)
    small = {"cell": LSTM, "layers": 1, "hidden": 2, "columns": 16, "inputs": 3, "outputs": 1}
    return Shape(**(nothing | flags | small | sizes))


MEMORY = {"heads": 1, "rows": 4, "width": 2, "shifts": 3, "reads": 2, "head_columns": 32}


def test_operations_counted_by_hand() -> None:
    """Weights: layers, head layer, readout; then the memory of 4 x 2."""
    gru = 2 * ((3 + 2) * 6 + (3 + 2 + 2) * 6 + 4)
    assert forward_flops(shape(cell=GRU, layers=2)) == gru == 152
    weights = 2 * ((3 + 2 + 2) * 8 + 2 * 20 + (2 + 2))
    read, write, norms, similarities = 16, 40, 16, 2 * 16
    both = forward_flops(shape(**MEMORY, content=True, location=True))
    assert both == weights + read + write + norms + similarities == 304
    assert forward_flops(shape(**MEMORY, location=True)) == weights + read + write
    ff = forward_flops(shape(**MEMORY, cell=FF, location=True))
    assert ff == 2 * ((3 + 2) * 2 + 2 * 20 + (2 + 2)) + read + write


@pytest.mark.parametrize("name", MODELS)
def test_operations_are_two_for_each_weight_of_the_real_models(name) -> None:
    memory = {"heads": 2, "memory_rows": 6, "memory_width": 3} if name.startswith("ntm") else {}
    model = make_model(name, load_task("copy"), hidden_size=5, layers=2, **memory)
    weights = sum(w.numel() for key, w in model.named_parameters() if "weight" in key)
    heads_read_write_compare = 2 * (2 + 5) + 2 * (2 * 2 + 1)
    on_memory = 6 * 3 * heads_read_write_compare if memory else 0
    assert weights > 0
    assert forward_flops(lay_out(model).shape) == 2 * weights + on_memory


# Measuring


def test_works_take_turns() -> None:
    done: list[str] = []
    works = [lambda: done.append("a") or len(done), lambda: done.append("b") or len(done)]
    assert take_turns(works, 3) == [(1, 3, 5), (2, 4, 6)]
    assert done == ["a", "b"] * 3


def test_seconds_are_of_an_update_where_an_engine_makes_several_at_a_go(monkeypatch) -> None:
    """Four updates in two seconds; ten seconds are five goes."""
    clock, progress = [0.0], SimpleNamespace(updates=0)

    def run():
        while True:
            clock[0] += 2.0
            progress.updates += 4
            yield

    fake = SimpleNamespace(perf_counter=lambda: clock[0], sleep=lambda seconds: None)
    monkeypatch.setattr(bench, "time", fake)
    batch = SimpleNamespace(inputs_BTI=np.zeros((1, 7, 3)))
    engine = SimpleNamespace(ahead=4)
    trainer = SimpleNamespace(run=run, progress=progress, engine=engine, validation=[batch])
    updates = bench.Updates(trainer, 10.0)
    assert (updates.goes, updates.steps) == (5, 7)
    before = progress.updates
    assert updates() == 0.5
    assert progress.updates - before == 20


def test_updates_are_at_the_middle_of_the_range_and_never_validate() -> None:
    bench = tiny("repeat_copy")
    assert bench.point == {"length": 5, "repeats": 5}
    updates = bench.updates("ntm-ff", 3, longer=2, more=["model.memory_rows=16"])
    assert updates.trainer.config.train.vary == {"length": [10, 10], "repeats": [5, 5]}
    assert updates.engine.layout.shape.rows == 16
    train = updates.trainer.config.train
    assert {train.sequences, train.curve_every, train.checkpoint_every} == {NEVER}
    record = next(updates.records)
    assert isinstance(record, Update) and updates.trainer.progress.points == 0
    assert record.sequences == 3 * updates.trainer.progress.updates > 0
    space = next(iter(updates.engine.spaces.values()))
    assert updates.steps == len(space.seen_TBF) == 10 + 10 * 5 + 3


def test_what_was_learned_from_goes_forward_again(monkeypatch) -> None:
    """Every sequence of a call, then a call without steps, whose time is taken off."""
    seen, times = [], iter([0.0, 5.0, 0.0, 1.0, 0.0, 7.0, 0.0, 1.0])
    kernels = SimpleNamespace(
        begin=lambda *arguments: None,
        predict=lambda *a: seen.append((a[3][:, 0].tolist(), len(a[6]), len(a[7]))),
    )
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    inputs, room = np.arange(5).reshape(5, 1), np.zeros((9, 1))
    batches, ends = (inputs, None, None), np.array([2, 5])
    call = ("shape", "places", "weights", "start", batches, ends, "kept", "back", "scratch")
    assert bench.forward_again(kernels, [(*call, room, room, "rest")]) == 4.0 + 6.0
    assert seen == [([0, 1], 2, 2), ([], 0, 0), ([2, 3, 4], 3, 3), ([], 0, 0)]


def test_the_peak_leaves_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    assert bench.peak(before + 1, size=8, count=1) > 0
    assert torch.get_num_threads() == before


# Results


def is_spread(value: dict) -> bool:
    return 0 < value["least"] <= value["median"] <= value["greatest"]


def test_throughput_is_of_every_model_and_batch(measured) -> None:
    rows = measured["throughput"]
    cases = [(model, batch) for model in MODELS for batch in BATCHES]
    assert [(row["model"], row["batch"]) for row in rows] == cases
    assert all(is_spread(row[name]) for row in rows for name in ("fused", "eager", "ratio"))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_parts_of_an_update_add_up(threads, measured) -> None:
    rows = measured["update"] if threads == 1 else [tiny(threads=2).update(16)[0]]
    assert [row["batch"] for row in rows] == (list(BATCHES) if threads == 1 else [16])
    for row in rows:
        parts = row["parts_us"]
        assert list(parts) == ["data", "forward", "loss and backward", "optimiser", "rest"]
        assert parts["data"] > 0 and parts["optimiser"] > 0 and is_spread(row["whole_us"])
        assert sum(parts.values()) == pytest.approx(row["whole_us"]["median"])


def test_the_kernel_is_put_beside_the_peak(measured) -> None:
    for row, update in zip(measured["kernel"], measured["update"], strict=True):
        model = make_model("ntm", load_task("copy"))
        flops = 3 * forward_flops(lay_out(model).shape) * 21 * row["batch"]
        assert row["mflop"] == pytest.approx(flops / 1e6)
        assert row["floor_us"] == pytest.approx(flops / row["peak_gflops"]["median"] / 1e3)
        assert row["of_floor"] == pytest.approx(row["floor_us"] / update["whole_us"]["median"])
        assert row["threads"] == 1 and is_spread(row["peak_gflops"])


def test_one_size_grows_at_a_time(measured) -> None:
    sizes = {"steps": (21, 41, 81, 161), "memory_rows": (32, 128, 512, 2048)}
    sizes |= {"batch": (1, 4, 16, 64)}
    ordinary = {"steps": 21, "memory_rows": 128, "batch": 1}
    for name, grown in sizes.items():
        rows = [row for row in measured["growth"] if row["grows"] == name.replace("_", " ")]
        expected = [ordinary | {name: size} for size in grown]
        assert [{key: row[key] for key in ordinary} for row in rows] == expected
        assert all(is_spread(row["us"]) for row in rows)
        megabytes = [row["megabytes"] for row in rows]
        assert megabytes == sorted(megabytes) and 0 < megabytes[0] < megabytes[-1]


def test_the_results_say_where_and_on_what(measured, told) -> None:
    assert (measured["task"], measured["point"]) == ("copy", {"length": 10})
    assert (measured["threads"], measured["repetitions"]) == (1, 2)
    assert {"processor", "cores", "torch", "threads"} <= measured["machine"].keys()
    assert next(line for line in told if "compil" not in line).startswith("ntm, batch 1:")


# The command line


def test_the_text_has_every_table_with_its_figures(measured) -> None:
    tables = as_text(measured).split("\n\n")
    assert tables[0].startswith("copy at length=10 on ") and "2 repetitions" in tables[0]
    assert [part.splitlines()[0] for part in tables[1:]] == list(TITLES.values())
    for key, part in zip(TITLES, tables[1:], strict=True):
        _, header, *rows = part.splitlines()
        assert len(rows) == len(measured[key])
        assert all(len(row) <= len(header) for row in rows)
        for row, stored in zip(rows, measured[key], strict=True):
            assert row.startswith(stored["model"])
    assert "loss and backward" in tables[2] and "%)" in tables[2]
    assert "what torch's matrix product reaches here" in tables[3]


@pytest.fixture
def quick(monkeypatch, measured) -> list[Bench]:
    """The command measures nothing and has the results at hand; what it was to measure."""
    asked: list[Bench] = []
    monkeypatch.setattr(Bench, "measure", lambda self: asked.append(self) or measured)
    return asked


def test_the_command_prints_text_or_json(invoke, quick, measured) -> None:
    assert invoke("bench").stdout == as_text(measured) + "\n"
    found = invoke("bench", "--json", "--threads", 3, "--task", "recall")
    assert found.exit_code == 0
    assert json.loads(found.stdout) == json_ready(measured)
    assert [(one.task.name, one.threads) for one in quick] == [
        ("copy", 1),
        ("associative_recall", 3),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "copi"], ["unknown task 'copi'", "did you mean 'copy'"]),
        (["--task", "all"], ["unknown task 'all'"]),
        (["--task", "none.toml"], ["none.toml cannot be read"]),
        (["--threads", "0"], ["0 is not in the range x>=1"]),
    ],
)
def test_wrong_input_is_refused(arguments, words, invoke, quick) -> None:
    result = invoke("bench", *arguments)
    assert (result.exit_code, result.stdout, quick) == (2, "", [])
    assert all(word in result.stderr for word in words), result.stderr


def test_a_task_that_a_model_cannot_learn_from_is_refused_before_measuring(
    invoke, tmp_path
) -> None:
    text = load_task("copy").path.read_text(encoding="utf-8")
    mistaken = "[recipes.ntm-ff]\nmodel = { memory_rowz = 3 }\n"
    text, found = re.subn(r"^\[recipes\.ntm-ff\][^[]*", mistaken, text, flags=re.MULTILINE)
    assert found == 1
    (tmp_path / "mine.toml").write_text(text)
    result = invoke("bench", "--task", "mine.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "memory_rowz" in result.stderr and "memory_rows" in result.stderr


@pytest.mark.parametrize("arguments", [["bench", "--help"], ["bench", "--task", "copi"]])
def test_help_and_mistakes_import_nothing_heavy(arguments, tmp_path) -> None:
    code = (
        "import sys\nfrom ntmbench.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert ("ntmbench bench --threads 2 --json" in done.stdout) == ("--help" in arguments)
    modules = set(done.stderr.split())
    assert "ntmbench.cli" in modules and not {"torch", "numba", "ntmbench.bench"} & modules
