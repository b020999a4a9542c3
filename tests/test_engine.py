"""The fused engine against the eager one, which is its specification: logits, scores, gradients,
updates, whole runs; and against itself, resumed, in two threads, or after something else."""

import contextlib
import copy
import dataclasses
import functools
import io
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ntmbench import generators, weights
from ntmbench.config import TrainConfig
from ntmbench.engine import ENGINES, choose_engine, compiled, why_not_fused
from ntmbench.engine.eager import EagerEngine
from ntmbench.engine.fused import AHEAD, BLOCK, WINDOW, FusedEngine, FusedModel
from ntmbench.errors import UserError
from ntmbench.folder import CurvePoint
from ntmbench.metrics import score
from ntmbench.models import BUILT_IN, ModelSpec, build_model, complete_arguments, find_model
from ntmbench.models.ntm import (
    ADDRESSING,
    INITIAL_MEMORY,
    INITIAL_READS,
    INITIAL_WEIGHTINGS,
    READ_ORDER,
)
from ntmbench.models.recurrent import LSTM
from ntmbench.resolve import resolve
from ntmbench.tasks import load_task
from ntmbench.train import Trainer

TASKS = {
    "copy": (generators.Copy(width=3), {"length": (1, 8)}),
    "repeat copy": (generators.RepeatCopy(width=2), {"length": (1, 4), "repeats": (1, 3)}),
    "recall": (generators.AssociativeRecall(width=3, item_length=2), {"items": (2, 4)}),
    "ngrams": (generators.DynamicNgrams(context=2), {"bits": (1, 20)}),
    "sort": (generators.PrioritySort(width=3), {"vectors": (1, 7)}),
}
F32, F64 = torch.float32, torch.float64
LOGITS = {F32: 1e-5, F64: 1e-9}
GRADIENTS = {F32: 1e-4, F64: 1e-9}
SPREAD = {F32: 0.5, F64: 2.0}
"""How far parameters are moved from where they begin. In float64 far enough that gates, shifts and
sharpening are at work everywhere (worst gradients of 300 models: 7e-11 apart). In float32 a spread
of 2 amplifies rounding until eager itself is 5e-3 from its gradient in float64; at 0.5 the engines
were 6e-5 apart at most, and 5e-6 but for one model in 300."""

SMALL_STACK = {"hidden_size": 7, "layers": 2}
SMALL_NTM = {"hidden_size": 7, "heads": 2, "memory_rows": 9, "memory_width": 4}
SMALL = {name: SMALL_NTM if "ntm" in name else SMALL_STACK for name in BUILT_IN}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Eager steps of models this small take ten times as long on two busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train_config(**changes):
    return TrainConfig(sequences=1, vary={}, **changes)


UNCLIPPED = train_config(clip="none")


def draw(task, batch_size, seed=0, **point):
    """A batch of mixed lengths, or of those that `point` says."""
    generator, axes = TASKS[task]
    rng = np.random.default_rng(seed)
    drawn = {axis: rng.integers(a, b + 1, batch_size) for axis, (a, b) in axes.items()}
    return generator.sample(rng, batch_size, **(drawn | point))


def make(name, task="copy", *, spread=0.5, dtype=F32, seed=0, **arguments):
    """A model whose parameters, those of its initial state too, are not where they begin."""
    generator = TASKS[task][0]
    torch.manual_seed(seed)
    spec = complete_arguments(find_model(name), arguments)
    model = build_model(spec, generator.input_size, generator.output_size)
    with torch.no_grad():
        for key, value in model.named_parameters():
            fan_in = value.shape[1] if "weight" in key else 1
            value += spread * torch.randn(value.shape) / math.sqrt(fan_in)
    return model.to(dtype)


def small(name, **more):
    return make(name, **(SMALL[name] | more))


def eager_of(model, train=UNCLIPPED):
    return EagerEngine(copy.deepcopy(model), train, "cpu")


def fused_of(model, train=UNCLIPPED, threads=1):
    return FusedEngine(copy.deepcopy(model), train, threads)


def inputs_of(batch, dtype):
    return torch.from_numpy(batch.inputs_BTI).to(dtype)


def as_dtype(batch, dtype):
    """For the eager engine, which computes in the type of what it is given."""
    return type(batch)(*(torch.from_numpy(part).to(dtype).numpy() for part in batch))


