"""The command line: what it prints, what it keeps, and what it says to a mistake."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import COPY, NGRAMS, NTM, PROGRAM, REPEAT_COPY, TINY, environment, output_of, state_of

from ntmbench.errors import UserError
from ntmbench.options import parse_point, parse_seeds

LSTM, OTHER, MEMORY = "results/copy/lstm/seed0", "results/copy/lstm/seed1", "results/copy/ntm/seed0"
TINY_LSTM = ("run", "copy", "--model", "lstm", *COPY)
TINY_NTM = ("run", "copy", "--model", "ntm", *COPY, *NTM)


def lengths(folder: Path, without: str | None = None) -> list[dict[str, Any]]:
    """The rows of lengths.csv as JSON has them: numbers, and null where a field is empty."""
    rows = csv.DictReader((folder / "lengths.csv").read_text().splitlines())
    texts = ("weights", "metric")
    found = [
        {key: value if key in texts else json.loads(value or "null") for key, value in row.items()}
        for row in rows
    ]
    return [row for row in found if row["weights"] != without]


def best_values(folder: Path) -> dict[tuple[int, str], float]:
    """What lengths.csv has for the best weights of a copy run, by length and metric."""
    rows = [row for row in lengths(folder) if row["weights"] == "best"]
    return {(row["length"], row["metric"]): row["value"] for row in rows}


def refused(result, *words: str) -> str:
    """What was said to a mistake: exit code 2, a message without traceback, nothing printed."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr, f"{word!r} is missing from: {result.stderr}"
    return result.stderr


# Lightness


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["list"], ["list", "--json"], ["--version"]),
        *([verb, "--help"] for verb in ("run", "resume", "eval", "compare", "report", "list")),
        ["run", "copi", "--model", "ntm"],
    ],
    ids=" ".join,
)
def test_what_computes_nothing_imports_nothing_heavy(arguments, tmp_path) -> None:
    code = (
        "import sys\nfrom ntmbench.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    modules = done.stderr.split()
    assert "ntmbench.cli" in modules
    assert not {"torch", "pandas", "matplotlib", "scipy"} & set(modules)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("ntmbench ru", ["run"]),
        ("ntmbench run co", ["copy"]),
        ("ntmbench run dynamic", ["dynamic_ngrams"]),
        ("ntmbench run copy --model gr", ["gru", "gru-large"]),
        ("ntmbench run copy --model ntm", ["ntm", "ntm-ff", "ntm-gru", "ntm-lstm"]),
        ("ntmbench run copy --devi", ["--device"]),
    ],
)
def test_completion(words, completed, tmp_path) -> None:
    count = str(len(words.split()) - 1)
    code = (
        "import sys\nfrom ntmbench.cli import main\n"
        "try:\n    main(prog_name='ntmbench')\n"
        "finally:\n    assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(_NTMBENCH_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=count),
    )
    found = [line.partition(",")[2] for line in output_of(done).splitlines()]
    assert sorted(found) == completed


# Listing


def test_list_names_tasks_aliases_and_models(invoke) -> None:
    text = invoke("list").stdout
    content = json.loads(invoke("list", "--json").stdout)
    names = [task["name"] for task in content["tasks"]]
    assert names == [
        *("associative_recall", "copy", "dynamic_ngrams", "priority_sort", "repeat_copy")
    ]
    assert {"lstm", "gru", "ntm", "ntm-gru", "ntm-ff"} <= set(content["models"])
    by_name = {task["name"]: task for task in content["tasks"]}
    assert by_name["repeat_copy"]["axes"] == ["length", "repeats"]
    assert by_name["dynamic_ngrams"]["aliases"] == ["ngrams"]
    assert all({"smoke", "standard", "paper"} <= set(task["profiles"]) for task in content["tasks"])
    for word in [*names, *content["models"], "ngrams", "ntm-lstm", "smoke"]:
        assert word in text


# Runs


def test_a_run_prints_its_scores_and_keeps_them(finished) -> None:
    for seed in (0, 1):
        assert f"copy / lstm / seed {seed}" in finished.stdout
    assert "copy / ntm / seed 0" in finished.stdout
    stored = best_values(finished.folder / MEMORY)
    for length in (3, 5):
        (line,) = [
            line
            for line in finished.stdout.split("copy / ntm")[1].splitlines()
            if line.startswith(f"length={length} ")
        ]
        for metric in ("loss_bits", "wrong_bits"):
            value = stored[length, metric]
            assert value > 1 and f"{value:.4g} ± " in line
    assert " a second, " in finished.stderr and "of training" in finished.stderr
    assert "\x1b" not in finished.stdout + finished.stderr


def test_a_run_folder_holds_what_is_documented(finished) -> None:
    for run in (LSTM, OTHER, MEMORY):
        names = {path.name for path in (finished.folder / run).iterdir()}
        assert names == {
            *("config.json", "curve.csv", "lengths.csv", "summary.json"),
            *("best.safetensors", "last.safetensors", "trace.npz"),
            *(("memory.csv",) if run == MEMORY else ()),
        }
    summary = json.loads((finished.folder / MEMORY / "summary.json").read_text())
    assert summary["status"] == "complete"
    assert (summary["sequences"], summary["updates"], summary["skipped"]) == (40, 5, 0)
    rows = lengths(finished.folder / MEMORY)
    assert {row["weights"] for row in rows} == {"best", "last", "chance", "optimum"}
    assert {row["memory_rows"] for row in rows if row["weights"] == "best"} == {8}


def test_seeds_differ(finished) -> None:
    one, other = (lengths(finished.folder / run, "chance")[0]["value"] for run in (LSTM, OTHER))
    assert one != other


def test_json_in_a_real_process_is_json_alone(ntmbench, tmp_path) -> None:
    done = ntmbench("run", "copy", "--model", "lstm", "--profile", "smoke", *COPY, "--json")
    (shown,) = json.loads(output_of(done))
    assert shown["folder"] == "results/copy/lstm@smoke/seed0" and shown["profile"] == "smoke"
    assert shown["model"] == "lstm@smoke" and shown["task"] == "copy" and shown["seed"] == 0
    folder = tmp_path / shown["folder"]
    assert shown["summary"] == json.loads((folder / "summary.json").read_text())
    assert shown["lengths"] == lengths(folder) and len(shown["lengths"]) == 24
    assert " a second, " in done.stderr


def test_a_complete_run_is_skipped_and_says_so(invoke, runs, tmp_path) -> None:
    before = state_of(tmp_path)
    result = invoke(*TINY_NTM, "--json")
    assert result.exit_code == 0
    assert "complete already, skipped" in result.stderr and MEMORY in result.stderr
    assert json.loads(result.stdout)[0]["lengths"] == lengths(runs / "ntm/seed0")
    assert state_of(tmp_path) == before


def test_another_configuration_in_the_same_folder_is_refused(invoke, runs, tmp_path) -> None:
    before = state_of(tmp_path)
    result = invoke(*TINY_NTM, "--set", "train.learning_rate=0.5")
    words = ("--tag", "--overwrite", "train.learning_rate", "0.0003", "0.5", MEMORY)
    refused(result, *words)
    assert state_of(tmp_path) == before


