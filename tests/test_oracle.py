"""Oracle of the five tasks and of the metrics, in plain Python, written without reading their code.

The tasks are those of Graves, Wayne, Danihelka 2014, sections 4.1 to 4.5. Each `check_*` walks one
sequence step by step, asserts every number of it, and returns the vectors that it was given.
"""

# B batch, T time, I input, O output

import dataclasses
import math
import random
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntmbench.generators import AssociativeRecall, Copy, DynamicNgrams, PrioritySort, RepeatCopy
from ntmbench.metrics import score

TASKS = [Copy(), RepeatCopy(), AssociativeRecall(), DynamicNgrams(), PrioritySort()]
OTHER_SIZES = [
    Copy(width=3),
    RepeatCopy(width=2),
    AssociativeRecall(width=9, item_length=4),
    DynamicNgrams(context=2),
    PrioritySort(width=5),
]
POINTS = [  # both ends of the training ranges, and the longest that the paper or the suite tests
    *[(Copy(), {"length": n}) for n in (1, 20, 120)],
    *[(RepeatCopy(), {"length": n, "repeats": r}) for n, r in [(1, 1), (10, 10), (20, 10)]],
    *[(RepeatCopy(), {"length": n, "repeats": r}) for n, r in [(1, 10), (10, 1), (10, 20)]],
    *[(AssociativeRecall(), {"items": n}) for n in (2, 6, 20)],
    *[(DynamicNgrams(), {"bits": n}) for n in (1, 5, 6, 200)],
    *[(PrioritySort(), {"vectors": n}) for n in (5, 20, 30, 40)],
]
SMALL = [  # one point a task, for tests that need any batch
    (Copy(), {"length": 3}),
    (RepeatCopy(), {"length": 2, "repeats": 3}),
    (AssociativeRecall(), {"items": 4}),
    (DynamicNgrams(), {"bits": 40}),
    (PrioritySort(), {"vectors": 10}),
]
AXES = {
    "length": st.integers(1, 20),
    "repeats": st.integers(1, 10),
    "items": st.integers(2, 8),
    "bits": st.integers(1, 60),
    "vectors": st.sampled_from([5, 10, 15, 20]),
}
few_examples = settings(deadline=None, max_examples=25, derandomize=True, database=None)
SIGMAS = 4.5  # two-sided chance 7e-6 for one comparison; every seed here is fixed


def name_of(value):
    return type(value).__name__ if dataclasses.is_dataclass(value) else str(value)


class Sequence(NamedTuple):
    """One sequence as lists: inputs and targets by step and channel, mask by step."""

    inputs: list
    targets: list
    mask: list


def sequences(batch):
    arrays = batch.inputs_BTI, batch.targets_BTO, batch.mask_BT
    return [Sequence(*rows) for rows in zip(*(array.tolist() for array in arrays), strict=True)]


def check_frame(sequence, first_target, end, blank_from):
    """Scored steps are exactly first_target..end-1, inputs are zero from blank_from on."""
    assert len(sequence.inputs) == len(sequence.targets) == len(sequence.mask) >= end
    for t, row in enumerate(sequence.inputs):
        assert t < blank_from or not any(row), f"input at step {t}, after the last one"
    for t, row in enumerate(sequence.targets):
        scored = first_target <= t < end
        assert sequence.mask[t] == (1.0 if scored else 0.0), f"mask at step {t}"
        assert all(bit in ((0.0, 1.0) if scored else (0.0,)) for bit in row), f"target at step {t}"


def read_vector(row, width):
    """The data channels of a step that carries a vector and nothing else."""
    assert all(bit in (0.0, 1.0) for bit in row[:width]), "data is not binary"
    assert not any(row[width:]), "a delimiter beside a vector"
    return row[:width]


def only(channel, value, n_channels):
    return [value if c == channel else 0.0 for c in range(n_channels)]