def eager_gradients(model, train, batch):
    engine = eager_of(model, train)
    dtype = next(model.parameters()).dtype
    assert engine.update(as_dtype(batch, dtype)).refused == ""
    return {name: value.grad for name, value in engine.model.named_parameters()}


def fused_gradients(engine, batch):
    """The gradients of a batch by name, in their parameters' shapes; and the scores."""
    engine.gradients[0][:] = 0
    scores_B3 = engine.learn(batch)
    sizes = {name: value.shape for name, value in engine.model.named_parameters()}
    found = engine.gradient_of()
    return {name: found[name].reshape(size).clone() for name, size in sizes.items()}, scores_B3


def gradient_error(found, expected):
    """The largest error of a component, by the largest of its tensor (if that is over 0.1 % of the
    largest of all)."""
    assert found.keys() == expected.keys()
    largest = {name: value.abs().max().item() for name, value in expected.items()}
    assert min(largest.values()) > 0, "a gradient is zero: there is nothing to compare"
    whole = max(largest.values())
    return max(
        (found[name] - value).abs().max().item() / max(largest[name], 1e-3 * whole)
        for name, value in expected.items()
    )


def assert_tensor_dicts_equal(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=0, atol=0, equal_nan=True, msg=name)


def assert_same_engine(a, b):
    """Two fused engines have the same weights and optimiser, bit for bit."""
    np.testing.assert_array_equal(a.weights_W, b.weights_W)
    np.testing.assert_array_equal(a.state_3W, b.state_3W)
    assert a.updates == b.updates


# A batch, over the configurations


@functools.cache
def starts():
    """The kinds of addressing, initial memory and weightings that go together."""
    names, found = ("addressing", "initial_memory", "initial_weightings"), []
    for values in itertools.product(ADDRESSING, INITIAL_MEMORY, INITIAL_WEIGHTINGS):
        start = dict(zip(names, values, strict=True))
        with contextlib.suppress(UserError):
            make("ntm", memory_rows=3, **start)
            found.append(start)
    assert len(found) > 9
    return found


NAMES = [*3 * ["ntm", "ntm-gru", "ntm-ff"], "lstm", "gru"]


@st.composite
def model_choices(draw_from):
    """The name of a model and its arguments."""
    of = {"hidden_size": st.integers(1, 20), "layers": st.integers(1, 3)}
    name = draw_from(st.sampled_from(NAMES))
    if "ntm" not in name:
        return name, draw_from(st.fixed_dictionaries(of))
    reach = draw_from(st.integers(1, 3))
    least = 2 * reach + 1
    of |= {
        "heads": st.integers(1, 4),
        "memory_rows": st.just(least) | st.integers(least, 40) | st.sampled_from([16, 32]),
        "memory_width": st.integers(1, 9),
        "shift_range": st.just(reach),
        "initial_reads": st.sampled_from(INITIAL_READS),
        "read_order": st.sampled_from(READ_ORDER),
        "row_floor": st.sampled_from([1e-6, 0.5]),
    }
    return name, draw_from(st.fixed_dictionaries(of)) | draw_from(st.sampled_from(starts()))