def test_one_refused_run_of_many_starts_none(invoke, runs, tmp_path) -> None:
    before = state_of(tmp_path)
    refused(invoke(*TINY_LSTM, "--seeds", "0-2", "--set", "train.momentum=0.5"), "train.momentum")
    assert state_of(tmp_path) == before


def test_overwrite_replaces(invoke, runs, tmp_path) -> None:
    untouched = state_of(runs / "lstm")
    (runs / "ntm/seed0/notes.txt").write_text("the user's own")
    before = lengths(runs / "ntm/seed0")
    result = invoke(*TINY_NTM, "--set", "train.learning_rate=0.5", "--overwrite", "--json")
    assert result.exit_code == 0
    after = lengths(runs / "ntm/seed0")
    assert json.loads(result.stdout)[0]["lengths"] == after != before
    config = json.loads((runs / "ntm/seed0/config.json").read_text())["config"]
    assert config["train"]["learning_rate"] == 0.5
    assert (runs / "ntm/seed0/notes.txt").read_text() == "the user's own"
    assert not list((runs / "ntm").glob(".*"))
    assert state_of(runs / "lstm") == untouched


def test_overwrite_replaces_even_a_ruin(invoke, runs) -> None:
    whole = lengths(runs / "ntm/seed0")
    (runs / "ntm/seed0/config.json").write_text("{")
    (runs / "ntm/seed0/summary.json").unlink()
    assert invoke(*TINY_NTM, "--overwrite").exit_code == 0
    assert lengths(runs / "ntm/seed0") == whole


def test_tags_keep_runs_apart(invoke, runs, tmp_path) -> None:
    before = state_of(runs)
    result = invoke(*TINY_NTM, "--set", "train.learning_rate=0.5", "--tag", "fast.0_5")
    assert result.exit_code == 0 and "copy / ntm@fast.0_5 / seed 0" in result.stdout
    after = state_of(runs)
    assert {key: after[key] for key in before} == before
    assert "ntm@fast.0_5/seed0/summary.json" in after


def test_a_profile_is_marked_in_what_it_writes_and_prints(invoke, tmp_path) -> None:
    result = invoke("run", "copy", "--model", "lstm", *COPY, "--profile", "smoke")
    assert "lstm@smoke" in result.stdout and "smoke profile" in result.stdout
    config = json.loads((tmp_path / "results/copy/lstm@smoke/seed0/config.json").read_text())
    assert config["config"]["profile"] == "smoke" and config["config"]["tag"] == "smoke"


def test_several_tasks_models_and_seeds_in_one_command(invoke, tmp_path) -> None:
    result = invoke(
        *("run", "recall", "priority-sort", "--model", "gru", "--model", "ntm-lstm", "--seeds=1,3"),
        *("--model", "gru", "--profile", "smoke", "--sequences", "2", "--tag", "x", "--json"),
        *("--set", "train.validation_sequences=2", "--set", "evaluate.sequences=2"),
        *("--set", "model.hidden_size=8"),
    )
    assert result.exit_code == 0, result.stderr
    found = [(row["task"], row["model"], row["seed"]) for row in json.loads(result.stdout)]
    assert found == [
        (task, model, seed)
        for task in ("associative_recall", "priority_sort")
        for model in ("gru@x", "ntm@x")
        for seed in (1, 3)
    ]
    assert "in all" in result.stderr
    for task, model, seed in found:
        assert (tmp_path / f"results/{task}/{model}/seed{seed}/summary.json").exists()


def test_two_tasks_of_one_name_are_not_one_run(invoke, tmp_path) -> None:
    """Two files that would share a folder are refused, instead of one being dropped in silence."""
    (tmp_path / "mine").mkdir()
    text = MY_TASK.format(generator="ntmbench.generators:Copy")
    (tmp_path / "mine/copy.toml").write_text(text)
    before = state_of(tmp_path)
    refused(invoke("run", "copy", "./mine/copy.toml", "--model", "lstm", *COPY), "copy/lstm/seed0")
    assert state_of(tmp_path) == before


def test_the_same_run_asked_for_twice_is_done_once(invoke, tmp_path) -> None:
    result = invoke("run", "copy", "copy", "--model", "lstm", "--model", "lstm", *COPY, "--json")
    assert len(json.loads(result.stdout)) == 1


def test_a_sequence_budget_smaller_than_the_batch_is_kept(invoke, tmp_path) -> None:
    result = invoke(*TINY_LSTM, "--sequences", "3", "--json")
    assert json.loads(result.stdout)[0]["summary"]["sequences"] == 3


def test_a_single_sequence_has_no_standard_error(invoke, tmp_path) -> None:
    result = invoke(*TINY_LSTM, "--set", "evaluate.sequences=1", "--json")
    rows = json.loads(result.stdout)[0]["lengths"]
    assert rows and all(row["stderr"] is None for row in rows)
    assert rows == lengths(tmp_path / LSTM)


def test_regret_where_the_best_predictor_errs(invoke, tmp_path) -> None:
    text = invoke("run", "ngrams", "--model", "lstm", *NGRAMS).stdout
    folder = tmp_path / "results/dynamic_ngrams/lstm/seed0"
    values = {(row["weights"], row["metric"]): row["value"] for row in lengths(folder)}
    loss, best = values["best", "loss_bits"], values["optimum", "loss_bits"]
    assert best > 1 and values["best", "regret_bits"] == pytest.approx(loss - best)
    assert "regret bits" in text
    assert (folder / "positions.csv").read_text().startswith("bits,memory_rows,weights,position,")
    rows = json.loads(invoke("eval", folder, "--json").stdout)
    assert rows == lengths(folder, "last")


# Evaluating again


@pytest.mark.parametrize("run", [LSTM, MEMORY])
@pytest.mark.parametrize("weights", ["best", "last"])
def test_eval_gives_exactly_the_stored_scores(run, weights, invoke, finished, tmp_path) -> None:
    before = state_of(finished.folder)
    result = invoke("eval", finished.folder / run, "--weights", weights, "--json")
    other = {"best": "last", "last": "best"}[weights]
    stored = lengths(finished.folder / run, other)
    assert len(stored) == 18
    assert json.loads(result.stdout) == stored
    assert state_of(finished.folder) == before


def test_best_and_last_weights_are_those_of_the_curve(invoke, tmp_path) -> None:
    """With a rate that worsens the loss, the best weights are not the last ones."""
    result = invoke(*TINY_LSTM, "--set", "train.learning_rate=3.0", "--sequences", "80", "--json")
    (shown,) = json.loads(result.stdout)
    assert shown["summary"]["best"]["sequences"] < shown["summary"]["last"]["sequences"]
    for which in ("best", "last"):
        rows = json.loads(invoke("eval", tmp_path / LSTM, "--weights", which, "--json").stdout)
        mine = [row["value"] for row in rows if row["weights"] == which]
        assert mine == [row["value"] for row in shown["lengths"] if row["weights"] == which]
    assert (tmp_path / LSTM / "best.safetensors").read_bytes() != (
        tmp_path / LSTM / "last.safetensors"
    ).read_bytes()


