"""Models traced: on which sequence, with how many rows of memory, and without a mark on them."""

# B batch, S sequences, T time, I input, O output, H heads, N memory rows, M row width

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_config import Plain
from test_oracle import AXES, OTHER_SIZES, TASKS, few_examples, name_of

from ntmbench.errors import UserError
from ntmbench.evaluate import point_batches
from ntmbench.folder import MEMORY_COLUMNS
from ntmbench.generators import Copy, DynamicNgrams
from ntmbench.memory import HEADS, Trace
from ntmbench.metrics import score
from ntmbench.models import BUILT_IN
from ntmbench.models.ntm import ADDRESSING, NTM
from ntmbench.resolve import generator_of, make_model, model_of, resolve
from ntmbench.streams import stream
from ntmbench.tasks import load_task
from ntmbench.testing import check_model
from ntmbench.tracing import SEQUENCES, Traced, can_trace, trace_model, usual_point
from ntmbench.train import Trainer

SMALL = ("model.hidden_size=6", "model.memory_rows=8", "model.memory_width=4")
POINT = {"length": 5}


def config_of(model: str = "ntm", task: str = "copy", *overrides: str) -> Any:
    sizes = SMALL if model.startswith("ntm") else SMALL[:1]
    return resolve(load_task(task), model, seed=1, overrides=[*sizes, *overrides])


def fresh(config: Any) -> torch.nn.Module:
    torch.manual_seed(1)
    return model_of(config)


def traced(config: Any, model: torch.nn.Module | None = None, **options: Any) -> Traced:
    given_ = {"point": POINT, "weights": "best", "sequences": 3} | options
    return trace_model(model or fresh(config), generator_of(config), config, **given_)


def same(a: Trace, b: Trace) -> bool:
    """Whether two traces hold the same, bit for bit."""
    return all(
        repr(getattr(a, f.name)) == repr(getattr(b, f.name))
        if not isinstance(getattr(a, f.name), np.ndarray)
        else np.array_equal(getattr(a, f.name), getattr(b, f.name))
        for f in dataclasses.fields(Trace)
        if f.name != "heads"
    ) and all(np.array_equal(a.heads[name], b.heads[name]) for name in {**a.heads, **b.heads})


# What is traced


@pytest.mark.parametrize("model", sorted(BUILT_IN))
def test_a_trace_is_of_the_first_sequence_that_is_drawn_for_it(model) -> None:
    config = config_of(model)
    found = traced(config, sequence_seed=4).trace
    batch = Copy().sample(stream(4, "trace length=5"), SEQUENCES, length=5)
    logits, _ = fresh(config)(torch.from_numpy(batch.inputs_BTI))
    for name, part in zip(("inputs_TI", "targets_TO", "mask_T"), batch, strict=True):
        assert np.array_equal(getattr(found, name), part[0])
    assert np.array_equal(found.outputs_TO, torch.sigmoid(logits[0]).detach().numpy())
    inputs, targets, mask = (torch.from_numpy(part) for part in batch)
    scores = score(fresh(config)(inputs)[0].detach(), targets, mask)
    assert found.loss_bits == pytest.approx(float(scores.loss_bits[0])) and found.loss_bits > 1
    assert found.wrong_bits == float(scores.wrong_bits[0])
    named = (found.task, found.label, found.seed, found.point, found.sequence_seed)
    assert named == ("copy", model, 1, "length=5", 4) and found.sequences == 3
    assert found.phases == [["vectors", 0], ["copy", 6]]
    assert found.input_channels == [["bits", 8], ["delimiter", 1]]
    assert set(found.heads) == (set(HEADS) if model.startswith("ntm") else set())


def test_the_best_predictor_is_traced_beside_the_model() -> None:
    batch = Copy().sample(stream(0, "trace length=5"), SEQUENCES, length=5)
    assert np.array_equal(traced(config_of()).trace.optimum_TO, batch.targets_BTO[0])


def test_traces_repeat_and_another_seed_or_point_is_another_sequence() -> None:
    config = config_of()
    first = traced(config).trace
    assert same(first, traced(config).trace)
    other = traced(config, sequence_seed=1).trace
    assert not np.array_equal(first.inputs_TI, other.inputs_TI)
    assert traced(config, point={"length": 3}).trace.mask_T.sum() == 3


def test_traced_sequences_are_not_those_of_the_evaluation() -> None:
    config = config_of()
    seed = config.evaluate.seed
    mine = traced(config, sequence_seed=seed).trace
    scored = next(iter(point_batches(Copy(), POINT, config.evaluate)))
    assert not (scored.inputs_BTI == mine.inputs_TI).all((1, 2)).any()


