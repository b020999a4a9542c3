"""Evaluation: hand-made models whose scores are known, chance, the optimum, and fixed sequences."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from ntmbench.config import EvaluateConfig, TrainConfig
from ntmbench.errors import UserError
from ntmbench.evaluate import (
    Scores,
    evaluate_point,
    mean_and_stderr,
    metrics_of,
    point_batches,
    point_label,
    score_chance,
    score_model,
    score_optimum,
    validation_batches,
)
from ntmbench.folder import LENGTHS_COLUMNS, METRICS, POSITIONS_COLUMNS
from ntmbench.generators import (
    AssociativeRecall,
    Batch,
    Copy,
    DynamicNgrams,
    PrioritySort,
    RepeatCopy,
)
from ntmbench.models.ntm import NTM
from ntmbench.models.recurrent import GRU

CASES = [  # a task, a point, the coins of a sequence and the bits that are scored
    (Copy(width=3), {"length": 4}, 12, 12),
    (RepeatCopy(width=2), {"length": 3, "repeats": 2}, 12, 21),
    (AssociativeRecall(width=4, item_length=2), {"items": 3}, 8, 8),
    (PrioritySort(width=3), {"vectors": 5}, 12, 12),
    (DynamicNgrams(context=2), {"bits": 30}, 30, 30),
]


def over(cases):
    names = [type(case[0]).__name__ for case in cases]
    return pytest.mark.parametrize("generator, point, coins, scored", cases, ids=names)


each_case = over(CASES)
each_exact_case = over(CASES[:-1])  # no model can know the next bit of an n-gram source
NGRAMS, NGRAMS_POINT = DynamicNgrams(), {"bits": 200}


class Knowing(nn.Module):
    """A model that answers as the task's own solver does, more or less surely."""

    def __init__(self, generator, sureness=1.0):
        super().__init__()
        self.generator, self.sureness = generator, sureness

    def initial_state(self, batch_size):
        return ()

    def forward(self, inputs_BTI, state=None):
        steps = inputs_BTI.shape[:2]
        blind = np.zeros((*steps, self.generator.output_size), np.float32)
        batch = Batch(inputs_BTI.numpy(), blind, np.zeros(steps, np.float32))
        probabilities_BTO = torch.from_numpy(self.generator.solve(batch))
        return (torch.logit(probabilities_BTO.double(), eps=1e-13) * self.sureness).float(), ()


class Saying(nn.Module):
    """A model whose every logit is one number; it notes the mode it is called in."""

    def __init__(self, output_size, logit):
        super().__init__()
        self.output_size, self.logit, self.modes = output_size, logit, []

    def initial_state(self, batch_size):
        return ()

    def forward(self, inputs_BTI, state=None):
        self.modes.append((self.training, torch.is_grad_enabled()))
        return torch.full((*inputs_BTI.shape[:2], self.output_size), self.logit), ()


def settings(sequences=20, **more):
    return EvaluateConfig(points=[], sequences=sequences, **more)


def evaluated(generator, point, models, sequences=20, **more):
    """The rows of a point, as {(weights, metric): row}, and those of positions."""
    scores = evaluate_point(generator, point, settings(sequences, **more), models, "cpu")
    rows = {(row["weights"], row["metric"]): row for row in scores.lengths}
    assert len(rows) == len(scores.lengths)
    return rows, scores.positions


def same_batches(a, b):
    """The same sequences in the same order, however they are cut into batches."""
    rows = [[row for batch in batches for row in batch.inputs_BTI] for batches in (a, b)]
    return len(rows[0]) == len(rows[1]) and all(map(np.array_equal, *rows))


# Scores that are known


@each_exact_case
def test_a_perfect_model_has_no_wrong_bit(generator, point, coins, scored):
    rows, positions = evaluated(generator, point, {"best": Knowing(generator)})
    assert rows["best", "loss_bits"]["value"] == pytest.approx(0, abs=1e-9)
    for weights in ("best", "optimum"):
        assert rows[weights, "wrong_bits"]["value"] == 0
        assert rows[weights, "exact"]["value"] == 1
        assert rows[weights, "exact"]["stderr"] == 0
    assert positions == [], "positions are for tasks whose optimum is not 0"


