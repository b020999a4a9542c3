"""The training loop: what it draws, counts, averages, skips and saves; that something learns."""

import copy
import dataclasses
import io
import itertools
import math
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

import ntmbench.train
from ntmbench.config import identity
from ntmbench.errors import UserError
from ntmbench.evaluate import Scores, draw_vary, point_batches, score_model
from ntmbench.folder import METRICS, CurvePoint
from ntmbench.resolve import generator_of, model_of, resolve
from ntmbench.streams import stream, torch_seed
from ntmbench.tasks import load_task
from ntmbench.train import Trainer, Update, snapshot_counts

TINY = (
    "train.sequences=40",
    "train.validation_sequences=8",
    "train.curve_every=10",
    "train.learning_rate=1e-2",
    "evaluate.points=[]",
)
NTM_SIZES = ("model.hidden_size=6", "model.memory_rows=8", "model.memory_width=4")
SIZES = {
    "lstm": ("model.hidden_size=6", "model.layers=2"),
    "gru": ("model.hidden_size=6", "model.layers=1"),
    "ntm": NTM_SIZES,
    "ntm-gru": NTM_SIZES,
    "ntm-ff": (*NTM_SIZES, "model.heads=2"),
}


class Broken(nn.Module):
    """A layer that goes wrong, in the way `kind` says, at the training steps listed in `bad`."""

    def __init__(self, input_size, output_size, *, kind="logits", bad=(), dropout=0.0):
        super().__init__()
        self.layer = nn.Linear(input_size, output_size)
        self.dropout = nn.Dropout(dropout)
        self.kind, self.bad, self.calls = kind, bad, itertools.count(1)

    def initial_state(self, batch_size):
        return ()

    def forward(self, inputs_BTI, state=None):
        if not torch.is_grad_enabled() or next(self.calls) not in self.bad:
            return self.dropout(self.layer(inputs_BTI)), ()
        if self.kind == "parameter":
            with torch.no_grad():
                self.layer.bias[0] = math.inf
        logits_BTO = self.layer(inputs_BTI)
        if self.kind == "logits":
            logits_BTO = logits_BTO * math.nan
        elif self.kind == "loss":
            logits_BTO = logits_BTO * 0 + 3e38  # finite, but the sum over zeros to be said is not
        elif self.kind == "gradient":
            logits_BTO.register_hook(lambda gradient: gradient * math.inf)
        return logits_BTO, ()


BROKEN = f"{__name__}:Broken"


def tiny_config(model="lstm", *overrides, task="copy", seed=1, engine="auto"):
    overrides = [*TINY, *SIZES.get(model, ()), *overrides]
    return resolve(load_task(task), model, seed=seed, engine=engine, overrides=overrides)


def trained(config):
    """A trainer that has finished, and what it yielded."""
    trainer = Trainer(config)
    return trainer, list(trainer.run())


def points_of(events):
    return [event for event in events if isinstance(event, CurvePoint)]


def timeless(event):
    """An event, its clock taken out, so that equal runs give equal ones (NaN equals NaN)."""
    values = dataclasses.asdict(event)
    return type(event), str([v for k, v in values.items() if "second" not in k])


def assert_same_tensors(a, b):
    """Two nested structures hold the same, bit for bit (NaN equals NaN)."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same_tensors(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same_tensors(x, y)
    else:
        assert str(a) == str(b)


def without_clock(state):
    """A trainer's state but for the seconds it counted."""
    state = copy.deepcopy(state)
    for table in (state["progress"], state["progress"]["window"], state["progress"]["solved"]):
        if table is not None:
            del table["seconds"]
    return state


class Spy:
    """A generator that notes what was asked of it."""

    def __init__(self, generator):
        self.generator, self.asked, self.batches = generator, [], []

    def sample(self, rng, batch_size, **point):
        self.asked.append((batch_size, point))
        self.batches.append(self.generator.sample(rng, batch_size, **point))
        return self.batches[-1]


def script(monkeypatch, *losses, metric="loss_bits"):
    """Make the validations find these means, one after the other; each is one sequence's score."""
    left = iter(losses)

    def scripted(model, batches, device):
        values = dict.fromkeys(METRICS, np.array([9.0])) | {metric: np.array([next(left)])}
        return Scores(**values, step_bits_ST=np.zeros((1, 1)))

    monkeypatch.setattr("ntmbench.train.score_model", scripted)


# The budget, the draws and the curve


@pytest.mark.parametrize(
    "batch_size, sizes, at",
    [
        (1, [1] * 40, [10, 20, 30, 40]),
        (7, [7, 7, 7, 7, 7, 5], [14, 21, 35, 40]),
        (10, [10] * 4, [10, 20, 30, 40]),
        (16, [16, 16, 8], [16, 32, 40]),
        (23, [23, 17], [23, 40]),
        (64, [40], [40]),
    ],
)
def test_the_budget_is_met_exactly_and_points_stand_where_the_curve_crosses(batch_size, sizes, at):
    config = tiny_config("gru", f"train.batch_size={batch_size}", engine="eager")
    trainer = Trainer(config)
    trainer.generator = spy = Spy(trainer.generator)
    events = list(trainer.run())
    assert [size for size, _ in spy.asked] == sizes
    done = list(itertools.accumulate(sizes))
    assert [event.sequences for event in events] == done
    assert [point.sequences for point in points_of(events)] == at
    assert [point.updates for point in points_of(events)] == [done.index(n) + 1 for n in at]
    assert (trainer.progress.sequences, trainer.progress.updates) == (40, len(sizes))
    assert trainer.finished and list(trainer.run()) == []


def test_single_updates_at_one_go_stop_at_the_curve_and_at_checkpoints():
    _, events = trained(tiny_config("gru", "train.checkpoint_every=7", engine="fused"))
    assert [event.sequences for event in events] == [7, 10, 14, 20, 21, 28, 30, 35, 40]
    assert [point.sequences for point in points_of(events)] == [10, 20, 30, 40]