def test_a_trace_leaves_no_mark_on_the_model() -> None:
    """Whatever its mode, which comes back; weights, gradients and torch's draws as they were."""
    config = config_of()
    model = fresh(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    draws = torch.get_rng_state()
    for mode in (True, False):
        model.train(mode)
        traced(config, model)
        assert model.training is mode and all(part.training is mode for part in model.modules())
    assert torch.equal(torch.get_rng_state(), draws)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())


class Telling(Plain):
    """A model that says of its heads what it is told to, and notes how it was asked."""

    memory_rows = 6

    def __init__(self, input_size: int = 9, output_size: int = 8) -> None:
        super().__init__(input_size, output_size)
        self.seen: list[tuple[bool, bool]] = []

    def heads(self, inputs_BTI: torch.Tensor) -> dict[str, Any]:
        steps = inputs_BTI.shape[:2]
        share = torch.softmax(inputs_BTI.cumsum(1)[..., :1] * torch.arange(6), -1)
        return {"read_weightings": share[:, :, None], "reads": torch.ones(*steps, 1, 3)}

    def trace(self, inputs_BTI: torch.Tensor, state: Any = None) -> Any:
        self.seen.append((self.training, torch.is_grad_enabled()))
        logits, _ = self(inputs_BTI, state)
        return {"logits": logits} | self.heads(inputs_BTI)


def test_a_model_is_traced_in_evaluation_mode_without_gradients() -> None:
    model = Telling().train()
    found = traced(config_of(), model)
    assert model.seen == [(False, False)] and model.training
    assert set(found.trace.heads) == {"read_weightings", "reads"}
    assert {row["head"] for row in found.memory} == {"read 1"}


TOLD: dict[str, tuple[Any, str]] = {
    "no logits": (lambda found: found.pop("logits"), "lacks 'logits'"),
    "logits of another shape": (
        lambda found: found.update(logits=found["logits"][:, :, 1:]),
        r"'logits' has the shape \(32, 11, 7\), not \(32, 11, 8\)",
    ),
    "an unknown name": (
        lambda found: found.update(weights=found["reads"]),
        "no 'weights', only reads, adds, erases, read_weightings",
    ),
    "a shape too flat": (lambda found: found.update(reads=found["reads"][0]), "'reads'"),
    "steps too few": (
        lambda found: found.update(reads=found["reads"][:, 1:]),
        r"'reads' has the shape \(32, 10, 1, 3\)",
    ),
    "no tensor": (lambda found: found.update(adds=[1.0]), "not as it should be"),
}


@pytest.mark.parametrize("told", [*TOLD, "no mapping"])
def test_what_a_trace_should_not_tell_is_named(told) -> None:
    class Wrong(Telling):
        def trace(self, inputs_BTI, state=None):
            found = super().trace(inputs_BTI, state)
            if told == "no mapping":
                return 3
            TOLD[told][0](found)
            return found

    words = "not as it should be" if told == "no mapping" else TOLD[told][1]
    with pytest.raises(UserError, match=rf"the model's trace\(\).*{words}"):
        traced(config_of(), Wrong())


def test_a_generator_need_not_name_its_channels_and_phases() -> None:
    class Plainest:
        axes, input_size, output_size = ("length",), 9, 8
        sample, solve = Copy().sample, Copy().solve

    config = config_of()
    found = trace_model(fresh(config), Plainest(), config, POINT, weights="last", sequences=1)
    assert found.trace.input_channels == [["input", 9]] and found.trace.phases == []
    assert found.trace.output_channels == [["output", 8]]

    class Wrong(Plainest):
        phases = staticmethod(lambda length: [("vectors",)])

    with pytest.raises(UserError, match="names of channels or phases are not as they should be"):
        trace_model(fresh(config), Wrong(), config, POINT, weights="last", sequences=1)


@pytest.mark.parametrize("rows", [3, 8, 20])
def test_memory_may_have_another_number_of_rows(rows) -> None:
    config = config_of()
    model = fresh(config)
    found = traced(config, model, memory_rows=rows)
    batch = Copy().sample(stream(0, "trace length=5"), SEQUENCES, length=5)
    state = model.initial_state(SEQUENCES, memory_rows=rows)
    expected = model.trace(torch.from_numpy(batch.inputs_BTI), state)
    for name, array in found.trace.heads.items():
        assert np.array_equal(array, expected[name][0].detach().numpy())
    assert found.trace.heads["read_weightings"].shape[-1] == rows
    assert {row["memory_rows"] for row in found.memory} == {rows}
    usual = traced(config, model)
    assert same(usual.trace, found.trace) == (rows == 8)
    assert {row["memory_rows"] for row in usual.memory} == {8}