@each_case
def test_a_model_that_says_nothing_pays_a_bit_for_each(generator, point, coins, scored):
    """At probability 1/2 each scored bit costs one bit, and is taken for a 0."""
    model = Saying(generator.output_size, 0.0)
    rows, _ = evaluated(generator, point, {"best": model})
    assert rows["best", "loss_bits"]["value"] == pytest.approx(scored, rel=1e-6)
    batches = point_batches(generator, point, settings())
    ones = [float((b.targets_BTO * b.mask_BT[..., None]).sum()) for b in batches]
    assert rows["best", "wrong_bits"]["value"] == pytest.approx(sum(ones) / 20) and sum(ones) > 0


@each_exact_case
def test_a_model_that_is_sure_and_wrong(generator, point, coins, scored):
    rows, _ = evaluated(generator, point, {"best": Knowing(generator, sureness=-1.0)})
    assert rows["best", "wrong_bits"]["value"] == scored
    assert rows["best", "exact"]["value"] == 0
    assert rows["best", "loss_bits"]["value"] == pytest.approx(scored * math.log2(1e13), rel=1e-3)


@each_case
def test_chance_and_optimum_rows(generator, point, coins, scored):
    rows, _ = evaluated(generator, point, {})
    assert {weights for weights, _ in rows} == {"chance", "optimum"}
    assert rows["chance", "loss_bits"]["value"] == coins
    assert rows["chance", "wrong_bits"]["value"] == coins / 2
    assert rows["chance", "exact"]["value"] == 0.5**coins
    assert rows["chance", "loss_bits"]["stderr"] == 0
    loss = rows["optimum", "loss_bits"]["value"]
    assert loss == 0 if not isinstance(generator, DynamicNgrams) else 10 < loss < coins
    assert all(row["memory_rows"] is None for row in rows.values())


@pytest.mark.parametrize("logit", [math.nan, math.inf, -math.inf])
@each_case
def test_a_model_that_says_what_is_no_number(generator, point, coins, scored, logit):
    """NaN stays NaN in the loss, and every scored bit is wrong; without a warning."""
    rows, _ = evaluated(generator, point, {"last": Saying(generator.output_size, logit)})
    loss, wrong = rows["last", "loss_bits"]["value"], rows["last", "wrong_bits"]["value"]
    if math.isnan(logit):
        assert math.isnan(loss) and math.isnan(rows["last", "loss_bits"]["stderr"])
        assert wrong == scored and rows["last", "exact"]["value"] == 0
    else:
        assert not math.isfinite(loss) and 0 < wrong < scored
    for metric in METRICS:
        assert math.isfinite(rows["optimum", metric]["value"])


def test_one_broken_sequence_does_not_spoil_the_others():
    generator = Copy(width=2)

    class HalfBroken(Knowing):
        def forward(self, inputs_BTI, state=None):
            logits_BTO, state = super().forward(inputs_BTI)
            logits_BTO[::2] = math.nan
            return logits_BTO, state

    batches = point_batches(generator, {"length": 3}, settings(10))
    scores = score_model(HalfBroken(generator), batches, "cpu")
    assert np.isnan(scores.loss_bits[::2]).all() and (scores.loss_bits[1::2] < 1e-9).all()
    assert scores.wrong_bits.tolist() == [6, 0] * 5 and scores.exact.tolist() == [0, 1] * 5


# Regret and positions


def test_regret_is_only_where_the_optimum_costs_something():
    for generator, point, *_ in CASES:
        rows, positions = evaluated(generator, point, {"best": Saying(generator.output_size, 0.0)})
        noisy = isinstance(generator, DynamicNgrams)
        assert (("best", "regret_bits") in rows) == noisy
        assert bool(positions) == noisy
        assert ("optimum", "regret_bits") not in rows and ("chance", "regret_bits") not in rows