def check_copy(task, sequence, length):
    """Vectors, delimiter -> the vectors (section 4.1)."""
    check_frame(sequence, length + 1, 2 * length + 1, blank_from=length + 1)
    vectors = [read_vector(row, task.width) for row in sequence.inputs[:length]]
    assert sequence.inputs[length] == only(task.width, 1.0, task.width + 1)
    assert sequence.targets[length + 1 : 2 * length + 1] == vectors
    return vectors


def check_repeat_copy(task, sequence, length, repeats):
    """Vectors, delimiter, normalised count -> the vectors `repeats` times, end marker (4.2)."""
    start, end = length + 2, length + 2 + length * repeats + 1
    check_frame(sequence, start, end, blank_from=start)
    vectors = [read_vector(row, task.width) for row in sequence.inputs[:length]]
    assert sequence.inputs[length] == only(task.width, 1.0, task.width + 2)
    # 5.5 and 8.25: mean and variance of a uniform count in 1..10
    count = (repeats - 5.5) / math.sqrt(8.25)
    *others, given_count = sequence.inputs[length + 1]
    assert not any(others)
    assert math.isclose(given_count, count, rel_tol=1e-6)
    expected = []
    for _ in range(repeats):
        for vector in vectors:
            expected.append([*vector, 0.0])
    expected.append(only(task.width, 1.0, task.width + 1))
    assert sequence.targets[start:end] == expected
    return vectors


def read_items(task, sequence, n_items):
    """The items and the query, each after its delimiter, and a second query delimiter."""
    width, size = task.width, task.item_length
    items, t = [], 0
    for delimiter in [width] * n_items + [width + 1]:
        assert sequence.inputs[t] == only(delimiter, 1.0, width + 2), f"delimiter at step {t}"
        items.append([read_vector(row, width) for row in sequence.inputs[t + 1 : t + 1 + size]])
        t += size + 1
    assert sequence.inputs[t] == only(width + 1, 1.0, width + 2), f"delimiter at step {t}"
    return items[:-1], items[-1], t + 1


def check_recall(task, sequence, items):
    """Items, one of them again between query delimiters -> the item that followed it (4.3)."""
    shown, query, start = read_items(task, sequence, items)
    check_frame(sequence, start, start + task.item_length, blank_from=start)
    followers = [after for item, after in pairwise(shown) if item == query]
    assert followers, "the query is no item, or the last one"
    assert sequence.targets[start : start + task.item_length] in followers
    return [vector for item in shown for vector in item]


def check_ngrams(task, sequence, bits):
    """The bit before -> the bit, at every step; nothing before the first (section 4.4)."""
    check_frame(sequence, 0, bits, blank_from=bits)
    assert sequence.inputs[:bits] == [[0.0], *sequence.targets[: bits - 1]]
    return sequence.targets[:bits]


def check_sort(task, sequence, vectors):
    """Vectors with priorities, end flag -> the 80 % of highest priority, highest first (4.5)."""
    width, n_out = task.width, vectors * 4 // 5
    check_frame(sequence, vectors + 1, vectors + 1 + n_out, blank_from=vectors + 1)
    by_priority = []
    for *data, priority, flag in sequence.inputs[:vectors]:
        assert -1.0 <= priority <= 1.0
        by_priority.append((priority, read_vector([*data, flag], width)))
    assert sequence.inputs[vectors] == only(width + 1, 1.0, width + 2)
    shown = [vector for _, vector in by_priority]
    by_priority.sort(key=lambda pair: -pair[0])
    expected = [vector for _, vector in by_priority[:n_out]]
    assert sequence.targets[vectors + 1 : vectors + 1 + n_out] == expected
    return shown


def krichevsky_trofimov(bits, context):
    """P(bit = 1 | the bits before it) for a table of Beta(1/2, 1/2) probabilities, per step."""
    counts, probabilities = {}, []
    for t, bit in enumerate(bits):
        if t < context:
            probabilities.append(0.5)
            continue
        n = counts.setdefault(tuple(bits[t - context : t]), [0, 0])
        probabilities.append((n[1] + 0.5) / (n[0] + n[1] + 1))
        n[int(bit)] += 1
    return probabilities