def test_the_rows_are_those_of_the_run() -> None:
    found = traced(config_of("ntm", "sort"), point={"vectors": 4}, weights="after 200").memory
    assert [row["metric"] for row in found].count("priority_r2") == len(
        {row["head"] for row in found if row["head"].startswith("write")}
    )
    for row in found:
        count = 0 if math.isnan(row["value"]) else SEQUENCES
        assert (row["vectors"], row["weights"], row["sequences"]) == (4, "after 200", count)
        assert set(row) == {"vectors", *MEMORY_COLUMNS}


@pytest.mark.parametrize(
    ("points", "vary", "usual"),
    [
        ("[{length=3},{length=5},{length=9}]", "[1,5]", 5),
        ("[{length=5},{length=3},{length=9}]", "[1,5]", 3),
        ("[{length=9},{length=7}]", "[1,5]", 9),
        ("[{length=2},{length=7}]", "[3,7]", 7),
        ("[{length=2},{length=9}]", "[2,7]", 2),
    ],
)
def test_a_run_is_traced_at_the_last_point_that_training_draws(points, vary, usual) -> None:
    given_ = (f"evaluate.points={points}", f"train.vary.length={vary}")
    assert usual_point(config_of("ntm", "copy", *given_)) == {"length": usual}


def test_both_axes_have_to_be_drawn() -> None:
    points = "evaluate.points=[{length=3,repeats=2},{length=3,repeats=9},{length=9,repeats=1}]"
    vary = "train.vary={length=[1,5],repeats=[1,3]}"
    config = config_of("lstm", "repeat_copy", points, vary)
    assert usual_point(config) == {"length": 3, "repeats": 2}


def test_which_models_can_be_traced() -> None:
    found = {name: can_trace(make_model(name, load_task("copy"))) for name in BUILT_IN}
    assert found == {name: name.startswith("ntm") for name in BUILT_IN}


# The public check of models that can be traced