def test_eval_in_a_real_process_prints_the_stored_scores(program, finished) -> None:
    text = output_of(program(finished.folder, "eval", MEMORY))
    stored = best_values(finished.folder / MEMORY)
    for length in (3, 5):
        assert f"{stored[length, 'loss_bits']:.4g} ± " in text


def test_eval_at_other_points(invoke, finished) -> None:
    folder = finished.folder / MEMORY
    args = ("eval", folder, "--at", "length=7", "--at", "length=3", "--json")
    rows = json.loads(invoke(*args).stdout)
    assert [row["length"] for row in rows] == [7] * 9 + [3] * 9
    assert rows[9:] == lengths(folder, "last")[:9]
    assert all(row["sequences"] == 8 for row in rows)


def test_eval_with_more_sequences_and_more_memory(invoke, finished) -> None:
    folder = finished.folder / MEMORY
    usual = json.loads(invoke("eval", folder, "--json").stdout)
    same = json.loads(invoke("eval", folder, "--memory-rows", "8", "--json").stdout)
    larger = json.loads(invoke("eval", folder, "--memory-rows", "20", "--json").stdout)
    assert same == usual
    assert [row["memory_rows"] for row in larger if row["weights"] == "best"] == [20] * 6
    assert larger[0]["value"] != usual[0]["value"]
    more = json.loads(invoke("eval", folder, "--sequences", "30", "--json").stdout)
    assert {row["sequences"] for row in more} == {30}


def test_two_axes_in_any_order(invoke, tmp_path) -> None:
    assert invoke("run", "repeat-copy", "--model", "lstm", *REPEAT_COPY).exit_code == 0
    folder = tmp_path / "results/repeat_copy/lstm/seed0"
    rows = json.loads(invoke("eval", folder, "--at", "repeats=2,length=3", "--json").stdout)
    assert rows == lengths(folder, "last")[:9]
    assert list(rows[0])[:2] == ["length", "repeats"]
    words = ("--at", "length, repeats", "repeats is missing")
    refused(invoke("eval", folder, "--at", "length=5"), *words)


# Comparing


def test_compare_of_a_run_with_itself(invoke, finished) -> None:
    folder = finished.folder / MEMORY
    content = json.loads(invoke("compare", folder, folder, "--json").stdout)
    assert content["configuration"] == []
    assert len(content["points"]) == 6 and content["points"][0]["a"] > 1
    for row in content["points"]:
        assert row["a"] == row["b"]
        assert (row["difference"], row["low"], row["high"]) == (0, 0, 0)
    assert "the same" in invoke("compare", folder, folder).stdout


def test_compare_of_two_runs(invoke, finished) -> None:
    a, b = finished.folder / LSTM, finished.folder / MEMORY
    content = json.loads(invoke("compare", a, b, "--json").stdout)
    changed = {row["key"]: (row["a"], row["b"]) for row in content["configuration"]}
    assert changed["model.name"] == ("lstm", "ntm")
    assert not any(key.startswith(("evaluate", "seed")) for key in changed)
    of_recipes = {"train.learning_rate", "train.schedule"}
    assert {key for key in changed if key.startswith("train")} == of_recipes
    stored = [best_values(folder) for folder in (a, b)]
    seen = 0
    for row in content["points"]:
        key = (int(row["point"].removeprefix("length=")), row["metric"])
        assert (row["a"], row["b"]) == (stored[0][key], stored[1][key])
        assert row["difference"] == pytest.approx(row["b"] - row["a"])
        assert row["low"] <= row["difference"] <= row["high"] and row["sequences"] == 8
        seen += row["low"] < row["difference"] < row["high"]
    assert seen >= 4
    backwards = json.loads(invoke("compare", b, a, "--json").stdout)["points"]
    assert [row["difference"] for row in backwards] == [
        -row["difference"] for row in content["points"]
    ]
    text = invoke("compare", a, b).stdout
    assert "model.name: 'lstm' -> 'ntm'" in text and "95 % interval" in text


def test_compare_of_two_tasks_is_refused(invoke, runs, tmp_path) -> None:
    invoke("run", "ngrams", "--model", "lstm", *NGRAMS)
    other = "results/dynamic_ngrams/lstm/seed0"
    refused(invoke("compare", LSTM, other), "identical sequences", "copy", "dynamic_ngrams", other)


def test_compare_of_one_task_with_other_params_is_refused(invoke, runs) -> None:
    assert invoke(*TINY_LSTM, "--set", "params.width=3", "--tag", "narrow").exit_code == 0
    refused(invoke("compare", LSTM, "results/copy/lstm@narrow/seed0"), "params", "'width': 3")


# Report and resume


def test_report_names_what_it_wrote(program, runs, tmp_path) -> None:
    text = output_of(program(tmp_path, "report"))
    assert text == "report: results/report/report.html\n"
    page = (tmp_path / "results/report/report.md").read_text()
    assert "lstm" in page and "ntm" in page and "copy" in page


def test_report_into_another_folder(invoke, runs, tmp_path) -> None:
    before = state_of(tmp_path / "results")
    assert invoke("report", "results", "--out", "elsewhere/page").exit_code == 0
    assert (tmp_path / "elsewhere/page/report.md").exists()
    assert state_of(tmp_path / "results") == before


def test_resume_of_a_complete_run_changes_nothing(invoke, runs, tmp_path) -> None:
    before = state_of(tmp_path)
    result = invoke("resume", MEMORY, LSTM, "--json")
    assert result.exit_code == 0 and result.stderr.count("complete already, skipped") == 2
    assert [row["folder"] for row in json.loads(result.stdout)] == [MEMORY, LSTM]
    assert state_of(tmp_path) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["list", "--json"], ["list"]])
def test_output_that_cannot_be_written_is_no_traceback(words, tmp_path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, text=True, env=environment()
        )
    assert done.returncode == 2
    assert "No space left on device" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_name_too_long_for_the_disk_is_no_traceback(ntmbench) -> None:
    done = ntmbench("run", "copy", "--model", "lstm", "--profile", "smoke", "--out", "x" * 300)
    assert done.returncode == 2 and "File name too long" in done.stderr
    assert "Traceback" not in done.stderr


def test_resume_finishes_an_interrupted_run(invoke, interrupted) -> None:
    result = invoke("resume", interrupted)
    assert result.exit_code == 0 and "resumed after 64 sequences" in result.stderr
    assert "may differ" not in result.stderr
    assert (interrupted / "summary.json").exists()
    assert not (interrupted / "checkpoint.pt").exists()


def test_run_goes_on_with_an_interrupted_run(invoke, interrupted) -> None:
    result = invoke(*TINY_NTM, "--sequences", "200")
    assert result.exit_code == 0 and "resumed after 64 sequences" in result.stderr


