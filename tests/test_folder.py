"""Files of a run folder: written in one step, read back exactly."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmbench import folder as folders
from ntmbench.errors import UserError
from ntmbench.files import (
    append_line,
    atomic_path,
    csv_line,
    json_ready,
    read_rows,
    write_bytes,
    write_errors,
    write_json,
    write_rows,
)
from ntmbench.folder import SCHEMA, SUMMARY_KEYS, RunFolder, find_runs
from ntmbench.sweep.remote import read_files, write_files

# Writing in one step


def test_a_file_is_replaced_whole(tmp_path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_the_old_file_stays_when_writing_fails(broken, tmp_path, monkeypatch) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail(*_) -> None:
        raise OSError(28, "No space left on device")

    def half(self, content: bytes) -> None:
        with open(self, "wb") as file:
            file.write(content[:3])
        fail()

    if broken == "write":
        monkeypatch.setattr(Path, "write_bytes", half)
    else:
        monkeypatch.setattr(os, broken, fail)
    with pytest.raises(UserError, match=r"cannot write .*file: No space left on device"):
        write_bytes(path, b"new content")
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_block_that_raises_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_readers_never_see_half_a_file(tmp_path, monkeypatch) -> None:
    """Until the rename, the path holds the old bytes, and everything new is already on the disk."""
    path, seen = tmp_path / "file", []
    path.write_bytes(b"old")
    replace, sync = os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (seen.append("sync"), sync(file)))

    def look_and_replace(new: Path, old: Path) -> None:
        seen.append((old.read_bytes(), new.read_bytes()))
        replace(new, old)

    monkeypatch.setattr(os, "replace", look_and_replace)
    write_bytes(path, b"new")
    assert seen == ["sync", (b"old", b"new")]


def test_json_that_cannot_be_made_costs_nothing(tmp_path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1} and list(tmp_path.iterdir()) == [path]


def test_a_write_error_names_the_file(tmp_path) -> None:
    words = r"cannot write .*missing/file: No such file"
    with pytest.raises(UserError, match=words):
        append_line(tmp_path / "missing" / "file", "x\n")
    words = "cannot write here: No space left"
    with pytest.raises(UserError, match=words), write_errors(Path("here")):
        raise OSError(28, "No space left on device")


def test_lines_are_appended(tmp_path) -> None:
    path = tmp_path / "curve.csv"
    write_rows(path, ("a", "b"), [])
    append_line(path, csv_line([1, 2.5]))
    append_line(path, csv_line([2, math.nan]))
    assert path.read_bytes() == b"a,b\n1,2.5\n2,\n"


# Numbers that are not finite


def test_what_is_not_finite_is_null_or_empty(tmp_path) -> None:
    values = {"a": math.nan, "b": [math.inf, 1.5, (-math.inf, "x")], "c": {"d": math.nan, "e": 2}}
    expected = {"a": None, "b": [None, 1.5, [None, "x"]], "c": {"d": None, "e": 2}}
    assert json_ready(values) == expected
    write_json(tmp_path / "file.json", values)
    assert json.loads((tmp_path / "file.json").read_text()) == expected
    assert csv_line([math.nan, math.inf, -math.inf, 0.0, "x", 3]) == ",,,0.0,x,3\n"


def test_numpy_numbers_are_written_as_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert csv_line([numpy.float64(0.1), numpy.int64(3), numpy.float64("nan")]) == "0.1,3,\n"


# Tables

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ROW = st.fixed_dictionaries(
    {
        "length": st.integers(-(2**70), 2**70),
        "weights": st.sampled_from(["best", "last", "chance", "optimum"]),
        "value": FLOATS,
        "stderr": st.one_of(FLOATS, st.just(math.nan)),
    }
)


@given(st.lists(ROW, max_size=5))
def test_tables_come_back_exactly(rows) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "rows.csv"
        write_rows(path, ("length", "weights", "value", "stderr"), rows)
        back = read_rows(path, ("weights", "value", "stderr"), axes=True)
    assert len(back) == len(rows)
    for row, found in zip(rows, back, strict=True):
        assert list(found) == ["length", "weights", "value", "stderr"]
        for name, value in row.items():
            same = math.isnan(found[name]) if value != value else found[name] == value
            assert same and type(found[name]) is type(value)
            if value == 0 and name == "value":
                assert math.copysign(1, found[name]) == math.copysign(1, value)


def test_numbers_of_both_kinds_stay_apart(tmp_path) -> None:
    write_rows(tmp_path / "x.csv", ("a", "b"), [{"a": 2, "b": 2.0, "unused": 1}])
    (row,) = read_rows(tmp_path / "x.csv", ("a", "b"), axes=False)
    assert type(row["a"]) is int and type(row["b"]) is float


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "columns"),
        (b"a,c\n", "columns"),
        (b"a,b", "torn"),
        (b"a,b\n1,2\n3", "torn"),
        (b"a,b\n1,2\n3,4", "torn"),
        (b"a,b\n1,2\n3\n", "line 3 has not 2 fields"),
        (b"a,b\n1,2,3\n", "line 2 has not 2 fields"),
        (b"a,b\n\n1,2\n", "line 2 has not 2 fields"),
        (b"a,b\n\xff,2\n", "corrupted or cannot be read"),
    ],
)
def test_a_torn_table_is_named(content, words, tmp_path) -> None:
    path = tmp_path / "lengths.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"lengths\.csv .*{words}"):
        read_rows(path, ("a", "b"), axes=False)


def test_a_missing_table_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"lengths\.csv is missing"):
        read_rows(tmp_path / "lengths.csv", ("a", "b"), axes=False)


# Run folders


def test_what_a_folder_says_of_itself(tmp_path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert not folder.exists and not folder.complete
    with pytest.raises(UserError, match=r"run is not a run folder: it has no config\.json"):
        folder.read_config()
    folder.path.mkdir()
    write_json(folder.config_file, {"schema": SCHEMA, "environment": {}, "config": {"a": 1}})
    assert folder.exists and not folder.complete
    assert folder.read_config()["config"] == {"a": 1}
    with pytest.raises(UserError, match=r"unfinished.*ntmbench resume"):
        folder.read_summary()
    write_json(folder.summary_file, dict.fromkeys(SUMMARY_KEYS, 0) | {"schema": SCHEMA})
    with pytest.raises(UserError, match=r"summary\.json .*lacks"):
        write_json(tmp_path / "summary.json", {"schema": SCHEMA, "status": "complete"})
        RunFolder(tmp_path).read_summary()
    assert folder.complete and folder.read_summary()["status"] == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "corrupted"),
        ('{"schema": 1', "corrupted"),
        ("[]", "no schema"),
        ("{}", "no schema"),
        ('{"schema": "1", "config": {}}', "no schema"),
        ('{"schema": 1}', "lacks .*config|lacks environment"),
        ('{"schema": 1, "config": 3}', "lacks .*config|lacks environment"),
        (f'{{"schema": {SCHEMA + 1}, "config": {{}}}}', f"version {SCHEMA + 1}.*up to {SCHEMA}"),
    ],
)
def test_a_broken_configuration_is_named(content, words, tmp_path) -> None:
    folder = RunFolder(tmp_path)
    folder.config_file.write_text(content)
    with pytest.raises(UserError, match=rf"config\.json .*{words}"):
        folder.read_config()


def test_runs_are_found_in_order(tmp_path) -> None:
    names = [
        *("copy/lstm/seed0", "copy/lstm/seed2", "copy/lstm/seed10", "copy/ntm/seed0"),
        *("copy/ntm@a/seed1", "recall/gru/seed0"),
    ]
    for name in sorted(names, key=lambda name: name[::-1]):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "recall/gru/seed1").mkdir()
    (tmp_path / "recall/gru/seed2").mkdir()
    (tmp_path / "recall/gru/seed2/summary.json").write_text("{}")
    (tmp_path / "report/tables").mkdir(parents=True)
    (tmp_path / "report/tables/config.json").write_text("{}")
    found = [str(run.path.relative_to(tmp_path)) for run in find_runs(tmp_path)]
    assert found == [*names, "recall/gru/seed2"]


def test_no_runs(tmp_path) -> None:
    assert find_runs(tmp_path) == [] and find_runs(tmp_path / "missing") == []


def test_snapshots_are_found_in_order_of_their_sequences(tmp_path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.snapshots == {}
    folder.snapshots_folder.mkdir()
    for name in ("1000", "200", "0", "best", "-5", "1e3", "x7"):
        (folder.snapshots_folder / f"{name}.safetensors").write_bytes(b"")
    for name in ("300.tmp", ".400.safetensors.77.tmp", "500"):
        (folder.snapshots_folder / name).write_bytes(b"")
    assert list(folder.snapshots) == [0, 200, 1000]
    for sequences, path in folder.snapshots.items():
        assert path == folder.snapshot_file(sequences)


def full_folder(path: Path) -> RunFolder:
    """A run with everything that any command writes into it, and something of the user's."""
    folder = RunFolder(path)
    folder.snapshots_folder.mkdir(parents=True)
    names = [
        *("config.json", "curve.csv", "lengths.csv", "positions.csv", "summary.json"),
        *("memory.csv", "trace.npz", "evals.csv", "best.safetensors", "last.safetensors"),
        *("checkpoint.pt", "failed.json", "trace-length=5.svg", "trace-length=5-seed2.gif"),
        *("snapshots/0.safetensors", "snapshots/104.safetensors"),
    ]
    for name in [*names, "notes.txt", "claim", "traces.txt"]:
        (path / name).write_text(name)
    return folder


