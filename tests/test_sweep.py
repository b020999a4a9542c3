"""Sweeps in real processes that are killed, raise, hang, run out of disk or are interrupted.

`faulty.py` is the model that does it; its runs equal those of a model to which nothing happens.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import COPY, PROGRAM, call, environment, output_of, state_of
from test_crash import PATIENCE, ended, limited, no_traces, results_of, started, wait_until

from ntmbench.sweep.news import ATTEMPTS

UPDATES, EACH, CHECKPOINT = 60, 8, 5
"""Updates of a run of the faulty model, sequences of an update, updates between checkpoints."""
MEASURED = 4
"""Updates that measuring a speed makes."""

SETTINGS = [
    *(
        f"train.batch_size={EACH}",
        "train.curve_every=80",
        f"train.checkpoint_every={CHECKPOINT * 8}",
    ),
    *("train.validation_sequences=8", "train.vary.length=[1,5]", "model.hidden_size=8"),
    *("evaluate.sequences=8", "evaluate.points=[{length=3},{length=40}]"),
]
FAULTY = [
    *("--sequences", str(UPDATES * EACH)),
    *(part for setting in SETTINGS for part in ("--set", setting)),
]
MODEL = "faulty.Faulty"
RUNS = f"results/copy/{MODEL}"

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/cwd").exists(), reason="no /proc here that tells where processes are"
)


def sweep(seeds: str, *more: str) -> list[str]:
    """The words of a sweep of the faulty model."""
    faulty = ["--tasks", "copy", "--models", "faulty:Faulty", "--seeds", seeds]
    return ["sweep", *faulty, *FAULTY, *more]


def undisturbed_runs(out: Path, seeds: str) -> dict[str, dict[str, object]]:
    """What runs of the faulty model give when nothing happens to them, by folder name."""
    words = ["run", "copy", "--model", "faulty:Faulty", "--seeds", seeds, *FAULTY, "--out", out]
    assert call(words).exit_code == 0
    found = {path.name: results_of(path) for path in (out / "copy" / MODEL).iterdir()}
    curves = [results["curve"] for results in found.values()]
    assert all(len(curve) == 6 for curve in curves)
    assert all(curves[0] != other for other in curves[1:]), "seeds differ"
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    return undisturbed_runs(tmp_path_factory.mktemp("undisturbed"), "0-4")


def same_as(undisturbed: dict[str, dict[str, object]], runs: Path, *seeds: int) -> None:
    """Runs are complete, equal undisturbed ones, and left nothing else."""
    for name in [f"seed{seed}" for seed in seeds]:
        assert results_of(runs / name) == undisturbed[name], name
        files = {path.name for path in (runs / name).iterdir()}
        assert not files & {"claim", "checkpoint.pt", "failed.json"}, files
    no_traces_of_writing(runs)


def no_traces_of_writing(folder: Path) -> None:
    assert [path for path in folder.rglob("*") if path.name.startswith(".")] == []


def prepare(folder: Path, *faults: dict[str, object]) -> None:
    """Put the faulty model and its faults into a folder."""
    shutil.copy(Path(__file__).with_name("faulty.py"), folder / "faulty.py")
    (folder / "faults.json").write_text(json.dumps(faults))


def reached(folder: Path) -> list[int]:
    """The processes that have come to a gate, or hang."""
    return sorted(int(path.name.partition("-")[2]) for path in folder.glob("reached-*"))


@dataclass
class Attempt:
    """One model in training: its process, and how often it was called for what."""

    process: int
    calls: Counter[str] = dataclasses.field(default_factory=Counter)


def attempts(folder: Path) -> dict[int, list[Attempt]]:
    """The attempts at each seed, in order, from the log of the models; no measurements."""
    models: dict[str, tuple[int, Attempt]] = {}
    for line in (folder / "log").read_text().splitlines():
        name, process, seed, when = line.split()
        models.setdefault(name, (int(seed), Attempt(int(process))))[1].calls[when] += 1
    found: dict[int, list[Attempt]] = {}
    for seed, attempt in models.values():
        if attempt.calls["training"] and attempt.calls != {"training": MEASURED}:
            found.setdefault(seed, []).append(attempt)
    return found


def updates(folder: Path, seed: int) -> int:
    """How many updates of a seed were begun, in all attempts."""
    return sum(attempt.calls["training"] for attempt in attempts(folder)[seed])


def processes_in(folder: Path) -> set[int]:
    """The other processes that work in a folder."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):  # it has just gone, or is not ours
            if Path(os.readlink(link)) == folder.resolve():
                found.add(int(link.parent.name))
    return found - {os.getpid()}


