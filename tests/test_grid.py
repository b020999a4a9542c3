"""Grids of settings and their notation: every combination once, each in a folder of its name."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fake_runs import fake_config, write_run
from hypothesis import given
from hypothesis import strategies as st

from ntmbench.config import HOW, identity
from ntmbench.errors import UserError
from ntmbench.options import (
    SETTABLE,
    Axis,
    parse_duration,
    parse_grid,
    parse_names,
    parse_override,
    parse_point,
    parse_seeds,
    parse_shard,
)
from ntmbench.sweep.grid import Cell, Grid, shard_of, toml_text
from ntmbench.tasks import load_task


def grid(*axes: str, **more: Any) -> Grid:
    """A grid over copy and an LSTM with seed 0, unless `more` says otherwise."""
    given = {"tasks": ["copy"], "models": ["lstm"], "seeds": [0]} | more
    tasks = [load_task(name) for name in given.pop("tasks")]
    return Grid(tasks=tasks, axes=[parse_grid(axis) for axis in axes], **given)


def tags(*axes: str, **more: Any) -> list[str]:
    """The tags of a grid's runs."""
    return [config.tag for config in grid(*axes, **more).configs()]


# The cells of a grid


def test_everything_is_crossed_once_with_the_seeds_innermost() -> None:
    tasks, models, seeds = ["repeat_copy", "copy"], ["ntm", "lstm"], [7, 0, 3]
    rates, batches = ["0.01", "0.001"], ["4", "2", "8"]
    made = grid(
        f"train.learning_rate=[{','.join(rates)}]",
        f"train.batch_size=[{','.join(batches)}]",
        **{"tasks": tasks, "models": models, "seeds": seeds},
    ).configs()
    found = [
        (c.task.name, c.model.name, str(c.train.learning_rate), str(c.train.batch_size), c.seed)
        for c in made
    ]
    assert found == list(itertools.product(tasks, models, rates, batches, seeds))
    for config in made:
        values = (config.train.learning_rate, config.train.batch_size)
        assert config.tag == "learning_rate={},batch_size={}".format(*values)


def test_runs_of_a_grid_differ_in_nothing_else() -> None:
    """A cell of a grid is the run that `--set` with its value makes."""
    options = {"overrides": ["train.clip='value'"], "sequences": 500, "threads": 3}
    crossed = grid("train.batch_size=[2,4]", "model.hidden_size=[8]", tag="", **options).configs()
    plain = grid(**options).configs()
    assert len(crossed) == 2 and len(plain) == 1
    for config, size in zip(crossed, (2, 4), strict=True):
        options["overrides"] = [
            *("train.clip='value'", f"train.batch_size={size}", "model.hidden_size=8")
        ]
        (single,) = grid(tag=config.tag, **options).configs()
        assert config == single
        assert identity(config.to_dict()) != identity(plain[0].to_dict())
        assert (config.train.sequences, config.threads, config.train.clip) == (500, 3, "value")


def test_a_grid_without_axes_has_the_tag_alone() -> None:
    assert tags(seeds=[0, 1]) == ["", ""]
    assert tags(tag="mine") == ["mine"]


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        (["model.hidden_size=[8,16]"], ["hidden_size=8", "hidden_size=16"]),
        (["train.clip=['norm',\"value\"]"], ["clip=norm", "clip=value"]),
        (["train.learning_rate=[1e-4,0.5]"], ["learning_rate=0.0001", "learning_rate=0.5"]),
        (
            ["train.stop_when_solved=[true,false]"],
            ["stop_when_solved=true", "stop_when_solved=false"],
        ),
        (["train.vary.length=[[1,5],[2,30]]"], ["length=1-5", "length=2-30"]),
        (["solved.below=[-1.5,1.5]"], ["below=-1.5", "below=1.5"]),
        (["train.vary=[{length=[1,5]}]"], ["vary=length-1-5"]),
        (
            ["train.batch_size=[1,2]", "model.layers=[1,2]"],
            [f"batch_size={b},layers={n}" for b in (1, 2) for n in (1, 2)],
        ),
    ],
)
def test_tags_hold_the_values(axes, expected) -> None:
    assert tags(*axes) == expected
    assert tags(*axes, tag="mine") == [f"mine,{tag}" for tag in expected]