def test_regret_is_paired():
    """The optimum, said less surely, costs a little more; what sequences cost differs much."""
    models = {"same": Knowing(NGRAMS), "unsure": Knowing(NGRAMS, sureness=0.8)}
    rows, _ = evaluated(NGRAMS, NGRAMS_POINT, models, sequences=200)
    assert rows["same", "regret_bits"]["value"] == pytest.approx(0, abs=1e-4)
    regret, loss = rows["unsure", "regret_bits"], rows["unsure", "loss_bits"]
    optimum = rows["optimum", "loss_bits"]
    assert 0.5 < regret["value"] < 10
    assert regret["value"] == pytest.approx(loss["value"] - optimum["value"], abs=1e-9)
    assert 120 < optimum["value"] < 146
    assert 0 < regret["stderr"] < loss["stderr"] / 10
    batches = point_batches(NGRAMS, NGRAMS_POINT, settings(200))
    ours = score_model(models["unsure"], batches, "cpu").loss_bits
    difference = ours - score_optimum(NGRAMS, batches).loss_bits
    deviation = math.sqrt(sum((difference - difference.mean()) ** 2) / 199)
    assert regret["stderr"] == pytest.approx(deviation / math.sqrt(200))


def test_metrics_of_a_task_whose_optimum_is_zero_have_no_regret():
    def scores(*losses):
        zeros = np.zeros(len(losses))
        return Scores(np.array(losses), zeros, zeros, np.zeros((len(losses), 1)))

    assert "regret_bits" not in metrics_of(scores(1.0, 2.0), scores(0.0, 0.0))
    found = metrics_of(scores(1.0, 2.0), scores(0.0, 0.5))
    assert found["regret_bits"].tolist() == [1.0, 1.5] and found["loss_bits"].tolist() == [1, 2]


def test_positions_sum_to_the_loss():
    models = {"best": Knowing(NGRAMS, sureness=0.5), "last": Saying(1, 0.3)}
    rows, positions = evaluated(NGRAMS, {"bits": 60}, models, sequences=30)
    for weights in ("best", "last", "optimum"):
        own = [row for row in positions if row["weights"] == weights]
        assert [row["position"] for row in own] == list(range(60))
        total = sum(row["loss_bits"] for row in own)
        assert total == pytest.approx(rows[weights, "loss_bits"]["value"], rel=1e-6)
        assert len({row["loss_bits"] for row in own}) > 1
    assert {row["weights"] for row in positions} == {"best", "last", "optimum"}
    optimum = [row for row in positions if row["weights"] == "optimum"]
    assert [row["loss_bits"] for row in optimum[:5]] == [1] * 5, "the first context is fair coins"


def test_positions_are_means_over_sequences():
    batches = point_batches(NGRAMS, {"bits": 8}, settings(9))
    steps = score_model(Saying(1, 0.7), batches, "cpu").step_bits_ST
    _, positions = evaluated(NGRAMS, {"bits": 8}, {"best": Saying(1, 0.7)}, sequences=9)
    one, zero = (math.log2(1 + math.exp(sign * 0.7)) for sign in (-1, 1))
    bits = np.concatenate([batch.targets_BTO[..., 0] for batch in batches])
    assert steps == pytest.approx(np.where(bits > 0.5, one, zero), rel=1e-6)
    for row, column in zip(positions, steps.T, strict=False):
        assert row["loss_bits"] == pytest.approx(column.mean())
        assert row["stderr"] == pytest.approx(column.std() * math.sqrt(9 / 8) / 3)


def test_rows_have_the_columns_of_the_files():
    generator, point = RepeatCopy(width=2), {"repeats": 2, "length": 3}
    scores = evaluate_point(generator, point, settings(), {"best": Knowing(generator)}, "cpu")
    for row in scores.lengths:
        assert tuple(row) == ("length", "repeats", *LENGTHS_COLUMNS)
        assert (row["length"], row["repeats"], row["sequences"]) == (3, 2, 20)
    scores = evaluate_point(NGRAMS, {"bits": 9}, settings(), {"best": Saying(1, 0.0)}, "cpu")
    for row in scores.positions:
        assert tuple(row) == ("bits", *POSITIONS_COLUMNS)
        assert (row["bits"], row["sequences"]) == (9, 20)