CHECKS = {
    Copy: check_copy,
    RepeatCopy: check_repeat_copy,
    AssociativeRecall: check_recall,
    DynamicNgrams: check_ngrams,
    PrioritySort: check_sort,
}
COINS = {  # bits of one sequence that the format leaves open
    Copy: lambda task, length: task.width * length,
    RepeatCopy: lambda task, length, repeats: task.width * length * repeats,
    AssociativeRecall: lambda task, items: task.width * task.item_length,
    DynamicNgrams: lambda task, bits: bits,
    PrioritySort: lambda task, vectors: task.width * (vectors * 4 // 5),
}


def check_batch(task, batch, points):
    """Every sequence against the oracle, then `solve` and `coin_bits`; the vectors of each."""
    rows, n_steps = sequences(batch), batch.mask_BT.shape[1]
    assert batch.inputs_BTI.shape == (len(points), n_steps, task.input_size)
    assert batch.targets_BTO.shape == (len(points), n_steps, task.output_size)
    for array in (batch.inputs_BTI, batch.targets_BTO, batch.mask_BT):
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float32
    shown = [
        CHECKS[type(task)](task, row, **point) for row, point in zip(rows, points, strict=True)
    ]
    assert any(row.mask[-1] == 1.0 for row in rows), "more padding than the longest sequence needs"

    solved = task.solve(batch).tolist()
    for row, probabilities in zip(rows, solved, strict=True):
        best = row.targets
        if isinstance(task, DynamicNgrams):
            n_bits = int(sum(row.mask))
            bits = [bit for (bit,) in row.targets[:n_bits]]
            best = [[p] for p in krichevsky_trofimov(bits, task.context)]
        for t, scored in enumerate(row.mask):
            assert not scored or probabilities[t] == pytest.approx(best[t], abs=1e-6), f"step {t}"

    coins = task.coin_bits(batch)
    assert coins.shape == (len(points),)
    assert coins.tolist() == [COINS[type(task)](task, **point) for point in points]
    return shown


@pytest.mark.parametrize(("task", "point"), SMALL, ids=name_of)
def test_oracle_rejects_every_single_corruption(task, point):
    axis = task.axes[0]
    lengths = np.array([point[axis], point[axis] + 5])  # the second one pads the first
    sequence = sequences(task.sample(np.random.default_rng(1), 2, **(point | {axis: lengths})))[0]
    width = getattr(task, "width", 1)
    check = CHECKS[type(task)]
    check(task, sequence, **point)

    unnoticed = []
    for part, rows in sequence._asdict().items():
        for t, row in enumerate(rows):
            cells = row if isinstance(row, list) else [row]
            for c, value in enumerate(cells):
                # 2.5 is valid nowhere; a flipped bit of a vector may be another valid sequence
                flip = value in (0.0, 1.0) and (part != "inputs" or c >= width)
                new = [*cells[:c], 1.0 - value if flip else 2.5, *cells[c + 1 :]]
                changed = [*rows[:t], new if isinstance(row, list) else new[0], *rows[t + 1 :]]
                try:
                    check(task, sequence._replace(**{part: changed}), **point)
                except AssertionError:
                    continue
                unnoticed.append((part, t, c))
    # the last bit to be predicted is never shown
    free = [("targets", point["bits"] - 1, 0)] if isinstance(task, DynamicNgrams) else []
    assert unnoticed == free


def test_sizes_defaults_and_axes():
    sizes = {type(task): (task.input_size, task.output_size, task.axes) for task in TASKS}
    assert sizes == {
        Copy: (9, 8, ("length",)),
        RepeatCopy: (10, 9, ("length", "repeats")),
        AssociativeRecall: (8, 6, ("items",)),
        DynamicNgrams: (1, 1, ("bits",)),
        PrioritySort: (10, 8, ("vectors",)),
    }
    assert Copy() == Copy(width=8)
    assert RepeatCopy() == RepeatCopy(width=8)
    assert AssociativeRecall() == AssociativeRecall(width=6, item_length=3)
    assert DynamicNgrams() == DynamicNgrams(context=5)
    assert PrioritySort() == PrioritySort(width=8)


@pytest.mark.parametrize("task", TASKS, ids=name_of)
def test_tasks_are_frozen(task):
    field = dataclasses.fields(task)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(task, field, 4)


@pytest.mark.parametrize(("task", "point"), POINTS, ids=name_of)
def test_every_sequence_is_as_the_paper_lays_it_out(task, point):
    batch = task.sample(np.random.default_rng(2), 20, **point)
    check_batch(task, batch, [point] * 20)


@pytest.mark.parametrize("task", TASKS + OTHER_SIZES, ids=repr)
@given(data=st.data(), seed=st.integers(0, 2**32))
@few_examples
def test_every_sequence_of_a_mixed_batch_is_right_by_itself(task, data, seed):
    values = st.tuples(*(AXES[axis] for axis in task.axes))
    points = [
        dict(zip(task.axes, row, strict=True))
        for row in data.draw(st.lists(values, min_size=1, max_size=5))
    ]
    columns = {axis: np.array([point[axis] for point in points]) for axis in task.axes}
    given_columns = {axis: column.copy() for axis, column in columns.items()}
    batch = task.sample(np.random.default_rng(seed), len(points), **columns)
    check_batch(task, batch, points)
    for axis, column in columns.items():
        assert (column == given_columns[axis]).all(), "sample wrote into its argument"


def test_one_axis_can_be_mixed_and_the_other_not():
    task, repeats = RepeatCopy(), np.array([10, 1, 4])
    batch = task.sample(np.random.default_rng(3), 3, length=6, repeats=repeats)
    check_batch(task, batch, [{"length": 6, "repeats": int(r)} for r in repeats])


@pytest.mark.parametrize(("task", "point"), SMALL, ids=name_of)
def test_solve_reads_nothing_but_the_inputs(task, point):
    @dataclasses.dataclass
    class InputsOnly:
        inputs_BTI: np.ndarray

    batch = task.sample(np.random.default_rng(4), 6, **point)
    expected = task.solve(batch)
    assert expected.any()
    found = task.solve(InputsOnly(batch.inputs_BTI.copy()))
    np.testing.assert_array_equal(found, expected)


def test_chance_in_bits_at_the_papers_sizes():
    def coins(task, **point):
        return task.coin_bits(task.sample(np.random.default_rng(5), 2, **point)).tolist()

    assert coins(Copy(), length=20) == [160, 160]
    assert coins(RepeatCopy(), length=10, repeats=7) == [560, 560]
    assert coins(AssociativeRecall(), items=6) == [18, 18]
    assert coins(DynamicNgrams(), bits=200) == [200, 200]
    assert coins(PrioritySort(), vectors=20) == [128, 128]


def test_repeat_count_is_standardised_over_the_training_range():
    batch = RepeatCopy().sample(np.random.default_rng(6), 10, length=1, repeats=np.arange(1, 11))
    counts = [row.inputs[2][9] for row in sequences(batch)]
    assert counts[0] == pytest.approx(-1.566699, abs=1e-6)
    assert counts[9] == pytest.approx(1.566699, abs=1e-6)
    assert sum(counts) == pytest.approx(0, abs=1e-5)
    assert sum(count**2 for count in counts) / 10 == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("vectors", "n_out"), [(20, 16), (30, 24), (40, 32)])