def test_the_last_point_stands_at_the_end_though_the_curve_does_not_cross():
    _, events = trained(tiny_config("gru", "train.sequences=23", "train.batch_size=4"))
    assert [point.sequences for point in points_of(events)] == [12, 20, 23]


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_a_point_holds_the_means_of_exactly_the_updates_since_the_last(monkeypatch, engine):
    config = tiny_config("lstm", "train.batch_size=7", engine=engine)
    trainer, outcomes = Trainer(config), []
    update = trainer.engine.update
    monkeypatch.setattr(
        trainer.engine, "update", lambda b: outcomes.append(update(b)) or outcomes[-1]
    )
    events = list(trainer.run())
    assert len(outcomes) == 6
    sizes = [7, 7, 7, 7, 7, 5]
    for point, updates in zip(points_of(events), ([0, 1], [2], [3, 4], [5]), strict=True):
        count = sum(sizes[k] for k in updates)
        for index, name in enumerate(METRICS):
            total = sum(outcomes[k].totals[index] for k in updates)
            assert getattr(point, name) == pytest.approx(total / count, rel=1e-9)
        norm = sum(outcomes[k].norm * sizes[k] for k in updates) / count
        assert point.grad_norm == pytest.approx(norm, rel=1e-9) and point.skipped == 0
    assert len({point.loss_bits for point in points_of(events)}) == 4
    single = [event for event in events if isinstance(event, Update)]
    assert [update.loss_bits for update in single] == pytest.approx(
        [outcomes[k].totals[0] / 7 for k in (0, 3)]
    )


def test_the_norm_is_that_before_clipping():
    plain, clipped = (
        trained(tiny_config("gru", "train.sequences=10", *more))[1][-1]
        for more in (
            ["train.clip=none", "train.learning_rate=1e-30"],
            ["train.clip_at=0.5", "train.learning_rate=1e-30"],
        )
    )
    assert plain.grad_norm == pytest.approx(clipped.grad_norm) and plain.grad_norm > 1


def test_seconds_are_those_of_updates_alone(monkeypatch):
    """With a clock that ticks once a look, an update takes one second."""
    trainer = Trainer(tiny_config("gru", "train.batch_size=7"))
    clock = itertools.count()
    monkeypatch.setattr("ntmbench.train.time.perf_counter", lambda: float(next(clock)))
    points = points_of(trainer.run())
    assert [point.seconds for point in points] == [2, 3, 5, 6]
    assert [point.sequences_per_second for point in points] == [7, 7, 7, 5]


def asked_for_an_estimate(monkeypatch, *overrides):
    trainer = Trainer(tiny_config("gru", "train.vary.length=[2, 7]", *overrides, engine="eager"))
    trainer.generator = spy = Spy(trainer.generator)
    clock = itertools.count()
    monkeypatch.setattr("ntmbench.train.time.perf_counter", lambda: float(next(clock)))
    assert trainer.seconds_an_update() == 1
    assert len(spy.asked) == 4
    return spy.asked


def test_the_cost_of_batches_of_one_length_is_taken_at_the_middle_of_the_range(monkeypatch):
    middle = {"length": 5}
    assert asked_for_an_estimate(monkeypatch, "train.batch_size=1") == [(1, middle)] * 4
    one_length = ("train.batch_size=3", "train.lengths=batch")
    assert asked_for_an_estimate(monkeypatch, *one_length) == [(3, middle)] * 4


def test_the_cost_of_mixed_batches_is_that_of_drawn_ones(monkeypatch):
    """They are as long as their longest sequence."""
    asked = asked_for_an_estimate(monkeypatch, "train.batch_size=50")
    assert {tuple(np.unique(point["length"])) for _, point in asked} == {(2, 3, 4, 5, 6, 7)}


def test_lengths_are_drawn_for_each_sequence_or_each_batch():
    drawn = {}
    for lengths in ("sequence", "batch"):
        trainer = Trainer(tiny_config("gru", f"train.lengths={lengths}", "train.batch_size=8"))
        trainer.generator = spy = Spy(trainer.generator)
        list(trainer.run())
        drawn[lengths] = [set(batch.mask_BT.sum(1).tolist()) for batch in spy.batches]
    assert len(drawn["sequence"]) == len(drawn["batch"]) == 5
    assert all(len(found) > 1 for found in drawn["sequence"])
    assert all(len(found) == 1 for found in drawn["batch"])
    assert len(set.union(*drawn["batch"])) > 1


@pytest.mark.parametrize("each", [True, False])
def test_drawn_points_reach_both_bounds_and_axes_are_independent(each):
    vary = {"length": [2, 4], "repeats": [1, 3]}
    rng = np.random.default_rng(0)
    draws = [draw_vary(rng, vary, 30 if each else 1, each) for _ in range(8 if each else 240)]
    assert all(np.shape(draw["length"]) == ((30,) if each else ()) for draw in draws)
    pairs = {
        pair
        for draw in draws
        for pair in zip(
            np.atleast_1d(draw["length"]).tolist(),
            np.atleast_1d(draw["repeats"]).tolist(),
            strict=True,
        )
    }
    assert pairs == set(itertools.product((2, 3, 4), (1, 2, 3)))


# The loss


def bits_by_hand(logits, targets, mask):
    """Cross-entropy in bits of each sequence, number by number."""
    totals = []
    for rows, wanted, scored in zip(logits, targets, mask, strict=True):
        total = 0.0
        for t, row in enumerate(rows):
            for logit, bit in zip(row, wanted[t], strict=True):
                probability = 1 / (1 + math.exp(-logit))
                total -= scored[t] * math.log2(probability if bit else 1 - probability)
        totals.append(total)
    return totals


