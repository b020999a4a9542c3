"""The report: what it says of whole, partial and broken folders, and that it says it twice."""

import csv
import math
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from fake_runs import fake_config, write_run

from ntmbench.errors import UserError
from ntmbench.report import write_report
from ntmbench.report.entries import differences, with_entries
from ntmbench.report.figures import learning_curves, median_curve
from ntmbench.report.paper import published
from ntmbench.report.style import styles
from ntmbench.report.tables import markdown, number_text, point_scores, range_text, spread
from ntmbench.results import load_results


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """Three tasks; runs complete, diverged, unfinished, smoke, resized, re-configured, broken."""
    root = tmp_path_factory.mktemp("mixed")
    for seed in (1, 2, 3):
        write_run(root, fake_config("copy", "ntm", seed), memory_rows=(256,), solved_step=seed + 7)
        write_run(root, fake_config("copy", "lstm", seed), solved_step=None)
        write_run(root, fake_config("dynamic_ngrams", "ntm", seed), solved_step=None)
    write_run(root, fake_config("copy", "ntm", 4, train__learning_rate=3e-4))
    write_run(root, fake_config("copy", "lstm", 4), status="diverged")
    write_run(root, fake_config("copy", "lstm", 5), status="unfinished")
    write_run(root, fake_config("copy", "gru", 1, profile="smoke"))
    write_run(root, fake_config("repeat_copy", "lstm", 1))
    write_run(root, fake_config("repeat_copy", "lstm", 2)).summary_file.write_text("{")
    return root


def report(root: Path, out: Path) -> str:
    path = write_report(root, out)
    assert path == out / "report.md"
    return path.read_text(encoding="utf-8")


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
    found = {path.relative_to(out).as_posix() for path in out.glob("*/*")}
    kinds = [f"{task}-curves" for task in TASKS] + [f"{task}-generalization" for task in TASKS]
    kinds += ["dynamic_ngrams-positions"]
    figures = {f"figures/{name}.{end}" for name in kinds for end in ("png", "svg")}
    tables = {"runs", "curves", "lengths", "positions", "summary"}
    assert found == figures | {f"tables/{name}.csv" for name in tables}
    for target in re.findall(r"\]\(((?:figures|tables)/[^)]*)\)", text):
        assert (out / target).is_file()
    assert len(re.findall(r"!\[[^\]]{40,}\]", text)) == len(kinds)  # every image has words


TASKS = ("copy", "repeat_copy", "dynamic_ngrams")


