"""Run folders as tables: whole, partial and broken ones."""

import json
import math
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from fake_runs import OPTIMUM, fake_config, write_run

from ntmbench.config import RunConfig, identity
from ntmbench.errors import UserError
from ntmbench.files import write_rows
from ntmbench.folder import LENGTHS_COLUMNS, MEMORY_COLUMNS, SCHEMA
from ntmbench.resolve import resolve
from ntmbench.results import KEYS, RUN_COLUMNS, config_id, load_results
from ntmbench.tasks import load_task


def only(frame: pd.DataFrame, **wanted) -> dict:
    """The one row where each column is as wanted."""
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, frame
    return frame.iloc[0].to_dict()


def edit(path, change) -> None:
    """Rewrite a JSON file after `change` has had its way with the content."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def problem_of(folder) -> str:
    """What is said of the one run, which is in no table."""
    results = load_results(folder)
    assert results.runs.empty and results.curves.empty and results.lengths.empty
    assert len(results.problems) == 1 and results.problems["path"][0] == "copy/ntm/seed1"
    assert str(folder) not in results.problems["problem"][0]
    return results.problems["problem"][0]


def test_a_complete_run(tmp_path):
    run = write_run(tmp_path, fake_config(seed=3, tag="big"), steps=12, solved_step=10)
    results = load_results(tmp_path)
    assert results.problems.empty and list(results.runs.columns) == list(RUN_COLUMNS)
    row = only(results.runs, model="ntm@big")
    summary = run.read_summary()
    assert (row["task"], row["seed"], row["profile"]) == ("copy", 3, "standard")
    assert (row["status"], row["solved"], row["path"]) == ("complete", True, "copy/ntm@big/seed3")
    assert (row["solved_sequences"], row["solved_updates"], row["solved_seconds"]) == (1e4, 1e4, 25)
    assert (row["sequences"], row["seconds"], row["parameters"]) == (12_000, 30.0, 12_345)
    assert row["best_sequences"] == summary["best"]["sequences"]
    assert row["best_val_loss_bits"] == pytest.approx(summary["best"]["val_loss_bits"])
    assert (row["chance_val_loss_bits"], row["optimum_val_loss_bits"]) == (84.0, 0.0)
    assert row["machine"] == "a CPU, 2 cores, Linux x86_64"
    assert len(results.curves) == 12 and results.curves["val_loss_bits"].is_monotonic_decreasing


def test_lengths_are_tidy(tmp_path):
    write_run(tmp_path, fake_config("repeat_copy", "lstm"))
    write_run(tmp_path, fake_config("copy", "ntm"))
    results = load_results(tmp_path)
    assert results.axes == {"copy": ("length",), "repeat_copy": ("length", "repeats")}
    repeat = results.lengths[results.lengths["task"] == "repeat_copy"]
    points = ["length=10,repeats=10", "length=20,repeats=10", "length=10,repeats=20"]
    assert list(dict.fromkeys(repeat["point"])) == points
    assert repeat["memory_rows"].isna().all()
    row = only(repeat, point=points[1], weights="chance", metric="loss_bits")
    assert (row["length"], row["repeats"], row["value"]) == (20, 10, 1600.0)
    copy = results.lengths[results.lengths["task"] == "copy"]
    assert set(copy["memory_rows"].dropna()) == {128} and copy["repeats"].isna().all()
    assert len(copy) == 5 * 4 * 3  # points, weights and references, metrics


def test_positions_only_where_a_run_has_them(tmp_path):
    write_run(tmp_path, fake_config("copy"))
    assert load_results(tmp_path).positions.empty
    write_run(tmp_path, fake_config("dynamic_ngrams"))
    positions = load_results(tmp_path).positions
    assert set(positions["point"]) == {"bits=200"} and len(positions) == 4 * 20
    assert set(load_results(tmp_path).lengths["metric"]) >= {"regret_bits"}


def test_a_diverged_run_keeps_what_it_has(tmp_path):
    write_run(tmp_path, fake_config(), status="diverged", steps=8)
    results = load_results(tmp_path)
    row = only(results.runs, status="diverged")
    assert (row["solved"], row["diverged_tensor"], row["diverged_sequences"]) == (
        False,
        "loss",
        5000,
    )
    assert row["skipped"] == 50 and math.isnan(row["last_val_loss_bits"])
    assert math.isfinite(row["best_val_loss_bits"])
    assert math.isnan(results.curves["val_loss_bits"].iloc[-1]) and len(results.curves) == 5
    scores = results.lengths.groupby("weights")["value"]
    assert scores.count()["best"] > 0 and scores.count()["last"] == 0 < scores.size()["last"]


@pytest.mark.parametrize("scored", [True, False])
def test_a_run_that_diverged_at_once_has_no_best_weights(tmp_path, scored):
    run = write_run(tmp_path, fake_config(), status="diverged", steps=1)
    assert run.read_summary()["best"] is None
    if not scored:
        run.lengths_file.unlink()
        edit(run.summary_file, lambda summary: summary.update(last=None))
    results = load_results(tmp_path)
    weights = {"last", "chance", "optimum"} if scored else set()
    assert results.problems.empty and set(results.lengths["weights"]) == weights
    assert math.isnan(only(results.runs, status="diverged")["best_val_loss_bits"])


def test_an_unfinished_run_counts_from_its_curve(tmp_path):
    run = write_run(tmp_path, fake_config(), status="unfinished", steps=5)
    with open(run.curve_file, "a") as file:
        file.write("6000,6000,15.0,4")  # being written, or torn by a crash
    results = load_results(tmp_path)
    row = only(results.runs, status="unfinished")
    assert results.problems.empty and len(results.curves) == 5
    assert (row["sequences"], row["seconds"], row["solved"]) == (5000, 12.5, False)
    assert row["best_sequences"] == 5000 and math.isnan(row["parameters"])
    assert row["best_val_loss_bits"] == row["last_val_loss_bits"] > OPTIMUM["copy"]


@pytest.mark.parametrize("content", [None, "", "sequences,upd"])
def test_an_unfinished_run_without_a_curve_yet(tmp_path, content):
    run = write_run(tmp_path, fake_config(), status="unfinished")
    run.curve_file.unlink()
    if content is not None:
        run.curve_file.write_text(content)
    results = load_results(tmp_path)
    assert results.problems.empty and results.curves.empty
    assert math.isnan(only(results.runs, status="unfinished")["sequences"])


def test_comparable_runs_share_an_id(tmp_path):
    one = config_id(fake_config(seed=1, tag="a", device="cpu"))
    assert one == config_id(fake_config(seed=2, tag="b", device="cuda"))
    assert one != config_id(fake_config(train__learning_rate=3e-4))
    assert one != config_id(fake_config(profile="smoke"))
    write_run(tmp_path, fake_config(seed=2))
    results = load_results(tmp_path)
    assert list(results.configs) == list(results.runs["config_id"]) == [one]
    assert results.configs[one]["train"]["vary"] == {"length": [1, 20]}


def test_old_runs_keep_their_identity(tmp_path):
    """A key that was added with a default, or that changes no number, sets no run apart."""
    new = fake_config(seed=2, paper={"loss_bits": []}, train__checkpoint_every=7)
    new["task"] |= {"summary": "Said anew.", "source": "elsewhere"}
    new["train"] |= {"momentum": 0.9, "stop_when_solved": False}
    old = fake_config(seed=1)
    assert "momentum" not in old["train"]
    assert config_id(old) == config_id(new) == config_id(RunConfig.from_dict(old, "").to_dict())
    write_run(tmp_path, old)
    write_run(tmp_path, new)
    results = load_results(tmp_path)
    assert set(results.runs["config_id"]) == {config_id(old)}
    assert results.configs == {config_id(old): identity(new)}
    assert results.examples[config_id(old)] == RunConfig.from_dict(old, "")
    with pytest.raises(UserError, match=r"it\.train lacks the key 'sequences'"):
        config_id({**old, "train": {}}, "it")


def test_fake_runs_are_of_the_tasks_and_models_there_are():
    for model in ("lstm", "gru", "ntm", "ntm-ff"):
        fake = RunConfig.from_dict(fake_config(model=model), "fake")
        real = resolve(load_task("copy"), model, seed=1)
        assert (fake.task, fake.model.target) == (real.task, real.model.target)
        assert fake.model.arguments.items() <= {**real.model.arguments, "hidden_size": 64}.items()


def test_keys_join_the_tables(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path, fake_config(seed=seed))
    results = load_results(tmp_path)
    for table in (results.curves, results.lengths):
        joined = table.merge(results.runs[KEYS], on=KEYS, validate="many_to_one")
        assert len(joined) == len(table) and set(joined["seed"]) == {1, 2}


BREAKS = {
    "config.json is corrupted": lambda run: run.config_file.write_text('{"schema": 1, "conf'),
    "config.json is corrupted: it lacks environment, config": lambda run: (
        run.config_file.write_text('{"schema": 1}')
    ),
    "config.json: config.task lacks the key 'name'": lambda run: edit(
        run.config_file, lambda content: content["config"]["task"].pop("name")
    ),
    "config.json: config.model must be a table, not 'ntm'": lambda run: edit(
        run.config_file, lambda content: content["config"].update(model="ntm")
    ),
    "config.json: config must be a table, not []": lambda run: edit(
        run.config_file, lambda content: content.update(config=[])
    ),
    "config.json: config.train 'rate'": lambda run: edit(
        run.config_file, lambda content: content["config"]["train"].update(rate=1)
    ),
    "config.json is corrupted: the seed 9223372036854775808 is not in": lambda run: edit(
        run.config_file, lambda content: content["config"].update(seed=2**63)
    ),
    "summary.json is corrupted: int too large": lambda run: edit(
        run.summary_file, lambda content: content.update(parameters=10**400)
    ),
    "it has no config.json": lambda run: run.config_file.unlink(),
    "summary.json is corrupted or cannot": lambda run: run.summary_file.write_bytes(b"\xff\xfe\0"),
    "summary.json is corrupted: it lacks seconds": lambda run: edit(
        run.summary_file, lambda content: content.pop("seconds")
    ),
    "summary.json is corrupted: 'fast' is not a number": lambda run: edit(
        run.summary_file, lambda content: content.update(seconds="fast")
    ),
    "summary.json is corrupted: unknown status": lambda run: edit(
        run.summary_file, lambda content: content.update(status="fine")
    ),
    "summary.json has schema version": lambda run: edit(
        run.summary_file, lambda content: content.update(schema=SCHEMA + 1)
    ),
    "config.json has schema version": lambda run: edit(
        run.config_file, lambda content: content.update(schema=SCHEMA + 1)
    ),
    "lengths.csv is missing": lambda run: run.lengths_file.unlink(),
    "curve.csv is missing": lambda run: run.curve_file.unlink(),
    "curve.csv is corrupted: its last line is torn": lambda run: run.curve_file.write_text(
        run.curve_file.read_text()[:-9]
    ),
    "curve.csv is corrupted: line 3": lambda run: run.curve_file.write_text(
        run.curve_file.read_text().replace("2000,2000,", "2000,")
    ),
    "curve.csv is corrupted: could not convert": lambda run: run.curve_file.write_text(
        run.curve_file.read_text().replace("2000,2000,", "2000,two,")
    ),
    "curve.csv is corrupted: its sequences": lambda run: run.curve_file.write_text(
        run.curve_file.read_text().replace("2000,2000,", "1000,2000,")
    ),
    "curve.csv is corrupted: it has the columns 'step,loss'": lambda run: run.curve_file.write_text(
        "step,loss\n1,2\n"
    ),
    "curve.csv is corrupted or cannot be read": lambda run: run.curve_file.write_bytes(
        b"\xff\xfe,\n"
    ),
    "lengths.csv is corrupted: it has the columns 'memory_rows,weights": lambda run: (
        run.lengths_file.write_text(
            "\n".join(line.partition(",")[2] for line in run.lengths_file.read_text().split("\n"))
        )
    ),
    "lengths.csv is corrupted: no axis can be called seed": lambda run: run.lengths_file.write_text(
        run.lengths_file.read_text().replace("length,", "seed,", 1)
    ),
    "lengths.csv is corrupted: it has the columns ''": lambda run: run.lengths_file.write_text(""),
}


@pytest.mark.parametrize("said", BREAKS)
def test_what_cannot_be_read_is_named(tmp_path, said):
    run = write_run(tmp_path, fake_config())
    BREAKS[said](run)
    assert said in problem_of(tmp_path)


# What not every run has: numbers of its memory, evaluations that were kept, a trace


def with_extras(root, seed=1, task="copy", model="ntm", **options):
    """A run with the rows of memory.csv and evals.csv that are written by hand here."""
    run = write_run(root, fake_config(task, model, seed), **options)
    axes = {"copy": {"length": 20}, "repeat_copy": {"length": 5, "repeats": 3}}[task]
    tail = {"value": 0.25 * seed, "stderr": math.nan, "sequences": 32}
    memory = {"memory_rows": 128, "weights": "best", "head": "read 1", "metric": "entropy_bits"}
    rows = [axes | memory | tail, axes | memory | tail | {"head": "write 1"}]
    write_rows(run.memory_file, (*axes, *MEMORY_COLUMNS), rows)
    evals = {"weights": "best", "metric": "wrong_bits"} | tail
    rows = [axes | {"memory_rows": count} | evals for count in (64, 256, None)]
    write_rows(run.evals_file, (*axes, *LENGTHS_COLUMNS), rows)
    run.trace_file.write_bytes(b"whatever: only who draws it reads it")
    return run


def test_memory_and_evaluations_are_tables_with_keys(tmp_path):
    first, second = with_extras(tmp_path), with_extras(tmp_path, 2)
    with_extras(tmp_path, task="repeat_copy")
    write_run(tmp_path, fake_config("copy", "lstm"))
    results = load_results(tmp_path)
    assert results.problems.empty and len(results.runs) == 4
    assert list(results.memory.columns) == [*(*KEYS, "point", "length", "repeats", *MEMORY_COLUMNS)]
    row = only(results.memory, task="copy", seed=2, head="write 1")
    assert (row["model"], row["point"], row["length"]) == ("ntm", "length=20", 20)
    assert (row["value"], row["memory_rows"], row["sequences"]) == (0.5, 128, 32)
    assert math.isnan(row["stderr"]) and math.isnan(row["repeats"])
    assert len(results.memory) == 6 and len(results.evals) == 9
    row = only(results.evals, task="repeat_copy", memory_rows=256)
    assert (row["point"], row["metric"], row["value"]) == (
        *("length=5,repeats=3", "wrong_bits", 0.25),
    )
    assert results.evals["memory_rows"].isna().sum() == 3
    for table in (results.memory, results.evals):
        joined = table.merge(results.runs[KEYS], on=KEYS, validate="many_to_one")
        assert len(joined) == len(table)
    traced = {f"copy/ntm/seed{n}": run.trace_file for n, run in ((1, first), (2, second))}
    assert {path: results.traces[path] for path in traced} == traced
    assert set(results.traces) == {*traced, "repeat_copy/ntm/seed1"}


def test_what_a_run_is_without_leaves_tables_empty(tmp_path):
    write_run(tmp_path, fake_config())
    results = load_results(tmp_path)
    for table, columns in ((results.memory, MEMORY_COLUMNS), (results.evals, LENGTHS_COLUMNS)):
        assert table.empty and list(table.columns) == [*KEYS, "point", *columns]
    assert results.traces == {}


def test_an_unfinished_runs_memory_is_of_no_account(tmp_path):
    """It was left by an end that was broken off, and is written anew when the run goes on."""
    with_extras(tmp_path, status="unfinished")
    results = load_results(tmp_path)
    assert len(results.runs) == 1 and results.problems.empty
    assert results.memory.empty and results.evals.empty and results.traces == {}


EXTRA_DAMAGE = {
    "is corrupted: its last line is torn": lambda text: text[:-5],
    "is corrupted: line 2 has not": lambda text: text.replace(",32\n", "\n", 1),
    "is corrupted: it has the columns ''": lambda text: "",
    "is corrupted: it has the columns 'memory_rows": lambda text: text.replace("length,", "", 1),
    "is corrupted: no axis can be called seed": lambda text: text.replace("length,", "seed,", 1),
    "is corrupted: could not convert": lambda text: text.replace("0.25", "much"),
}


@pytest.mark.parametrize("said", EXTRA_DAMAGE)
@pytest.mark.parametrize("name", ["memory.csv", "evals.csv"])
def test_a_broken_extra_is_named_and_the_run_kept(tmp_path, name, said):
    run, other = with_extras(tmp_path), with_extras(tmp_path, 2)
    path = run.path / name
    path.write_text(EXTRA_DAMAGE[said](path.read_text()))
    results = load_results(tmp_path)
    assert list(results.runs["seed"]) == [1, 2] and set(results.lengths["seed"]) == {1, 2}
    assert f"{name} {said}" in only(results.problems, path="copy/ntm/seed1")["problem"]
    broken, whole = results.memory, results.evals
    if name == "evals.csv":
        broken, whole = whole, broken
    assert set(broken["seed"]) == {2} and set(whole["seed"]) == {1, 2}
    assert other.path.exists() and len(results.traces) == 2


def test_both_extras_may_be_broken(tmp_path):
    run = with_extras(tmp_path)
    run.memory_file.write_text("")
    run.evals_file.write_bytes(b"\xff\xfe")
    results = load_results(tmp_path)
    assert len(results.runs) == 1 and results.memory.empty and results.evals.empty
    assert sorted(text.split()[0] for text in results.problems["problem"]) == [
        *("evals.csv", "memory.csv")
    ]


def test_a_broken_run_costs_no_other(tmp_path):
    write_run(tmp_path, fake_config(seed=1)).config_file.write_text("{")
    write_run(tmp_path, fake_config(seed=2))
    results = load_results(tmp_path)
    assert list(results.runs["seed"]) == [2] and list(results.problems["path"]) == [
        "copy/ntm/seed1"
    ]


def test_a_copied_folder_is_not_counted_twice(tmp_path):
    run = write_run(tmp_path, fake_config(seed=1))
    shutil.copytree(run.path, run.path.with_name("seed2"))
    results = load_results(tmp_path)
    assert len(results.runs) == 1
    assert "same run as copy/ntm/seed1" in only(results.problems, path="copy/ntm/seed2")["problem"]


def test_the_largest_seed(tmp_path):
    write_run(tmp_path, fake_config(seed=2**63 - 1))
    assert load_results(tmp_path).runs["seed"].tolist() == [2**63 - 1]


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        load_results(tmp_path / "nowhere")


def test_an_empty_folder_gives_empty_tables(tmp_path):
    results = load_results(tmp_path)
    assert results.runs.empty and results.problems.empty and results.axes == {}
    assert list(results.lengths.columns)[:5] == [*KEYS, "point"]


def test_many_runs(tmp_path):
    for seed in range(100):
        write_run(tmp_path, fake_config("copy", "ntm", seed), steps=50)
        write_run(tmp_path, fake_config("dynamic_ngrams", "lstm", seed), steps=50)
    results = load_results(tmp_path)
    assert len(results.runs) == 200 and len(results.curves) == 200 * 50
    assert results.runs["seed"].tolist()[:100] == list(range(100))  # 2 before 10


def test_torch_is_never_imported(tmp_path):
    """Not when the report is imported, nor when it is written."""
    for task in ("copy", "dynamic_ngrams"):
        write_run(tmp_path / "runs", fake_config(task))
    code = (
        "import sys; from pathlib import Path; import ntmbench.stats; "
        "from ntmbench.report import write_report; write_report(Path('runs'), Path('out')); "
        "print(sorted({'torch', 'matplotlib.pyplot', 'pandas'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout == "['pandas']\n"
    assert (tmp_path / "out/figures/dynamic_ngrams-positions.png").exists()
