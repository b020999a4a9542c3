"""The report: what it says of whole, partial and broken folders, and that it says it twice."""

import csv
import hashlib
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from fake_runs import fake_config, losses, write_run
from PIL import Image

from ntmbench.errors import UserError
from ntmbench.files import write_json
from ntmbench.folder import RunFolder
from ntmbench.report.blocks import Table, markdown
from ntmbench.report.curves import entry_curves, whole_curves
from ntmbench.report.entries import differences, with_entries
from ntmbench.report.figures import learning_curves
from ntmbench.report.page import write_report
from ntmbench.report.paper import published
from ntmbench.report.positions import positions, regret_so_far
from ntmbench.report.references import at_points
from ntmbench.report.sections import page
from ntmbench.report.style import DPI, styles
from ntmbench.report.tables import number_text, point_scores, range_text, spread, summarize
from ntmbench.results import load_results
from ntmbench.stats import median


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """Three tasks; runs complete, diverged, unfinished, smoke, re-configured, broken."""
    root = tmp_path_factory.mktemp("mixed")
    for seed in (1, 2, 3):
        rows = (24, 48) if seed < 3 else ()
        config = fake_config("copy", "ntm", seed)
        write_run(root, config, solved_step=seed + 7, traced=True, memory_rows=rows)
        write_run(root, fake_config("copy", "lstm", seed), solved_step=None)
        write_run(root, fake_config("dynamic_ngrams", "ntm", seed), solved_step=None, traced=True)
    write_run(root, fake_config("copy", "ntm", 4, train__learning_rate=3e-4))
    write_run(root, fake_config("copy", "lstm", 4), status="diverged")
    write_run(root, fake_config("copy", "lstm", 5), status="unfinished")
    write_run(root, fake_config("copy", "gru", 1, profile="smoke"))
    write_run(root, fake_config("repeat_copy", "lstm", 1))
    write_run(root, fake_config("repeat_copy", "lstm", 2)).summary_file.write_text("{")
    return root


def report(root: Path, out: Path) -> str:
    assert write_report(root, out) == out / "report.html"
    return (out / "report.md").read_text(encoding="utf-8")


def words(root: Path) -> str:
    """The report's Markdown without its figures, which take most of the time."""
    results = with_entries(load_results(root))
    return markdown(page(results, summarize(results), {}))


@pytest.fixture(scope="module")
def out(mixed, tmp_path_factory) -> Path:
    """The report on `mixed`, not to be written to."""
    folder = tmp_path_factory.mktemp("report")
    report(mixed, folder)
    return folder


@pytest.fixture
def text(out) -> str:
    return (out / "report.md").read_text(encoding="utf-8")