@pytest.mark.parametrize("model", ["lstm", "ntm"])
def test_the_first_loss_by_hand(model):
    config = tiny_config(model, "train.batch_size=3", "train.vary.length=[1, 4]", seed=11)
    trainer = Trainer(config)
    started = copy.deepcopy(trainer.model)
    update = next(trainer.run())
    rng = stream(11, "training")
    lengths = rng.integers(1, 5, size=3)
    batch = generator_of(config).sample(rng, 3, length=lengths)
    assert batch.mask_BT.sum(1).tolist() == lengths.tolist() and len(set(lengths)) > 1
    with torch.no_grad():
        logits, _ = started(torch.from_numpy(batch.inputs_BTI))
    expected = bits_by_hand(logits.tolist(), batch.targets_BTO.tolist(), batch.mask_BT.tolist())
    assert update.loss_bits == pytest.approx(sum(expected) / 3, rel=1e-5)
    assert update.sequences == 3


def test_the_first_weights_come_from_the_seed():
    config = tiny_config("ntm", seed=3)
    trainer = Trainer(config)
    torch.manual_seed(torch_seed(3, "weights"))
    assert_same_tensors(dict(trainer.model.state_dict()), dict(model_of(config).state_dict()))


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_what_an_update_minimises(loss):
    """The mean over the batch of the cross-entropy in nats, by sequence a sum or mean over bits."""
    more = (f"train.loss={loss}", "train.batch_size=4", "train.clip=none")
    config = tiny_config("gru", *more, engine="eager")
    trainer = Trainer(config)
    trainer.generator = spy = Spy(trainer.generator)
    started = copy.deepcopy(trainer.model)
    next(trainer.run())
    inputs, targets, mask = (torch.from_numpy(part) for part in spy.batches[0])
    assert len(set(mask.sum(1).tolist())) > 1, "the sequences must differ in length"
    logits, _ = started(inputs)
    parts = []
    for row in range(4):
        scored = mask[row] > 0
        each = nn.functional.binary_cross_entropy_with_logits(
            logits[row][scored], targets[row][scored], reduction=loss
        )
        parts.append(each)
    (sum(parts) / 4).backward()
    for ours, expected in zip(trainer.model.parameters(), started.parameters(), strict=True):
        assert expected.grad.abs().max() > 1e-5
        torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-4, atol=1e-6)


# Seeds and streams


@pytest.mark.parametrize(
    "sequences, rates",
    [
        (40, [1.0] * 10 + [0.75] * 10 + [0.5] * 10 + [0.25] * 10),
        (11, [1.0] * 10 + [0.5]),
        (3, [1.0] * 3),
    ],
)
def test_a_linear_schedule_falls_with_every_row_of_the_curve(sequences, rates):
    base = tiny_config("lstm", "train.curve_every=10", f"train.sequences={sequences}").train
    linear = dataclasses.replace(base, schedule="linear", learning_rate=2.0)
    assert [linear.rate_after(n) for n in range(sequences)] == pytest.approx([2 * r for r in rates])
    constant = dataclasses.replace(linear, schedule="constant")
    assert {constant.rate_after(n) for n in range(sequences)} == {2.0}


@pytest.mark.parametrize(
    "sequences, rates",
    [
        (40, [1.0] * 10 + [(2 + 2**0.5) / 4] * 10 + [0.5] * 10 + [(2 - 2**0.5) / 4] * 10),
        (25, [1.0] * 10 + [0.75] * 10 + [0.25] * 5),
        (3, [1.0] * 3),
    ],
)
def test_a_cosine_schedule_falls_with_every_row_of_the_curve(sequences, rates):
    base = tiny_config("lstm", "train.curve_every=10", f"train.sequences={sequences}").train
    cosine = dataclasses.replace(base, schedule="cosine", learning_rate=2.0)
    assert [cosine.rate_after(n) for n in range(sequences)] == pytest.approx([2 * r for r in rates])


def test_a_cooldown_falls_over_the_second_half_only():
    base = tiny_config("lstm", "train.curve_every=10", "train.sequences=60").train
    cooldown = dataclasses.replace(base, schedule="cooldown", learning_rate=3.0)
    assert [cooldown.rate_after(n) for n in range(9, 60, 10)] == pytest.approx([3, 3, 3, 3, 2, 1])


def test_a_quadratic_schedule_falls_with_the_square_of_what_is_left():
    base = tiny_config("lstm", "train.curve_every=10", "train.sequences=40").train
    quadratic = dataclasses.replace(base, schedule="quadratic", learning_rate=16.0)
    assert [quadratic.rate_after(n) for n in range(9, 40, 10)] == pytest.approx([16, 9, 4, 1])


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("optimiser", ["adam", "rmsprop", "graves-rmsprop"])
def test_every_update_is_made_with_its_rate(optimiser, engine, batch_size):
    """Until the first row's end both are one run; then the step is the smaller one."""
    settings = (f"train.optimiser={optimiser}", f"train.batch_size={batch_size}",
                "train.momentum=0.0", "train.curve_every=20", "train.snapshots=0")  # fmt: skip
    weights = {}
    for schedule in ("constant", "linear"):
        trainer = Trainer(
            tiny_config("lstm", f"train.schedule={schedule}", *settings, engine=engine)
        )
        seen = {0: trainer.weights()}
        for _ in trainer.run():
            seen[trainer.progress.sequences] = trainer.weights()
        weights[schedule] = seen
    constant, linear = weights["constant"], weights["linear"]
    assert_same_tensors(constant[20], linear[20])
    after = min(n for n in linear if n > 20)
    name = "readout.weight"
    moved = [(of[after][name] - of[20][name]) for of in (constant, linear)]
    if after == 20 + batch_size:  # one update: half the rate is half the step
        torch.testing.assert_close(moved[1], moved[0] / 2, rtol=1e-3, atol=1e-7)
    else:
        assert 0 < moved[1].norm() < moved[0].norm()