def wait_for(holds: Callable[[], bool]) -> None:
    """Poll until something holds that no process of ours does."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def hear(process: subprocess.Popen[str], words: str) -> str:
    """Read what a process says until it says the words; all that it has said since."""
    said = ""
    for line in process.stderr:
        said += line
        if words in line:
            return said
    raise AssertionError(f"it never said {words!r}, but: {said}")


def failure_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "failed.json").read_text())


NARROW = """
summary = "As copy, with four channels."
source = "a variant"
version = 1
generator = "ntmbench.generators:Copy"
[params]
width = 4
[train]
sequences = 100
vary = { length = [1, 20] }
[evaluate]
points = [{ length = 10 }]
[solved]
metric = "loss_bits"
below = 0.05
times = 3
"""
EIGHT = ["--tasks", "copy,./narrow.toml", "--models", "lstm,ntm", "--seeds", "0-1", *COPY]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, program) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep of two tasks, two models and two seeds, only to be read."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "narrow.toml").write_text(NARROW)
    return folder, program(folder, "sweep", *EIGHT)


def cells_of(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob("*/*/seed*/summary.json"))


def test_a_sweep_equals_its_runs_alone(swept, tmp_path, monkeypatch) -> None:
    folder, done = swept
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(folder)
    tasks, models = ["copy", "./narrow.toml"], ["--model", "lstm", "--model", "ntm"]
    words = ["run", *tasks, *models, "--seeds", "0-1", *COPY, "--out", tmp_path]
    assert call(words).exit_code == 0
    alone, together = cells_of(tmp_path), cells_of(folder / "results")
    assert len(alone) == len(together) == 8
    names = [path.relative_to(tmp_path) for path in alone]
    assert names == [path.relative_to(folder / "results") for path in together]
    for one, other in zip(alone, together, strict=True):
        assert results_of(one) == results_of(other), other
        configs = [json.loads((at / "config.json").read_text())["config"] for at in (one, other)]
        assert configs[0] == configs[1]
    assert len({(path / "lengths.csv").read_bytes() for path in together}) == 8


def test_a_sweep_leaves_its_runs_and_its_manifest(swept) -> None:
    folder, done = swept
    out = folder / "results"
    for cell in cells_of(out):
        no_traces(cell)
    files = [path for path in out.rglob("*") if path.is_file()]
    others = [path for path in files if path.parent not in cells_of(out)]
    assert [path.parent.name for path in others] == [".sweeps"] and others[0].suffix == ".json"
    assert not [path for path in files if path.name in ("claim", "checkpoint.pt")]
    manifest = json.loads(others[0].read_text())
    assert shlex.split(manifest["command"])[1:3] == ["sweep", "--tasks"] and manifest["ended"]
    assert sorted(run["path"] for run in manifest["runs"]) == [
        cell.relative_to(out).as_posix() for cell in cells_of(out)
    ]
    assert re.search(r"^all +8 +8 +0$", done.stdout, re.MULTILINE), done.stdout
    assert "[8/8]" in done.stderr and "runs to do: 8" in done.stderr


def test_again_everything_is_skipped(swept, program) -> None:
    folder, _ = swept
    before = state_of(folder)
    done = program(folder, "sweep", *EIGHT)
    assert re.search(r"^all +8 +8 +0$", output_of(done), re.MULTILINE)
    assert re.search(r"complete already.* 8 of 8", done.stderr)
    after = state_of(folder)
    assert {path for path in after if after[path] != before.get(path)} <= {
        path for path in after if ".sweeps" in path
    }
    assert before.keys() == after.keys()


def test_shards_are_everything_once(swept, monkeypatch) -> None:
    folder, _ = swept
    monkeypatch.chdir(folder)
    parts: list[list[Path]] = []
    for shard in ("1/3", "2/3", "3/3"):
        result = call(["sweep", *EIGHT, "--shard", shard, "--dry-run", "--json"])
        cells = json.loads(result.stdout)["cells"]
        assert {cell["state"] for cell in cells} == {"complete"}
        parts.append([Path(cell["folder"]) for cell in cells])
    assert sorted(map(len, parts)) == [2, 3, 3]
    assert sorted(itertools.chain(*parts)) == cells_of(Path("results"))
    assert call(["sweep", *EIGHT, "--shard", "9/9"]).exit_code == 2, "nothing is left for it"


def test_a_shard_is_a_sweep_of_its_part(undisturbed, tmp_path, monkeypatch) -> None:
    """With the JSON of a sweep, and the runs of another one left alone."""
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    states = []
    for shard in ("1/2", "2/2"):
        result = call(sweep("0-2", "--shard", shard, "--json"))
        assert result.exit_code == 0, result.stderr
        printed = json.loads(result.stdout)
        assert printed["counts"]["complete"] == len(printed["runs"])
        for run in printed["runs"]:
            summary = json.loads((Path(run["folder"]) / "summary.json").read_text())
            assert run["summary"] == summary and run["state"] == "complete" and not run["skipped"]
        states.append({run["seed"] for run in printed["runs"]})
    assert states == [{0, 2}, {1}]
    same_as(undisturbed, tmp_path / RUNS, 0, 1, 2)


def test_a_grid_makes_runs_with_tags(invoke, tmp_path) -> None:
    axes = ("--grid", "model.hidden_size=[4,6]", "--grid", "train.batch_size=[8]")
    options = [part for part in COPY if "hidden_size" not in part and "batch_size" not in part]
    pairs = [part for part in options if part != "--set"]
    sets = [word for part in pairs[2:] for word in ("--set", part)]
    words = ["sweep", "--tasks", "copy", "--models", "lstm", "--seeds", "3", *pairs[:2], *sets]
    result = invoke(*words, *axes, "--engine", "eager", "--tag", "mine", "--json")
    assert result.exit_code == 0, result.stderr
    runs = json.loads(result.stdout)["runs"]
    for size, run in zip((4, 6), runs, strict=True):
        folder = f"results/copy/lstm@mine,hidden_size={size},batch_size=8/seed3"
        assert run["folder"] == folder and run["state"] == "complete"
        config = json.loads((tmp_path / folder / "config.json").read_text())["config"]
        assert config["model"]["arguments"]["hidden_size"] == size
        assert config["train"]["batch_size"] == 8
    assert runs[0]["summary"]["parameters"] < runs[1]["summary"]["parameters"]


SIX = ["--tasks", "copy", "--models", "lstm,gru", "--seeds", "0-1,7", "--engine", "eager", *COPY]


def test_a_dry_run_says_what_it_would_cost(invoke, tmp_path) -> None:
    result = invoke("sweep", *SIX, "--dry-run")
    assert result.exit_code == 0, result.stderr
    for model in ("lstm", "gru"):
        row = rf"^copy / {model} +0-1,7 +0 +eager +40 +[\d.,e+]+ +[\d.]+ \w+$"
        assert re.search(row, result.stdout, re.MULTILINE), result.stdout
    assert re.search(r"^6 runs to do with .*: about .* of training$", result.stdout, re.MULTILINE)
    assert state_of(tmp_path) == {}


def test_a_dry_run_as_json(invoke, tmp_path) -> None:
    result = invoke("sweep", *SIX, "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    cells = printed["cells"]
    assert [(cell["model"], cell["seed"]) for cell in cells] == [
        (model, seed) for model in ("lstm", "gru") for seed in (0, 1, 7)
    ]
    for cell in cells:
        assert cell["state"] == "waiting" and cell["sequences"] == 40 and cell["engine"] == "eager"
        assert cell["folder"] == f"results/copy/{cell['model']}/seed{cell['seed']}"
        assert cell["sequences_per_second"] > 0 and cell["sequences_done"] == 0
        assert cell["seconds_left"] == pytest.approx(40 / cell["sequences_per_second"])
    total = sum(cell["seconds_left"] for cell in cells)
    longest = max(cell["seconds_left"] for cell in cells)
    assert printed["seconds"] == pytest.approx(max(total / printed["slots"], longest))
    assert state_of(tmp_path) == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "copi"], "copy"),
        (["--tasks", ""], "empty name"),
        (["--tasks", "copy,"], "empty name"),
        (["--tasks", "copy,copy"], "twice"),
        (["--models", "lstmm"], "lstm"),
        (["--models", "no_such:Thing"], "no_such"),
        (["--models", ""], "empty name"),
        (["--seeds", "3-1"], "empty range"),
        (["--track", "papyrus"], "papyrus"),
        (["--profile", "huge"], "smoke"),
        (["--shard", "3/2"], "--shard"),
        (["--shard", "0/2"], "--shard"),
        (["--shard", "half"], "--shard"),
        (["--shard", "2/2"], "shard 2/2 is empty"),
        (["--grid", "model.hidden_size=8"], "a list"),
        (["--grid", "model.hidden_size=[]"], "a list"),
        (["--grid", "model.hidden_size=[8,8]"], "twice"),
        (["--grid", "model.hiden_size=[8]"], "hidden_size"),
        (["--grid", "odel.hidden_size=[8]"], "model"),
        (["--grid", "model.hidden_size=[8]", "--set", "model.hidden_size=8"], "--set"),
        (["--grid", "model.hidden_size=[8]", "--grid", "model.hidden_size=[9]"], "twice"),
        (["--set", "model.hiden_size=8"], "hidden_size"),
        (["--timeout", "0"], "duration"),
        (["--timeout", "soon"], "duration"),
        (["--gpus-per-run", "0.5"], "--ray"),
        (["--gpus-per-run", "0", "--ray", "auto"], "--gpus-per-run"),
        (["--jobs", "0"], "--jobs"),
        (["--threads", "0"], "--threads"),
        (["--engine", "warp"], "--engine"),
        (["--sequences", "0"], "--sequences"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_before_anything_is_done(words, said, invoke, tmp_path) -> None:
    given = {"--tasks": "copy", "--models": "lstm", "--seeds": "0"}
    rest = [part for pair in given.items() if pair[0] not in words for part in pair]
    result = invoke("sweep", *rest, *words)  # an exception would be raised here
    assert result.exit_code == 2 and result.stdout == ""
    assert said in result.stderr and "Traceback" not in result.stderr
    assert state_of(tmp_path) == {}


def test_a_folder_that_cannot_be_made_is_a_mistake(ntmbench, tmp_path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = ntmbench("sweep", "--tasks", "copy", "--models", "lstm", "--out", "file/results")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "file/results" in done.stderr


@pytest.fixture(scope="module")
def survived(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep whose workers are killed in training (seed 0), in the middle of writing a checkpoint
    (1) and in evaluation (2), while another one prints a lot (3); it prints JSON.
    """
    folder = tmp_path_factory.mktemp("survived")
    prepare(
        folder,
        {"what": "kill", "seed": 0, "call": 17, "once": True},
        {"what": "tear", "when": "saving", "seed": 1, "call": 3, "once": True},
        {"what": "kill", "when": "testing", "seed": 2, "call": 1, "once": True},
        {"what": "chatter", "seed": 3},
        {"what": "chatter", "when": "testing", "seed": 3},
    )
    done = subprocess.run(
        [PROGRAM, *sweep("0-3", "--jobs", "2", "--json")],
        cwd=folder, capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    return folder, done


@pytest.mark.parametrize(
    ("seed", "lost"),
    # an attempt's updates: the first of seed 0 dies in its 17th, and goes on after the 15th
    [(0, [17, 45]), (1, [10, 55]), (2, [60, 0])],
    ids=["in training", "in saving", "in evaluation"],
)
def test_a_killed_worker_s_run_goes_on(seed, lost, survived, undisturbed) -> None:
    folder, done = survived
    assert done.returncode == 0, done.stderr
    same_as(undisturbed, folder / RUNS, seed)
    told = [line for line in done.stderr.splitlines() if f"seed {seed}: its worker" in line]
    assert len(told) == 1, done.stderr
    assert "killed by SIGKILL" in told[0] and "attempt 2 of 3 follows" in told[0]
    begun = [attempt.calls["training"] for attempt in attempts(folder)[seed]]
    assert begun == [number for number in lost if number], "only what was not saved is done again"


def test_a_worker_that_prints_spoils_nothing(survived, undisturbed) -> None:
    """What it prints goes nowhere, not into the JSON; the other runs are not affected either."""
    folder, done = survived
    assert updates(folder, 3) == UPDATES and len(attempts(folder)[3]) == 1
    same_as(undisturbed, folder / RUNS, 3)
    printed = json.loads(done.stdout)
    assert printed["counts"]["complete"] == 4 and len(printed["runs"]) == 4
    assert all(text not in done.stdout + done.stderr for text in ("{{", "}}", "[[", "\0"))


@pytest.fixture(scope="module")
def failed(tmp_path_factory, program) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep with a run that always kills its worker (seed 0), one that raises (1), one that hangs
    (2), one that does none of it (3) and one that ends the process politely (4).
    """
    folder = tmp_path_factory.mktemp("failed")
    prepare(
        folder,
        {"what": "kill", "seed": 0, "call": 12},
        {"what": "fail", "seed": 1, "call": 7},
        {"what": "hang", "seed": 2, "call": 11},
        {"what": "leave", "seed": 4, "call": 7},
    )
    return folder, program(folder, *sweep("0-4", "--timeout", "20s"))


def test_a_run_that_always_kills_its_worker_is_given_up(failed, undisturbed) -> None:
    folder, done = failed
    assert done.returncode == 1
    found = failure_of(folder / RUNS / "seed0")
    assert found["kind"] == "died" and found["attempts"] == ATTEMPTS == 3
    assert "SIGKILL" in found["message"] and "these are the last words" in found["output"]
    assert re.search(r"seed 0: FAILED: .*SIGKILL", done.stderr)
    assert "attempt 2 of 3" in done.stderr and "attempt 3 of 3" in done.stderr
    assert re.search(r"failed: copy / faulty.Faulty / seed 0: .*SIGKILL", done.stdout)
    # each attempt goes on from the last checkpoint, and dies in its 12th update
    assert [one.calls["training"] for one in attempts(folder)[0]] == [12, 12, 12]
    same_as(undisturbed, folder / RUNS, 3)


def test_a_run_that_raises_has_failed_at_once(failed) -> None:
    folder, done = failed
    found = failure_of(folder / RUNS / "seed1")
    assert found["kind"] == "exception" and found["attempts"] == 1
    assert re.fullmatch(
        r"ArithmeticError: this model is broken \(faulty.py:\d+\)", found["message"]
    )
    assert "Traceback" in found["output"] and "faulty.py" in found["output"]
    assert 'raise ArithmeticError("this model is broken")' in found["output"]
    assert "seed 1: FAILED: ArithmeticError: this model is broken" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert [one.calls["training"] for one in attempts(folder)[1]] == [7]
    found = failure_of(folder / RUNS / "seed4")
    assert found["kind"] == "exception" and "SystemExit: 3" in found["message"]


def test_a_run_that_hangs_is_given_up(failed) -> None:
    folder, done = failed
    found = failure_of(folder / RUNS / "seed2")
    assert found["kind"] == "timeout" and "no progress" in found["message"]
    source = (folder / "faulty.py").read_text().splitlines()
    line = next(number for number, text in enumerate(source, 1) if text == "        time.sleep(1)")
    assert re.search(rf'faulty\.py", line {line} in hang', found["output"]), found["output"]
    assert "seed 2: FAILED: no progress" in done.stderr
    assert len(attempts(folder)[2]) == 1, "it is not tried again"
    (hung,) = reached(folder)
    assert not Path(f"/proc/{hung}/cwd").exists()


def test_a_mended_model_completes_the_same_sweep(
    failed, undisturbed, tmp_path, monkeypatch
) -> None:
    folder = Path(shutil.copytree(failed[0], tmp_path / "copy"))
    (folder / "faults.json").write_text("[]")
    (folder / "log").unlink()
    finished = state_of(folder / RUNS / "seed3")
    monkeypatch.chdir(folder)
    result = call(sweep("0-4", "--timeout", "60s"))
    assert result.exit_code == 0, result.stderr
    assert re.search(r"complete already.* 1 of 5", result.stderr)
    same_as(undisturbed, folder / RUNS, 0, 1, 2, 3, 4)
    assert state_of(folder / RUNS / "seed3") == finished
    # from the checkpoints after 30, 5, 10 and 5 updates
    assert [updates(folder, seed) for seed in (0, 1, 2, 4)] == [30, 55, 50, 55]


@contextlib.contextmanager
def at_the_gate(folder: Path, words: list[str], **fault: object) -> Iterator[subprocess.Popen[str]]:
    """A sweep two of whose runs are stopped in their 23rd update, the last checkpoint after 20."""
    prepare(folder, {"what": "gate", "call": 23} | fault)
    with started(folder, *words) as process:
        wait_until(process, lambda: len(reached(folder)) == 2)
        yield process


@needs_proc
def test_the_parent_is_killed(undisturbed, tmp_path, monkeypatch) -> None:
    """Its workers save and go by themselves; the same command goes on, and status knows of it."""
    monkeypatch.chdir(tmp_path)
    with at_the_gate(tmp_path, sweep("0-2", "--jobs", "2")) as process:
        workers = processes_in(tmp_path) - {process.pid}
        assert workers == set(reached(tmp_path)) and len(workers) == 2
        process.send_signal(signal.SIGKILL)
        assert ended(process)[0] == -signal.SIGKILL
    assert workers <= processes_in(tmp_path), "they have a run to save first"
    (tmp_path / "go").touch()
    wait_for(lambda: not processes_in(tmp_path))
    assert len(list((tmp_path / RUNS).glob("seed*/checkpoint.pt"))) == 2
    assert not list((tmp_path / RUNS).glob("seed*/summary.json"))
    result = call(sweep("0-2", "--jobs", "2"))
    assert result.exit_code == 0, result.stderr
    same_as(undisturbed, tmp_path / RUNS, 0, 1, 2)
    assert [updates(tmp_path, seed) for seed in range(3)] == [UPDATES] * 3, "nothing was done twice"


@needs_proc
def test_a_worker_dies_and_its_child_does_not(undisturbed, tmp_path) -> None:
    """The child has the pipe, which does not end; it is not left behind either."""
    prepare(tmp_path, {"what": "leave_a_child", "seed": 0, "call": 23, "once": True})
    with started(tmp_path, *sweep("0-1", "--jobs", "1")) as process:
        code, _, err = ended(process)
    assert code == 0 and "attempt 2 of 3 follows" in err, err
    same_as(undisturbed, tmp_path / RUNS, 0, 1)
    assert processes_in(tmp_path) == set()


def test_a_model_that_meddles_changes_no_other_run(undisturbed, tmp_path, program) -> None:
    """One worker does all; its models change torch's settings as they are tested."""
    prepare(tmp_path, {"what": "meddle", "when": "testing", "seed": 0})
    done = program(tmp_path, *sweep("0-2", "--jobs", "1"))
    assert done.returncode == 0, done.stderr
    same_as(undisturbed, tmp_path / RUNS, 1, 2)
    processes = {one.process for all_of in attempts(tmp_path).values() for one in all_of}
    assert len(processes) == 1, "one worker did all"


LEAKY = """
from faulty import Faulty
from torch import nn


class Leaky(Faulty):
    def __init__(self, input_size, output_size, *, hidden_size=8):
        nn.Linear.reset_parameters = lambda self: nn.init.ones_(self.weight)
        super().__init__(input_size, output_size, hidden_size=hidden_size)
"""


def test_what_a_model_does_to_its_process_reaches_no_other_model(
    undisturbed, tmp_path, program
) -> None:
    """Measuring it is enough; its worker is replaced before the next model."""
    prepare(tmp_path)
    (tmp_path / "leaky.py").write_text(LEAKY)
    words = [word.replace("faulty:Faulty", "leaky:Leaky,faulty:Faulty") for word in sweep("0")]
    done = program(tmp_path, *words, "--jobs", "1")
    assert done.returncode == 0, done.stderr
    same_as(undisturbed, tmp_path / RUNS, 0)
    leaky = results_of(tmp_path / "results/copy/leaky.Leaky/seed0")
    assert leaky["curve"] != undisturbed["seed0"]["curve"]


def test_complete_runs_of_other_code_are_named(undisturbed, tmp_path, program) -> None:
    prepare(tmp_path)
    assert "WARNING" not in program(tmp_path, *sweep("0-1")).stderr
    assert "WARNING" not in program(tmp_path, *sweep("0-1")).stderr
    with open(tmp_path / "faulty.py", "a") as source:
        source.write("# a change\n")
    done = program(tmp_path, *sweep("0-1"))
    assert done.returncode == 0
    assert "made with other code of faulty:Faulty than there is now: 2;" in done.stderr
    same_as(undisturbed, tmp_path / RUNS, 0, 1)


@pytest.mark.parametrize("name", ["config.json", "curve.csv"])
def test_a_folder_that_is_damaged_under_way_is_not_complete(
    name, undisturbed, tmp_path, program
) -> None:
    """The run fails as it is closed; the same command mends it."""
    with at_the_gate(tmp_path, sweep("0-1", "--jobs", "2")) as process:
        (tmp_path / RUNS / "seed0" / name).unlink()
        (tmp_path / "go").touch()
        code, _, err = ended(process)
    assert code == 1 and "seed 0: FAILED" in err and "Traceback" not in err, err
    same_as(undisturbed, tmp_path / RUNS, 1)
    assert not (tmp_path / RUNS / "seed0/summary.json").exists()
    (tmp_path / RUNS / "seed0/config.json").unlink(missing_ok=True)  # begin it anew
    assert program(tmp_path, *sweep("0-1")).returncode == 0
    same_as(undisturbed, tmp_path / RUNS, 0, 1)


def test_whoever_reads_the_messages_goes_away(undisturbed, tmp_path) -> None:
    """As `tee` does at Ctrl-C: the sweep goes on."""
    with at_the_gate(tmp_path, sweep("0-2", "--jobs", "2")) as process:
        process.stderr.close()
        process.stderr = None
        (tmp_path / "go").touch()
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and re.search(r"^all +3 +3 +0$", out, re.MULTILINE), out
    same_as(undisturbed, tmp_path / RUNS, 0, 1, 2)


def test_a_damaged_folder_is_one_runs_misfortune(undisturbed, tmp_path, program) -> None:
    prepare(tmp_path)
    damaged = tmp_path / RUNS / "seed1/config.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    done = program(tmp_path, *sweep("0-2"))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert re.search(r"^failed: .* seed 1: .*config.json is corrupted", done.stdout, re.MULTILINE)
    same_as(undisturbed, tmp_path / RUNS, 0, 2)
    assert damaged.read_text() == "{"


def test_two_sweeps_share_a_folder(undisturbed, tmp_path) -> None:
    """Both get to the end; no run is done by both."""
    words = sweep("0-3", "--jobs", "1")
    prepare(tmp_path, {"what": "gate", "call": 23})
    with started(tmp_path, *words) as one, started(tmp_path, *words) as other:
        wait_until(one, lambda: len(reached(tmp_path)) == 2)
        (tmp_path / "go").touch()
        for process in (one, other):
            code, out, err = ended(process)
            assert code == 0, err
            assert re.search(r"^all +4 +4 +0$", out, re.MULTILINE), out
            assert "FAILED" not in err and "Traceback" not in err
    same_as(undisturbed, tmp_path / RUNS, 0, 1, 2, 3)
    found = attempts(tmp_path)
    assert [len(found[seed]) for seed in range(4)] == [1] * 4, "each was begun once"
    assert [updates(tmp_path, seed) for seed in range(4)] == [UPDATES] * 4
    assert {one.process for all_of in found.values() for one in all_of} == set(reached(tmp_path))


def test_interrupted_once_it_ends_with_the_runs_under_way(
    undisturbed, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with at_the_gate(tmp_path, sweep("0-3", "--jobs", "2")) as process:
        process.send_signal(signal.SIGINT)
        hear(process, "no more runs are begun")
        (tmp_path / "go").touch()
        code, out, err = ended(process)
    assert code == 130 and "Traceback" not in err
    done = sorted(path.name for path in (tmp_path / RUNS).iterdir())
    assert len(done) == 2, "the others were not begun"
    same_as(undisturbed, tmp_path / RUNS, *(int(name.removeprefix("seed")) for name in done))
    assert re.search(r"^all +4 +2 +0 +2$", out, re.MULTILINE), out
    assert "runs left: 2; the same command goes on" in err
    command = next(line for line in err.splitlines() if line.startswith("  ntmbench sweep "))
    assert shlex.split(command)[1:] == sweep("0-3", "--jobs", "2")
    result = call(shlex.split(command)[1:])
    assert result.exit_code == 0 and re.search(r"complete already.* 2 of 4", result.stderr)
    same_as(undisturbed, tmp_path / RUNS, 0, 1, 2, 3)
    assert [updates(tmp_path, seed) for seed in range(4)] == [UPDATES] * 4


def test_terminated_it_saves_and_stops(undisturbed, tmp_path, monkeypatch) -> None:
    """As a cluster's scheduler does it: at once, and nothing is done twice afterwards."""
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, {"what": "slow"})
    words = sweep("0-2", "--jobs", "2")
    with started(tmp_path, *words) as process:
        running = (tmp_path / RUNS).glob
        wait_until(process, lambda: len(list(running("seed*/checkpoint.pt"))) == 2)
        process.send_signal(signal.SIGTERM)
        code, out, err = ended(process)
    assert code == 130 and "saving and stopping" in err and "Traceback" not in err
    assert "stopped and saved" in err and "runs left: 3;" in err
    assert re.search(r"^all +3 +0 +0 +2 +1$", out, re.MULTILINE), out
    assert not list(running("seed*/summary.json")) and not list(running("seed*/claim"))
    assert not (tmp_path / RUNS / "seed2").exists()
    (tmp_path / "faults.json").write_text("[]")
    result = call(words)
    assert result.exit_code == 0, result.stderr
    same_as(undisturbed, tmp_path / RUNS, 0, 1, 2)
    assert [updates(tmp_path, seed) for seed in range(3)] == [UPDATES] * 3


@needs_proc
def test_interrupted_three_times_it_leaves_at_once(tmp_path) -> None:
    """Even with runs that would never end; no worker is left behind."""
    with at_the_gate(tmp_path, sweep("0-2", "--jobs", "2"), what="hang") as process:
        for words in ("no more runs are begun", "saving and stopping"):
            process.send_signal(signal.SIGINT)
            hear(process, words)
        process.send_signal(signal.SIGINT)
        code, out, err = ended(process)
    assert code == 130 and out == ""
    assert "left at once" in err and "Traceback" not in err
    wait_for(lambda: not processes_in(tmp_path))
    assert len(list((tmp_path / RUNS).glob("seed*/checkpoint.pt"))) == 2
    assert not list((tmp_path / RUNS).glob("seed*/summary.json"))


@needs_proc
def test_status_while_a_sweep_runs_and_after(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = sweep("0-2", "--jobs", "2")
    with at_the_gate(tmp_path, words) as process:
        before = state_of(tmp_path / "results")
        told = json.loads(call(["status", "--json"]).stdout)
        text = call(["status"])
        assert state_of(tmp_path / "results") == before, "it only looks"
        (tmp_path / "go").touch()
        assert ended(process)[0] == 0
    assert told["counts"]["running"] == 2 and told["counts"]["waiting"] == 1
    running = [run for run in told["runs"] if run["state"] == "running"]
    for run in running:
        assert run["sequences"] == 20 * EACH and run["budget"] == UPDATES * EACH
        assert run["bits"] > 0 and run["speed"] > 0
    owners = {int(run["owner"].split()[1]) for run in running}
    assert owners == set(reached(tmp_path))
    (one,) = told["sweeps"]
    assert one["alive"] and one["pid"] == process.pid and one["left"] == one["runs"] == 3
    assert text.exit_code == 0 and f"process {min(owners)} on " in text.stdout
    assert f"running as process {process.pid}" in text.stdout and "160 of 480" in text.stdout
    after = call(["status"])
    assert re.search(r"^all +3 +3 +0$", after.stdout, re.MULTILINE) and "left" not in after.stdout


@needs_proc
def test_status_of_a_sweep_that_died(tmp_path, monkeypatch) -> None:
    """Of its runs it is known at once; of itself when it has not been heard of for a while."""
    monkeypatch.chdir(tmp_path)
    words = sweep("0-2", "--jobs", "2")
    with at_the_gate(tmp_path, words) as process:
        for dead in (process.pid, *reached(tmp_path)):
            os.kill(dead, signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in reached(tmp_path)))
    (manifest,) = (tmp_path / "results/.sweeps").iterdir()
    long_ago = time.time() - 120
    os.utime(manifest, (long_ago, long_ago))
    told = json.loads(call(["status", "--json"]).stdout)
    assert told["counts"]["interrupted"] == 2 and told["counts"]["waiting"] == 1
    assert [one["alive"] for one in told["sweeps"]] == [False]
    text = call(["status"]).stdout
    assert "3 left" in text and f"not running; go on in {tmp_path} with:" in text
    assert shlex.split(text.splitlines()[-1]) == ["ntmbench", *words]


def test_files_that_cannot_be_written(undisturbed, tmp_path, monkeypatch) -> None:
    """No file over 6 kB, so no checkpoint: every run fails and says why; with room they go on."""
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    undisturbed_runs(tmp_path / "results", "3")
    before = state_of(tmp_path / RUNS / "seed3")
    with started(tmp_path, *sweep("0-3"), preexec_fn=limited(6_000)) as process:
        code, out, err = ended(process)
    assert code == 1 and "Traceback" not in err, err
    assert re.search(r"^all +4 +1 +0 +3$", out, re.MULTILINE), out
    for seed in range(3):
        found = failure_of(tmp_path / RUNS / f"seed{seed}")
        assert found["kind"] == "unwritable" and found["attempts"] == 1
        assert "checkpoint.pt" in found["message"] and "File too large" in found["message"]
        assert f"seed {seed}: FAILED: cannot write" in err
    no_traces_of_writing(tmp_path / RUNS)
    result = call(sweep("0-3"))
    assert result.exit_code == 0, result.stderr
    same_as(undisturbed, tmp_path / RUNS, 0, 1, 2, 3)
    assert state_of(tmp_path / RUNS / "seed3") == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no command mount")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_ends_a_sweep_early(undisturbed, small_disk, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    words = sweep("0-3", "--jobs", "1", "--out", str(small_disk))
    runs = small_disk / "copy" / MODEL
    undisturbed_runs(small_disk, "0")
    before = state_of(runs / "seed0")
    filler, room = small_disk / "filler", 28 * 1024  # for one checkpoint, not for two
    disk = os.statvfs(small_disk)
    filler.write_bytes(bytes(disk.f_bavail * disk.f_frsize - room))
    with started(tmp_path, *words) as process:
        code, out, err = ended(process)
    assert code == 1 and "Traceback" not in err, err
    assert "the sweep ended early, for no other run would fare better" in err
    assert "No space left on device" in err and "runs left: 2;" in err
    assert re.search(r"^all +4 +1 +0 +1 +2$", out, re.MULTILINE), out
    assert state_of(runs / "seed0") == before
    no_traces_of_writing(runs)
    assert len(list(runs.iterdir())) == 2, "no other run was begun"
    filler.unlink()
    result = call(words)
    assert result.exit_code == 0, result.stderr
    same_as(undisturbed, runs, 0, 1, 2, 3)
    assert state_of(runs / "seed0") == before


def test_no_room_even_for_the_manifest(small_disk, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    disk = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(disk.f_bavail * disk.f_frsize))
    result = call(sweep("0-1", "--out", str(small_disk)))
    assert result.exit_code == 2 and "No space left on device" in result.stderr
    assert not list(small_disk.glob("copy"))