def row_of(text: str, start: str, heading: str) -> list[str]:
    """The cells of the first table row starting with `start` after `heading`."""
    after = text[text.index(heading) :]
    line = next(line for line in after.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_files(out, text):
    found = {path.relative_to(out).as_posix() for path in out.rglob("*.*")}
    figures = {f"figures/{name}.{end}" for name in FIGURES for end in ("png", "svg")}
    tables = {"runs", "curves", "lengths", "positions", "memory", "evals", "summary"}
    assert found == figures | {f"tables/{t}.csv" for t in tables} | {"report.md", "report.html"}
    shown = re.findall(r"\]\(((?:figures|tables)/[^)]*)\)", text)
    assert set(shown) == figures and len(shown) == len(figures)
    assert len(re.findall(r"!\[[^\]]{40,}\]", text)) == len(FIGURES)  # every image has words
    for path in out.rglob("*.png"):
        with Image.open(path) as picture:
            assert picture.mode == "P"  # of 256 colours: three times as small
            assert round(picture.info["dpi"][0]) in (100, DPI)  # traces, others
    for path in out.rglob("*.svg"):
        lines = re.findall(r' d="[^"]*\d[^"]*"', path.read_text(encoding="utf-8"))
        assert lines and not re.search(r"\.\d{3}|\de", "".join(lines)), path
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == page.count('role="img" aria-label="') - SPARKS == len(FIGURES)


TRACE = f"copy-trace-ntm__1-{hashlib.sha256(b'copy-trace-ntm #1').hexdigest()[:6]}"
CURVES = ("curves", "seconds", "survival", "generalization")
FIGURES = (
    *(f"{task}-{kind}" for task in ("copy", "repeat_copy", "dynamic_ngrams") for kind in CURVES),
    *("copy-example", TRACE, "copy-memory-rows", "repeat_copy-repeats"),
    *(f"dynamic_ngrams-{kind}" for kind in ("example", "trace-ntm", "positions", "predictions")),
)
SPARKS = 6  # the small plots of the matrix


def test_the_same_bytes_twice(mixed, out, tmp_path):
    """In one process, from another folder, over an older report, with another matplotlibrc."""
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nfont.family: serif\n")
    shutil.copytree(out, tmp_path / "again")
    for file in (tmp_path / "again").rglob("*.*"):
        file.write_text("of an older report")
    code = (
        "from pathlib import Path; from ntmbench.report import parallel, write_report; "
        "parallel.FEWEST_TO_FORK = 1000; "
        f"write_report(Path({str(mixed)!r}), Path('again'))"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
    files = [path.relative_to(out) for path in out.rglob("*.*")]
    assert len(files) == 2 * len(FIGURES) + 7 + 2
    for file in files:
        assert (out / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file
    assert not list(tmp_path.rglob("*.tmp"))


def test_no_path_or_date_leaks(mixed, out):
    for file in out.rglob("*.*"):
        content = file.read_bytes()
        assert str(mixed).encode() not in content
        assert b"<dc:date>" not in content and b"tIME" not in content


def test_global_matplotlib_settings_stay(tmp_path):
    write_run(tmp_path / "runs", fake_config())
    with matplotlib.rc_context({"lines.linewidth": 7.0}):
        report(tmp_path / "runs", tmp_path / "out")
        assert matplotlib.rcParams["lines.linewidth"] == 7.0
    assert matplotlib.rcParams["svg.hashsalt"] is None


def test_banner_and_overview(text):
    assert "SMOKE: 1 of 14 runs have tiny budgets: their figures show that it runs" in text
    assert "**1 of 14 runs unfinished**" in text and "**1 of 14 runs diverged**" in text
    assert "**1 cannot be read**" in text
    header = row_of(text, "task", "## Solved seeds")
    copy = dict(zip(header, row_of(text, "copy", "## Solved seeds"), strict=True))
    assert copy["ntm #1"] == "3/3; 9,000 sequences; loss 0.00171 bits" and copy["ntm"] == "-"
    assert copy["ntm #2"].startswith("1/1; ") and copy["gru (smoke)"].startswith("1/1; ")
    assert re.fullmatch(
        "0/4; not reached; loss 0[.0-9]+ bits; 1 diverged; 1 unfinished", copy["lstm"]
    )


def test_no_banner_without_a_reason(tmp_path):
    write_run(tmp_path / "runs", fake_config())
    text = words(tmp_path / "runs")
    assert "> " not in text.split("## Solved seeds")[0] and "## Problems" not in text


def test_task_table(text):
    entry = row_of(text, "ntm #1", "## copy")
    assert entry[1:6] == ["3/3", "44% to 100%", "12,000", "9,000", "22.5"]
    lstm = ["0/4", "0% to 49%", "12,000", *["not reached"] * 2]
    assert row_of(text, "lstm", "## copy")[1:6] == lstm
    assert row_of(text, "ntm #2", "## copy")[2] == "-"  # no interval from one seed
    assert "`copy/lstm/seed4` diverged at 7,000 sequences: `loss` was not finite." in text
    assert "`copy/lstm/seed5` is unfinished at 12,000 sequences." in text


def test_points_table(text):
    heading = "### Loss, bits a sequence"
    assert row_of(text, "chance", heading)[1:] == ["80", "160", "240", "400", "960"]
    assert row_of(text, "optimum", heading)[1:] == ["0"] * 5
    assert row_of(text, "ntm #1", heading)[1] == "0.00506 (0.00411 to 0.00601)"
    assert row_of(text, "lstm", heading)[1] == "0.00553 (0.00411 to 0.00696)"
    assert "### Regret" in text[text.index("## dynamic_ngrams") :]


def paper_of(text: str, model: str, where: str = "training distribution") -> list[dict[str, str]]:
    """The rows of the table of published figures for a model and a place."""
    lines = text[text.index("### Published figures") :].split("\n\n")[1].splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    found = [dict(zip(header, row, strict=True)) for row in rows]
    return [row for row in found if (row["model"], row["where"]) == (model, where)]


def test_published_figures_stand_beside_ours(mixed, text):
    one, two = paper_of(text, "ntm", "length=120")
    assert (one["entry"], two["entry"], one["source"]) == ("ntm #1", "ntm #2", "figure 4")
    assert (one["published, bits"], one["trained for, sequences"]) == ("20", "not said")
    scores = point_scores(with_entries(load_results(mixed)), "copy", "loss_bits")
    ours = scores[(scores["entry"] == "ntm #1") & (scores["point"] == "length=120")]
    assert one["ours, bits"] == number_text(ours["median"].iloc[0])
    assert one["ours, parameters"] == "12,345"
    early, _ = paper_of(text, "ntm")  # trained on 10,000 sequences: two rows before our last
    seeds = [losses(fake_config(seed=seed), 12)[9] for seed in (1, 2, 3)]
    assert early["trained for, sequences"] == "10,000"
    assert early["ours, bits"] == number_text(float(np.median(seeds)))
    (late,) = paper_of(text, "lstm")
    assert late["trained for, sequences"] == "1,000,000 (beyond our curves)"
    assert (late["entry"], late["ours, bits"]) == ("lstm", "-")
    (nobody,) = paper_of(text, "ntm-ff")
    assert (nobody["entry"], nobody["ours, bits"], nobody["ours, parameters"]) == ("-", "-", "-")
    assert {row["published, parameters"] for row in (one, early, late)} == {"not said"}


def test_a_published_figure_of_unknown_training_stands_beside_the_last(text):
    (row,) = paper_of(text[text.index("## dynamic_ngrams") :], "ntm")
    seeds = [losses(fake_config("dynamic_ngrams", seed=seed), 12)[-1] for seed in (1, 2, 3)]
    assert row["ours, bits"] == number_text(float(np.median(seeds)))
    assert row["trained for, sequences"] == "not said"


def test_smoke_runs_stand_beside_no_published_figure(tmp_path):
    write_run(tmp_path / "runs", fake_config(profile="smoke"))
    write_run(tmp_path / "runs", fake_config(tag="smoke", profile="smoke"))
    text = words(tmp_path / "runs")
    assert "Published figures" not in text
    write_run(tmp_path / "runs", fake_config(tag="wide"))
    text = words(tmp_path / "runs")
    assert [row["entry"] for row in paper_of(text, "ntm")] == ["ntm@wide"]


def test_a_published_figure_is_drawn_where_its_training_ended(mixed):
    results = with_entries(load_results(mixed))
    ax = learning_curves(results, "copy", styles(results.runs["entry"])).axes[0]
    marks = {str(mark.get_label()): mark.get_offsets() for mark in ax.collections}
    assert np.asarray(marks["published: ntm"]).tolist() == [[10_000, 0.1]]
    assert np.asarray(marks["published: ntm-ff"]).tolist() == [[10_000, 0.2]]
    assert not any("lstm" in label for label in marks)  # at a million, beyond the curves
    ngrams = learning_curves(results, "dynamic_ngrams", styles(results.runs["entry"])).axes[0]
    labels = [str(mark.get_label()) for mark in ngrams.collections]
    assert [label for label in labels if label.startswith("published")] == [
        "published: ntm, training not said"
    ]


def test_ours_counts_the_diverged_and_those_that_stopped_when_solved(tmp_path):
    """At 10,000 sequences: seed 1 got there, seed 2 diverged, seed 3 stopped, solved, at 6,000."""
    runs = tmp_path / "runs"
    write_run(runs, stopping(1))
    write_run(runs, stopping(2), status="diverged")
    write_run(runs, stopping(3), steps=6, solved_step=6)
    text = report(runs, tmp_path / "out")
    (row,) = paper_of(text, "ntm")
    assert row["ours, bits"] == number_text(losses(stopping(3), 6)[-1])
    assert text.count("Seeds that were stopped when they had solved the task") == 2
    write_run(runs, stopping(4), status="diverged")
    write_run(runs, stopping(5), status="diverged")
    assert paper_of(words(runs), "ntm")[0]["ours, bits"] == "diverged"
    write_run(runs, stopping(6), steps=6, solved_step=None)  # ended early, who knows why
    assert paper_of(words(runs), "ntm")[0]["ours, bits"] == "-"


def stopping(seed: int) -> dict:
    return fake_config(seed=seed, train__stop_when_solved=True)


def test_a_figure_quoted_before_its_training_was_known_is_not_repeated(tmp_path):
    old = {"model": "lstm", "value": 0.5, "source": "figure 3"}
    longer = {**old, "sequences": 1_000_000, "source": "figure 3, read"}
    for seed, figure in enumerate((old, {**longer, "parameters": 1_352_969}, longer)):
        paper = {"loss_bits": [figure]}
        write_run(tmp_path, fake_config(seed=seed, train__batch_size=seed + 1, paper=paper))
    (figure,) = published(with_entries(load_results(tmp_path)), "copy")
    assert (figure.sequences, figure.source) == (1_000_000, "figure 3, read")
    (row,) = paper_of(words(tmp_path), "lstm")
    assert (row["published, parameters"], row["ours, parameters"]) == ("1,352,969", "-")
    again = {**longer, "sequences": 2_000_000}  # another training that came to the same loss
    write_run(tmp_path, fake_config(seed=9, train__batch_size=9, paper={"loss_bits": [again]}))
    found = published(with_entries(load_results(tmp_path)), "copy")
    assert [figure.sequences for figure in found] == [1_000_000, 2_000_000]


@pytest.mark.parametrize("row", ["?", 3, {"value": "x"}, {"value": 1, "at": {"length": "ten"}}])
def test_an_odd_paper_section_is_a_problem(tmp_path, row):
    write_run(tmp_path / "runs", fake_config(paper={"loss_bits": [row]}))
    assert "config.paper.loss_bits" in words(tmp_path / "runs")


def test_different_configurations_are_not_averaged(out, text):
    header = row_of(text, "entry", "### Config")
    assert [name for name in header if "`" in name] == ["`train.learning_rate`"]
    for entry, rate, solved in (("ntm #1 (best of the task)", "0.0001", "3/3"), NTM_2):
        row = dict(zip(header, row_of(text, entry, "### Config"), strict=True))
        assert (row["`train.learning_rate`"], row["solved seeds"]) == (rate, solved)
    summary = pd.read_csv(out / "tables/summary.csv").set_index(["task", "entry"])
    assert summary.loc[("copy", "ntm #1"), "runs"] == 3
    assert summary.loc[("copy", "ntm #2"), "runs"] == 1


NTM_2 = ("ntm #2", "0.0003", "1/1")


def test_a_tagged_model_shows_how_it_differs(tmp_path):
    write_run(tmp_path, fake_config())
    write_run(tmp_path, fake_config(tag="slow", train__learning_rate=1e-5))
    results = with_entries(load_results(tmp_path))
    assert list(results.runs["entry"]) == ["ntm", "ntm@slow"]
    assert differences(results, "copy") == [
        ("train.learning_rate", {"ntm": "0.0001", "ntm@slow": "1e-05"})
    ]


def test_tidy_tables(out):
    lengths = pd.read_csv(out / "tables/lengths.csv")
    keys = ["task", "model", "seed", "config_id", "point", "memory_rows", "weights", "metric"]
    assert not lengths.duplicated(keys).any() and len(lengths) > 100
    runs = pd.read_csv(out / "tables/runs.csv")
    assert len(runs) == 14 and set(runs["status"]) == {"complete", "diverged", "unfinished"}
    summary = pd.read_csv(out / "tables/summary.csv").set_index(["task", "entry"])
    lstm = summary.loc[("copy", "lstm")]
    assert (lstm["runs"], lstm["solved"], lstm["diverged"], lstm["unfinished"]) == (5, 0, 1, 1)
    assert math.isnan(lstm["median_sequences_to_solve"]) and lstm["solved_low"] == 0
    assert summary.loc[("copy", "ntm #1"), "median_sequences_to_solve"] == 9000


def test_problems_and_footer(text):
    assert "summary.json is corrupted" in row_of(text, "`repeat_copy/lstm/seed2`", "## Problems")[1]
    assert "- ntmbench versions: 0.1.0 (runs: 14)" in text and "- Commits: 0123abc" in text
    assert "a CPU, 2 cores" in text and "`ntmbench report`" in text


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match=r"no runs in .*ntmbench run copy --model ntm"):
        write_report(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_but_broken_runs(tmp_path):
    write_run(tmp_path / "runs", fake_config()).config_file.write_text("")
    text = report(tmp_path / "runs", tmp_path / "out")
    assert "## Problems" in text and "config.json is corrupted" in text
    with open(tmp_path / "out/tables/runs.csv", encoding="utf-8") as file:
        assert next(csv.reader(file))[:3] == ["task", "model", "entry"]


@pytest.mark.parametrize("task", ["copy", "repeat_copy", "dynamic_ngrams"])
@pytest.mark.parametrize("status", ["diverged", "unfinished"])
def test_nothing_but_one_ruined_run(tmp_path, task, status):
    run = write_run(tmp_path / "runs", fake_config(task), status=status, steps=1)
    text = report(tmp_path / "runs", tmp_path / "out")
    share = "0/1" if status == "diverged" else "-"
    cell = row_of(text, task, "## Solved seeds")[1]
    assert cell.startswith(f"{share}; ") and cell.endswith(f"; 1 {status}")
    assert f"- `{task}/ntm/seed1` " in text
    run.curve_file.write_text(run.curve_file.read_text().splitlines()[0] + "\n")
    assert report(tmp_path / "runs", tmp_path / "out")


@pytest.mark.parametrize("lengths", [True, False])
def test_a_seed_that_diverged_without_scores_still_counts(tmp_path, lengths):
    write_run(tmp_path / "runs", fake_config("copy", "ntm", 1))
    for model, seed in (("ntm", 2), ("lstm", 1)):
        config = fake_config("copy", model, seed)
        run = write_run(tmp_path / "runs", config, status="diverged", steps=1)
        if not lengths:
            run.lengths_file.unlink()
    text = words(tmp_path / "runs")
    assert row_of(text, "ntm", "### Loss")[1].startswith("diverged (")
    assert row_of(text, "lstm", "### Loss")[1:] == ["diverged"] * 5
    assert row_of(text, "lstm", "## copy")[6] == "diverged"
    assert paper_of(text, "ntm", "length=120")[0]["ours, bits"] == "diverged"


def test_a_complete_run_whose_loss_overflowed_did_not_diverge(tmp_path):
    run = write_run(tmp_path / "runs", fake_config())
    lines = run.lengths_file.read_text().splitlines()
    lost = [re.sub(r",loss_bits,[^,]*,", ",loss_bits,,", line) for line in lines]
    lost = [line if "best" in line else old for line, old in zip(lost, lines, strict=True)]
    run.lengths_file.write_text("\n".join(lost) + "\n")
    text = words(tmp_path / "runs")
    assert row_of(text, "ntm", "### Loss")[1:] == ["not finite"] * 5
    assert "diverged" not in row_of(text, "entry", "## copy") and "runs diverged" not in text


def test_an_unfinished_run_counts_for_nothing_and_is_listed(tmp_path):
    """Its curve shows the streak that solves the task; how the run ends is not known."""
    write_run(tmp_path / "runs", fake_config(seed=1), solved_step=12)
    write_run(tmp_path / "runs", fake_config(seed=2), status="unfinished", steps=30)
    results = with_entries(load_results(tmp_path / "runs"))
    assert (results.curves.groupby("seed")["val_loss_bits"].min() < 0.05)[2]
    row = summarize(results).iloc[0]
    assert (row["runs"], row["finished"], row["solved"], row["solved_share"]) == (2, 1, 1, 1)
    assert row["median_sequences_to_solve"] == 12_000
    assert row["lowest_best_val_loss_bits"] == losses(fake_config(seed=1), 12)[-1]
    text = words(tmp_path / "runs")
    cell = row_of(text, "copy", "## Solved seeds")[1]
    assert cell == "1/1; 12,000 sequences; loss 0.0104 bits; 1 unfinished"
    columns = row_of(text, "entry", "## copy")
    assert dict(zip(columns, row_of(text, "ntm", "## copy"), strict=True))["unfinished"] == "1"
    assert not {"diverged", "failed"} & set(columns)
    assert "unfinished and failed runs are listed" in text
    assert "`copy/ntm/seed2` is unfinished at 30,000 sequences." in text


def test_a_failed_run_counts_for_nothing_and_says_why(tmp_path):
    """One that was completed since has not failed; one that never began is a problem."""
    write_run(tmp_path / "runs", fake_config(seed=1), solved_step=12)
    begun = write_run(tmp_path / "runs", fake_config(seed=2), status="unfinished", steps=3)
    mended = write_run(tmp_path / "runs", fake_config(seed=3))
    never = RunFolder(tmp_path / "runs/copy/ntm/seed4")
    never.path.mkdir()
    failure = {"schema": 1, "kind": "exception", "message": "ValueError: a *bad* | day"}
    for run in (begun, mended, never):
        write_json(run.failure_file, failure | {"attempts": 1, "output": ""})
    results = with_entries(load_results(tmp_path / "runs"))
    assert list(results.runs["status"]) == ["complete", "failed", "complete"]
    assert list(results.runs["failure"]) == ["", failure["message"], ""]
    row = summarize(results).iloc[0]
    assert (row["runs"], row["finished"], row["solved"], row["failed"]) == (3, 2, 2, 1)
    text = words(tmp_path / "runs")
    assert "**1 of 3 runs failed**" in text and "copy/ntm/seed4" in text
    cell = row_of(text, "copy", "## Solved seeds")[1]
    assert cell == "2/2; 11,000 sequences; loss 0.00532 bits; 1 failed"
    assert "`copy/ntm/seed2` failed at 3,000 sequences: ValueError: a" in text
    assert "failed before it began: ValueError" in text


def test_an_outside_tasks_name_stays_inside(tmp_path):
    run = write_run(tmp_path / "runs", fake_config())
    text = run.config_file.read_text().replace('"name": "copy"', '"name": "../|odd"')
    run.config_file.write_text(text)
    report(tmp_path / "runs", tmp_path / "out")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"report.html", "report.md", "tables", "figures"}
    assert len(list((tmp_path / "out/figures").iterdir())) == 2 * len(CURVES)


def test_what_cannot_be_written_is_named(tmp_path):
    write_run(tmp_path / "runs", fake_config())
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*out"):
        write_report(tmp_path / "runs", tmp_path / "out")


def median_curve(seeds: pd.DataFrame, runs: pd.DataFrame, stopped: list[int]) -> pd.Series:
    whole = whole_curves(seeds, runs, stopped)
    return pd.Series(median(whole.to_numpy()), index=whole.index)


def test_median_curve_counts_the_diverged_and_not_the_unfinished():
    seeds = pd.DataFrame(
        {1: [8, 6, 4], 2: [7, 5, 3], 3: [1, math.nan, math.nan], 4: [0, math.nan, math.nan]},
        index=[10, 20, 30],
        dtype=float,
    )
    status = ["complete", "complete", "diverged", "unfinished"]
    runs = pd.DataFrame({"seed": [1, 2, 3, 4], "status": status})
    assert median_curve(seeds, runs, []).to_dict() == {10: 7, 20: 6, 30: 4}
    gone = pd.DataFrame({"seed": [1, 2, 5, 6], "status": ["complete", *["diverged"] * 3]})
    assert median_curve(seeds[[1]], gone, []).tolist() == [np.inf] * 3
    assert median_curve(seeds[[4]], runs[3:], []).to_dict() == {10: 0}


def test_median_curve_carries_what_stopped_when_solved():
    seeds = pd.DataFrame(
        {1: [8, 1, math.nan], 2: [7, 5, 3], 3: [9, math.nan, math.nan]},
        index=[10, 20, 30],
        dtype=float,
    )
    runs = pd.DataFrame({"seed": [1, 2, 3], "status": ["complete", "complete", "unfinished"]})
    assert median_curve(seeds, runs, []).to_dict() == {10: 7.5, 20: 3}
    assert median_curve(seeds, runs, [1]).to_dict() == {10: 7.5, 20: 3, 30: 2}


def test_a_curve_of_stopped_seeds_goes_as_far_as_the_longest(tmp_path):
    for seed, steps in ((1, 12), (2, 6), (3, 8)):
        solved = None if steps == 12 else steps
        write_run(tmp_path / "runs", stopping(seed), steps=steps, solved_step=solved)
    results = with_entries(load_results(tmp_path / "runs"))
    curve = entry_curves(results, "copy")["ntm"]
    assert curve.stopped == [2, 3] and curve.carried
    assert curve.median.index[-1] == 12_000 and curve.median.iloc[-1] == losses(stopping(3), 8)[-1]
    assert math.isnan(curve.after(12_001)) and math.isnan(curve.after(999))
    note = "Seeds that were stopped when they had solved the task"
    assert note in report(tmp_path / "runs", tmp_path / "out")


def test_a_validation_that_overflowed_is_infinite_and_not_left_out(tmp_path):
    for seed in (1, 2, 3):
        run = write_run(tmp_path, fake_config(seed=seed))
        lines = run.curve_file.read_text().splitlines()
        if seed > 1:
            lines[5] = ",".join([*lines[5].split(",")[:-3], "", "", ""])
            run.curve_file.write_text("\n".join(lines) + "\n")
    curve = entry_curves(with_entries(load_results(tmp_path)), "copy")["ntm"]
    assert np.isinf(curve.median[5000]) and np.isfinite(curve.median.drop(5000)).all()
    assert len(curve.median) == 12


def test_references_are_each_entrys_own(tmp_path):
    """Entries that were evaluated on other sequences: their optimum is 133 and 143 bits."""
    runs = tmp_path / "runs"
    for model, seed in (("ntm", 0), ("lstm", 10)):
        write_run(runs, fake_config("dynamic_ngrams", model, 1, evaluate__seed=seed))
    results = with_entries(load_results(runs))
    optima = {
        found.label: found.values.to_dict()
        for found in at_points(results, "dynamic_ngrams", "loss_bits")
    }
    assert optima == {
        "chance": {"bits=200": 200},
        "optimum of ntm": {"bits=200": 133},
        "optimum of lstm": {"bits=200": 143},
    }
    text = words(runs)
    assert row_of(text, "optimum of lstm", "### Loss")[1] == "143"
    assert "Entries were evaluated on different sequences" in text
    write_run(runs, fake_config("dynamic_ngrams", "gru", 1))
    more = at_points(with_entries(load_results(runs)), "dynamic_ngrams", "loss_bits")
    assert {found.entries for found in more} == {("gru", "ntm"), ("lstm",), ("gru", "lstm", "ntm")}


def test_regret_is_against_the_runs_own_optimum(tmp_path):
    """Each run's losses are 0.001 a step for every bit over 133; so are its optimum's."""
    for model, evaluated in (("ntm", 0), ("lstm", 10)):
        for seed in (1, 2):
            config = fake_config("dynamic_ngrams", model, seed, evaluate__seed=evaluated)
            write_run(tmp_path, config)
    results = with_entries(load_results(tmp_path))
    table = results.positions
    regret = regret_so_far(table[table["weights"] == "best"], table[table["weights"] == "optimum"])
    assert regret.shape == (20, 4)
    scores = results.lengths.set_index(["config_id", "model", "seed"])
    for run, column in regret.items():
        paired = scores[(scores["metric"] == "regret_bits") & (scores["weights"] == "best")]
        assert column.iloc[-1] == pytest.approx(20 * 0.001 * paired["value"][run])
    figure = positions(results, "dynamic_ngrams", styles(results.runs["entry"]))
    labels = {str(line.get_label()) for line in figure.axes[0].lines}
    assert {"optimum of ntm", "optimum of lstm"} <= labels


def test_stale_files_of_an_older_report_are_removed(tmp_path):
    runs, folder = tmp_path / "runs", tmp_path / "out"
    write_run(runs, fake_config("copy"))
    write_run(runs, fake_config("dynamic_ngrams"))
    report(runs, folder)
    for name in ("figures/notes.png", "tables/mine.csv", "figures/copy-curves.pdf", "other.csv"):
        (folder / name).write_text("not the report's")
    (folder / "figures/old-curves.png.d").mkdir()
    shutil.rmtree(runs / "dynamic_ngrams")
    report(runs, folder)
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    kinds = [f"figures/copy-{kind}.{end}" for kind in CURVES for end in ("png", "svg")]
    tables = [f"tables/{name}.csv" for name in ("runs", "curves", "lengths", "summary", "mine")]
    others = ["figures/notes.png", "figures/copy-curves.pdf", "figures/old-curves.png.d"]
    pages = ("report.html", "report.md")
    assert left == {*kinds, *tables, *others, *pages, "figures", "tables", "other.csv"}


def test_a_seed_that_diverged_is_no_gap_in_the_positions(tmp_path):
    write_run(tmp_path, fake_config("dynamic_ngrams", seed=1))
    for seed in (2, 3):
        write_run(tmp_path, fake_config("dynamic_ngrams", seed=seed), status="diverged", steps=1)
    results = with_entries(load_results(tmp_path))
    figure = positions(results, "dynamic_ngrams", styles(results.runs["entry"]))
    (thick,) = (line for line in figure.axes[0].lines if line.get_label() == "ntm")
    assert np.isnan(np.asarray(thick.get_ydata(), dtype=float)).all()


def test_the_curves_figure_shows_every_seed(mixed):
    results = with_entries(load_results(mixed))
    figure = learning_curves(results, "copy", styles(results.runs["entry"]))
    ax = figure.axes[0]
    thin = [line for line in ax.lines if line.get_linewidth() == 0.7]
    assert len(thin) == 10 and ax.get_yscale() == "symlog"
    words = " ".join(text.get_text() for text in ax.texts)
    assert "chance 84" in words and "optimum 0" in words
    assert "bits" in ax.get_ylabel() and "sequences" in ax.get_xlabel()


def test_styles_tell_entries_apart():
    looks = styles(f"model {index:02}" for index in range(30))
    seen = {(look["color"], look["linestyle"]) for look in looks.values()}
    assert len(seen) == 30


def test_spread_by_hand():
    assert spread([3.0, 1.0, 2.0], 3) == (2.0, 1.0, 3.0)
    assert spread([3.0, 1.0, math.nan], 3) == (3.0, 1.0, math.inf)
    assert spread([1.0], 3) == (math.inf, 1.0, math.inf)
    assert spread([0.5, math.nan], 2, worst=-math.inf) == (-math.inf, -math.inf, 0.5)
    assert all(math.isnan(value) for value in spread([], 0))


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0, "0"),
        (0.004567, "0.00457"),
        (18.04, "18.0"),
        (133.46, "133.5"),
        (1234567.8, "1,234,568"),
        (math.inf, "not finite"),
        (math.nan, "-"),
        (1e-24, "< 1e-09"),
        (5.0, "5"),
    ],
)
def test_number_text(value, text):
    assert number_text(value) == text


def test_range_text():
    assert range_text(1.0, 1.0, 1.0) == "1"
    assert range_text(2.5, 1.0, math.inf, "diverged") == "2.50 (1 to diverged)"


def test_markdown_cells_cannot_break_the_table():
    table = markdown([Table([["a", "b"], ["x|y", "two\nlines <b>"]])])
    assert table.splitlines()[2] == "| x\\|y | two lines &lt;b> |"