def test_a_seed_repeats_a_run_and_another_gives_another():
    first, events = trained(tiny_config("ntm", "train.batch_size=4", seed=5))
    again, same = trained(tiny_config("ntm", "train.batch_size=4", seed=5))
    other, others = trained(tiny_config("ntm", "train.batch_size=4", seed=6))
    assert [timeless(e) for e in events] == [timeless(e) for e in same]
    assert_same_tensors(without_clock(first.state_dict()), without_clock(again.state_dict()))
    assert all(a.loss_bits != b.loss_bits for a, b in zip(events, others, strict=True))
    for a, b in zip(first.model.parameters(), other.model.parameters(), strict=True):
        assert not torch.equal(a, b)


def test_validating_more_often_or_on_more_does_not_change_the_training():
    """With a constant rate: a schedule steps at the curve's rows."""
    constant = "train.schedule=constant"
    usual, _ = trained(tiny_config("lstm", constant))
    more = ("train.curve_every=3", "train.validation_sequences=5")
    other, _ = trained(tiny_config("lstm", constant, *more))
    assert_same_tensors(usual.weights(), other.weights())


def test_the_validation_set_is_the_same_for_all_seeds_and_models():
    configs = [
        tiny_config("lstm", seed=1),
        tiny_config("lstm", seed=2),
        tiny_config("ntm-ff", "train.batch_size=3", "train.learning_rate=1", seed=3),
    ]
    first, *others = (Trainer(config).validation for config in configs)
    assert sum(len(batch.mask_BT) for batch in first) == 8
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
    changed = Trainer(tiny_config("lstm", "evaluate.seed=1")).validation
    assert str(changed[0]) != str(first[0])


def test_validation_and_training_sequences_differ():
    """Even where the run's seed is that of the evaluation; and neither are the tested ones."""
    lengths = ("train.vary.length=[9, 9]", "evaluate.points=[{length=9}]")
    config = tiny_config("gru", *lengths, "train.batch_size=40", seed=0)
    assert config.evaluate.seed == config.seed
    trainer = Trainer(config)
    trainer.generator = spy = Spy(trainer.generator)
    list(trainer.run())
    tested = point_batches(trainer.generator.generator, {"length": 9}, config.evaluate)

    def rows(batches):
        return {row.tobytes() for batch in batches for row in batch.inputs_BTI}

    sets = [rows(spy.batches[:1]), rows(trainer.validation), rows(tested)]
    assert len(sets[0]) == 40 and len(sets[1]) == 8 and len(sets[2]) > 1
    assert all(not a & b for a, b in itertools.combinations(sets, 2))


@pytest.mark.parametrize("task", ["copy", "repeat_copy", "recall", "ngrams", "sort"])
def test_global_random_states_are_untouched(task):
    np.random.seed(4)
    random.seed(4)
    before = str(np.random.get_state()), random.getstate()
    config = tiny_config("gru", "train.sequences=2", "train.validation_sequences=2", task=task)
    trained(config)
    assert (str(np.random.get_state()), random.getstate()) == before


def test_reference_holds_chance_and_optimum():
    trainer = Trainer(tiny_config("gru", "params.width=2", "train.vary.length=[3, 3]"))
    assert trainer.reference() == {
        "chance": {"loss_bits": 6, "wrong_bits": 3, "exact": 2**-6},
        "optimum": {"loss_bits": 0, "wrong_bits": 0, "exact": 1},
    }


# Going on from a saved state


def saved(trainer):
    """A trainer's state after a way through a file."""
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    file.seek(0)
    return torch.load(file)


RESUMABLE = [
    ("lstm", "adam", "sequence", ()),
    ("gru", "rmsprop", "batch", ()),
    ("ntm", "graves-rmsprop", "sequence", ()),
    ("ntm-gru", "adam", "batch", ("train.schedule=linear",)),
    ("ntm-ff", "graves-rmsprop", "sequence", ("model.initial_memory=learned",)),
    ("ntm", "graves-rmsprop", "sequence", ("train.input_noise=0.1",)),
    ("ntm-gru", "graves-rmsprop", "sequence", ("train.average_over=512",)),
    (BROKEN, "graves-rmsprop", "sequence", ("model.dropout=0.5",)),
]


@pytest.mark.parametrize("model, optimiser, lengths, more", RESUMABLE)
@pytest.mark.parametrize("stop_after", [1, 4, 7])
@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_a_resumed_run_is_the_same_bit_for_bit(model, optimiser, lengths, more, stop_after, engine):
    config = tiny_config(
        model,
        f"train.optimiser={optimiser}",
        f"train.lengths={lengths}",
        "train.batch_size=4",
        "train.sequences=41",
        *more,
        engine=engine,
    )
    whole, events = trained(config)
    assert len(events) == 11 and len(points_of(events)) == 5
    stopped = Trainer(config)
    first = list(itertools.islice(stopped.run(), stop_after))
    state = saved(stopped)
    assert state["progress"]["sequences"] == 4 * stop_after
    resumed = Trainer(config)
    resumed.load_state_dict(state)
    rest = list(resumed.run())
    assert [timeless(e) for e in [*first, *rest]] == [timeless(e) for e in events]
    assert_same_tensors(without_clock(resumed.state_dict()), without_clock(whole.state_dict()))
    assert resumed.progress.seconds > stopped.progress.seconds


def test_without_the_state_the_rest_is_another():
    """Shows that the test above can fail: the same rest, but for one part of the state."""
    config = tiny_config(BROKEN, "train.batch_size=4", "model.dropout=0.5")
    whole, _ = trained(config)
    stopped = Trainer(config)
    list(itertools.islice(stopped.run(), 4))
    kept = saved(stopped)
    for part in ("model", "optimiser", "numpy_rng", "torch_rng"):
        resumed = Trainer(config)
        state = copy.deepcopy(kept)
        state[part] = copy.deepcopy(resumed.state_dict()[part])
        resumed.load_state_dict(state)
        list(resumed.run())
        assert not torch.equal(resumed.model.layer.bias, whole.model.layer.bias), part