# Means and their errors


def test_stderr_by_hand():
    """Values 1, 2, 3, 6: mean 3, squared deviations 4 + 1 + 0 + 9 = 14, 14 / 3 / 4 under a root."""
    mean, stderr = mean_and_stderr(np.array([1.0, 2.0, 3.0, 6.0]))
    assert mean == 3 and stderr == pytest.approx(math.sqrt(14 / 12))
    means, stderrs = mean_and_stderr(np.array([[1.0, 5.0], [3.0, 5.0]]), axis=0)
    assert means.tolist() == [2, 5] and stderrs == pytest.approx([1, 0])


def test_a_single_sequence_has_no_stderr():
    mean, stderr = mean_and_stderr(np.array([2.5]))
    assert mean == 2.5 and math.isnan(stderr)
    rows, positions = evaluated(NGRAMS, {"bits": 6}, {"best": Saying(1, 0.0)}, sequences=1)
    assert all(math.isnan(row["stderr"]) for row in [*rows.values(), *positions])
    assert all(math.isfinite(row["value"]) for row in rows.values())


# Fixed sequences


def test_scores_do_not_depend_on_what_is_evaluated_before():
    torch.manual_seed(0)
    model, generator = GRU(4, 3, hidden_size=5, layers=1), Copy(width=3)
    points = [{"length": length} for length in (2, 5, 3)]

    def scored(order):
        return {point["length"]: evaluated(generator, point, {"best": model})[0] for point in order}

    alone = [scored([point]) for point in points]
    for order in itertools.permutations(points):
        np.random.seed(1)
        torch.manual_seed(1)
        together = scored(order)
        for single in alone:
            ((length, rows),) = single.items()
            assert together[length] == rows
    losses = {rows["best", "loss_bits"]["value"] for one in alone for rows in one.values()}
    assert len(losses) == 3


def test_evaluation_touches_no_global_random_state():
    np.random.seed(1)
    torch.manual_seed(1)
    before = str(np.random.get_state()), torch.get_rng_state()
    evaluated(Copy(), {"length": 3}, {"best": GRU(9, 8, hidden_size=3, layers=1)})
    torch.manual_seed(1)  # making the model drew its weights
    torch_before = torch.get_rng_state()
    evaluated(Copy(), {"length": 3}, {"best": Saying(8, 0.0)})
    assert str(np.random.get_state()) == before[0]
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_a_points_sequences_depend_on_its_values_and_the_seed_only():
    generator = RepeatCopy(width=2)
    point = {"length": 3, "repeats": 2}
    first = point_batches(generator, point, settings())
    turned = point_batches(generator, {"repeats": 2, "length": 3}, settings())
    cut = point_batches(generator, point, settings(batch_size=7))
    more = point_batches(generator, point, settings(sequences=30))
    assert same_batches(first, turned) and same_batches(first, cut)
    assert [len(batch.mask_BT) for batch in cut] == [7, 7, 6]
    assert np.array_equal(more[0].inputs_BTI[:20], first[0].inputs_BTI)
    other_seed = point_batches(generator, point, settings(seed=1))
    assert not same_batches(first, other_seed)
    vectors = first[0].inputs_BTI[:, :3, :2]
    other_point = point_batches(generator, {"length": 3, "repeats": 3}, settings())
    assert not np.array_equal(vectors, other_point[0].inputs_BTI[:, :3, :2])
    assert point_label(point) == "length=3,repeats=2"