@pytest.mark.parametrize("dtype", [F32, F64])
@settings(deadline=None, max_examples=120, derandomize=True, database=None)
@given(
    choice=model_choices(),
    task=st.sampled_from(sorted(TASKS)),
    batch_size=st.integers(1, 2 * BLOCK + 3),
    loss=st.sampled_from(["sum", "mean"]),
    seed=st.integers(0, 999),
)
def test_a_batch_of_any_model(dtype, choice, task, batch_size, loss, seed):
    """Logits, scores and every gradient are those of the eager engine."""
    name, arguments = choice
    if dtype == F32 and arguments.get("addressing") != "location" and "ntm" in name:
        # rows of one number all point the same way: their similarity's gradient is rounding alone
        arguments = arguments | {"memory_width": max(2, arguments["memory_width"])}
    model = make(name, task, spread=SPREAD[dtype], dtype=dtype, seed=seed, **arguments)
    batch, train = draw(task, batch_size, seed), train_config(clip="none", loss=loss)
    assume(batch.inputs_BTI.any())
    with torch.no_grad():
        logits, _ = model(inputs_of(batch, dtype))
        expected = score(logits, *(torch.from_numpy(part) for part in batch[1:]))
    assert logits.abs().max() > 1e-3 and expected.loss_bits.min() > 0

    found, _ = FusedModel(model)(inputs_of(batch, dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found, logits, rtol=0, atol=LOGITS[dtype])

    gradients, scores_B3 = fused_gradients(fused_of(model, train), batch)
    np.testing.assert_allclose(scores_B3[:, 0], expected.loss_bits, rtol=LOGITS[dtype])
    if logits.abs().min() > LOGITS[dtype]:  # else the side of 1/2 is a matter of rounding
        np.testing.assert_array_equal(scores_B3[:, 1], expected.wrong_bits)
        np.testing.assert_array_equal(scores_B3[:, 2], expected.exact)
    error = gradient_error(gradients, eager_gradients(model, train, batch))
    assert error < GRADIENTS[dtype]


RICH = {
    "heads": 2, "memory_rows": 6, "memory_width": 3, "shift_range": 2, "hidden_size": 4,
    "layers": 2, "initial_memory": "learned",
}  # fmt: skip


PLAIN = {"hidden_size": 4, "layers": 3}
MEMORIES = [*(RICH | {"read_order": order} for order in READ_ORDER), RICH | {"row_floor": 0.5}]


@pytest.mark.parametrize(
    "name, arguments",
    [
        *((name, memory) for name in sorted(BUILT_IN) if "ntm" in name for memory in MEMORIES),
        *((name, PLAIN) for name in sorted(BUILT_IN) if "ntm" not in name),
    ],
)
def test_gradients_by_finite_differences(name, arguments):
    """Every component of every gradient, against the loss that the same kernel finds."""
    model = make(name, spread=1.0, dtype=F64, **arguments)
    engine, batch, step = fused_of(model), draw("copy", 3, length=[3, 1, 2]), 1e-6
    gradients, _ = fused_gradients(engine, batch)
    for key, parameter in engine.model.named_parameters():
        measured = torch.empty(parameter.shape, dtype=F64)
        for place in np.ndindex(*parameter.shape):
            nats, value = [], parameter.data[place].item()
            for moved in (value + step, value - step):
                parameter.data[place] = moved
                nats.append(engine.learn(batch)[:, 0].mean() * math.log(2))
            parameter.data[place] = value
            measured[place] = (nats[0] - nats[1]) / (2 * step)
        assert measured.abs().max() > 1e-4
        torch.testing.assert_close(gradients[key], measured, rtol=1e-6, atol=1e-8, msg=key)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_sequences_of_several_windows(name, dtype):
    """Two windows and a remainder: the state is carried from each to the next."""
    batch = draw("ngrams", BLOCK + 1, bits=2 * WINDOW + 5)
    model, inputs = small(name, task="ngrams", dtype=dtype), inputs_of(batch, dtype)
    with torch.no_grad():
        logits, _ = model(inputs)
        for window in (1, 2):
            begun_anew, _ = model(inputs[:, window * WINDOW :])
            assert (begun_anew - logits[:, window * WINDOW :]).abs().max() > 1e-2
    found, _ = FusedModel(model)(inputs)
    torch.testing.assert_close(found, logits, rtol=0, atol=LOGITS[dtype])


@pytest.mark.parametrize("name", [name for name in sorted(BUILT_IN) if "ntm" in name])
@pytest.mark.parametrize("memory", INITIAL_MEMORY)
def test_another_number_of_memory_rows(name, memory):
    """Fewer and more than the model was made with, by the state that it is given."""
    model = small(name, initial_memory=memory)
    fused, inputs = FusedModel(model), inputs_of(draw("copy", 5), F32)
    with torch.no_grad():
        usual, _ = model(inputs)
        for rows in (3, 8, 9, 10, 33):
            state = model.initial_state(5, memory_rows=rows)
            expected, found = (each(inputs, state)[0] for each in (model, fused))
            if rows != 9:
                assert (expected - usual).abs().max() > 1e-4, "the rows must make a difference"
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(fused(inputs)[0], usual, rtol=0, atol=1e-5)


# What is not finite


def with_nan(model, name):
    """The model with a NaN for the last number of the parameter `name`."""
    model = copy.deepcopy(model)
    value = dict(model.named_parameters())[name]
    with torch.no_grad():
        value[(-1,) * value.dim()] = math.nan
    return model


def assert_refused_alike(model, batch, expected):
    """Both engines refuse the update for the same reason, and leave everything as it was."""
    eager, fused = eager_of(model), fused_of(model)
    before = copy.deepcopy(fused.model.state_dict())
    outcomes = [engine.update(batch) for engine in (eager, fused)]
    assert [outcome.refused for outcome in outcomes] == [expected] * 2
    for outcome in outcomes:
        assert not (math.isfinite(outcome.totals[0]) and math.isfinite(outcome.norm))
    assert_tensor_dicts_equal(fused.model.state_dict(), before)
    assert not fused.state_3W.any() and fused.updates == 0 and not fused.gradients[0].any()


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_nan_in_a_parameter(name):
    """It reaches the same logits as in the eager model, and the update is refused by its name."""
    model, batch = (
        small(name, initial_memory="learned") if "ntm" in name else small(name),
        draw("copy", 3),
    )
    for key, _ in model.named_parameters():
        broken = with_nan(model, key)
        with torch.no_grad():
            expected = broken(inputs_of(batch, F32))[0].isnan()
        assert expected.any()
        assert torch.equal(FusedModel(broken)(inputs_of(batch, F32))[0].isnan(), expected)
        assert_refused_alike(broken, batch, f"parameter {key}")


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_nan_in_an_input(name):
    """It reaches what comes after it in its own sequence, no other one."""
    model, batch = small(name), draw("copy", BLOCK, length=4)
    batch.inputs_BTI[5, 3, 1] = math.nan
    found, _ = FusedModel(model)(inputs_of(batch, F32))
    expected = torch.zeros(found.shape, dtype=torch.bool)
    expected[5, 3:] = True
    assert torch.equal(found.isnan(), expected)
    assert_refused_alike(model, batch, "logits")


@pytest.mark.parametrize("value, expected", [(3e38, "loss"), (math.inf, "parameter readout.bias")])
def test_an_infinite_loss(value, expected):
    """Logits of 3e38 are finite, the sum of their losses is not."""
    model = small("ntm")
    with torch.no_grad():
        model.readout.bias[:] = value
    assert_refused_alike(model, draw("copy", 3), expected)


def test_a_gradient_whose_norm_is_not_finite():
    """Its components are finite, their squares are not."""
    model = small("lstm")
    with torch.no_grad():
        model.readout.weight *= 1e25
    assert_refused_alike(model, draw("copy", 3), "gradient norm")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_refused_update_leaves_no_trace(name, threads):
    engine, untouched = (fused_of(small(name), threads=threads) for _ in range(2))
    good, bad = draw("copy", 12, seed=1), draw("copy", 12, seed=2)
    bad.inputs_BTI[:, 1] = math.nan
    assert engine.update(bad).refused == "logits" and not untouched.update(good).refused
    assert engine.update(good).refused == ""
    assert_same_engine(engine, untouched)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_refused_update_among_single_sequences(name):
    """The others are made, in order, and none past a refused one until it is asked for."""
    batches = [draw("copy", 1, seed) for seed in range(9)]
    good = [batch for place, batch in enumerate(batches) if place not in (0, 4, 5, 8)]
    for place in (0, 4, 5, 8):
        batches[place].inputs_BTI[0, 1] = math.nan
    engine, untouched = (fused_of(small(name), train_config(batch_size=1)) for _ in range(2))
    made = [(outcome, engine.updates) for outcome in engine.updates_of(batches)]
    expected = list(untouched.updates_of(good))
    assert [outcome for outcome, _ in made if not outcome.refused] == expected
    assert [outcome.refused for outcome, _ in made] == [
        "logits" if place in (0, 4, 5, 8) else "" for place in range(9)
    ]
    assert [updates for _, updates in made] == [0, 3, 3, 3, 3, 3, 5, 5, 5]
    assert_same_engine(engine, untouched)


# The optimisers

CLIPS = {"norm": 0.2, "value": 0.02, "none": 1.0}


@pytest.mark.parametrize("dtype, within", [(F32, 1e-5), (F64, 1e-9)])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("clip", sorted(CLIPS))
@pytest.mark.parametrize("optimiser", ["graves-rmsprop", "rmsprop", "adam"])
def test_twenty_updates(optimiser, clip, batch_size, dtype, within):
    """Norms and parameters are those of the eager engine, parameters by the largest of a tensor.

    In float32 they were 1e-6 apart at most.
    """
    train = train_config(
        batch_size=batch_size, optimiser=optimiser, clip=clip, clip_at=CLIPS[clip],
        learning_rate=1e-3, decay=0.9, momentum=0.8,
    )  # fmt: skip
    model = small("ntm", dtype=dtype)
    batches = [draw("copy", batch_size, seed, length=1 + seed % 3) for seed in range(20)]
    first = eager_gradients(model, UNCLIPPED, batches[0])
    assert max(value.abs().max() for value in first.values()) > CLIPS["value"]
    eager, fused = eager_of(model, train), fused_of(model, train)
    expected = list(eager.updates_of([as_dtype(batch, dtype) for batch in batches]))
    for found, wanted in zip(fused.updates_of(batches), expected, strict=True):
        assert wanted.norm > CLIPS["norm"] and not wanted.refused
        assert found.norm == pytest.approx(wanted.norm, rel=within)
        assert found.totals == pytest.approx(wanted.totals, rel=within)
    before, now = dict(model.named_parameters()), dict(fused.model.named_parameters())
    for key, value in eager.model.named_parameters():
        assert (value - before[key]).abs().max() > 1e-3, "the parameters must move"
        error = (now[key] - value).abs().max() / value.abs().max()
        assert error < within, f"{key}: {error}"


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_single_sequences_together_are_those_one_by_one(name, loss):
    """Bit for bit: a resumed run may cut them differently."""
    train = train_config(batch_size=1, loss=loss)
    batches = [draw("copy", 1, seed) for seed in range(AHEAD + 5)]
    together, by_parts, single = (fused_of(small(name), train) for _ in range(3))
    outcomes = list(together.updates_of(batches))
    parts = [*by_parts.updates_of(batches[:7]), *by_parts.updates_of(batches[7:])]
    assert outcomes == parts == [single.update(batch) for batch in batches]
    assert_same_engine(together, by_parts)
    assert_same_engine(together, single)


# Whole runs

RUN = (
    "train.curve_every=40", "train.validation_sequences=10", "train.learning_rate=1e-3",
    "train.vary.length=[1,4]", "params.width=3", "evaluate.points=[]",
)  # fmt: skip


def config_of(name, *more, engine="fused", sequences=240, batch_size=2):
    sizes = [f"model.{key}={value}" for key, value in SMALL[name].items()]
    overrides = (*RUN, *sizes, f"train.batch_size={batch_size}", *more)
    return resolve(
        load_task("copy"), name, seed=3, engine=engine, sequences=sequences, overrides=overrides
    )


def numbers(event):
    """An event without its clock."""
    found = {k: v for k, v in dataclasses.asdict(event).items() if "second" not in k}
    return type(event).__name__, found


def points_of(events):
    return [numbers(event)[1] for event in events if isinstance(event, CurvePoint)]


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_curve_is_that_of_the_eager_engine(name, batch_size):
    """120 updates with three or six validations, to rounding: they were 6e-7 apart at most."""
    curves = []
    for engine in ENGINES[1:]:
        config = config_of(name, engine=engine, sequences=120 * batch_size, batch_size=batch_size)
        assert config.engine == engine
        curves.append(points_of(Trainer(config).run()))
    assert len(curves[0]) == len(curves[1]) == 3 * batch_size
    for found, expected in zip(*curves, strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
    for name in ("loss_bits", "val_loss_bits", "grad_norm"):
        assert np.ptp([point[name] for point in curves[0]]) > 1e-3, "the points must differ"


def untimed(trainer):
    """A trainer's state but for the seconds it counted."""
    state = copy.deepcopy(trainer.state_dict())
    for table in (state["progress"], state["progress"]["window"]):
        del table["seconds"]
    return state


def assert_same_state(a, b):
    """Two nested structures hold the same, bit for bit."""
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same_state(a[key], b[key])
    else:
        assert str(a) == str(b)


@pytest.mark.parametrize("through_a_file", [False, True])
@pytest.mark.parametrize("optimiser, batch_size", [("graves-rmsprop", 1), ("adam", 1), ("adam", 2)])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_resumed_run_is_the_same_bit_for_bit(name, optimiser, batch_size, through_a_file):
    config = config_of(name, f"train.optimiser={optimiser}", batch_size=batch_size)
    whole, begun, resumed = (Trainer(config) for _ in range(3))
    events = list(whole.run())
    before = [event for _, event in zip(range(5), begun.run(), strict=False)]
    assert batch_size > 1 or before[-1].sequences > 50, "several updates at one go"
    state = begun.state_dict()
    if through_a_file:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        state = torch.load(buffer, weights_only=True)
    next(resumed.run())  # what it did before must not matter
    resumed.load_state_dict(state)
    after = list(resumed.run())
    assert len(after) == len(events) - 5 and len(points_of(events)) == 6
    assert list(map(numbers, before + after)) == list(map(numbers, events))
    assert_same_state(untimed(resumed), untimed(whole))


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_checkpoints_do_not_change_a_run(name):
    """Nor does what they cut: how many updates are made at one go."""
    trainers = [
        Trainer(config_of(name, f"train.checkpoint_every={every}", sequences=120, batch_size=1))
        for every in (1000, 7)
    ]
    events = [list(trainer.run()) for trainer in trainers]
    assert len(events[0]) < 10 < len(events[1])
    assert points_of(events[0]) == points_of(events[1])
    assert_same_engine(trainers[0].engine, trainers[1].engine)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_what_was_learnt_before_does_not_matter(name, threads):
    """Longer and shorter sequences, larger and smaller batches: their room is used again."""
    model, batch = small(name), draw("copy", 11, seed=5)
    fresh, fresh_scores = fused_gradients(fused_of(model, threads=threads), batch)
    engine = fused_of(model, threads=threads)
    for size, length in ((11, 30), (1, 2), (4, 9), (19, 1)):
        engine.learn(draw("copy", size, length=length))
    used, used_scores = fused_gradients(engine, batch)
    assert_tensor_dicts_equal(used, fresh)
    np.testing.assert_array_equal(used_scores, fresh_scores)


# Threads


@pytest.mark.parametrize("batch_size", [1, 2, 3, 2 * BLOCK + 3])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_two_threads(name, batch_size):
    """The gradient is that of one thread to rounding, and the same every time bit for bit."""
    model, batch = small(name), draw("copy", batch_size, seed=7)
    one, scores = fused_gradients(fused_of(model), batch)
    engine = fused_of(model, threads=2)
    first, first_scores = fused_gradients(engine, batch)
    for _ in range(3):
        again, _ = fused_gradients(engine, batch)
        assert_tensor_dicts_equal(again, first)
    np.testing.assert_allclose(first_scores, scores, rtol=1e-5)
    assert gradient_error(first, one) < 1e-5


# Parameters, states and files


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_what_is_loaded_is_what_the_kernels_compute_with(name, tmp_path):
    """A state_dict, by a file, with its initial memory; and an update changes the state_dict."""
    path, batch = tmp_path / "weights.safetensors", draw("copy", 4)
    other, engine = small(name, seed=1), fused_of(small(name))
    assert engine.update(batch).refused == ""
    weights.save_weights(path, other.state_dict())
    weights.load_weights(path, engine.model)
    fresh = fused_of(other)
    expected, found = (fused_gradients(each, batch)[0] for each in (fresh, engine))
    assert_tensor_dicts_equal(found, expected)
    logits = [each.scorer(inputs_of(batch, F32))[0] for each in (fresh, engine)]
    assert torch.equal(*logits)
    engine.load_state_dict(fresh.state_dict())
    for each in (engine, fresh):
        each.gradients[0][:] = 0
        assert each.update(batch).refused == ""
    assert_same_engine(engine, fresh)
    for key, value in engine.model.named_parameters():
        assert not torch.equal(value, dict(other.named_parameters())[key])
    weights.save_weights(path, engine.model.state_dict())
    assert_tensor_dicts_equal(weights.read_weights(path), dict(fresh.model.state_dict()))


def test_an_engines_state_of_another_model_is_refused():
    engine = fused_of(small("lstm"))
    with pytest.raises(ValueError, match="another model"):
        engine.load_state_dict(fused_of(small("gru")).state_dict())
    with pytest.raises((KeyError, ValueError, AttributeError)):
        engine.load_state_dict(eager_of(small("lstm")).state_dict())


@pytest.mark.parametrize("threads, batch_size", [(1, 1), (1, 20), (2, 10)])
def test_memory_bytes_are_those_of_all_arrays(threads, batch_size):
    engine = fused_of(small("ntm"), threads=threads)
    assert engine.memory_bytes is None
    for length in (6, 2):
        engine.update(draw("copy", batch_size, length=length))
    arrays = [engine.weights_W, engine.state_3W, *engine.gradients]
    for space in engine.spaces.values():
        arrays += [*space.kept, *space.back, *space.scratch, space.seen_TBF, space.logits_TBO]
    assert engine.memory_bytes == sum(array.nbytes for array in arrays)
    assert len(engine.spaces) == (1 if batch_size == 1 else 2)  # of blocks of 8 and 4; of threads


# Compiling and choosing


def test_one_compilation_serves_every_model():
    """Compiling for another type of a number or an array would cost the better part of a minute."""
    kernels = compiled.prepare(lambda message: None)
    for name in BUILT_IN:
        for batch_size in (1, 3):
            engine = fused_of(small(name), UNCLIPPED)
            batch = draw("copy", batch_size)
            engine.update(batch)
            engine.scorer(torch.from_numpy(draw("copy", batch_size).inputs_BTI))
    for entry in kernels.ENTRIES:
        assert sum("float32" in str(signature) for signature in entry.signatures) == 1, entry


@pytest.mark.parametrize("threads", [1, 2])
def test_the_processors_settings_are_left_as_they_were(threads):
    """Numbers under 1e-38, which the kernels take for 0."""
    engine, batch = fused_of(small("ntm"), threads=threads), draw("copy", 4)
    for flush in (True, False):
        torch.set_flush_denormal(flush)
        assert engine.update(batch).refused == ""
        engine.scorer(inputs_of(batch, F32))
        assert (np.float32(1e-40) * np.float32(0.5) == 0) == flush


class Mine(LSTM):
    """It may compute anything."""


def test_a_model_that_has_no_kernels_is_refused():
    for made in (FusedModel, lambda model: FusedEngine(model, UNCLIPPED)):
        with pytest.raises(UserError, match="no kernels for a Mine"):
            made(Mine(2, 2, hidden_size=3))


def test_auto_is_fused_for_the_built_in_models_on_the_cpu():
    ours = ModelSpec(name="mine", target="somewhere:Mine")
    for spec in BUILT_IN.values():
        assert why_not_fused(spec, "cpu") == ""
        assert [choose_engine(name, spec, "cpu") for name in ENGINES] == ["fused", "eager", "fused"]
        assert (
            choose_engine("auto", spec, "cuda") == choose_engine("eager", spec, "cuda") == "eager"
        )
    assert choose_engine("auto", ours, "cpu") == choose_engine("eager", ours, "cpu") == "eager"
    assert "cuda" in why_not_fused(BUILT_IN["ntm"], "cuda") and "mine" in why_not_fused(ours, "cpu")


def test_without_numba_auto_is_eager(monkeypatch):
    monkeypatch.setattr("ntmbench.engine.importlib.util.find_spec", lambda name: None)
    assert choose_engine("auto", BUILT_IN["ntm"], "cpu") == "eager"
    with pytest.raises(UserError, match="numba is not installed"):
        choose_engine("fused", BUILT_IN["ntm"], "cpu")


@pytest.mark.parametrize(
    "name, target, device, said",
    [
        ("fast", "", "cpu", "engine must be one of auto, eager, fused, not 'fast'"),
        ("fused", "somewhere:Mine", "cpu", "'mine' has no kernels: .*; use 'auto' or 'eager'"),
        ("fused", "", "cuda", "device 'cuda': .*; use 'auto' or 'eager'"),
    ],
)
def test_an_engine_that_cannot_be_had_is_refused(name, target, device, said):
    spec = ModelSpec(name="mine", target=target) if target else BUILT_IN["ntm"]
    with pytest.raises(UserError, match=said):
        choose_engine(name, spec, device)