def test_resume_says_what_may_change_the_digits(invoke, interrupted) -> None:
    content = json.loads((interrupted / "config.json").read_text())
    content["environment"]["torch"] = "2.0.0"
    (interrupted / "config.json").write_text(json.dumps(content))
    result = invoke("resume", interrupted)
    assert "may differ in the last digits: changed torch 2.0.0 -> " in result.stderr


# Tasks and models from outside

OWN = COPY[: COPY.index("model.hidden_size=8") - 1] + COPY[COPY.index("model.hidden_size=8") + 1 :]
"""The options of a small run of a model that has no hidden size."""

MY_MODEL = '''
import torch
from torch import nn

class MyModel(nn.Module):
    """Sees its own step only."""

    def __init__(self, input_size, output_size, *, {keyword}):
        super().__init__()
        self.layer = nn.Linear(input_size, output_size)

    def initial_state(self, batch_size):
        return torch.zeros(batch_size)

    def forward(self, inputs_BTI, state=None):
        return self.layer(inputs_BTI), self.initial_state(len(inputs_BTI))
'''

MY_TASK = """
summary   = "Own."
source    = "here"
version   = 1
generator = "{generator}"
[train]
sequences = 40
vary = {{ length = [1, 5] }}
[evaluate]
points = [{{ length = 3 }}]
[solved]
metric = "loss_bits"
below = 0.1
"""

MY_GENERATOR = """
from dataclasses import dataclass
from ntmbench.generators import Copy

@dataclass(frozen=True, kw_only=True)
class Backwards(Copy):
    def sample(self, rng, batch_size, *, length):
        batch = super().sample(rng, batch_size, length=length)
        return batch
"""


def write_model(folder: Path, module: str, keyword: str = "scale=1.0") -> None:
    (folder / f"{module}.py").write_text(MY_MODEL.format(keyword=keyword))


def test_own_task_file_own_generator_and_own_model(ntmbench, tmp_path) -> None:
    (tmp_path / "my-task.toml").write_text(MY_TASK.format(generator="my_tasks:Backwards"))
    (tmp_path / "my_tasks.py").write_text(MY_GENERATOR)
    write_model(tmp_path, "my_model")
    arguments = ("run", "my-task.toml", "--model", "my_model:MyModel", *OWN)
    done = ntmbench(*arguments, "--set", "model.scale=2")
    assert "my-task / my_model.MyModel / seed 0" in output_of(done)
    folder = tmp_path / "results/my-task/my_model.MyModel/seed0"
    config = json.loads((folder / "config.json").read_text())["config"]
    assert config["task"]["generator"] == "my_tasks:Backwards"
    assert config["model"] == {
        "name": "my_model.MyModel",
        "target": "my_model:MyModel",
        "arguments": {"scale": 2},
    }
    assert len(lengths(folder)) == 24


def test_a_variant_of_a_task_in_another_folder(invoke, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/short.toml").write_text(MY_TASK.format(generator="ntmbench.generators:Copy"))
    result = invoke("run", "./mine/short.toml", "--model", "lstm", *COPY)
    assert result.exit_code == 0 and "short / lstm / seed 0" in result.stdout
    assert invoke("eval", "results/short/lstm/seed0").exit_code == 0


def test_a_model_of_an_installed_package(invoke, tmp_path, monkeypatch) -> None:
    """A package's entry point, read from real metadata on the path."""
    site = tmp_path / "site"
    (site / "other-1.0.dist-info").mkdir(parents=True)
    (site / "other-1.0.dist-info/METADATA").write_text("Name: other\nVersion: 1.0\n")
    points = "[ntmbench.models]\nplain = other_models:MyModel\n"
    (site / "other-1.0.dist-info/entry_points.txt").write_text(points)
    write_model(site, "other_models")
    before = json.loads(invoke("list", "--json").stdout)["models"]
    monkeypatch.syspath_prepend(site)
    assert json.loads(invoke("list", "--json").stdout)["models"] == sorted([*before, "plain"])
    result = invoke("run", "copy", "--model", "plain", *OWN)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "results/copy/plain/seed0/summary.json").exists()
    refused(invoke("run", "copy", "--model", "plane"), "did you mean 'plain'?")


@pytest.mark.parametrize("default", ["(64, 64)", "None", "'x'", "[1, 2]", "True", "0.1"])
def test_a_models_default_survives_the_folder(default, invoke, tmp_path) -> None:
    """A run of a model whose keyword has this default is recognised as the same run."""
    name = f"default_model_{zlib.crc32(default.encode())}"
    write_model(tmp_path, name, f"option={default}")
    arguments = ("run", "copy", "--model", f"{name}:MyModel", *OWN)
    assert invoke(*arguments).exit_code == 0
    again = invoke(*arguments)
    assert again.exit_code == 0 and "complete already, skipped" in again.stderr


@pytest.mark.parametrize("default", ["object()", "float('inf')", "torch.float32"])
def test_a_default_that_a_folder_cannot_hold_is_refused(default, invoke, tmp_path) -> None:
    name = f"odd_model_{zlib.crc32(default.encode())}"
    write_model(tmp_path, name, f"option={default}")
    before = state_of(tmp_path)
    refused(invoke("run", "copy", "--model", f"{name}:MyModel", *OWN), "option", name)
    assert {path for path in state_of(tmp_path) if "__pycache__" not in path} == set(before)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("class MyModel(:", ["SyntaxError"]),
        ("raise RuntimeError('no luck')", ["RuntimeError", "no luck"]),
        ("import nonexistent_module", ["ModuleNotFoundError", "nonexistent_module"]),
        ("class Mymodel: pass", ["MyModel", "did you mean 'Mymodel'?"]),
        ("MyModel = 3", ["class", "MyModel"]),
        (MY_MODEL.format(keyword="scale=1, **options"), ["**keywords"]),
        (MY_MODEL.format(keyword="size"), ["needs --set model.size=VALUE"]),
        (MY_MODEL.format(keyword="size=1").replace("initial_state", "start"), ["initial_state()"]),
        ("class MyModel: pass", ["torch.nn.Module"]),
        (MY_MODEL.format(keyword="size=1, x=[][0]"), ["IndexError"]),
    ],
)
def test_a_broken_model_file_is_named(source, words, invoke, tmp_path) -> None:
    name = f"broken_model_{zlib.crc32(source.encode())}"
    (tmp_path / f"{name}.py").write_text(source)
    result = invoke("run", "copy", "--model", f"{name}:MyModel", "--profile", "smoke")
    refused(result, name, *words)
    assert not (tmp_path / "results").exists()


# Mistakes