def test_saving_does_not_change_the_run():
    config = tiny_config("ntm-gru", "train.batch_size=4")
    whole, events = trained(config)
    disturbed = Trainer(config)
    seen = [(event, saved(disturbed), disturbed.weights())[0] for event in disturbed.run()]
    assert [timeless(e) for e in seen] == [timeless(e) for e in events]
    assert_same_tensors(disturbed.weights(), whole.weights())


def test_a_state_can_be_loaded_twice():
    config = tiny_config("ntm", "train.batch_size=4")
    stopped = Trainer(config)
    list(itertools.islice(stopped.run(), 4))
    state = saved(stopped)
    ends = []
    for _ in range(2):
        resumed = Trainer(config)
        resumed.load_state_dict(state)
        list(resumed.run())
        ends.append(without_clock(resumed.state_dict()))
    assert_same_tensors(*ends)


def test_a_finished_run_stays_finished():
    config = tiny_config("gru")
    trainer, _ = trained(config)
    again = Trainer(config)
    again.load_state_dict(saved(trainer))
    assert again.finished and list(again.run()) == []


@pytest.mark.parametrize("change", ["empty", "other model", "unknown progress"])
def test_a_state_that_is_none_is_refused(change):
    trainer = Trainer(tiny_config("gru"))
    state = saved(Trainer(tiny_config("lstm" if change == "other model" else "gru")))
    if change == "empty":
        state = {}
    elif change == "unknown progress":
        state["progress"]["luck"] = 1
    with pytest.raises((KeyError, TypeError, ValueError, RuntimeError)):
        trainer.load_state_dict(state)


# Losses and gradients that are not finite


KINDS = {
    "logits": "logits",
    "loss": "loss",
    "gradient": "gradient of layer.weight",
    "parameter": "parameter layer.bias",
}


def broken_config(kind, bad, *overrides):
    given = (f"model.kind={kind}", f"model.bad={list(bad)}", "train.batch_size=4")
    return tiny_config(BROKEN, *given, *overrides)


@pytest.mark.parametrize("kind", ["logits", "loss", "gradient"])
def test_an_update_that_is_not_finite_is_skipped_and_counted(kind):
    """Updates 2, 5 and 6 of ten go wrong; points stand after updates 3, 5, 8 and 10."""
    trainer = Trainer(broken_config(kind, [2, 5, 6]))
    before, skipped, window, points = trainer.state_dict(), [], [], []
    before = copy.deepcopy(before)
    for number, event in enumerate(trainer.run(), start=1):
        after = copy.deepcopy(trainer.state_dict())
        if number in (2, 5, 6):
            assert_same_tensors(after["model"], before["model"])
            assert_same_tensors(after["optimiser"], before["optimiser"])
            skipped.append(number)
        else:
            assert not torch.equal(after["model"]["layer.bias"], before["model"]["layer.bias"])
        assert trainer.progress.skipped == len(skipped)
        assert trainer.progress.sequences == 4 * number and trainer.progress.updates == number
        if isinstance(event, CurvePoint):
            points.append(event)
        elif number not in skipped:
            window.append(event.loss_bits)
        else:
            assert math.isfinite(event.loss_bits) == (kind == "gradient")
        before = after
    assert [point.updates for point in points] == [3, 5, 8, 10]
    assert [point.skipped for point in points] == [1, 1, 1, 0]
    for point in points:
        for name in (*METRICS, "grad_norm", "val_loss_bits"):
            assert math.isfinite(getattr(point, name)), name
    assert trainer.progress.diverged is None and skipped == [2, 5, 6]
    assert len(window) == 4  # updates 1, 4, 7 and 9; the others are points or skipped


def test_a_points_means_leave_skipped_updates_out():
    """Updates 1 to 3 make the first point; without the second, it is the mean of the two others."""
    config = broken_config("logits", [2], "train.learning_rate=1e-30")
    trainer = Trainer(config)
    events = list(trainer.run())
    clean = Trainer(broken_config("logits", [], "train.learning_rate=1e-30"))
    alone = points_of(itertools.islice(clean.run(), 3))[0]
    assert events[2].skipped == 1 and alone.skipped == 0
    rng, generator = stream(1, "training"), clean.generator
    losses = []
    for _ in range(3):
        point = draw_vary(rng, config.train.vary, 4, True)
        inputs, targets, mask = (torch.from_numpy(p) for p in generator.sample(rng, 4, **point))
        with torch.no_grad():
            logits, _ = clean.model(inputs)
        losses.append(sum(bits_by_hand(logits.tolist(), targets.tolist(), mask.tolist())) / 4)
    assert alone.loss_bits == pytest.approx(sum(losses) / 3, rel=1e-5)
    assert events[2].loss_bits == pytest.approx((losses[0] + losses[2]) / 2, rel=1e-5)


def test_a_point_of_skipped_updates_alone_has_no_means():
    _, events = trained(broken_config("logits", [4, 5], "train.sequences=20"))
    first, second = points_of(events)
    assert first.skipped == 0 and second.skipped == 2 and second.sequences == 20
    assert math.isfinite(first.loss_bits) and math.isfinite(second.val_loss_bits)
    for name in (*METRICS, "grad_norm"):
        assert math.isnan(getattr(second, name)), name


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_run_that_stays_broken_has_diverged(kind):
    """The sixth to ninth are skipped: where the row began is named, by how far the run was."""
    trainer, events = trained(broken_config(kind, range(6, 99), "train.diverged_after=4"))
    assert trainer.progress.updates == 9 and trainer.progress.sequences == 36
    assert trainer.progress.diverged == {"sequences": 20, "updates": 5, "tensor": KINDS[kind]}
    assert trainer.finished and isinstance(events[-1], CurvePoint)
    assert trainer.progress.skipped == 4
    if kind == "parameter":
        assert trainer.progress.best["sequences"] in (12, 20)
        assert not math.isfinite(trainer.progress.last["val_loss_bits"])
    assert all(value.isfinite().all() for value in trainer.best_weights.values())


