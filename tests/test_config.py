"""Configuration: strict, complete, in a known order of precedence; and the public checks."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import nn

from ntmbench.config import (
    EvaluateConfig,
    RunConfig,
    SolvedConfig,
    TrainConfig,
    build,
    differences,
)
from ntmbench.errors import UserError, unknown
from ntmbench.generators import Copy
from ntmbench.models import ALIASES, BUILT_IN, complete_arguments, find_model
from ntmbench.options import SETTABLE, parse_override
from ntmbench.resolve import make_model, model_of, resolve
from ntmbench.tasks import (
    check_point,
    load_task,
    make_generator,
    merge,
    task_names,
)
from ntmbench.testing import check_model, check_task

PROFILES = ("smoke", "standard", "paper")

# Strict building


@dataclass(frozen=True, kw_only=True)
class Inner:
    text: str = "x"


@dataclass(frozen=True, kw_only=True)
class Table:
    count: int
    rate: float = 0.5
    on: bool = False
    choice: Literal["a", "b"] = "a"
    items: list[int] = field(default_factory=list)
    named: dict[str, list[int]] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    maybe: int | None = None
    free: Any = None


def test_build_takes_every_type() -> None:
    values = {
        "count": 3, "rate": 2, "on": True, "choice": "b", "items": (1, 2), "named": {"k": [1]},
        "inner": {"text": "y"}, "maybe": None, "free": {"any": [1.5, None]},
    }  # fmt: skip
    made = build(Table, values, "here")
    assert made == Table(
        count=3, rate=2.0, on=True, choice="b", items=[1, 2], named={"k": [1]},
        inner=Inner(text="y"), free={"any": [1.5, None]},
    )  # fmt: skip
    assert type(made.rate) is float
    assert build(Table, {"count": 1, "maybe": 4}, "here").maybe == 4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ["here lacks the key 'count'"]),
        (3, ["here must be a table", "3"]),
        ({"count": 1, "rat": 2}, ["unknown key in here 'rat'", "did you mean 'rate'?", "choice"]),
        ({"count": 1.0}, ["here.count", "whole number", "1.0"]),
        ({"count": True}, ["here.count", "whole number", "True"]),
        ({"count": "1"}, ["here.count", "whole number", "'1'"]),
        ({"count": None}, ["here.count", "whole number", "None"]),
        ({"count": 1, "rate": "x"}, ["here.rate", "a number", "'x'"]),
        ({"count": 1, "rate": True}, ["here.rate", "a number", "True"]),
        ({"count": 1, "rate": math.nan}, ["here.rate", "finite", "nan"]),
        ({"count": 1, "rate": -math.inf}, ["here.rate", "finite", "-inf"]),
        ({"count": 1, "on": 1}, ["here.on", "true or false", "1"]),
        ({"count": 1, "choice": "c"}, ["here.choice", "'c'", "a, b"]),
        ({"count": 1, "choice": ["a"]}, ["here.choice", "a, b"]),
        ({"count": 1, "items": 3}, ["here.items", "list", "3"]),
        ({"count": 1, "items": "ab"}, ["here.items", "list", "'ab'"]),
        ({"count": 1, "items": [1, "b"]}, ["here.items[1]", "whole number", "'b'"]),
        ({"count": 1, "named": [1]}, ["here.named", "table", "[1]"]),
        ({"count": 1, "named": {"k": 3}}, ["here.named.k", "list", "3"]),
        ({"count": 1, "inner": 3}, ["here.inner", "table", "3"]),
        ({"count": 1, "inner": {"txt": 3}}, ["here.inner", "did you mean 'text'?"]),
        ({"count": 1, "inner": {"text": 3}}, ["here.inner.text", "text", "3"]),
        ({"count": 1, "maybe": "x"}, ["here.maybe", "whole number", "'x'"]),
    ],
)
def test_build_refuses(values, words) -> None:
    with pytest.raises(UserError) as caught:
        build(Table, values, "here")
    for word in words:
        assert word in str(caught.value)


def test_unknown_names_the_nearest_and_all() -> None:
    text = str(unknown("model", "ltsm", ["gru", "lstm"]))
    assert text == "unknown model 'ltsm'; did you mean 'lstm'? (allowed: gru, lstm)"
    assert str(unknown("model", "zzz", ["gru"])) == "unknown model 'zzz' (allowed: gru)"
    assert "none" in str(unknown("argument", "x", []))


@pytest.mark.parametrize(
    ("made", "base"),
    [
        (TrainConfig, {"sequences": 1, "vary": {"length": [1, 2]}}),
        (EvaluateConfig, {"points": [{"length": 1}]}),
        (SolvedConfig, {"metric": "loss_bits", "below": 0.1}),
    ],
)
def test_sections_are_frozen_keyword_only_and_documented(made, base) -> None:
    section = build(made, base, "section")
    with pytest.raises(dataclasses.FrozenInstanceError):
        section.sequences = 3
    with pytest.raises(TypeError):
        made(*base.values())
    for f in dataclasses.fields(made):
        named = made.__doc__ + inspect.getsource(made)
        assert f.name in named


@pytest.mark.parametrize("name", ["batch_size", "learning_rate", "clip_at", "curve_every"])
def test_the_least_that_is_allowed_is_allowed(name) -> None:
    base = {"sequences": 1, "vary": {"length": [1, 1]}}
    least = 1e-12 if name in ("learning_rate", "clip_at") else 1
    assert getattr(build(TrainConfig, base | {name: least}, "train"), name) == least
    with pytest.raises(UserError, match=rf"train\.{name} must be"):
        build(TrainConfig, base | {name: 0}, "train")


# Differences


def test_differences() -> None:
    a = {"same": 1, "x": 1, "deep": {"k": [1], "same": 2}, "only_a": 3, "kind": {"a": 1}}
    b = {"same": 1, "x": 2, "deep": {"k": [2], "same": 2}, "only_b": 4, "kind": 5}
    assert differences(a, a) == []
    assert differences(a, b) == [
        ("deep.k", [1], [2]),
        ("kind", {"a": 1}, 5),
        ("only_a", 3, None),
        ("only_b", None, 4),
        ("x", 1, 2),
    ]


# Whole configurations


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("model", BUILT_IN)
@pytest.mark.parametrize("task", task_names())
def test_a_configuration_survives_json(task, model, profile) -> None:
    config = resolve(load_task(task, profile), model, seed=3, tag="x")
    content = config.to_dict()
    back = RunConfig.from_dict(json.loads(json.dumps(content, allow_nan=False)), "config")
    assert back == config and back.to_dict() == content
    assert differences(back.to_dict(), content) == []
    parameters = inspect.signature(_class(config.model.target)).parameters
    assert list(config.model.arguments) == list(parameters)[2:]
    assert (config.task.name, config.profile, config.seed) == (task, profile, 3)
    assert config.label == f"{model}@x"
    assert sum(weight.numel() for weight in model_of(config).parameters()) > 1000


def _class(target: str) -> type:
    module, _, name = target.partition(":")
    return getattr(__import__(module, fromlist=[name]), name)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.initial_keys='addz'", "initial_keys must be one of own, adds, not 'addz'"),
        ("model.heads=0", "heads"),
    ],
)
def test_what_a_model_refuses_is_told_at_once_and_draws_nothing(override, words) -> None:
    before = torch.get_rng_state()
    with pytest.raises(UserError, match=words):
        resolve(load_task("copy"), "ntm", seed=0, overrides=[override])
    resolve(load_task("copy"), "ntm", seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_somebody_elses_model_is_made_by_its_run_alone(tmp_path, monkeypatch) -> None:
    source = "from torch import nn\n\nclass Never(nn.Module):\n"
    source += "    def __init__(self, input_size, output_size):\n        raise RuntimeError\n"
    (tmp_path / "made_by_none.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    config = resolve(load_task("copy"), "made_by_none:Never", seed=0)
    assert config.model.target == "made_by_none:Never"


def test_a_seed_below_zero_is_refused() -> None:
    with pytest.raises(UserError, match="seed must be 0 to 9223372036854775807, not -1"):
        resolve(load_task("copy"), "lstm", seed=-1)


# Precedence

PRECEDENCE = """
summary   = "Own."
source    = "here"
version   = 1
generator = "ntmbench.generators:Copy"
[params]
width = 3
[train]
sequences = 1000
learning_rate = 0.002
decay = 0.5
vary = { length = [1, 5] }
[evaluate]
points = [{ length = 3 }]
[solved]
metric = "loss_bits"
below = 0.1
[recipes.lstm]
train = { learning_rate = 0.003, momentum = 0.3 }
model = { hidden_size = 30 }
[profiles.smoke]
params = { width = 4 }
train = { sequences = 2000, decay = 0.25 }
recipes.lstm = { train = { momentum = 0.4 }, model = { layers = 2 } }
"""


@pytest.fixture
def own_file(tmp_path) -> str:
    (tmp_path / "own.toml").write_text(PRECEDENCE)
    return str(tmp_path / "own.toml")


def test_each_level_is_laid_over_the_one_before(own_file) -> None:
    def found(profile: str, model: str, *overrides: str, **options: Any) -> dict[str, Any]:
        task = load_task(own_file, profile)
        config = resolve(task, model, seed=0, overrides=overrides, **options)
        train = dataclasses.asdict(config.train)
        names = ("sequences", "learning_rate", "decay", "momentum", "clip_at")
        chosen = {name: train[name] for name in names}
        return chosen | config.task.params | config.model.arguments

    # defaults of the code, then the file
    assert found("standard", "gru") == {
        "sequences": 1000, "learning_rate": 0.002, "decay": 0.5, "momentum": 0.9, "clip_at": 10.0,
        "width": 3, "hidden_size": 256, "layers": 3,
    }  # fmt: skip
    # the recipe for the model, over the file
    standard = found("standard", "lstm")
    assert standard["learning_rate"] == 0.003 and standard["momentum"] == 0.3
    assert standard["hidden_size"] == 30 and standard["layers"] == 3
    # the profile, over the file
    smoke = found("smoke", "gru")
    assert (smoke["sequences"], smoke["decay"], smoke["width"]) == (2000, 0.25, 4)
    assert smoke["learning_rate"] == 0.002
    # the profile's recipe, over the file's
    smoke = found("smoke", "lstm")
    assert (smoke["momentum"], smoke["layers"], smoke["hidden_size"]) == (0.4, 2, 30)
    assert (smoke["learning_rate"], smoke["decay"]) == (0.003, 0.25)
    # --set, over all of them
    sets = ("train.momentum=0.1", "model.layers=1", "params.width=5", "train.sequences=3000")
    changed = found("smoke", "lstm", *sets)
    assert (changed["momentum"], changed["layers"], changed["width"]) == (0.1, 1, 5)
    assert (changed["sequences"], changed["hidden_size"]) == (3000, 30)
    # the last of two --set
    assert found("smoke", "lstm", "model.layers=1", "model.layers=4")["layers"] == 4
    # options, over --set
    assert found("smoke", "lstm", *sets, sequences=4000)["sequences"] == 4000


def test_one_axis_can_be_set_alone() -> None:
    task = load_task("repeat_copy")
    config = resolve(task, "lstm", seed=0, overrides=["train.vary.length=[2,3]"])
    assert config.train.vary == {"length": [2, 3], "repeats": task.train.vary["repeats"]}


def test_resolving_leaves_the_task_as_it_is(own_file) -> None:
    task = load_task(own_file, "smoke")
    before = json.dumps(task.table)
    resolve(task, "lstm", seed=0, overrides=["train.vary.length=[2,3]", "model.layers=1"])
    assert json.dumps(task.table) == before
    assert json.dumps(load_task(own_file, "smoke").table) == before


def test_merge() -> None:
    under = {"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"z": 1}}
    over = {"a": {"y": [3]}, "b": {"n": 2}, "c": 3, "d": {"m": 1}}
    merged = merge(under, over)
    assert merged == {"a": {"x": 1, "y": [3]}, "b": {"n": 2}, "c": 3, "d": {"m": 1}}
    merged["a"]["y"].append(4)
    merged["d"]["m"] = 2
    assert under["a"]["y"] == [1, 2] and over["a"]["y"] == [3] and over["d"] == {"m": 1}


def test_a_recipe_is_used_by_make_model_too(own_file) -> None:
    task = load_task(own_file)
    model = make_model("lstm", task, layers=1)
    assert model.stack.layers[0].recurrent_weight_GH.shape == (120, 30)
    assert len(model.stack.layers) == 1 and model.readout.out_features == 3
    with pytest.raises(UserError, match="did you mean 'layers'"):
        make_model("lstm", task, layer=1)


# --set


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("train.batch_size=16", {"train": {"batch_size": 16}}),
        (" train.batch_size = 16 ", {"train": {"batch_size": 16}}),
        ("train.learning_rate=3e-5", {"train": {"learning_rate": 3e-5}}),
        ("train.stop_when_solved=true", {"train": {"stop_when_solved": True}}),
        ("train.optimiser=graves-rmsprop", {"train": {"optimiser": "graves-rmsprop"}}),
        ('train.optimiser="adam"', {"train": {"optimiser": "adam"}}),
        ("model.addressing=content+location", {"model": {"addressing": "content+location"}}),
        ("train.vary.length=[1,5]", {"train": {"vary": {"length": [1, 5]}}}),
        ("evaluate.points=[{length=3}]", {"evaluate": {"points": [{"length": 3}]}}),
        ("model.text='a=b'", {"model": {"text": "a=b"}}),
    ],
)
def test_an_override_is_a_table(text, table) -> None:
    assert parse_override(text) == table


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "section.key=VALUE"),
        ("train", "section.key=VALUE"),
        ("train=3", "section.key=VALUE"),
        (".x=3", "section.key=VALUE"),
        ("train.=3", "section.key=VALUE"),
        ("train.x", "section.key=VALUE"),
        ("trian.x=3", "did you mean 'train'"),
        ("train.x=", "not a TOML value"),
        ("train.x=[1", "not a TOML value"),
        ("train.x=a b", "not a TOML value"),
        ("train.x=../y", "not a TOML value"),
        ("train.x=1\ny=2", "not a TOML value"),
    ],
)
def test_a_bad_override_is_refused(text, words) -> None:
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        parse_override(text)


def test_every_section_of_a_task_can_be_set() -> None:
    values = {
        "params": "width=2", "train": "decay=0.5", "evaluate": "seed=3", "solved": "times=9",
        "model": "layers=2",
    }  # fmt: skip
    assert set(values) == set(SETTABLE)
    overrides = [f"{section}.{value}" for section, value in values.items()]
    changed = resolve(load_task("copy"), "lstm", seed=0, overrides=overrides).to_dict()
    usual = resolve(load_task("copy"), "lstm", seed=0).to_dict()
    assert [key for key, *_ in differences(usual, changed)] == [
        *("evaluate.seed", "model.arguments.layers", "solved.times", "task.params.width"),
        "train.decay",
    ]


# Tasks by name


def test_tasks_by_name_hyphen_alias_and_path(tmp_path) -> None:
    assert load_task("repeat-copy") == load_task("repeat_copy")
    assert load_task("recall").name == "associative_recall"
    assert load_task("ngrams").name == "dynamic_ngrams"
    assert load_task("copy").profile == "standard"
    path = tmp_path / "my own+task.toml"
    path.write_text(PRECEDENCE)
    task = load_task(path)
    assert task.name == "my_own_task" and task.axes == ("length",)
    assert task.profiles == ("smoke", "standard")
    with pytest.raises(UserError, match="did you mean 'recall'"):
        load_task("recal")
    with pytest.raises(UserError, match=r"paper.*allowed: smoke, standard"):
        load_task(path, "paper")


def test_no_two_tasks_share_a_name() -> None:
    names = [name for task in task_names() for name in (task, *load_task(task).aliases)]
    assert len(names) == len(set(names)) and "all" not in names
    assert not set(ALIASES) & set(BUILT_IN) and set(ALIASES.values()) <= set(BUILT_IN)


@pytest.mark.parametrize("task", task_names())
def test_profiles_change_sizes_and_not_the_task(task) -> None:
    assert load_task(task).profiles == tuple(sorted(PROFILES))
    smoke, standard, paper = (load_task(task, profile) for profile in PROFILES)
    assert smoke.train.sequences < standard.train.sequences < paper.train.sequences
    assert smoke.generator == standard.generator == paper.generator
    assert smoke.train.vary == standard.train.vary == paper.train.vary
    assert smoke.table["solved"] == standard.table["solved"]


def test_points_need_exactly_the_axes() -> None:
    check_point({"length": 3, "repeats": 2}, ("length", "repeats"), "here")
    with pytest.raises(UserError, match="axis in here 'lenght'; did you mean 'length'"):
        check_point({"lenght": 3}, ("length",), "here")
    with pytest.raises(UserError, match="here: a point needs length, repeats; repeats is missing"):
        check_point({"length": 3}, ("length", "repeats"), "here")


def test_a_parameter_of_a_generator_is_one_of_its_fields() -> None:
    assert make_generator("ntmbench.generators:Copy", {"width": 2}).width == 2
    with pytest.raises(UserError, match=r"'axes' \(allowed: width\)"):
        make_generator("ntmbench.generators:Copy", {"axes": ["length"]})


# The public checks, over what is built in


@pytest.mark.parametrize("task", task_names())
def test_built_in_tasks_keep_their_promises(task) -> None:
    check_task(task, batch_size=8)


@pytest.mark.parametrize("model", BUILT_IN)
@pytest.mark.parametrize("task", task_names())
def test_built_in_models_keep_their_promises(task, model) -> None:
    loaded = load_task(task)
    torch.manual_seed(0)
    generator = loaded.generator
    check_model(make_model(model, loaded), generator.input_size, generator.output_size)


# The public checks, over what is broken on purpose: one promise each


class Plain(nn.Module):
    """A recurrent model that keeps every promise; the others break one each."""

    def __init__(self, input_size: int = 4, output_size: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix, self.readout = nn.Linear(input_size + 5, 5), nn.Linear(5, output_size)

    def initial_state(self, batch_size: int) -> torch.Tensor:
        return torch.zeros(batch_size, 5)

    def forward(self, inputs_BTI, state=None):
        state = self.initial_state(len(inputs_BTI)) if state is None else state
        seen = []
        for input_BI in inputs_BTI.unbind(1):
            state = torch.tanh(self.mix(torch.cat([input_BI, state], 1)))
            seen.append(state)
        return self.readout(torch.stack(seen, 1)), state


class WrongShape(Plain):
    def forward(self, inputs_BTI, state=None):
        logits, state = super().forward(inputs_BTI, state)
        return logits.transpose(0, 1), state


class KeepsState(Plain):
    kept = None

    def forward(self, inputs_BTI, state=None):
        logits, self.kept = super().forward(inputs_BTI, self.kept if state is None else state)
        return logits, self.kept


class Draws(Plain):
    def forward(self, inputs_BTI, state=None):
        logits, state = super().forward(inputs_BTI, state)
        return logits + torch.randn_like(logits), state


class OtherStart(Plain):
    def initial_state(self, batch_size):
        return torch.ones(batch_size, 5)

    def forward(self, inputs_BTI, state=None):
        return super().forward(
            inputs_BTI, torch.zeros(len(inputs_BTI), 5) if state is None else state
        )


class DropsState(Plain):
    def forward(self, inputs_BTI, state=None):
        logits, _ = super().forward(inputs_BTI, state)
        return logits, self.initial_state(len(inputs_BTI))


class SeesTheBatch(Plain):
    def forward(self, inputs_BTI, state=None):
        weighted = inputs_BTI * torch.arange(1, len(inputs_BTI) + 1)[:, None, None]
        return super().forward(inputs_BTI + weighted.mean(0), state)


class SeesTheEnd(Plain):
    def forward(self, inputs_BTI, state=None):
        return super().forward(inputs_BTI + inputs_BTI[:, -1:], state)


class SeesThreeSteps(Plain):
    """Sees the rest of every group of three steps, so that halves of six hide it."""

    def forward(self, inputs_BTI, state=None):
        groups = [group + group[:, -1:] for group in inputs_BTI.split(3, 1)]
        return super().forward(torch.cat(groups, 1), state)


class Late(Plain):
    """Answers from the state before the step."""

    def forward(self, inputs_BTI, state=None):
        state = self.initial_state(len(inputs_BTI)) if state is None else state
        seen = []
        for input_BI in inputs_BTI.unbind(1):
            seen.append(state)
            state = torch.tanh(self.mix(torch.cat([input_BI, state], 1)))
        return self.readout(torch.stack(seen, 1)), state


class NoParameters(Plain):
    def __init__(self) -> None:
        super().__init__()
        for layer in (self.mix, self.readout):
            weights = {name: weight.detach() for name, weight in layer.named_parameters()}
            for name, weight in weights.items():
                delattr(layer, name)
                layer.register_buffer(name, weight)

    def forward(self, inputs_BTI, state=None):
        logits, state = super().forward(inputs_BTI, state)
        return logits.requires_grad_(), state


class Unreached(Plain):
    def forward(self, inputs_BTI, state=None):
        logits, state = super().forward(inputs_BTI, state)
        return logits * 0 + logits.detach(), state


class NotFinite(Plain):
    def forward(self, inputs_BTI, state=None):
        logits, state = super().forward(inputs_BTI, state)
        return logits + torch.sqrt(self.mix.bias.sum() - self.mix.bias.sum()), state


class NotANumber(Plain):
    def forward(self, inputs_BTI, state=None):
        logits, state = super().forward(inputs_BTI, state)
        return logits * math.nan, state


BROKEN_MODELS = [
    (WrongShape, "must have shape"),
    (KeepsState, "state is kept inside"),
    (Draws, "a second call gives other logits"),
    (OtherStart, "initial_state"),
    (DropsState, "must equal the whole"),
    (SeesTheBatch, "must not see the others"),
    (SeesTheEnd, "equal the whole|later inputs"),
    (SeesThreeSteps, "equal the whole|later inputs"),
    (Late, "do not depend on the input"),
    (NoParameters, "no parameters"),
    (Unreached, "no parameter receives a gradient"),
    (NotFinite, "gradient of .* is not finite"),
    (NotANumber, "finite|nan|NaN"),
]


def test_the_model_that_the_broken_ones_are_made_from_is_whole() -> None:
    check_model(Plain(), 4, 3)


@pytest.mark.parametrize(
    ("made", "words"), BROKEN_MODELS, ids=[row[0].__name__ for row in BROKEN_MODELS]
)
def test_a_broken_model_is_found_out(made, words) -> None:
    with pytest.raises(AssertionError, match=words):
        check_model(made(), 4, 3)


@dataclass(frozen=True, kw_only=True)
class Whole(Copy):
    """A generator that keeps every promise; the others break one each."""


class OtherAxes(Whole):
    axes: ClassVar[tuple[str, ...]] = ("size",)


class GlobalDraws(Whole):
    def sample(self, rng, batch_size, *, length):
        np.random.random()
        return super().sample(rng, batch_size, length=length)


class Unrepeatable(Whole):
    def sample(self, rng, batch_size, *, length):
        return super().sample(np.random.default_rng(), batch_size, length=length)


class Doubles(Whole):
    def sample(self, rng, batch_size, *, length):
        batch = super().sample(rng, batch_size, length=length)
        return batch._replace(inputs_BTI=batch.inputs_BTI.astype(np.float64))


class OtherShape(Whole):
    def sample(self, rng, batch_size, *, length):
        batch = super().sample(rng, batch_size, length=length)
        return batch._replace(targets_BTO=batch.targets_BTO[:, :, 1:])


class HalfTargets(Whole):
    def sample(self, rng, batch_size, *, length):
        batch = super().sample(rng, batch_size, length=length)
        return batch._replace(targets_BTO=batch.targets_BTO / 2)


class HalfMask(Whole):
    def sample(self, rng, batch_size, *, length):
        batch = super().sample(rng, batch_size, length=length)
        return batch._replace(mask_BT=batch.mask_BT / 2)


class NothingScored(Whole):
    def sample(self, rng, batch_size, *, length):
        batch = super().sample(rng, batch_size, length=length)
        batch.mask_BT[0] = 0
        return batch


class FlatSolution(Whole):
    def solve(self, batch):
        return super().solve(batch)[0]


class OneCoin(Whole):
    def coin_bits(self, batch):
        return super().coin_bits(batch)[:1]


class BadSolver(Whole):
    def solve(self, batch):
        return 1 - super().solve(batch)


class Cheats(Whole):
    """Its solver reads the answers."""

    def solve(self, batch):
        return batch.targets_BTO


class DrawsForTheBatch(Whole):
    """The sequences of a batch are not those drawn one by one."""

    def sample(self, rng, batch_size, *, length):
        return super().sample(np.random.default_rng([batch_size, 1]), batch_size, length=length)


class PaddedWithOnes(Whole):
    def sample(self, rng, batch_size, *, length):
        batch = super().sample(rng, batch_size, length=length)
        ends = 2 * np.broadcast_to(length, batch_size) + 1
        for row, end in zip(batch.inputs_BTI, ends, strict=True):
            row[end:, 0] = 1
        return batch


BROKEN_TASKS = [
    (OtherAxes, "must be the keywords of sample"),
    (GlobalDraws, "numpy's global generator"),
    (Unrepeatable, "differs when the same stream is drawn again"),
    (Doubles, "inputs_BTI must be float32"),
    (OtherShape, "targets_BTO must have shape"),
    (HalfTargets, "targets must be 0 or 1"),
    (HalfMask, "the mask must be 0 or 1"),
    (NothingScored, "no scored step"),
    (FlatSolution, "a probability a target bit"),
    (OneCoin, "a number a sequence"),
    (BadSolver, "must beat chance"),
    (Cheats, "must beat chance"),
    (DrawsForTheBatch, "not the one drawn alone"),
    (PaddedWithOnes, "not zero after a sequence's end"),
]


def task_with(made: type, **vary: list[int]) -> Any:
    """The copy task with another generator and, if given, other ranges."""
    task = load_task("copy", "smoke")
    changes: dict[str, Any] = {"generator": f"{made.__module__}:{made.__name__}"}
    changed = dataclasses.replace(task, table=merge(task.table, changes))
    if vary:
        changed.table["train"]["vary"] = vary
    return changed


def test_the_task_that_the_broken_ones_are_made_from_is_whole() -> None:
    check_task(task_with(Whole))


@pytest.mark.parametrize(
    ("made", "words"), BROKEN_TASKS, ids=[row[0].__name__ for row in BROKEN_TASKS]
)
def test_a_broken_task_is_found_out(made, words) -> None:
    with pytest.raises(AssertionError, match=words):
        check_task(task_with(made))


def test_ranges_of_other_axes_are_found_out() -> None:
    with pytest.raises(AssertionError, match=r"train\.vary has the axes"):
        check_task(task_with(Whole, size=[1, 5]))


@pytest.mark.parametrize("task", task_names())
def test_lstm_and_gru_are_of_the_ntms_size(task) -> None:
    """Within a tenth of its number of parameters, and the large ones well over it."""

    def parameters(model: str) -> int:
        made = make_model(model, load_task(task))
        return sum(weight.numel() for weight in made.parameters())

    of_ntm = parameters("ntm")
    for model in ("lstm", "gru"):
        assert parameters(model) == pytest.approx(of_ntm, rel=0.1)
        assert parameters(f"{model}-large") > 3 * of_ntm


@pytest.mark.parametrize("task", task_names())
@pytest.mark.parametrize("model", sorted(BUILT_IN))
def test_the_paper_profile_is_the_papers(task, model) -> None:
    """A million sequences, one an update, each component of the gradient clipped."""
    train = resolve(load_task(task, "paper"), model, seed=0).train
    assert (train.sequences, train.batch_size) == (1_000_000, 1)
    assert (train.clip, train.clip_at) == ("value", 10)
    assert train.learning_rate in (1e-4, 3e-5)
    assert (train.schedule, train.input_noise, train.average_over) == ("constant", 0.0, 0)


@pytest.mark.parametrize("task", task_names())
@pytest.mark.parametrize("model", [name for name in sorted(BUILT_IN) if "ntm" in name])
def test_the_paper_profile_has_no_start_of_a_recipe(task, model) -> None:
    """Of an NTM it sets the sizes that differ in the paper; all else is as the class has it."""
    arguments = resolve(load_task(task, "paper"), model, seed=0).model.arguments
    usual = complete_arguments(find_model("ntm"), {}).arguments
    sizes = {"controller", "hidden_size", "layers", "heads"}
    assert {name for name, value in arguments.items() if value != usual[name]} <= sizes