def test_the_same_bytes_twice(mixed, out, tmp_path):
    """In another process, from another folder, over an older report, with another matplotlibrc."""
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nfont.family: serif\n")
    code = (
        "from pathlib import Path; from ntmbench.report import write_report; "
        f"[write_report(Path({str(mixed)!r}), Path('again')) for _ in range(2)]"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
    files = [path.relative_to(out) for path in out.rglob("*.*")]
    assert len(files) == 20
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
    assert "SMOKE: tiny budgets, figures mean nothing but that it works" in text
    assert "**1 of 14 runs unfinished**" in text and "**1 of 14 runs diverged**" in text
    assert "**1 cannot be read**" in text
    header = row_of(text, "task", "## Solved seeds")
    copy = dict(zip(header, row_of(text, "copy", "## Solved seeds"), strict=True))
    assert copy["ntm #1"] == "3/3" and copy["ntm #2"] == "1/1" and copy["gru (smoke)"] == "1/1"
    assert copy["lstm"] == "0/5 (1 diverged, 1 unfinished)" and copy["ntm"] == "-"


def test_no_banner_without_a_reason(tmp_path):
    write_run(tmp_path / "runs", fake_config())
    text = report(tmp_path / "runs", tmp_path / "out")
    assert "> " not in text.split("## Solved seeds")[0] and "## Problems" not in text


def test_task_table(text):
    entry = row_of(text, "ntm #1", "## copy")
    assert entry[1:5] == ["3/3", "44% to 100%", "9,000", "22.5"]
    assert row_of(text, "lstm", "## copy")[1:5] == ["0/5", "0% to 43%", *["not reached"] * 2]
    assert row_of(text, "ntm #2", "## copy")[2] == "-"  # no interval from one seed
    assert "`copy/lstm/seed4` diverged at 7,000 sequences: `loss` was not finite." in text
    assert "`copy/lstm/seed5` is unfinished at 12,000 sequences." in text


def test_points_table(text):
    heading = "### Loss, bits a sequence"
    assert row_of(text, "chance", heading)[1:] == ["80", "160", "240", "400", "960"]
    assert row_of(text, "optimum", heading)[1:] == ["0"] * 5
    assert row_of(text, "ntm #1", heading)[1] == "0.00506 (0.00411 to 0.00601)"
    assert row_of(text, "ntm #1, 256 memory rows", heading)[1] == "0.0101 (0.00822 to 0.0120)"
    assert "to diverged" in row_of(text, "lstm", heading)[1]
    assert "### Regret" in text[text.index("## dynamic_ngrams") :]


def test_published_figures_stand_beside_ours(mixed, text):
    header = row_of(text, "published for", "### Published")
    lstm = dict(zip(header, row_of(text, "lstm", "### Published"), strict=True))
    ntm = dict(zip(header, row_of(text, "ntm-lstm", "### Published"), strict=True))
    assert (lstm["where"], lstm["published"]) == ("training distribution", "0.500")
    assert (ntm["where"], ntm["published"], ntm["source"]) == ("length=120", "20", "figure 4")
    scores = point_scores(with_entries(load_results(mixed)), "copy", "loss_bits")
    ours = scores[(scores["series"] == "ntm #1") & (scores["point"] == "length=120")]
    assert ntm["ntm #1"] == number_text(ours["median"].iloc[0])


@pytest.mark.parametrize("row", ["?", 3, {"value": "x"}, {"value": 1, "at": {"length": "ten"}}])
def test_an_odd_paper_section_is_left_alone(tmp_path, row):
    write_run(tmp_path, fake_config(paper={"loss_bits": [row], "note": "as printed"}))
    write_run(tmp_path, fake_config(seed=2, paper=None))
    assert published(with_entries(load_results(tmp_path)), "copy") == []


def test_different_configurations_are_not_averaged(out, text):
    assert row_of(text, "`train.learning_rate`", "### Config")[1:] == ["0.0001", "0.0003"]
    summary = pd.read_csv(out / "tables/summary.csv").set_index(["task", "entry"])
    assert summary.loc[("copy", "ntm #1"), "runs"] == 3
    assert summary.loc[("copy", "ntm #2"), "runs"] == 1


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
    assert f"`{task}/ntm/seed1`" in text and f"0/1 (1 {status})" in text
    run.curve_file.write_text(run.curve_file.read_text().splitlines()[0] + "\n")
    assert report(tmp_path / "runs", tmp_path / "out")


def test_a_seed_that_diverged_without_scores_still_counts(tmp_path):
    write_run(tmp_path / "runs", fake_config("copy", "ntm", 1))
    for model, seed in (("ntm", 2), ("lstm", 1)):
        run = write_run(tmp_path / "runs", fake_config("copy", model, seed), status="diverged")
        run.lengths_file.unlink()
    text = report(tmp_path / "runs", tmp_path / "out")
    assert row_of(text, "ntm", "### Loss")[1].startswith("diverged (")
    assert row_of(text, "lstm", "### Loss")[1:] == ["diverged"] * 5


def test_an_outside_tasks_name_stays_inside(tmp_path):
    run = write_run(tmp_path / "runs", fake_config())
    text = run.config_file.read_text().replace('"name": "copy"', '"name": "../|odd"')
    run.config_file.write_text(text)
    report(tmp_path / "runs", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.md",
        "tables",
        "figures",
    }
    assert len(list((tmp_path / "out/figures").iterdir())) == 4


def test_what_cannot_be_written_is_named(tmp_path):
    write_run(tmp_path / "runs", fake_config())
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*out"):
        write_report(tmp_path / "runs", tmp_path / "out")


def test_median_curve_counts_the_diverged_and_not_the_unfinished():
    seeds = pd.DataFrame(
        {1: [8, 6, 4], 2: [7, 5, 3], 3: [1, math.nan, math.nan], 4: [0, math.nan, math.nan]},
        index=[10, 20, 30],
        dtype=float,
    )
    status = ["complete", "complete", "diverged", "unfinished"]
    runs = pd.DataFrame({"seed": [1, 2, 3, 4], "status": status})
    assert median_curve(seeds, runs).to_dict() == {10: 7, 20: 6, 30: 4}
    gone = pd.DataFrame({"seed": [1, 2, 5, 6], "status": ["complete", *["diverged"] * 3]})
    assert median_curve(seeds[[1]], gone).tolist() == [np.inf] * 3
    assert median_curve(seeds[[4]], runs[3:]).to_dict() == {10: 0}


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
        (math.inf, "diverged"),
        (math.nan, "-"),
        (1e-24, "< 1e-09"),
        (5.0, "5"),
    ],
)
def test_number_text(value, text):
    assert number_text(value) == text


def test_range_text():
    assert range_text(1.0, 1.0, 1.0) == "1"
    assert range_text(2.5, 1.0, math.inf) == "2.50 (1 to diverged)"


def test_markdown_cells_cannot_break_the_table():
    table = markdown([["a", "b"], ["x|y", "two\nlines <b>"]])
    assert table.splitlines()[2] == "| x\\|y | two lines &lt;b> |"


def test_many_runs(tmp_path):
    for seed in range(50):
        for task in ("copy", "dynamic_ngrams"):
            for model in ("ntm", "lstm"):
                write_run(tmp_path / "runs", fake_config(task, model, seed))
    assert "50/50" in report(tmp_path / "runs", tmp_path / "out")