def test_sort_asks_for_the_top_four_fifths(vectors, n_out):
    batch = PrioritySort().sample(np.random.default_rng(7), 3, vectors=vectors)
    assert batch.mask_BT.shape[1] == vectors + 1 + n_out
    assert batch.mask_BT.sum(axis=1).tolist() == [n_out] * 3


def assert_share(n_hits, n_draws, p):
    """n_hits is a plausible count of n_draws independent events of probability p."""
    assert abs(n_hits - n_draws * p) <= SIGMAS * math.sqrt(n_draws * p * (1 - p)), (
        f"{n_hits} of {n_draws}, expected a share of {p}"
    )


@pytest.mark.parametrize(
    ("task", "point"),
    [
        (Copy(), {"length": 20}),
        (RepeatCopy(), {"length": 10, "repeats": 2}),
        (AssociativeRecall(), {"items": 6}),
        (PrioritySort(), {"vectors": 20}),
    ],
    ids=name_of,
)
def test_data_bits_are_independent_fair_coins(task, point):
    batch = task.sample(np.random.default_rng(8), 600, **point)
    shown = [CHECKS[type(task)](task, row, **point) for row in sequences(batch)]
    n_steps, width = len(shown[0]), task.width
    n_ones = sum(sum(sum(vector) for vector in vectors) for vectors in shown)
    assert_share(n_ones, n_steps * width * 600, 1 / 2)
    same = {"next step": 0, "next channel": 0, "next sequence": 0}
    for t in range(n_steps):
        for c in range(width):
            column = [vectors[t][c] for vectors in shown]
            assert_share(sum(column), 600, 1 / 2)
            for b in range(600):
                same["next step"] += column[b] == shown[b][(t + 1) % n_steps][c]
                same["next channel"] += column[b] == shown[b][t][(c + 1) % width]
                same["next sequence"] += column[b] == shown[(b + 1) % 600][t][c]
    for n_same in same.values():
        assert_share(n_same, n_steps * width * 600, 1 / 2)