BAD_OPTIONS = [
    # what it names
    ("run copi --model ntm", ["copi", "did you mean 'copy'?", "repeat_copy"]),
    ("run copy recal --model ntm", ["recal", "did you mean 'recall'?"]),
    ("run copy --model ltsm", ["ltsm", "did you mean 'lstm'?", "gru"]),
    ("run copy --model ntm-gur", ["did you mean 'ntm-gru'?"]),
    ("run copy --model nowhere:Model", ["nowhere:Model", "importing nowhere failed"]),
    ("run copy --model json:Model", ["class in json 'Model'", "JSONDecoder"]),
    ("run copy --model :Model", [":Model", "package.module:Class"]),
    ("run copy --model torch:", ["torch:", "package.module:Class"]),
    ("run copy --model lstm --profile smok", ["smok", "did you mean 'smoke'?", "paper"]),
    ("run copy", ["--model"]),
    ("run --model lstm", ["TASK"]),
    ("rum copy --model lstm", ["rum"]),
    ("run copy --model lstm --sequence 5", ["--sequence"]),
    ("run copy --model lstm --set trian.batch_size=3", ["trian", "did you mean 'train'?"]),
    ("run copy --model lstm --set train.batchsize=3", ["did you mean 'batch_size'?"]),
    ("run copy --model lstm --set evaluate.point=[]", ["did you mean 'points'?"]),
    ("run copy --model lstm --set solved.time=1", ["did you mean 'times'?"]),
    ("run copy --model lstm --set params.widht=1", ["did you mean 'width'?", "(allowed: width)"]),
    ("run copy --model lstm --set model.hiden_size=9", ["did you mean 'hidden_size'?", "layers"]),
    ("run copy --model lstm --set model.memory_rows=9", ["memory_rows", "hidden_size, layers"]),
    ("run copy --model lstm --set paper.loss_bits=[]", ["paper", "train"]),
    ("run copy --model lstm --set recipes.lstm.train.decay=0", ["recipes", "train"]),
    ("run copy --model lstm --set batch_size=3", ["section.key=VALUE", "batch_size=3"]),
    ("run copy --model lstm --set train.batch_size", ["section.key=VALUE", "train.batch_size"]),
    ("run copy --model lstm --set train..x=3", ["section.key=VALUE"]),
    ("run copy --model lstm --set train.vary.lenght=[1,2]", ["lenght", "did you mean 'length'?"]),
    ("run copy --model lstm --set train.sequences=[1", ["train.sequences", "[1", "TOML"]),
    ("run copy --model lstm --set train.decay=0.5\nx=1", ["train.decay", "TOML"]),
    # types
    ("run copy --model lstm --set train.batch_size=x", ["train.batch_size", "whole number", "'x'"]),
    ("run copy --model lstm --set train.batch_size=1.5", ["train.batch_size", "whole number"]),
    ("run copy --model lstm --set train.batch_size=true", ["train.batch_size", "whole number"]),
    ('run copy --model lstm --set train.learning_rate="x"', ["learning_rate", "a number", "'x'"]),
    ("run copy --model lstm --set train.learning_rate=nan", ["learning_rate", "finite", "nan"]),
    ("run copy --model lstm --set train.learning_rate=inf", ["learning_rate", "finite", "inf"]),
    ("run copy --model lstm --set train.stop_when_solved=1", ["true or false", "1"]),
    ("run copy --model lstm --set train.stop_when_solved=True", ["true or false", "True"]),
    ("run copy --model lstm --set train.vary=3", ["train.vary", "table", "3"]),
    ("run copy --model lstm --set train.vary.length=3", ["train.vary.length", "list", "3"]),
    ("run copy --model lstm --set train.vary.length=[1,2.5]", ["train.vary.length", "2.5"]),
    ("run copy --model lstm --set evaluate.points=3", ["evaluate.points", "list", "3"]),
    ("run copy --model lstm --set evaluate.points=[3]", ["evaluate.points[0]", "table", "3"]),
    ("run copy --model lstm --set model.hidden_size=x", ["hidden_size", "whole number", "'x'"]),
    ("run copy --model lstm --set model.hidden_size=true", ["hidden_size", "True"]),
    ("run copy --model lstm --set params.width=8.0", ["width", "whole number", "8.0"]),
    # ranges
    ("run copy --model lstm --sequences 0", ["--sequences", "0", "1"]),
    ("run copy --model lstm --sequences -5", ["--sequences", "-5", "1"]),
    ("run copy --model lstm --sequences ten", ["--sequences", "ten"]),
    ("run copy --model lstm --seed -1", ["--seed", "-1", "0"]),
    ("run copy --model lstm --seed 1.5", ["--seed", "1.5"]),
    ("run copy --model lstm --seeds 5-3", ["5-3", "5 is over 3"]),
    ("run copy --model lstm --seeds a", ["'a'", "0-9"]),
    ("run copy --model lstm --seeds -1", ["-1", "0-9"]),
    ("run copy --model lstm --seeds 0-", ["'0-'", "0-9"]),
    ("run copy --model lstm --seeds 1,1", ["1,1", "twice"]),
    ("run copy --model lstm --seeds 0-99999999999", ["10,000"]),
    ("run copy --model lstm --seed 1 --seeds 1-2", ["--seed", "--seeds", "both"]),
    ("run copy --model lstm --set train.batch_size=0", ["train.batch_size", "1 or more", "0"]),
    ("run copy --model lstm --set train.sequences=-1", ["train.sequences", "1 or more", "-1"]),
    ("run copy --model lstm --set train.curve_every=0", ["train.curve_every", "1 or more"]),
    ("run copy --model lstm --set train.checkpoint_every=0", ["checkpoint_every", "1 or more"]),
    ("run copy --model lstm --set train.validation_sequences=0", ["validation_sequences", "0"]),
    ("run copy --model lstm --set train.diverged_after=0", ["diverged_after", "1 or more", "0"]),
    ("run copy --model lstm --set train.learning_rate=0", ["learning_rate", "over 0", "0.0"]),
    ("run copy --model lstm --set train.learning_rate=-1", ["learning_rate", "over 0", "-1.0"]),
    ("run copy --model lstm --set train.clip_at=0", ["clip_at", "over 0"]),
    ("run copy --model lstm --set train.input_noise=-0.1", ["input_noise", "0 to 1000", "-0.1"]),
    ("run copy --model lstm --set train.average_over=-1", ["average_over", "0, or the", "-1"]),
    ("run copy --model lstm --set train.average_over=31", ["average_over", "(512) or more", "31"]),
    ("run copy --model lstm --set train.average_over=1.5", ["average_over", "whole number", "1.5"]),
    ("run copy --model lstm --set train.input_noise=lots", ["input_noise", "a number", "lots"]),
    ("run copy --model lstm --set train.momentum=1", ["momentum", "under 1", "1.0"]),
    ("run copy --model lstm --set train.decay=-0.1", ["decay", "at least 0", "-0.1"]),
    ("run copy --model lstm --set train.clip=norms", ["norms", "did you mean 'norm'?", "value"]),
    ("run copy --model lstm --set train.optimiser=sgd", ["sgd", "adam", "graves-rmsprop"]),
    ("run copy --model lstm --set train.loss=max", ["train.loss", "max", "mean", "sum"]),
    ("run copy --model lstm --set train.lengths=batches", ["did you mean 'batch'?"]),
    ("run copy --model lstm --set solved.metric=loss", ["loss_bits", "wrong_bits"]),
    ("run copy --model lstm --set solved.times=0", ["solved.times", "1 or more", "0"]),
    ("run copy --model lstm --set train.vary.length=[5,3]", ["lowest <= highest", "[5, 3]"]),
    ("run copy --model lstm --set train.vary.length=[0,3]", ["1 <= lowest", "[0, 3]"]),
    ("run copy --model lstm --set train.vary.length=[3]", ["[lowest, highest]", "[3]"]),
    ("run copy --model lstm --set evaluate.sequences=0", ["evaluate.sequences", "1 or more"]),
    ("run copy --model lstm --set evaluate.batch_size=0", ["evaluate.batch_size", "1 or more"]),
    ("run copy --model lstm --set evaluate.seed=-1", ["evaluate.seed", "0 or more", "-1"]),
    ("run copy --model lstm --set evaluate.points=[{length=0}]", ["length", "1 or more", "0"]),
    ("run copy --model lstm --set evaluate.points=[{lenght=5}]", ["lenght", "'length'?"]),
    ("run copy --model lstm --set evaluate.points=[{}]", ["evaluate.points", "length is missing"]),
    ("run repeat_copy --model lstm --set evaluate.points=[{length=5}]", ["repeats is missing"]),
    ("run repeat_copy --model lstm --set params.max_repeats=1", ["max_repeats", "2 or more", "1"]),
    ("run copy --model lstm --set params.width=0", ["width", "1 or more", "0"]),
    ("run priority_sort --model lstm --set params.keep=1.5", ["keep", "at most 1", "1.5"]),
    ("run recall --model lstm --set train.vary.items=[1,6]", ["items", "2 to", "1"]),
    ("run recall --model lstm --set evaluate.points=[{items=1}]", ["items", "2 to", "1"]),
    ("run copy --model lstm --set train.vary.length=[1,100000000000000000000]", ["length"]),
    ("run copy --model lstm --set model.hidden_size=0", ["hidden_size", "1 or more", "0"]),
    ("run copy --model lstm --set model.layers=0", ["layers", "1 or more", "0"]),
    ("run copy --model ntm --set model.memory_rows=0", ["memory_rows", "1 or more", "0"]),
    ("run copy --model ntm --set model.memory_width=-1", ["memory_width", "1 or more", "-1"]),
    ("run copy --model ntm --set model.heads=0", ["heads", "1 or more", "0"]),
    ("run copy --model ntm --set model.shift_range=64", ["shift_range", "64", "128"]),
    ("run copy --model ntm --set model.controller=ltsm", ["controller", "lstm, gru, ff", "ltsm"]),
    ("run copy --model ntm --set model.addressing=none", ["addressing", "content", "none"]),
    ("run copy --model ntm --set model.memory_rows=10000000000000", ["memory"]),
    ("run copy --model lstm --set model.hidden_size=100000000000000000000", ["hidden_size"]),
    ("run copy --model lstm --tag a/b", ["tag", "a/b", "letters"]),
    ("run copy --model lstm --tag ../b", ["tag", "../b"]),
    ("run copy --model lstm --device gpu", ["gpu", "auto", "cpu", "cuda"]),
    # the same mistakes must not cost the earlier run
    ("run copy --model lstm --overwrite --set model.hidden_size=0", ["hidden_size"]),
    ("run copy --model ntm --overwrite --set model.shift_range=64", ["shift_range"]),
    ("run copy --model lstm --overwrite --set train.batch_size=0", ["batch_size"]),
    ("run copy --model lstm --overwrite --set params.width=0", ["width"]),
    # eval, compare, resume
    (f"eval {MEMORY} --memory-rows 0", ["--memory-rows", "0", "1"]),
    (f"eval {MEMORY} --memory-rows 2", ["shift_range 1", "memory_rows, which is 2"]),
    (f"eval {LSTM} --memory-rows 20", ["memory rows", "model"]),
    (f"eval {MEMORY} --sequences 0", ["--sequences", "0", "1"]),
    (f"eval {MEMORY} --weights first", ["first", "best", "last"]),
    (f"eval {MEMORY} --at lenght=5", ["lenght", "did you mean 'length'?"]),
    (f"eval {MEMORY} --at length=0", ["--at", "length=0", "from 1"]),
    (f"eval {MEMORY} --at length=-3", ["--at", "length=-3", "from 1"]),
    (f"eval {MEMORY} --at length=x", ["--at", "length=x"]),
    (f"eval {MEMORY} --at length", ["--at", "axis=NUMBER"]),
    (f"eval {MEMORY} --at 50", ["--at", "axis=NUMBER"]),
    (f"eval {MEMORY} --at length=5,repeats=2", ["repeats", "length"]),
    (f"eval {MEMORY} --at length=5,length=6", ["length", "length=5,length=6"]),
    ("eval results/copy/gru/seed0", ["results/copy/gru/seed0", "no config.json"]),
    ("eval results", ["results", "no config.json"]),
    (f"eval {MEMORY}/config.json", ["config.json"]),
    ("resume results/copy/gru/seed0", ["results/copy/gru/seed0", "no config.json"]),
    (f"resume {MEMORY} nothing", ["nothing", "no config.json"]),
    (f"compare {MEMORY} nothing", ["nothing", "no config.json"]),
    (f"compare nothing {MEMORY}", ["nothing", "no config.json"]),
    (f"compare {MEMORY}", ["RUN_B"]),
    ("report nothing", ["nothing"]),
    # places
    ("run copy --model lstm --out a_file", ["a_file"]),
    ("report --out a_file", ["a_file"]),
    ("run copy --model lstm --out a_file/below", ["a_file/below"]),
    ("report --out a_file/below", ["a_file/below"]),
    # task files
    ("run missing.toml --model lstm", ["missing.toml", "No such file"]),
    ("run ./missing --model lstm", ["missing", "No such file"]),
    ("run a_folder.toml --model lstm", ["a_folder.toml", "directory"]),
    ("run binary.toml --model lstm", ["binary.toml", "TOML"]),
    ("run broken.toml --model lstm", ["broken.toml", "line 3"]),
    ("run empty.toml --model lstm", ["empty.toml", "lacks"]),
]