def test_a_good_update_breaks_a_row_of_skipped_ones():
    config = broken_config("logits", [1, 2, 4, 5, 7, 8, 9], "train.diverged_after=3")
    trainer, _ = trained(config)
    assert trainer.progress.updates == 9
    assert trainer.progress.diverged == {"sequences": 24, "updates": 6, "tensor": "logits"}
    trainer, _ = trained(broken_config("logits", [1, 2, 4, 5, 7, 8], "train.diverged_after=3"))
    assert trainer.progress.updates == 10 and trainer.progress.diverged is None


# Solved, and the best weights


def solved_config(*overrides, metric="loss_bits", task="copy"):
    return tiny_config(
        "gru",
        "train.sequences=8",
        "train.curve_every=1",
        f"solved.metric={metric}",
        "solved.below=0.5",
        "solved.times=3",
        *overrides,
        task=task,
    )


@pytest.mark.parametrize(
    "losses, solved_at",
    [
        ([0.4] * 8, 3),
        ([9, 0.4, 0.4, 0.4, 9, 9, 9, 9], 4),
        ([0.4, 0.4, 9, 0.4, 0.4, 0.4, 0.4, 9], 6),
        ([0.4, 0.4, 9, 0.4, 0.4, 9, 0.4, 0.4], None),
        ([0.4, 0.4, math.nan, 0.4, 0.4, math.nan, 0.4, 0.4], None),
        ([0.5] * 8, None),
        ([9, 9, 9, 9, 9, 0.4, 0.4, 0.4], 8),
    ],
)
def test_solved_after_enough_validations_in_a_row(monkeypatch, losses, solved_at):
    script(monkeypatch, *losses)
    trainer = Trainer(solved_config())
    for number, event in enumerate(trainer.run(), start=1):
        assert (trainer.progress.solved is not None) == (number >= (solved_at or 99))
        assert event.sequences == number
    assert trainer.progress.sequences == 8, "the run goes on when solved"
    if solved_at:
        assert trainer.progress.solved["sequences"] == solved_at
        assert trainer.progress.solved["updates"] == solved_at


@pytest.mark.parametrize("stop, ends", [("true", 4), ("false", 8)])
def test_stop_when_solved(monkeypatch, stop, ends):
    script(monkeypatch, 9, 0.4, 0.4, 0.4, 9, 9, 9, 9)
    trainer, events = trained(solved_config(f"train.stop_when_solved={stop}"))
    assert trainer.progress.sequences == len(events) == ends and trainer.finished
    assert trainer.progress.solved["sequences"] == 4


@pytest.mark.parametrize("times, solved_at", [(1, 2), (2, 3), (4, 5)])
def test_solved_times(monkeypatch, times, solved_at):
    script(monkeypatch, 9, *[0.4] * 7)
    trainer, _ = trained(solved_config(f"solved.times={times}"))
    assert trainer.progress.solved["sequences"] == solved_at


def test_solved_reads_its_own_metric(monkeypatch):
    script(monkeypatch, *[0.4] * 8, metric="wrong_bits")
    assert trained(solved_config(metric="wrong_bits"))[0].progress.solved["sequences"] == 3
    script(monkeypatch, *[0.4] * 8, metric="wrong_bits")
    assert trained(solved_config(metric="loss_bits"))[0].progress.solved is None


@pytest.mark.parametrize("over, solved", [(0.4, True), (0.6, False)])
def test_solved_by_regret_is_the_loss_over_the_optimum(monkeypatch, over, solved):
    small = ("train.validation_sequences=1", "train.vary.bits=[20, 20]", "params.context=1")
    config = solved_config(*small, "train.batch_size=1", metric="regret_bits", task="ngrams")
    optimum = Trainer(config).optimum.loss_bits.item()
    assert optimum > 3
    script(monkeypatch, *[optimum + over] * 8)
    assert (trained(config)[0].progress.solved is not None) == solved


def test_regret_where_the_optimum_is_zero_is_the_loss(monkeypatch):
    script(monkeypatch, *[0.4] * 8)
    assert trained(solved_config(metric="regret_bits"))[0].progress.solved["sequences"] == 3


@pytest.mark.parametrize(
    "losses, best_at",
    [
        ([3, 1, 2, 1, math.nan, 5, 6, 7], 2),
        ([math.nan, math.inf, 4, 5, 6, 7, 8, 9], 3),
        ([8, 7, 6, 5, 4, 3, 2, 1], 8),
    ],
)
def test_best_weights_are_those_of_the_lowest_validation_loss(monkeypatch, losses, best_at):
    script(monkeypatch, *losses)
    trainer = Trainer(solved_config())
    weights = [trainer.weights() for _ in trainer.run()]
    assert len(weights) == 8
    assert trainer.progress.best["sequences"] == best_at
    assert trainer.progress.best["val_loss_bits"] == losses[best_at - 1]
    assert trainer.progress.last["sequences"] == 8
    assert_same_tensors(trainer.best_weights, weights[best_at - 1])
    for other in range(8):
        if other != best_at - 1:
            assert str(weights[other]) != str(weights[best_at - 1])


def test_without_a_finite_validation_there_is_no_best(monkeypatch):
    script(monkeypatch, *[math.nan] * 8)
    trainer, events = trained(solved_config())
    assert trainer.progress.best is None and trainer.progress.solved is None
    assert math.isnan(events[-1].val_loss_bits)