@pytest.mark.parametrize("addressing", ADDRESSING)
def test_traces_of_several_heads_keep_their_promises(addressing) -> None:
    """Of the built-in models, as tasks make them, `test_config` checks them."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "memory_rows": 9, "memory_width": 4}
    check_model(NTM(4, 3, controller="ff", addressing=addressing, heads=3, **sizes), 4, 3)


class Whole(Telling):
    """A model whose trace keeps every promise; the others break one each."""

    def __init__(self) -> None:
        super().__init__(4, 3)

    def trace(self, inputs_BTI, state=None):
        first = inputs_BTI[:, :1, :1] * 0 if state is None else state.sum(1)[:, None, None] * 0
        found = super().trace(inputs_BTI + first, state)
        share = torch.softmax(inputs_BTI[..., :1] * torch.arange(6), -1)[:, :, None]
        return found | {"read_weightings": share, "write_weightings": share[..., :4] / 2}


def telling(**changes: Callable[[torch.Tensor], Any]) -> type[Whole]:
    """A model whose trace tells something else under these names."""

    class Wrong(Whole):
        def trace(self, inputs_BTI, state=None):
            found = super().trace(inputs_BTI, state)
            return found | {name: change(found[name]) for name, change in changes.items()}

    return Wrong


def renamed(inputs_BTI: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"weights": torch.ones(*inputs_BTI.shape[:2], 1, 3)}


class OtherName(Whole):
    def heads(self, inputs_BTI):
        return renamed(inputs_BTI)


class NoLogits(Whole):
    def trace(self, inputs_BTI, state=None):
        found = super().trace(inputs_BTI, state)
        return {name: tensor for name, tensor in found.items() if name != "logits"}


class ForgetsTheState(Whole):
    def trace(self, inputs_BTI, state=None):
        return super().trace(inputs_BTI, None)


class OtherStart(Whole):
    def trace(self, inputs_BTI, state=None):
        found = super().trace(inputs_BTI, state)
        return found | {"reads": found["reads"] + (state is None)}


class SeesTheBatch(Whole):
    def trace(self, inputs_BTI, state=None):
        found = super().trace(inputs_BTI, state)
        numbers = torch.arange(len(inputs_BTI))[:, None, None, None]
        return found | {"reads": found["reads"] * (1 + numbers)}


class SeesTheStart(Whole):
    def trace(self, inputs_BTI, state=None):
        found = super().trace(inputs_BTI, state)
        return found | {"reads": found["reads"].cumsum(1)}


WRONG_TRACES = [
    (NoLogits, "with 'logits'"),
    (telling(logits=lambda x: x + 1), "logits of forward"),
    (telling(logits=lambda x: x[:, 1:]), "logits of forward"),
    (OtherName, "no 'weights', only reads, adds, erases, read_weightings"),
    (telling(reads=lambda x: x[:, :, 0]), "'reads' has the shape"),
    (telling(reads=lambda x: x[:, 1:]), "'reads' has the shape"),
    (telling(reads=lambda x: x * math.nan), "'reads' is not finite"),
    (telling(reads=lambda x: torch.cat([x, x], 2)), "differ in their heads"),
    (telling(read_weightings=lambda x: x - 0.1), "'read_weightings' must be within 0 and 1"),
    (telling(write_weightings=lambda x: x * 99), "'write_weightings' must be within 0 and 1"),
    (telling(write_weightings=lambda x: x / x), "sum of at most 1, not 4"),
    (ForgetsTheState, "logits of forward|state carried"),
    (OtherStart, "another with state initial_state"),
    (SeesTheBatch, "depends on the others"),
    (SeesTheStart, "state carried"),
]


def test_the_model_that_the_wrong_ones_are_made_from_is_whole() -> None:
    check_model(Whole(), 4, 3)


@pytest.mark.parametrize(("made", "words"), WRONG_TRACES)
def test_a_wrong_trace_is_found_out(made, words) -> None:
    with pytest.raises(AssertionError, match=words):
        check_model(made(), 4, 3)


# A model that has learned copy


def test_a_model_that_has_learned_copy_writes_and_reads_along_a_line() -> None:
    """Graves et al. 2014, figure 6: a location a step, and the same again in the same order."""
    settings = ["train.sequences=16_000", "train.stop_when_solved=true"]
    settings += ["train.validation_sequences=100", "train.curve_every=500"]
    for seed in (6, 5, 2):  # each is solved after 10,000 or so, but for rounding on other machines
        config = resolve(load_task("copy"), "ntm", seed=seed, overrides=settings)
        trainer = Trainer(config)
        untrained = traced(config, trainer.model, point={"length": 20})
        list(trainer.run())
        if trainer.progress.solved:
            break
    assert trainer.progress.solved, trainer.progress.last
    found = traced(config, trainer.model, point={"length": 20})
    assert found.trace.wrong_bits == 0
    writes = found.trace.heads["write_weightings"][:20, 0].argmax(-1)
    reads = found.trace.heads["read_weightings"][21:, 0].argmax(-1)
    step = (writes[1] - writes[0]) % 128
    assert step in (1, 127), "to the next location, up or down"
    assert writes.tolist() == [(writes[0] + step * n) % 128 for n in range(20)]
    assert reads.tolist() == writes.tolist()
    before, after = (
        {(row["head"], row["metric"]): row["value"] for row in one.memory}
        for one in (untrained, found)
    )
    assert after["read 1", "order_followed"] > 0.95
    assert not before["read 1", "order_followed"] > 0.5  # NaN for a head that is nowhere
    for head in ("read 1", "write 1"):
        assert after[head, "entropy_bits"] < 0.1 < before[head, "entropy_bits"]
        # Twenty vectors, and no more than a few locations besides, of 128.
        assert 19 / 128 < after[head, "locations_used"] < 25 / 128


# Generators name what they make


@few_examples
@given(point=st.fixed_dictionaries(AXES))
@pytest.mark.parametrize("task", [*TASKS, *OTHER_SIZES], ids=name_of)
def test_channels_and_phases_are_those_of_the_sequences(task, point) -> None:
    assert sum(count for _, count in task.input_channels) == task.input_size
    assert sum(count for _, count in task.output_channels) == task.output_size
    own = {axis: point[axis] for axis in task.axes}
    (mask_T,) = task.sample(np.random.default_rng(0), 1, **own).mask_BT
    names, starts = zip(*task.phases(**own), strict=True)
    assert starts[0] == 0 and list(starts) == sorted(starts) and starts[-1] < len(mask_T)
    assert names[0] and len(names) >= 2
    if isinstance(task, DynamicNgrams):
        assert starts[-1] == min(task.context, own["bits"] - 1)
    else:
        (last,) = [step for name, step in task.phases(**own) if name][-1:]
        assert last == mask_T.argmax() > 0
        assert len(set(starts)) == len(starts)