def test_settings_of_one_name_are_told_apart_by_their_sections() -> None:
    axes = ("train.batch_size=[2]", "evaluate.batch_size=[3]", "model.layers=[1]")
    assert tags(*axes) == ["train.batch_size=2,evaluate.batch_size=3,layers=1"]
    assert tags(*axes[1:]) == ["batch_size=3,layers=1"]


def test_a_tag_that_is_too_long_for_a_folder_is_refused() -> None:
    axes = [f"model.{name}=[{value}]" for name, value in (("hidden_size", 8), ("layers", 1))]
    with pytest.raises(UserError, match="up to 180 letters"):
        tags(*axes, tag="x" * 160)


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        ("train.batch_size", "train.batch_size=3"),
        ("train.batch_size", " train.batch_size = 3"),
        ("train.vary", "train.vary.length=[1,5]"),
        ("train.vary.length", "train.vary={length=[1,5]}"),
    ],
)
def test_a_key_is_set_or_crossed_not_both(key, setting) -> None:
    value = "{length=[1,5]}" if key == "train.vary" else "[1,5]" if "length" in key else "4"
    name = setting.partition("=")[0].strip()
    with pytest.raises(UserError, match=f"--grid {key} and --set {name} set the same"):
        grid(f"{key}=[{value}]", overrides=["train.clip=value", setting]).configs()


@pytest.mark.parametrize(
    ("axes", "sequences", "other"),
    [
        (["train.vary=[{length=[1,3]}]", "train.vary.length=[[1,5]]"], None, "--grid train.vary"),
        (["train.sequences=[10,20]"], 40, "--sequences"),
    ],
)
def test_no_axis_is_set_by_another_option(axes, sequences, other) -> None:
    with pytest.raises(UserError, match=f"and {other}.* set the same"):
        grid(*axes, sequences=sequences).configs()


def test_a_key_that_only_begins_like_another_is_another() -> None:
    assert tags("train.clip_at=[1.5]", overrides=["train.clip=value"]) == ["clip_at=1.5"]
    assert tags("train.clip=['value']", overrides=["train.clip_at=2.0"]) == ["clip=value"]


def test_an_axis_is_given_once() -> None:
    with pytest.raises(UserError, match=r"train\.batch_size is given twice.*in one list"):
        grid("train.batch_size=[1]", "train.batch_size=[2]").configs()


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ("train.batchsize=[1]", "did you mean 'batch_size'"),
        ("train.batch_size=[1,0]", "1 or more.*not 0"),
        ("train.clip=['norm','nrom']", "did you mean 'norm'"),
        ("model.hidden=[3]", "did you mean 'hidden_size'"),
    ],
)
def test_what_a_run_refuses_a_grid_refuses(axis, words) -> None:
    with pytest.raises(UserError, match=words):
        grid(axis).configs()