def test_points_say_what_the_validation_found(monkeypatch):
    script(monkeypatch, *range(8), metric="wrong_bits")
    _, events = trained(solved_config())
    assert [point.val_wrong_bits for point in events] == list(range(8))
    assert {(point.val_loss_bits, point.val_exact) for point in events} == {(9.0, 9.0)}


# Noise


@pytest.mark.parametrize("batch_size", [1, 4])
def test_noise_is_added_to_the_inputs_of_training_alone(batch_size, monkeypatch):
    """Of its deviation, other noise in every sequence; nothing but the inputs changes."""
    more = (f"train.batch_size={batch_size}", "train.input_noise=0.25")
    trainer = Trainer(tiny_config("lstm", *more))
    trainer.generator = spy = Spy(trainer.generator)
    learned, learn = [], trainer.engine.updates_of

    def updates_of(batches):
        learned.extend(batches)
        return learn(batches)

    trainer.engine.updates_of = updates_of
    validated, score = set(), ntmbench.train.score_model

    def score_model(model, batches, device):
        for batch in batches:
            validated.update(np.unique(batch.inputs_BTI).tolist())
        return score(model, batches, device)

    monkeypatch.setattr(ntmbench.train, "score_model", score_model)
    list(trainer.run())
    added = []
    for noisy, plain in zip(learned, spy.batches, strict=True):
        assert noisy.inputs_BTI.dtype == np.float32
        added.append((noisy.inputs_BTI - plain.inputs_BTI).ravel())
        np.testing.assert_array_equal(noisy.targets_BTO, plain.targets_BTO)
        np.testing.assert_array_equal(noisy.mask_BT, plain.mask_BT)
    drawn = np.concatenate(added)
    assert drawn.size > 1000 and len(np.unique(drawn.round(5))) > 0.9 * drawn.size
    assert abs(drawn.mean()) < 5 * 0.25 / drawn.size**0.5
    assert drawn.std() == pytest.approx(0.25, rel=5 / (2 * drawn.size) ** 0.5)
    assert validated == {0.0, 1.0}


# Averages


@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("size", [1, 2])
def test_averaged_weights_are_those_that_are_scored(size, engine):
    """The mean that the settings describe, formed by hand from the weights that are trained."""
    counts = {"batch_size": size, "average_over": 96 * size, "sequences": 150, "curve_every": 50}
    more = [f"train.{name}={count}" for name, count in counts.items()]
    trainer = Trainer(tiny_config("ntm-gru", *more, "train.vary.length=[1,2]", engine=engine))
    assert trainer.scored is trainer.model
    mean, moves, validated = None, [], []
    for event in trainer.run():
        if isinstance(event, CurvePoint) or event.sequences % (32 * size) == 0:
            moves.append(event.sequences)
            now = {k: v.detach().double() for k, v in trainer.model.state_dict().items()}
            share = 1 / min(len(moves), 3)  # three moves of 32 updates, but for the first two
            mean = now if mean is None else {k: m + share * (now[k] - m) for k, m in mean.items()}
        if isinstance(event, CurvePoint):
            assert trainer.scored is not trainer.model
            for name, weight in trainer.weights().items():
                torch.testing.assert_close(weight.double(), mean[name], rtol=1e-5, atol=1e-6)
            scores = score_model(trainer.scored, trainer.validation, "cpu")
            assert event.val_loss_bits == pytest.approx(scores.loss_bits.mean(), rel=1e-5)
            validated.append((event.val_loss_bits, trainer.weights()))
    assert moves == sorted({*range(32 * size, 151, 32 * size), 50, 100, 150})
    assert not torch.equal(trainer.weights()["readout.bias"], trainer.model.readout.bias)
    assert_same_tensors(trainer.best_weights, min(validated, key=lambda each: each[0])[1])


def test_averaging_does_not_change_what_is_trained():
    plain, events = trained(tiny_config("ntm"))
    averaged, others = trained(tiny_config("ntm", "train.average_over=1000"))
    assert_same_tensors(plain.model.state_dict(), averaged.model.state_dict())
    losses = [[point.loss_bits for point in points_of(each)] for each in (events, others)]
    assert losses[0] == losses[1]


def test_an_average_goes_on_where_it_was():
    """Stopped between two of its moves; without what was saved of it, it is another."""
    config = tiny_config("ntm-gru", "train.batch_size=1", "train.sequences=150",
                         "train.snapshots=4", "train.curve_every=150",
                         "train.average_over=64")  # fmt: skip
    whole, events = trained(config)
    assert [event.sequences for event in events] == [32, 64, 96, 100, 119, 128, 141, 150]
    stopped = Trainer(config)
    list(itertools.islice(stopped.run(), 4))
    state = saved(stopped)
    for forgotten in (False, True):
        resumed = Trainer(config)
        if forgotten:
            state["averaged"] = resumed.state_dict()["averaged"]
        resumed.load_state_dict(state)
        list(resumed.run())
        assert torch.equal(resumed.model.readout.bias, whole.model.readout.bias)
        same = torch.equal(resumed.weights()["readout.bias"], whole.weights()["readout.bias"])
        assert same != forgotten


class Locked(Broken):
    """It holds what cannot be copied."""

    def __init__(self, input_size, output_size):
        super().__init__(input_size, output_size)
        self.lock = threading.Lock()


def test_a_model_that_cannot_be_copied_has_no_average():
    name = f"{__name__}:Locked"
    assert Trainer(tiny_config(name)).averaged is None
    with pytest.raises(UserError, match="average_over must be 0 for a model that cannot be copied"):
        Trainer(tiny_config(name, "train.average_over=1000"))