@pytest.mark.parametrize("n_items", [2, 6, 12])
def test_every_item_but_the_last_is_queried_equally_often(n_items):
    task, n_sequences, n_queried = AssociativeRecall(), 2000, [0] * n_items
    batch = task.sample(np.random.default_rng(9), n_sequences, items=n_items)
    for row in sequences(batch):
        shown, query, _ = read_items(task, row, n_items)
        n_queried[shown.index(query)] += 1
    assert n_queried.pop() == 0
    for count in n_queried:
        assert count > 0
        assert_share(count, n_sequences, 1 / (n_items - 1))


def test_priorities_are_uniform_and_say_nothing_of_the_vectors_or_the_position():
    n_vectors, n_sequences = 20, 1000
    batch = PrioritySort().sample(np.random.default_rng(10), n_sequences, vectors=n_vectors)
    priorities, n_high_ones, n_high, top_at = [], 0, 0, [0] * n_vectors
    for row in sequences(batch):
        own = [step[8] for step in row.inputs[:n_vectors]]
        priorities += own
        top_at[own.index(max(own))] += 1
        for *data, priority, _ in row.inputs[:n_vectors]:
            if priority > 0:
                n_high += len(data)
                n_high_ones += sum(data)
    # Kolmogorov-Smirnov: exceeded with probability 2 exp(-2 * 2.5^2) = 7e-6
    n = len(priorities)
    below = [(1 + priority) / 2 for priority in sorted(priorities)]
    distance = max(max(p - rank / n, (rank + 1) / n - p) for rank, p in enumerate(below))
    assert distance < 2.5 / math.sqrt(n)
    # both bounds are approached: e^-20 that none of 20,000 lies in the outer thousandth
    assert -1 <= min(priorities) < -0.998
    assert 0.998 < max(priorities) <= 1
    assert_share(n_high_ones, n_high, 1 / 2)
    for count in top_at:
        assert_share(count, n_sequences, 1 / n_vectors)


N_NGRAMS = 10_000


@pytest.fixture(scope="module")
def ngrams():
    """The bits of many 200-bit sequences, and what `solve` says of them."""
    task = DynamicNgrams()
    batch = task.sample(np.random.default_rng(11), N_NGRAMS, bits=200)
    assert batch.mask_BT.all()
    return batch.targets_BTO[:, :, 0].astype(int).tolist(), task.solve(batch)[:, :, 0].tolist()