@pytest.mark.parametrize(("command", "words"), BAD_OPTIONS, ids=[row[0] for row in BAD_OPTIONS])
def test_a_mistake_is_named_and_changes_nothing(command, words, invoke, runs, tmp_path) -> None:
    (tmp_path / "a_file").write_text("not a folder")
    (tmp_path / "a_folder.toml").mkdir()
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    (tmp_path / "broken.toml").write_text('summary = "x"\nversion = 1\nsource = \n')
    (tmp_path / "empty.toml").write_text("")
    before = state_of(tmp_path)
    arguments = command.split(" ")
    if arguments[0] == "run" and not {"--overwrite", "--tag"} & set(arguments):
        arguments += ["--tag", "new"]
    if arguments[0] == "run" and "--profile" not in arguments:
        arguments += ["--profile", "smoke"]
    refused(invoke(*arguments), *words)
    assert state_of(tmp_path) == before


def test_an_overwrite_that_fails_late_keeps_the_earlier_run(invoke, tmp_path) -> None:
    """A point that the generator refuses is seen before the earlier run is cleared away."""
    recall = ("run", "recall", "--model", "lstm", *TINY, "--set", "evaluate.points=[{items=2}]")
    assert invoke(*recall).exit_code == 0
    before = state_of(tmp_path)
    result = invoke(*recall, "--overwrite", "--set", "evaluate.points=[{items=1}]")
    assert result.exit_code == 2 and "items" in result.stderr
    assert state_of(tmp_path) == before