def test_a_state_of_before_a_setting_was_added_can_be_loaded():
    """It was made with what is the default now."""
    trainer = Trainer(tiny_config("ntm"))
    state = saved(trainer)
    del state["averaged"]
    del state["run"]["identity"]["train"]["average_over"]
    del state["run"]["identity"]["model"]["arguments"]["forget_bias"]
    trainer.load_state_dict(state)
    of_another = Trainer(tiny_config("ntm", "train.average_over=1000"))
    with pytest.raises(ValueError, match="another configuration"):
        of_another.load_state_dict(state)


# Snapshots


@pytest.mark.parametrize(
    ("snapshots", "batch_size", "sequences", "counts"),
    [
        (1, 1, 1000, [100, 200, 400, 800]),
        (2, 1, 1000, [100, 141, 200, 283, 400, 566, 800]),
        (1, 16, 1000, [112, 208, 400, 800]),
        (2, 7, 300, [105, 147, 203, 287]),
        (16, 64, 200, [128, 192]),
        (1, 150, 1000, [150, 300, 450, 900]),
        (1, 1, 800, [100, 200, 400]),
        (1, 1, 801, [100, 200, 400, 800]),
        (1, 500, 600, [500]),
        (2, 1, 100, []),
        (2, 1, 40, []),
        (2, 200, 150, []),
        (0, 1, 1000, []),
    ],
)
def test_snapshots_stand_evenly_on_a_log_scale(snapshots, batch_size, sequences, counts):
    """100 x 2^(n / snapshots), at the end of the update that meets it, and before the run's."""
    config = tiny_config(
        "ntm",
        f"train.snapshots={snapshots}",
        f"train.batch_size={batch_size}",
        f"train.sequences={sequences}",
    )
    assert snapshot_counts(config.train) == counts


def test_every_doubling_has_as_many():
    counts = np.array(snapshot_counts(tiny_config("ntm", "train.sequences=1_000_000").train))
    ratios = counts[1:] / counts[:-1]
    assert len(counts) == 27 and np.abs(ratios - 2**0.5).max() < 0.02


@pytest.mark.parametrize("model", ["lstm", "gru", "ntm", "ntm-ff"])
def test_only_models_that_can_be_traced_are_kept(model):
    found = Trainer(tiny_config(model, "train.sequences=250", "train.batch_size=1")).snapshots
    assert found == ([100, 141, 200] if model.startswith("ntm") else [])


@pytest.mark.parametrize("engine, batch_size", [("fused", 1), ("fused", 7), ("eager", 7)])
def test_training_stops_at_every_snapshot(engine, batch_size):
    """Whatever an engine makes at one go: single updates are many, and pass no snapshot."""
    more = (
        f"train.batch_size={batch_size}",
        "train.sequences=210",
        "train.vary.length=[1,2]",
        "train.curve_every=1000",
    )
    every = ("train.checkpoint_every=1000", "train.validation_sequences=4")
    config = tiny_config("ntm", *more, *every, engine=engine)
    trainer, events = trained(config)
    seen = [event.sequences for event in events]
    assert len(trainer.snapshots) == 3 and set(trainer.snapshots) <= set(seen)
    if engine == "fused":
        without, others = trained(
            tiny_config("ntm", *more, *every, "train.snapshots=0", engine=engine)
        )
        assert without.snapshots == [] and len(others) <= len(events)


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_keeping_snapshots_changes_no_number(engine):
    def run(snapshots):
        more = ["train.sequences=220", "train.curve_every=50", "train.validation_sequences=8"]
        more += ["train.vary.length=[1,2]", "train.batch_size=20"]
        return trained(tiny_config("ntm", *more, f"train.snapshots={snapshots}", engine=engine))

    (none, plain), (many, kept) = run(0), run(8)
    assert len(many.snapshots) == 6 and none.snapshots == []
    assert_same_tensors(none.weights(), many.weights())
    for a, b in zip(points_of(plain), points_of(kept), strict=True):
        assert a.sequences_per_second != b.sequences_per_second
        for name in ("sequences", "updates", "skipped", *METRICS, *(f"val_{m}" for m in METRICS)):
            assert getattr(a, name) == getattr(b, name), name
        assert a.grad_norm == b.grad_norm
    assert without_clock(none.state_dict())["numpy_rng"] == many.state_dict()["numpy_rng"]


def test_snapshots_are_not_part_of_what_is_compared():
    tables = [tiny_config("ntm", f"train.snapshots={n}").to_dict() for n in (0, 2, 8)]
    assert len({table["train"]["snapshots"] for table in tables}) == 3
    first, *others = map(identity, tables)
    assert "snapshots" not in first["train"] and "loss" in first["train"]
    assert all(other == first for other in others)
    old = tables[1]
    del old["train"]["snapshots"]
    assert identity(old) == first, "runs of before there were any"


@pytest.mark.parametrize("value", ["-1", "17", "1.5", "true"])
def test_snapshots_out_of_bounds_are_refused(value):
    with pytest.raises(UserError, match=r"train\.snapshots must be"):
        tiny_config("ntm", f"train.snapshots={value}")


@pytest.mark.slow
def test_something_learns():
    """Copy of one to three vectors of two bits is solved by a small LSTM, and not by chance."""
    config = resolve(
        load_task("copy"),
        "lstm",
        seed=1,
        overrides=[
            "params.width=2",
            "model.hidden_size=64",
            "model.layers=1",
            "train.vary.length=[1, 3]",
            "train.optimiser=adam",
            "train.learning_rate=1e-2",
            "train.batch_size=16",
            "train.sequences=40_000",
            "train.curve_every=1600",
            "train.validation_sequences=100",
            "train.stop_when_solved=true",
            "solved.below=0.05",
            "solved.times=3",
            "evaluate.points=[]",
        ],
    )
    trainer, events = trained(config)
    assert points_of(events)[0].loss_bits > 1, "it was not solved from the start"
    assert trainer.progress.solved is not None, trainer.progress.last
    assert trainer.progress.last["val_exact"] == 1
    for point in points_of(events)[-3:]:
        assert point.val_loss_bits < 0.05