def test_the_validation_set_is_fixed_and_drawn_like_training():
    generator = Copy(width=2)
    train = TrainConfig(sequences=1, vary={"length": [2, 4]}, validation_sequences=50)
    whole = validation_batches(generator, train, settings())
    cut = validation_batches(generator, train, settings(batch_size=7))
    assert [len(batch.mask_BT) for batch in cut] == [7] * 7 + [1]
    lengths = [int(n) for batch in cut for n in batch.mask_BT.sum(1)]
    assert set(lengths) == {2, 3, 4} and lengths == sorted(lengths)
    assert [int(n) for batch in whole for n in batch.mask_BT.sum(1)] == lengths
    padded = [np.pad(row, ((0, 9 - len(row)), (0, 0))) for b in cut for row in b.inputs_BTI]
    assert np.array_equal(whole[0].inputs_BTI, padded)
    other = validation_batches(generator, train, settings(seed=1))
    assert str(other[0]) != str(whole[0])


def test_a_task_without_axes_has_as_many_validation_sequences_as_asked():
    class Fixed:
        axes = ()

        def sample(self, rng, batch_size):
            return Copy(width=2).sample(rng, batch_size, length=3)

    train = TrainConfig(sequences=1, vary={}, validation_sequences=12)
    batches = validation_batches(Fixed(), train, settings(batch_size=5))
    assert [len(batch.mask_BT) for batch in batches] == [5, 5, 2]


def test_the_batch_size_of_the_evaluation_does_not_matter():
    torch.manual_seed(0)
    model = NTM(3, 2, hidden_size=5, memory_rows=6, memory_width=3)
    rows, _ = evaluated(Copy(width=2), {"length": 3}, {"best": model})
    cut, _ = evaluated(Copy(width=2), {"length": 3}, {"best": model}, batch_size=3)
    for key, row in rows.items():
        assert cut[key]["value"] == pytest.approx(row["value"], rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_models_are_scored_in_evaluation_mode_and_left_in_their_own(training):
    model = Saying(2, 0.0).train(training)
    score_model(model, point_batches(Copy(width=2), {"length": 2}, settings()), "cpu")
    assert model.modes == [(False, False)] and model.training is training
    assert torch.is_grad_enabled()


def test_scores_of_mixed_lengths_are_joined():
    """Batches of other lengths: per-step bits are padded with zeros after the end."""
    generator = Copy(width=2)
    rng = np.random.default_rng(0)
    batches = [generator.sample(rng, 2, length=length) for length in (1, 3)]
    scores = score_model(Saying(2, 0.0), batches, "cpu")
    assert scores.loss_bits == pytest.approx([2, 2, 6, 6], rel=1e-6)
    assert scores.step_bits_ST.shape == (4, 7) and not scores.step_bits_ST[:2, 3:].any()
    assert scores.step_bits_ST.sum(1) == pytest.approx(scores.loss_bits)
    assert all(part.dtype == np.float64 for part in scores)
    assert score_chance(generator, batches)["loss_bits"].tolist() == [2, 2, 6, 6]


# Memory rows


def test_memory_rows_are_given_to_the_model_and_recorded():
    torch.manual_seed(0)
    generator = Copy(width=2)
    model = NTM(3, 2, hidden_size=5, memory_rows=6, memory_width=3, initial_weightings="uniform")
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_()
    found = {}
    for rows in (None, 4, 6, 12):
        lengths = evaluate_point(
            generator, {"length": 3}, settings(), {"best": model}, "cpu", rows
        ).lengths
        best, chance = ([r for r in lengths if r["weights"] == who] for who in ("best", "chance"))
        assert {row["memory_rows"] for row in best} == {rows or 6}
        assert {row["memory_rows"] for row in chance} == {None}
        found[rows] = best[0]["value"]
    assert found[None] == found[6] and len(set(found.values())) == 3


def test_memory_rows_for_a_model_without_are_refused():
    models = {"best": GRU(3, 2, hidden_size=3, layers=1)}
    with pytest.raises(UserError, match="memory rows were given"):
        evaluate_point(Copy(width=2), {"length": 2}, settings(), models, "cpu", 8)


@pytest.mark.parametrize("rows", [2, 0, -1])
def test_memory_rows_that_are_too_few_are_refused(rows):
    model = NTM(3, 2, hidden_size=3, memory_rows=6, memory_width=3)
    with pytest.raises(UserError):
        evaluate_point(Copy(width=2), {"length": 2}, settings(), {"best": model}, "cpu", rows)