TASK_FILES = [
    ("summary", "sumary", ["sumary", "did you mean 'summary'?"]),
    ("version   = 1", "", ["lacks the key 'version'"]),
    ("version   = 1", 'version = "1"', ["version", "whole number"]),
    ("sequences = 40", "", ["train lacks the key 'sequences'"]),
    ("sequences = 40", "sequences = 0", ["train.sequences", "1 or more", "0"]),
    ("sequences = 40", "sequnces = 40", ["did you mean 'sequences'?"]),
    ("below = 0.1", "", ["solved lacks the key 'below'"]),
    ("below = 0.1", "below = 0.1\n[profile.smoke]", ["profile", "did you mean 'profiles'?"]),
    ("below = 0.1", "below = 0.1\n[profiles.smoke.trian]", ["trian", "did you mean 'train'?"]),
    ("below = 0.1", "below = 0.1\n[recipes.lstm.modle]", ["modle", "did you mean 'model'?"]),
    ("below = 0.1", "below = 0.1\n[params]\nwidht = 3", ["widht", "did you mean 'width'?"]),
    ("below = 0.1", "below = 0.1\n[recipes.lstm.train]\nrate = 3", ["rate"]),
    ("{ length = 3 }", "{ lenght = 3 }", ["lenght", "did you mean 'length'?"]),
    ("{ length = 3 }", "{ }", ["length is missing"]),
    ("points = [{ length = 3 }]", "", ["evaluate lacks the key 'points'"]),
    ("length = [1, 5]", "length = [5, 1]", ["lowest <= highest", "[5, 1]"]),
    ("length = [1, 5]", "size = [1, 5]", ["size", "length"]),
    ("ntmbench.generators:Copy", "ntmbench.generators:Copi", ["Copi", "did you mean 'Copy'?"]),
    ("ntmbench.generators:Copy", "ntmbench.generators", ["package.module:Class"]),
    ("ntmbench.generators:Copy", "nowhere:Copy", ["nowhere"]),
    ("ntmbench.generators:Copy", "pathlib:Path", ["pathlib:Path"]),
    ('metric = "loss_bits"', 'metric = "loss"', ["solved.metric", "loss_bits"]),
    ("[train]", "[train\n", ["line 6"]),
]


@pytest.mark.parametrize(("old", "new", "words"), TASK_FILES)
def test_a_mistake_in_a_task_file_names_the_file(old, new, words, invoke, tmp_path) -> None:
    text = MY_TASK.format(generator="ntmbench.generators:Copy")
    assert old in text
    (tmp_path / "own.toml").write_text(text.replace(old, new))
    before = state_of(tmp_path)
    refused(invoke("run", "own.toml", "--model", "lstm"), "own.toml", *words)
    assert state_of(tmp_path) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_named(invoke, interrupted, tmp_path) -> None:
    refused(invoke("run", "copy", "--model", "lstm", "--device", "cuda"), "cuda", "cpu")
    content = json.loads((interrupted / "config.json").read_text())
    content["config"]["device"] = "cuda"
    (interrupted / "config.json").write_text(json.dumps(content))
    before = state_of(tmp_path)
    refused(invoke("resume", interrupted), "cuda", "cpu")
    assert state_of(tmp_path) == before


def test_an_unwritable_folder_is_named(invoke, tmp_path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; a path below a file stands in for it")
    (tmp_path / "closed").mkdir(mode=0o500)
    refused(invoke(*TINY_LSTM, "--out", "closed"), "closed", "Permission denied")


def test_real_processes_exit_with_2_and_no_traceback(ntmbench, tmp_path) -> None:
    done = ntmbench("run", "copy", "--model", "lstm", "--set", "model.hiden_size=3")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("Error: ") and "did you mean 'hidden_size'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert state_of(tmp_path) == {}


# Damaged folders


def change_json(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))


def cut(path: Path, share: float = 0.5) -> None:
    """Leave the first part of a file."""
    content = path.read_bytes()
    assert len(content) > 20
    path.write_bytes(content[: int(len(content) * share)])


def other_weights(folder: Path, which: str) -> None:
    shutil.copy(folder.parent.parent / "lstm/seed0" / f"{which}.safetensors", folder)


def drop_key(path: Path, *keys: str) -> None:
    content = json.loads(path.read_text())
    table = content
    for key in keys[:-1]:
        table = table[key]
    del table[keys[-1]]
    path.write_text(json.dumps(content))


DAMAGE = {
    "no summary": (lambda f: (f / "summary.json").unlink(), ["unfinished", "ntmbench resume"]),
    "no config": (lambda f: (f / "config.json").unlink(), ["no config.json"]),
    "newer config": (lambda f: change_json(f / "config.json", schema=2), ["version 2", "update"]),
    "newer summary": (lambda f: change_json(f / "summary.json", schema=2), ["version 2", "update"]),
    "no schema": (lambda f: drop_key(f / "config.json", "schema"), ["config.json", "schema"]),
    "cut config": (lambda f: cut(f / "config.json"), ["config.json", "corrupted"]),
    "empty config": (lambda f: (f / "config.json").write_text(""), ["config.json", "corrupted"]),
    "binary config": (
        lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"),
        ["config.json", "corrupted"],
    ),
    "list config": (lambda f: (f / "config.json").write_text("[1]"), ["config.json", "corrupted"]),
    "key missing in config": (
        lambda f: drop_key(f / "config.json", "config", "train", "sequences"),
        ["config.json", "train", "'sequences'"],
    ),
    "model missing in config": (
        lambda f: drop_key(f / "config.json", "config", "model"),
        ["config.json", "'model'"],
    ),
    "cut summary": (lambda f: cut(f / "summary.json"), ["summary.json", "corrupted"]),
    "no weights": (lambda f: (f / "best.safetensors").unlink(), ["best.safetensors"]),
    "other weights": (lambda f: other_weights(f, "best"), ["best.safetensors", "do not fit"]),
    "cut weights": (lambda f: cut(f / "best.safetensors"), ["best.safetensors", "corrupted"]),
    "empty weights": (
        lambda f: (f / "best.safetensors").write_bytes(b""),
        ["best.safetensors", "corrupted"],
    ),
    "pickled weights": (
        lambda f: torch.save({"a": torch.ones(3)}, f / "best.safetensors"),
        ["best.safetensors", "corrupted"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_eval_and_compare_name_a_damaged_file(damage, invoke, runs, tmp_path) -> None:
    change, words = DAMAGE[damage]
    change(runs / "ntm/seed0")
    before = state_of(tmp_path)
    refused(invoke("eval", MEMORY), MEMORY, *words)
    refused(invoke("compare", LSTM, MEMORY), MEMORY, *words)
    refused(invoke("compare", MEMORY, LSTM), MEMORY, *words)
    assert state_of(tmp_path) == before


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: cut(f / "summary.json"), ["summary.json", "corrupted"]),
        (lambda f: change_json(f / "summary.json", schema=2), ["summary.json", "update"]),
        (lambda f: cut(f / "config.json"), ["config.json", "corrupted"]),
        (lambda f: change_json(f / "config.json", schema=2), ["config.json", "update"]),
        (lambda f: cut(f / "lengths.csv"), ["lengths.csv", "corrupted"]),
        (lambda f: (f / "lengths.csv").unlink(), ["lengths.csv"]),
        (lambda f: (f / "summary.json").write_text('{"schema": 1}'), ["summary.json"]),
    ],
    ids=[
        *("cut summary", "newer summary", "cut config", "newer config"),
        *("cut lengths", "no lengths", "hollow summary"),
    ],
)
def test_run_and_resume_name_a_damaged_file(damage, words, invoke, runs, tmp_path) -> None:
    damage(runs / "ntm/seed0")
    before = state_of(tmp_path)
    refused(invoke(*TINY_NTM), MEMORY, *words)
    refused(invoke("resume", MEMORY), MEMORY, *words)
    assert state_of(tmp_path) == before