def test_optimal_ngram_cost_is_133_bits(ngrams):
    costs = []
    for bits, probabilities in zip(*ngrams, strict=True):
        pairs = zip(probabilities, krichevsky_trofimov(bits, 5), strict=True)
        assert all(abs(p - optimal) < 1e-6 for p, optimal in pairs)
        steps = zip(bits, probabilities, strict=True)
        costs.append([-math.log2(p if bit else 1 - p) for bit, p in steps])
    totals = [sum(cost) for cost in costs]
    mean = sum(totals) / N_NGRAMS
    sd = math.sqrt(sum((total - mean) ** 2 for total in totals) / (N_NGRAMS - 1))
    tolerance = 4 * math.hypot(36 / math.sqrt(N_NGRAMS), 0.18)  # 0.18: error of the 133.00
    assert abs(mean - 133.00) < tolerance
    assert abs(sum(sum(cost[5:]) for cost in costs) / N_NGRAMS - 128.00) < tolerance
    assert abs(sd - 36) < 1.5  # one table for the whole batch would give a far smaller one


def test_ngram_tables_are_beta_half_half_and_independent_by_context(ngrams):
    """Exact consequences of the prior: each event below has its probability whatever went before.

    A context's first bit is fair; its second equals the first with probability 3/4; its third
    equals two equal ones with probability 5/6. A first bit owes nothing to a neighbouring context.
    """
    n_first = n_ones = n_second = n_same = n_third = n_thrice = 0
    neighbours = [[0, 0] for _ in range(5)]  # by the position that differs: compared, equal
    starts = {}
    for bits in ngrams[0]:
        seen = {}
        start = tuple(bits[:5])
        starts[start] = starts.get(start, 0) + 1
        for t in range(5, 200):
            context = tuple(bits[t - 5 : t])
            before = seen.setdefault(context, [])
            if not before:
                n_first += 1
                n_ones += bits[t]
                for i, tally in enumerate(neighbours):
                    other = seen.get((*context[:i], 1 - context[i], *context[i + 1 :]))
                    if other:
                        tally[0] += 1
                        tally[1] += other[0] == bits[t]
            elif len(before) == 1:
                n_second += 1
                n_same += before[0] == bits[t]
            elif len(before) == 2 and before[0] == before[1]:
                n_third += 1
                n_thrice += before[0] == bits[t]
            before.append(bits[t])
    assert_share(n_ones, n_first, 1 / 2)
    assert_share(n_same, n_second, 3 / 4)
    assert_share(n_thrice, n_third, 5 / 6)
    for n_compared, n_equal in neighbours:
        assert n_compared > 10_000
        assert_share(n_equal, n_compared, 1 / 2)
    assert len(starts) == 32
    for count in starts.values():
        assert_share(count, N_NGRAMS, 1 / 32)


def same_batch(a, b):
    return (
        np.array_equal(a.inputs_BTI, b.inputs_BTI)
        and np.array_equal(a.targets_BTO, b.targets_BTO)
        and np.array_equal(a.mask_BT, b.mask_BT)
    )


@pytest.mark.parametrize(("task", "point"), SMALL, ids=name_of)
def test_the_generator_handed_in_decides_the_batch(task, point):
    rng = np.random.default_rng(12)
    first, second = (task.sample(rng, 4, **point) for _ in range(2))
    again = task.sample(np.random.default_rng(12), 4, **point)
    other = task.sample(np.random.default_rng(13), 4, **point)
    assert same_batch(first, again)
    assert not same_batch(first, second), "the generator did not advance"
    assert not same_batch(first, other)


@pytest.mark.parametrize(("task", "point"), SMALL, ids=name_of)
def test_global_random_state_is_untouched(task, point):
    def global_state():
        name, keys, *rest = np.random.get_state()
        torch_state = torch.random.get_rng_state().tolist()
        return name, keys.tolist(), rest, torch_state, random.getstate()

    before = global_state()
    batch = task.sample(np.random.default_rng(14), 4, **point)
    task.solve(batch)
    task.coin_bits(batch)
    assert global_state() == before