def test_cells_have_folders_of_their_own(tmp_path) -> None:
    cells = grid("train.batch_size=[2,4]", seeds=[0, 5], tag="a").cells(tmp_path, ())
    assert [cell.folder.path.relative_to(tmp_path).as_posix() for cell in cells] == [
        f"copy/lstm@a,batch_size={size}/seed{seed}" for size in (2, 4) for seed in (0, 5)
    ]
    assert cells[1].title == "copy / lstm@a,batch_size=2 / seed 5"
    assert [cell.config for cell in cells] == grid(
        "train.batch_size=[2,4]", seeds=[0, 5], tag="a"
    ).configs()
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_a_run_that_was_begun_goes_on_as_it_was_begun(tmp_path) -> None:
    """But for what is asked for; and one of another configuration is refused."""
    (config,) = grid(overrides=["train.batch_size=4"]).configs()
    begun = fake_config(model="lstm", seed=0) | config.to_dict() | {"threads": 2, "engine": "eager"}
    write_run(tmp_path, begun, status="unfinished")
    (cell,) = grid(overrides=["train.batch_size=4"], seeds=[0]).cells(tmp_path, HOW)
    assert (cell.config.threads, cell.config.engine) == (2, "eager")
    with pytest.raises(UserError, match="threads is 2 there, 1 here"):
        grid(overrides=["train.batch_size=4"], engine="eager").cells(tmp_path, ["device"])
    with pytest.raises(UserError, match=r"train\.batch_size is 4 there, 8 here.*--tag"):
        grid(overrides=["train.batch_size=8"]).cells(tmp_path, HOW)


# Shards


@given(st.integers(0, 60), st.integers(1, 20))
def test_shards_are_disjoint_and_together_everything(size, count) -> None:
    cells: list[Any] = [object() for _ in range(size)]
    parts = [shard_of(cells, number, count) for number in range(1, count + 1)]
    together = [cell for part in parts for cell in part]
    assert len(together) == size and {id(cell) for cell in together} == set(map(id, cells))
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1
    for part in parts:
        assert part == sorted(part, key=cells.index), "the order stays"


def test_every_shard_has_some_of_every_kind() -> None:
    cells: list[Cell] = list(range(12))  # type: ignore[arg-type]
    assert shard_of(cells, 2, 3) == [1, 4, 7, 10]


# Values in TOML

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), max_size=8)
KEY = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs", "Cc"]), max_size=8)
SCALAR = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), TEXT,
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=4),
    max_leaves=12,
)