def flip(path: Path) -> None:
    """Change one byte of a weight: the archive's checksum no longer fits."""
    weights = torch.load(path, weights_only=True)["model"]["readout.weight"].numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(weights) + len(weights) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def tear_row(path: Path) -> None:
    """Cut the second row of a curve in half."""
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = lines[2][: len(lines[2]) // 2] + "\n"
    path.write_text("".join(lines))


def drop_row(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def change_checkpoint(path: Path, change) -> None:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def other_model(state: dict[str, Any]) -> None:
    state["model"] = {"layer.weight": torch.ones(2, 2)}


RESUME_DAMAGE = {
    "cut": (lambda f: cut(f / "checkpoint.pt"), ["checkpoint.pt", "corrupted"]),
    "almost whole": (lambda f: cut(f / "checkpoint.pt", 0.99), ["checkpoint.pt", "corrupted"]),
    "empty": (lambda f: (f / "checkpoint.pt").write_bytes(b""), ["checkpoint.pt", "corrupted"]),
    "noise": (
        lambda f: (f / "checkpoint.pt").write_bytes(bytes(range(256)) * 8),
        ["checkpoint.pt", "corrupted"],
    ),
    "flipped": (lambda f: flip(f / "checkpoint.pt"), ["checkpoint.pt", "corrupted"]),
    "list": (lambda f: torch.save([1], f / "checkpoint.pt"), ["checkpoint.pt", "not fit"]),
    "hollow": (lambda f: torch.save({}, f / "checkpoint.pt"), ["checkpoint.pt", "not fit"]),
    "other model": (
        lambda f: change_checkpoint(f / "checkpoint.pt", other_model),
        ["checkpoint.pt", "not fit", "layer.weight"],
    ),
    "other best weights": (
        lambda f: change_checkpoint(
            f / "checkpoint.pt", lambda state: state.update(best_weights={"x": torch.ones(2)})
        ),
        ["checkpoint.pt", "not fit"],
    ),
    "no progress": (
        lambda f: change_checkpoint(f / "checkpoint.pt", lambda state: state.pop("progress")),
        ["checkpoint.pt", "not fit", "progress"],
    ),
    "unknown progress": (
        lambda f: change_checkpoint(
            f / "checkpoint.pt", lambda state: state["progress"].update(laps=3)
        ),
        ["checkpoint.pt", "not fit", "laps"],
    ),
    "torn curve": (lambda f: tear_row(f / "curve.csv"), ["curve.csv", "corrupted", "line 3"]),
    "short curve": (lambda f: drop_row(f / "curve.csv"), ["curve.csv", "corrupted"]),
    "cut curve": (lambda f: cut(f / "curve.csv", 0.9), ["curve.csv", "corrupted"]),
    "empty curve": (lambda f: (f / "curve.csv").write_text(""), ["curve.csv", "corrupted"]),
    "no curve": (lambda f: (f / "curve.csv").unlink(), ["curve.csv", "missing"]),
    "binary curve": (
        lambda f: (f / "curve.csv").write_bytes(b"\xff\xfe\x00"),
        ["curve.csv", "corrupted"],
    ),
    "cut config": (lambda f: cut(f / "config.json"), ["config.json", "corrupted"]),
    "no environment": (
        lambda f: drop_key(f / "config.json", "environment"),
        ["config.json", "environment"],
    ),
}


@pytest.mark.parametrize("damage", RESUME_DAMAGE)
def test_resume_names_a_damaged_file(damage, invoke, interrupted, tmp_path) -> None:
    change, words = RESUME_DAMAGE[damage]
    change(interrupted)
    before = state_of(tmp_path)
    refused(invoke("resume", interrupted), str(interrupted), *words)
    assert state_of(tmp_path) == before


class Payload:
    """Code in a pickle: unpickled without care, it makes the file `trace`."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.trace), "w"))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("form", ["pickle", "old pickle", "torch", "torch legacy", "inside"])
def test_code_in_a_checkpoint_is_not_executed(form, invoke, interrupted, tmp_path) -> None:
    trace, path = tmp_path / "trace", interrupted / "checkpoint.pt"
    pickle.loads(pickle.dumps(Payload(trace)))
    assert trace.exists()
    trace.unlink()
    if "pickle" in form:
        path.write_bytes(pickle.dumps(Payload(trace), protocol=2 if form == "old pickle" else None))
    elif form == "inside":
        state = torch.load(path, weights_only=True)
        torch.save(state | {"extra": Payload(trace)}, path)
    else:
        zipped = form == "torch"
        torch.save({"model": Payload(trace)}, path, _use_new_zipfile_serialization=zipped)
    before = state_of(tmp_path)
    refused(invoke("resume", interrupted), "checkpoint.pt", "code")
    assert not trace.exists() and state_of(tmp_path) == before


def test_code_in_weights_is_not_executed(invoke, runs, tmp_path) -> None:
    trace = tmp_path / "trace"
    (runs / "ntm/seed0/best.safetensors").write_bytes(pickle.dumps(Payload(trace)))
    refused(invoke("eval", MEMORY), "best.safetensors", "corrupted")
    assert not trace.exists()


# Parsing


def test_seeds() -> None:
    assert parse_seeds("0-3") == [0, 1, 2, 3]
    assert parse_seeds("7") == [7]
    assert parse_seeds("2, 0-1 ,9") == [2, 0, 1, 9]
    for text in ("", "1--2", "-", ",", "1,", "0-1,1", "1-2-3", "0x1", "1.0", "¹"):
        with pytest.raises(UserError, match="seeds"):
            parse_seeds(text)


def test_points() -> None:
    assert parse_point("length=50, repeats=10") == {"length": 50, "repeats": 10}
    for text in ("", "length", "=3", "length=", "length=1.5", "length=5,", "length=1,length=2"):
        with pytest.raises(UserError, match="--at"):
            parse_point(text)