def test_metrics_by_hand():
    """ln 3 is p = 3/4: log2(4/3) bits if the target is 1, 2 bits if it is 0; ln 7 is p = 7/8."""
    ln3, ln7 = math.log(3), math.log(7)
    logits = [
        [[-9.0, 9.0], [ln3, -ln3], [0.0, 0.0]],
        [[ln3, 0.0], [-9.0, 9.0], [-ln3, ln7]],
        [[0.0, -ln7], [ln3, ln3], [-9.0, 9.0]],
        [[ln3, ln3], [ln3, ln3], [0.0, -200.0]],
    ]
    targets = [
        [[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]],  # a coin at exactly 1/2 predicts 0, rightly
        [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]],
        [[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]],  # one that predicts 0 is the only wrong bit
        [[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]],  # sure and wrong: 200 nats, not clipped
    ]
    mask = [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    expected_bits = [
        2 * math.log2(4 / 3) + 2,
        (2 + 1) + (2 + math.log2(8 / 7)),
        (1 + math.log2(8 / 7)) + 2 * math.log2(4 / 3),
        1 + 200 / math.log(2),
    ]
    found = score(torch.tensor(logits), torch.tensor(targets), torch.tensor(mask))
    assert found.loss_bits.shape == found.wrong_bits.shape == found.exact.shape == (4,)
    assert found.loss_bits.tolist() == pytest.approx(expected_bits, rel=1e-5)
    assert found.wrong_bits.tolist() == [0, 3, 1, 1]
    assert found.exact.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(("task", "point"), SMALL, ids=name_of)
def test_knowing_only_the_format_costs_the_coin_bits(task, point):
    batch = task.sample(np.random.default_rng(15), 5, **point)
    targets_BTO = torch.from_numpy(batch.targets_BTO)
    logits_BTO = torch.zeros_like(targets_BTO)
    if isinstance(task, RepeatCopy):  # where the marker stands, and that it stands alone, is format
        logits_BTO[:, :, -1] = 60 * (2 * targets_BTO[:, :, -1] - 1)
        logits_BTO[:, -1, :-1] = -60
    found = score(logits_BTO, targets_BTO, torch.from_numpy(batch.mask_BT))
    assert found.loss_bits.tolist() == pytest.approx(task.coin_bits(batch).tolist(), rel=1e-5)
    assert found.wrong_bits.tolist() == bits_missed_by_zero(task, batch)


def bits_missed_by_zero(task, batch):
    """Every 1 is missed by a predictor of 0, except the marker of repeat copy."""
    marker = 1 if isinstance(task, RepeatCopy) else 0
    return [sum(sum(step) for step in row.targets) - marker for row in sequences(batch)]


@pytest.mark.parametrize(("task", "point"), SMALL, ids=name_of)
def test_a_padded_sequence_scores_as_it_does_alone(task, point):
    axis = task.axes[0]
    values = np.array([point[axis], point[axis] + 10, point[axis] + 5])
    batch = task.sample(np.random.default_rng(16), 3, **(point | {axis: values}))
    targets_BTO, mask_BT = torch.from_numpy(batch.targets_BTO), torch.from_numpy(batch.mask_BT)
    logits_BTO = torch.randn(targets_BTO.shape, generator=torch.Generator().manual_seed(0))
    together = score(logits_BTO, targets_BTO, mask_BT)
    n_padded = 0
    for b, row in enumerate(sequences(batch)):
        end = max(t for t, scored in enumerate(row.mask) if scored) + 1
        n_padded += len(row.mask) - end
        one = slice(b, b + 1)
        alone = score(logits_BTO[one, :end], targets_BTO[one, :end], mask_BT[one, :end])
        assert alone.loss_bits.item() > 0
        assert alone.loss_bits.item() == pytest.approx(together.loss_bits[b].item(), rel=1e-5)
        assert alone.wrong_bits.item() == together.wrong_bits[b].item()
        assert alone.exact.item() == together.exact[b].item()
    assert n_padded > 0