def typed(value: Any) -> Any:
    """A value with the type of each of its parts, so that 1, 1.0 and true differ."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value), repr(value)


@given(VALUE)
def test_values_are_written_as_toml_reads_them(value) -> None:
    text = toml_text(value)
    assert "\n" not in text and "\r" not in text
    assert typed(tomllib.loads(f"value = {text}")) == {"value": typed(value)}
    assert typed(parse_override(f"train.x={text}")) == {"train": {"x": typed(value)}}


@given(st.lists(VALUE, min_size=1, max_size=4, unique_by=lambda value: str(typed(value))))
def test_a_grid_has_the_values_of_its_list(values) -> None:
    text = toml_text(values)
    try:
        axis = parse_grid(f" model.x.y = {text}")
    except UserError as error:  # such as [1] and [true], which Python takes to be equal
        assert "twice" in str(error) and any(isinstance(value, list | dict) for value in values)
        return
    assert axis.key == "model.x.y" and typed(axis.values) == typed(values)


# Notations


def test_a_grid_is_a_list_in_toml() -> None:
    assert parse_grid("model.memory_rows=[64, 128]") == Axis("model.memory_rows", [64, 128])
    assert parse_grid("train.clip=['norm', \"value\",]") == Axis("train.clip", ["norm", "value"])
    assert parse_grid("params.x=[1, 1.0, true]") == Axis("params.x", [1, 1.0, True])
    assert parse_grid("model.size=[\n1,\n2]") == Axis("model.size", [1, 2])
    assert [parse_grid(f"{section}.x=[1]").key for section in SETTABLE] == [
        f"{section}.x" for section in SETTABLE
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "model.rows",
            r"section\.key=\[a,b,c\], a list in TOML \(text in quotes\), not 'model\.rows'",
        ),
        ("model.rows=", r"section\.key=\[a,b,c\]"),
        ("model.rows=64", r"section\.key=\[a,b,c\].*'model\.rows=64'"),
        ("model.rows=64,128", r"section\.key=\[a,b,c\]"),
        ("model.rows=[]", r"section\.key=\[a,b,c\]"),
        ("model.rows={a=1}", r"section\.key=\[a,b,c\]"),
        ("model.rows=[1,2", r"section\.key=\[a,b,c\]"),
        ("train.clip=[norm]", r"section\.key=\[a,b,c\]"),
        ("model.rows=[1]\nother=2", r"section\.key=\[a,b,c\]"),
        ("model.rows=[1,2,1]", "model.rows names 1 twice"),
        ("model.rows=[[1],[2],[1]]", r"names \[1\] twice"),
        ("rows=[1]", r"section\.key=VALUE"),
        ("=[1]", r"section\.key=VALUE"),
        ("model.=[1]", r"section\.key=VALUE"),
        ("modl.rows=[1]", "did you mean 'model'.*evaluate, model, params, solved, train"),
        ("seed.x=[1]", "unknown section.*'seed'.*allowed: evaluate"),
    ],
)
def test_what_is_no_grid_is_refused(text, words) -> None:
    with pytest.raises(UserError, match=words):
        parse_grid(text)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_seeds, "1" * 5000),
        (parse_seeds, "0-" + "9" * 5000),
        (parse_shard, f"1/{'1' * 5000}"),
        (parse_point, f"length={'1' * 5000}"),
        (parse_grid, f"train.batch_size=[{'1' * 5000}]"),
        (parse_grid, "train.batch_size=" + "[" * 3000 + "]" * 3000),
        (parse_override, f"train.batch_size={'1' * 5000}"),
    ],
)
def test_what_has_no_end_is_refused_in_short(parse, text) -> None:
    with pytest.raises(UserError) as refused:
        parse(text)
    assert len(str(refused.value)) < 1000


def test_a_shard_is_a_part_of_a_count() -> None:
    assert parse_shard("1/1") == (1, 1)
    assert parse_shard("2/8") == (2, 8)
    assert parse_shard("8/8") == (8, 8)


@pytest.mark.parametrize(
    "text",
    ["", "/", "2", "0/8", "9/8", "2/0", "0/0", "-1/8", "1/-8", "a/b", "1/2/3", "1.0/2", "²/3"],
)  # fmt: skip
def test_what_is_no_shard_is_refused(text) -> None:
    with pytest.raises(UserError, match="i/n with i from 1 to n, such as 2/8, not '"):
        parse_shard(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("1.5h", 5400), (" 2 h ", 7200), ("0.5", 0.5)],
)
def test_durations(text, seconds) -> None:
    assert parse_duration(text) == seconds and type(parse_duration(text)) is float


@pytest.mark.parametrize(
    "text",
    ["", "s", "0", "0.0h", "-1", "1d", "1 m 30 s", "1m30s", "1,5h", ".5h", "5.h", "nan", "inf",
     "1e3", "9" * 400, "1 0", "90S"],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text) -> None:
    with pytest.raises(UserError, match="like 90s, 15m or 2h, over 0, not '"):
        parse_duration(text)


def test_names_keep_their_order() -> None:
    assert parse_names("ntm") == ["ntm"]
    assert parse_names("ntm, lstm ,gru") == ["ntm", "lstm", "gru"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' has an empty name.*single commas"),
        (" ", "empty name"),
        ("a,,b", "'a,,b' has an empty name"),
        ("a,", "empty name"),
        (",a", "empty name"),
        ("a,b, a", "'a,b, a' names a twice"),
    ],
)
def test_what_is_no_list_of_names_is_refused(text, words) -> None:
    with pytest.raises(UserError, match=words):
        parse_names(text)


def test_a_grid_is_written_to_no_folder(tmp_path, monkeypatch) -> None:
    """Making the configurations touches no disk: `--dry-run` leaves nothing."""
    monkeypatch.chdir(tmp_path)
    assert len(grid("train.batch_size=[2,4]").configs()) == 2
    assert list(Path(".").iterdir()) == []