def test_what_a_run_writes_begins_with_what_says_complete(tmp_path) -> None:
    """A folder from which files are taken in this order never says more than it holds."""
    folder = full_folder(tmp_path)
    names = [path.name for path in folder.written_files]
    there = {path.name for path in tmp_path.iterdir()}
    assert len(set(names)) == len(names)
    assert there - set(names) == {"notes.txt", "claim", "traces.txt"} and set(names) <= there
    assert names[0] == "summary.json" and names[-1] == "config.json"


def files_under(path: Path) -> dict[str, bytes]:
    found = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found}


def test_files_sent_back_take_away_what_has_gone(tmp_path) -> None:
    folder = full_folder(tmp_path / "here")
    sent = {
        *("config.json", "curve.csv", "checkpoint.pt"),
        *("snapshots/0.safetensors", "snapshots/144.safetensors"),
    }
    write_files(folder.path, {name: f"new {name}".encode() for name in sent})
    found = files_under(folder.path)
    kept = {"notes.txt", "claim", "traces.txt"}
    assert set(found) == sent | kept
    assert all(found[name] == f"new {name}".encode() for name in sent)
    assert all(found[name] == name.encode() for name in kept)
    assert list(folder.snapshots) == [0, 144]


def test_files_there_and_back_are_the_same(tmp_path) -> None:
    here = full_folder(tmp_path / "here")
    (here.path / ".curve.csv.7.tmp").write_text("half")
    files = read_files(here.path)
    assert set(files) == set(files_under(here.path)) - {"claim", ".curve.csv.7.tmp"}
    write_files(tmp_path / "there", files)
    assert files_under(tmp_path / "there") == files


def test_no_files_take_nothing_away(tmp_path) -> None:
    """A node that sends nothing back, since it never began."""
    folder = full_folder(tmp_path)
    before = files_under(tmp_path)
    write_files(folder.path, {})
    assert files_under(tmp_path) == before


def test_the_columns_are_those_documented() -> None:
    """results/README.md names every column and file that the code writes."""
    text = (Path(__file__).parent.parent / "results" / "README.md").read_text(encoding="utf-8")
    tables = [folders.CURVE_COLUMNS, folders.LENGTHS_COLUMNS]
    tables += [folders.POSITIONS_COLUMNS, folders.MEMORY_COLUMNS]
    for column in {name for table in tables for name in table}:
        assert f"`{column}`" in text, column
    for path in RunFolder(Path("no such run")).written_files:
        assert path.name in text, path.name
    for name in ("evals.csv", "memory.csv", "trace.npz", "snapshots"):
        assert name in text, name
