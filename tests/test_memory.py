"""Numbers of what heads did, by hand and by scipy; traces as files, whole and damaged."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_cli import Payload

from ntmbench.errors import UserError
from ntmbench.memory import (
    HEADS,
    KINDS,
    Trace,
    check_heads,
    entropy_bits,
    load_trace,
    locations_used,
    memory_numbers,
    order_followed,
    priority_fit,
    save_trace,
)

few_examples = settings(deadline=None, max_examples=50, derandomize=True, database=None)


def one_hot(locations: Any, rows: int) -> np.ndarray:
    """Weightings (.., N) with all weight on these locations, as models give them."""
    return np.eye(rows, dtype=np.float32)[np.asarray(locations)]


def weightings(*shape: int, seed: int = 0) -> np.ndarray:
    """Random weightings, each with the sum 1."""
    return np.random.default_rng(seed).dirichlet(np.full(shape[-1], 0.3), shape[:-1])


def fake_trace(*, length: int = 4, pairs: int = 1, rows: int = 32, **changes: Any) -> Trace:
    """A trace of copy in which every head writes 3, 4, .. and reads the same, all weight on one."""
    steps, rng = 2 * length + 1, np.random.default_rng(0)
    mask_T = np.zeros(steps, np.float32)
    mask_T[length + 1 :] = 1
    locations = np.arange(3, 3 + length)
    writes = np.concatenate([locations, np.full(length + 1, 3 + length)])
    reads = np.concatenate([np.full(length + 1, 3), locations])

    def floats(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, (steps, *shape)).astype(np.float32)

    def of_heads(array: np.ndarray) -> np.ndarray:
        return np.stack([array] * pairs, 1)

    found = {name: floats(pairs, 5) for name in ("reads", "adds", "erases")}
    for kind, where in zip(KINDS, (reads, writes), strict=True):
        found[f"{kind}_weightings"] = of_heads(one_hot(where, rows))
        found[f"{kind}_key_strength"] = 5 + floats(pairs)
        found[f"{kind}_gate"] = 0.5 + floats(pairs) / 2
        found[f"{kind}_shift"] = of_heads(one_hot(np.full(steps, 2), 3))
        found[f"{kind}_gamma"] = 2 + floats(pairs)
    content = {
        "inputs_TI": (floats(3) > 0).astype(np.float32),
        "outputs_TO": abs(floats(2)),
        "optimum_TO": np.full((steps, 2), 0.5, np.float32),
        "targets_TO": (floats(2) > 0).astype(np.float32),
        "mask_T": mask_T,
        "heads": found,
        "task": "copy",
        "label": "ntm@größer",
        "seed": 7,
        "point": f"length={length}",
        "sequence_seed": 3,
        "sequences": 12_000,
        "loss_bits": 0.1 + 0.2,
        "wrong_bits": 2.0,
        "phases": [["vectors", 0], ["copy", length + 1]],
        "input_channels": [["bits", 2], ["delimiter", 1]],
        "output_channels": [["bits", 2]],
    }
    return Trace(**(content | changes))


# Entropy and the locations used


def test_entropy_of_one_location_and_of_all() -> None:
    assert entropy_bits(one_hot([2, 0], 8)).tolist() == [0.0, 0.0]
    assert not np.signbit(entropy_bits(one_hot(2, 8))), "-0 is no number to print"
    for rows in (1, 2, 7, 128):
        spread = np.full((3, rows), 1 / rows, np.float32)
        np.testing.assert_allclose(entropy_bits(spread), math.log2(rows), atol=1e-5)
    half = np.array([0.5, 0.25, 0.25, 0.0])
    assert entropy_bits(half) == entropy_bits(half * 0.1) == 1.5


@pytest.mark.parametrize("shape", [(9,), (4, 128), (2, 3, 1, 16)])
def test_entropy_equals_scipys(shape) -> None:
    drawn = weightings(*shape)
    drawn[..., 0] = 0
    expected = stats.entropy(drawn, base=2, axis=-1)
    assert np.max(expected) > 0.5
    np.testing.assert_allclose(entropy_bits(drawn), expected, atol=1e-12)


def test_a_head_without_any_weight_has_no_entropy() -> None:
    found = entropy_bits(np.array([[0.0, 0.0], [0.0, 1.0]]))
    assert math.isnan(found[0]) and found[1] == 0


def test_locations_used_by_hand() -> None:
    stays, all_in_turn = [5] * 8, list(range(8))
    half = [0, 1, 2, 3] * 2
    found = locations_used(one_hot([stays, all_in_turn, half], 8))
    np.testing.assert_allclose(found, [1 / 8, 1, 1 / 2], atol=1e-6)
    # One of two locations three times in four: 2 ** 0.8113 locations, used evenly, are as many.
    uneven = locations_used(one_hot([[0, 0, 0, 1]], 10))
    assert uneven == pytest.approx(2**0.8112781 / 10)
    spread = np.full((1, 5, 10), 0.1)
    assert locations_used(spread) == pytest.approx(1), "a weighting on all locations uses all"


# Order


@pytest.mark.parametrize(
    ("reads", "writes", "share"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], 1),
        ([6, 7, 0, 1], [6, 7, 0, 1], 1),
        ([9, 4, 7], [9, 4, 7], 1),
        ([3, 2, 1, 0], [0, 1, 2, 3], 0),
        ([2, 2, 2], [0, 1, 2, 3], 0),
        ([5, 5, 5], [5, 5, 5], 0),
        ([0, 1, 2, 0, 1, 2], [0, 1, 2], 4 / 5),
        ([0, 2, 3, 4], [0, 1, 2, 3, 4], 2 / 3),
        ([0, 1, 1, 2], [0, 1, 2], 2 / 3),
        ([1, 2, 3], [7, 8, 9, 10], 0),
        ([1, 2, 3], [4], 0),
    ],
)
def test_order_followed_by_hand(reads, writes, share) -> None:
    found = order_followed(np.array([reads]), np.array([writes]))
    assert found.shape == (1,) and found[0] == pytest.approx(share)


def test_a_single_read_has_no_order() -> None:
    assert np.isnan(order_followed(np.array([[3]]), np.array([[1, 2, 3]]))).all()


def test_sequences_are_followed_each_by_itself() -> None:
    reads, writes = np.array([[0, 1, 2], [2, 1, 0]]), np.array([[0, 1, 2], [0, 1, 2]])
    assert order_followed(reads, writes).tolist() == [1, 0]


locations = st.lists(st.integers(0, 4), min_size=2, max_size=12)


@few_examples
@given(locations, locations)
def test_order_followed_counts_steps(reads, writes) -> None:
    """Against two loops, without a set."""
    followed = 0
    for i in range(len(reads) - 1):
        if reads[i] == reads[i + 1]:
            continue
        for j in range(len(writes) - 1):
            if (writes[j], writes[j + 1]) == (reads[i], reads[i + 1]):
                followed += 1
                break
    found = order_followed(np.array([reads]), np.array([writes]))[0]
    assert found == pytest.approx(followed / (len(reads) - 1))


# Priorities


def test_a_planted_line_is_found() -> None:
    priorities = np.array([0.5, -1.0, 0.0, 0.25, -0.75, 1.0])  # 0: a step without a vector
    where = np.array([16, 4, 31, 14, 6, 20])  # 12 + 8 x priority, but where there is no vector
    fit = priority_fit(one_hot(where, 32), priorities)
    assert (fit.slope, fit.intercept, fit.r2) == pytest.approx((8, 12, 1))
    assert fit.priorities_T.tolist() == [0.5, -1.0, 0.25, -0.75, 1.0]
    assert fit.locations_T.tolist() == [16, 4, 14, 6, 20]


def test_a_line_around_the_memorys_end_is_found() -> None:
    """Read plainly, where 14 and 15 are followed by 0, it is no line at all."""
    priorities = np.arange(-5, 6) / 5 + 1e-9
    where = (15 - 5 * priorities).round().astype(int) % 16
    assert where.min() == 0 and where.max() == 15
    assert stats.linregress(priorities, where).rvalue ** 2 < 0.5
    fit = priority_fit(one_hot(where, 16), priorities)
    assert (fit.slope, fit.r2) == pytest.approx((-5, 1))
    assert fit.intercept % 16 == pytest.approx(15)
    assert fit.locations_T.tolist() == list(range(20, 9, -1)), "past the end it counts on"


pairs = st.lists(st.tuples(st.integers(-1000, 1000).filter(bool), st.integers(0, 15)), min_size=3)


@few_examples
@given(pairs.filter(lambda drawn: len({p for p, _ in drawn}) > 1), st.integers(0, 39))
def test_the_fit_equals_scipys_wherever_on_the_circle(drawn, turn) -> None:
    """All writes are on less than half of the memory, so that it is clear where to cut it."""
    priorities = np.array([p for p, _ in drawn]) / 1000
    where = np.array([location for _, location in drawn])
    expected = stats.linregress(priorities, where)
    fit = priority_fit(one_hot(where, 40), priorities)
    turned = priority_fit(one_hot((where + turn) % 40, 40), priorities)
    r2 = expected.rvalue**2 if len(set(where.tolist())) > 1 else 0.0
    assert (fit.slope, fit.intercept) == pytest.approx((expected.slope, expected.intercept))
    assert fit.r2 == pytest.approx(r2, abs=1e-9)
    assert turned.slope == pytest.approx(fit.slope) and turned.r2 == pytest.approx(r2, abs=1e-9)
    np.testing.assert_allclose(
        turned.locations_T - fit.locations_T,
        (turn, turn - 40)[int(turned.locations_T[0] < fit.locations_T[0])],
    )


def test_fits_without_a_line() -> None:
    """Too little to fit a line to has NaN; one location has a line that explains nothing."""
    for priorities in ([0.5], [0.5, 0.5, 0.5], [0.0, 0.7, 0.0], [0.0, 0.0], []):
        given_ = np.array(priorities, np.float32)
        fit = priority_fit(one_hot(np.arange(len(given_)), 8).reshape(-1, 8), given_)
        assert all(map(math.isnan, (fit.slope, fit.intercept, fit.r2)))
        assert len(fit.locations_T) == len(fit.priorities_T) == np.count_nonzero(given_)
    fit = priority_fit(one_hot([6, 6, 6], 8), np.array([-0.5, 0.1, 0.9]))
    assert (fit.slope, fit.intercept, fit.r2) == pytest.approx((0, 6, 0))
    everywhere = priority_fit(one_hot(np.arange(8), 8), np.linspace(-1, 1, 8))
    assert everywhere.r2 == pytest.approx(1)


def test_priorities_that_are_almost_equal_still_make_a_line() -> None:
    priorities = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(1))], np.float32)
    fit = priority_fit(one_hot([3, 4], 8), priorities)
    assert fit.slope == pytest.approx(1 / float(priorities[1] - priorities[0]), rel=1e-3)


# All numbers together


def by_name(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    found = {(row["head"], row["metric"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def values_of(rows: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    return {key: row["value"] for key, row in by_name(rows).items()}


def test_reads_count_at_scored_steps_and_writes_at_the_others() -> None:
    """Elsewhere the heads do what would spoil every number."""
    mask = np.array([[0, 0, 0, 1, 1, 1]] * 2, np.float32)
    spread = np.full((2, 3, 1, 8), 1 / 8)
    sharp = one_hot([[[2], [3], [4]]] * 2, 8)
    heads = {
        "write_weightings": np.concatenate([sharp, spread], 1),
        "read_weightings": np.concatenate([spread, sharp], 1),
    }
    found = values_of(memory_numbers(heads, mask))
    assert found == pytest.approx(
        {
            ("read 1", "entropy_bits"): 0,
            ("read 1", "locations_used"): 3 / 8,
            ("write 1", "entropy_bits"): 0,
            ("write 1", "locations_used"): 3 / 8,
            ("read 1", "order_followed"): 1,
        }
    )
    other = values_of(memory_numbers(heads, 1 - mask))
    assert other["read 1", "entropy_bits"] == other["write 1", "entropy_bits"] == 3


def test_all_steps_count_where_all_are_scored() -> None:
    drawn = weightings(3, 5, 1, 8)
    heads = {"read_weightings": drawn, "write_weightings": drawn}
    found = values_of(memory_numbers(heads, np.ones((3, 5))))
    expected = stats.entropy(drawn, base=2, axis=-1).mean()
    assert found["write 1", "entropy_bits"] == pytest.approx(expected)
    assert found["read 1", "entropy_bits"] == pytest.approx(expected)


def test_numbers_are_means_over_sequences_with_their_standard_errors() -> None:
    mask = np.array([[0, 0, 0, 0, 1, 1, 1]] * 6, np.float32)
    heads = {f"{kind}_weightings": weightings(6, 7, 2, 9, seed=n) for n, kind in enumerate(KINDS)}
    rows = by_name(memory_numbers(heads, mask))
    for kind, head in itertools.product(KINDS, (0, 1)):
        steps = slice(4, None) if kind == "read" else slice(0, 4)
        own = heads[f"{kind}_weightings"][:, steps, head]
        each = stats.entropy(own, base=2, axis=-1).mean(1)
        row = rows[f"{kind} {head + 1}", "entropy_bits"]
        assert row["value"] == pytest.approx(each.mean())
        assert row["stderr"] == pytest.approx(stats.sem(each)) and row["stderr"] > 0.01
        assert row["sequences"] == 6
        used = 2 ** stats.entropy(own.mean(1), base=2, axis=-1) / 9
        assert rows[f"{kind} {head + 1}", "locations_used"]["value"] == pytest.approx(used.mean())
    single = memory_numbers({name: array[:1] for name, array in heads.items()}, mask[:1])
    assert all(math.isnan(row["stderr"]) for row in single)
    assert all(row["sequences"] == (not math.isnan(row["value"])) for row in single)


def test_a_read_head_is_measured_by_the_write_head_that_it_follows() -> None:
    """Three write heads, none but the second in the reads' order."""
    mask = np.array([[0, 0, 0, 0, 1, 1, 1, 1]], np.float32)
    writes = np.array([[[0, 6, 4], [1, 7, 4], [2, 0, 4], [3, 1, 4]] + [[0, 0, 0]] * 4])
    reads = np.array([[[0]] * 4 + [[6], [7], [0], [1]]])
    heads = {"write_weightings": one_hot(writes, 8), "read_weightings": one_hot(reads, 8)}
    found = values_of(memory_numbers(heads, mask))
    assert found["read 1", "order_followed"] == 1
    assert [key for key in found if key[1] == "order_followed"] == [("read 1", "order_followed")]
    heads["write_weightings"] = heads["write_weightings"][:, :, [0, 2]]
    assert values_of(memory_numbers(heads, mask))["read 1", "order_followed"] == pytest.approx(
        1 / 3
    )


def test_priorities_are_fitted_for_every_write_head() -> None:
    mask = np.array([[0] * 5 + [1]] * 2, np.float32)
    priorities = np.array([[0.5, -0.5, 1.0, -1.0, 0, 0], [-0.2, 0.4, 0.6, -0.8, 0, 0]])
    linear = (10 + 5 * priorities).round().astype(int)
    writes = np.stack([linear, np.full_like(linear, 3)], -1)
    heads = {"write_weightings": one_hot(writes, 32)}
    rows = by_name(memory_numbers(heads, mask, priorities))
    fits = [stats.linregress(p[:4], w[:4]) for p, w in zip(priorities, linear, strict=True)]
    expected = np.mean([fit.rvalue**2 for fit in fits])
    assert expected > 0.9 and rows["write 1", "priority_r2"]["value"] == pytest.approx(expected)
    assert rows["write 2", "priority_r2"]["value"] == 0
    assert ("write 1", "priority_r2") not in by_name(memory_numbers(heads, mask))
    none = memory_numbers(heads, mask, np.zeros_like(priorities))
    assert math.isnan(by_name(none)["write 1", "priority_r2"]["value"])


def test_one_vector_is_no_order_and_no_line() -> None:
    heads = {f"{kind}_weightings": one_hot([[[1], [1], [1]]] * 4, 4) for kind in KINDS}
    priorities = np.array([[0.3, 0, 0]] * 4)
    found = values_of(memory_numbers(heads, np.array([[0, 0, 1.0]] * 4), priorities))
    assert math.isnan(found["read 1", "order_followed"])
    assert math.isnan(found["write 1", "priority_r2"]) and found["write 1", "entropy_bits"] == 0


def test_heads_of_one_kind_and_no_heads() -> None:
    mask = np.array([[0, 1, 1.0]] * 2)
    reads = {"read_weightings": weightings(2, 3, 1, 4)}
    assert {row["head"] for row in memory_numbers(reads, mask)} == {"read 1"}
    assert memory_numbers({"reads": np.ones((2, 3, 1, 4))}, mask) == []
    assert memory_numbers({}, mask) == []


# What heads may be


def test_heads_are_what_a_trace_may_tell() -> None:
    trace = fake_trace(pairs=2)
    assert set(trace.heads) == set(HEADS)
    check_heads(trace.heads, 9)
    batch = {name: array[None] for name, array in trace.heads.items()}
    check_heads(batch, 1, 9)
    with pytest.raises(ValueError, match="shape"):
        check_heads(batch, 2, 9)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("weights", (9, 1, 4), "knows no 'weights', only reads, adds"),
        ("reads", (9, 4), r"'reads' has the shape \(9, 4\), not \(.., heads, values\)"),
        ("write_shift", (9, 1), "write_shift"),
        ("read_gate", (9, 1, 1), r"'read_gate' has the shape .* not \(.., heads\)"),
        ("read_gamma", (8, 1), "read_gamma"),
        ("adds", (9, 0, 4), "'adds' is empty"),
        ("read_weightings", (9, 1, 0), "'read_weightings' is empty"),
        ("reads", (), "reads"),
    ],
)
def test_heads_of_other_names_or_shapes_are_refused(name, shape, words) -> None:
    with pytest.raises(ValueError, match=words):
        check_heads({name: np.zeros(shape)}, 9)


def test_the_channel_of_priorities() -> None:
    trace = fake_trace()
    assert trace.priorities is None
    named = dataclasses.replace(trace, input_channels=[["bits", 2], ["priority", 1]])
    assert named.priorities is not None
    assert np.array_equal(named.priorities, trace.inputs_TI[:, 2])
    assert trace.weightings("read") is trace.heads["read_weightings"]
    assert dataclasses.replace(trace, heads={}).weightings("read") is None


# Files


def assert_same(a: Trace, b: Trace) -> None:
    for field in dataclasses.fields(Trace):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, np.ndarray):
            one, other = {"": one}, {"": other}
        if field.name == "heads" or isinstance(one, dict):
            assert one.keys() == other.keys()
            for name, array in one.items():
                assert array.dtype == other[name].dtype and array.shape == other[name].shape
                assert array.tobytes() == other[name].tobytes(), (field.name, name)
        else:
            assert repr(one) == repr(other), field.name


@pytest.mark.parametrize(
    "changes",
    [{}, {"heads": {}}, {"loss_bits": math.nan, "wrong_bits": math.nan}, {"phases": []}],
    ids=["whole", "no heads", "not finite", "no phases"],
)
def test_a_trace_comes_back_bit_for_bit(changes, tmp_path) -> None:
    trace = fake_trace(pairs=2, **changes)
    if trace.heads:
        trace.heads["adds"][0, 0] = [math.nan, math.inf, -0.0, 1e-45, 3.4e38]
    save_trace(tmp_path / "trace.npz", trace)
    assert_same(load_trace(tmp_path / "trace.npz"), trace)


def test_a_loss_without_end_comes_back_as_none(tmp_path) -> None:
    save_trace(tmp_path / "trace.npz", fake_trace(loss_bits=math.inf))
    assert math.isnan(load_trace(tmp_path / "trace.npz").loss_bits)


def test_equal_traces_are_equal_files(tmp_path, monkeypatch) -> None:
    save_trace(tmp_path / "a.npz", fake_trace())
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    save_trace(tmp_path / "b.npz", fake_trace())
    save_trace(tmp_path / "c.npz", fake_trace(seed=8))
    a, b, c = ((tmp_path / f"{name}.npz").read_bytes() for name in "abc")
    assert a == b != c
    assert not list(tmp_path.glob(".*")), "nothing is left of the writing"


def rewritten(path: Path, **changes: Any) -> None:
    """The file with other arrays in it; None takes one away."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays |= changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def about(path: Path, **changes: Any) -> np.ndarray:
    """What `about` would be with other content; None takes a key away."""
    with np.load(path) as file:
        content = json.loads(str(file["about"])) | changes
    return np.array(json.dumps({k: v for k, v in content.items() if v is not None}))


def unpacked(path: Path, **more: bytes) -> None:
    """The file with these members, whatever they are, in place of its own."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (members | {f"{k}.npy": v for k, v in more.items()}).items():
            file.writestr(name, content)


TRACE_DAMAGE = {
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("no trace"),
    "noise": lambda p: p.write_bytes(bytes(range(256)) * 8),
    "one array": lambda p: p.write_bytes(saved_array(np.ones(3))),
    "an empty archive": lambda p: zipfile.ZipFile(p, "w").close(),
    "half": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "no about": lambda p: rewritten(p, about=None),
    "about that is no JSON": lambda p: rewritten(p, about=np.array("{")),
    "about that is a number": lambda p: rewritten(p, about=np.array(3.0)),
    "about that is a list": lambda p: rewritten(p, about=np.array("[1]")),
    "about without end": lambda p: rewritten(p, about=np.array("[" * 100_000)),
    "no task": lambda p: rewritten(p, about=about(p, task=None)),
    "no loss": lambda p: rewritten(p, about=np.array('{"wrong_bits": 1}')),
    "loss that is text": lambda p: rewritten(p, about=about(p, loss_bits="low")),
    "loss that is a list": lambda p: rewritten(p, about=about(p, loss_bits=[1])),
    "no outputs": lambda p: rewritten(p, outputs_TO=None),
    "no mask": lambda p: rewritten(p, mask_T=None),
    "a mask that is a number": lambda p: rewritten(p, mask_T=np.array(1.0)),
    "no steps": lambda p: rewritten(
        p,
        mask_T=np.zeros(0),
        inputs_TI=np.zeros((0, 3)),
        **{name: np.zeros((0, 2)) for name in ("outputs_TO", "optimum_TO", "targets_TO")},
        **{name: None for name in HEADS},
    ),
    "a step too few": lambda p: rewritten(p, inputs_TI=np.zeros((8, 3))),
    "inputs of one side": lambda p: rewritten(p, inputs_TI=np.zeros(9)),
    "targets unlike outputs": lambda p: rewritten(p, targets_TO=np.zeros((9, 3))),
    "inputs of text": lambda p: rewritten(p, inputs_TI=np.full((9, 3), "x")),
    "an unknown array": lambda p: rewritten(p, weights=np.zeros((9, 1, 3))),
    "heads of other steps": lambda p: rewritten(p, reads=np.zeros((8, 1, 3))),
    "heads of other sides": lambda p: rewritten(p, read_gate=np.zeros((9, 1, 3))),
    "an array cut short": lambda p: unpacked(p, reads=saved_array(np.zeros((9, 1, 3)))[:-40]),
    "a member that is none": lambda p: unpacked(p, reads=b"no array"),
    "a header that is none": lambda p: unpacked(p, reads=b"\x93NUMPY\x01\x00\x06\x00{'a':\n"),
    "a header of a huge array": lambda p: unpacked(p, reads=huge_header()),
    "a folder": lambda p: (p.unlink(), p.mkdir()),
}


def saved_array(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def huge_header() -> bytes:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (9, 1, 999999999999999), }\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize("damage", TRACE_DAMAGE)
def test_a_damaged_trace_is_named(damage, tmp_path) -> None:
    path = tmp_path / "trace.npz"
    save_trace(path, fake_trace())
    TRACE_DAMAGE[damage](path)
    with pytest.raises(UserError, match=r"trace\.npz is corrupted: ."):
        load_trace(path)


def test_a_missing_trace_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"trace\.npz is missing"):
        load_trace(tmp_path / "trace.npz")


def test_any_byte_may_be_another(tmp_path) -> None:
    """Whatever byte is changed, or wherever it ends: a trace or the user's error, nothing else."""
    path = tmp_path / "trace.npz"
    save_trace(path, fake_trace(length=2, rows=6))
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 3):
        for changed in (
            bytes([*whole[:place], whole[place] ^ 0xFF, *whole[place + 1 :]]),
            bytes([*whole[:place], whole[place] ^ 0x01, *whole[place + 1 :]]),
        ):
            path.write_bytes(changed)
            try:
                load_trace(path)
            except UserError as error:
                assert str(path) in str(error)
                refused += 1
    assert refused > len(whole) / 3
    for end in range(0, len(whole), 40):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match="corrupted"):
            load_trace(path)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("form", ["pickle", "array", "about", "heads"])
def test_code_in_a_trace_is_not_executed(form, tmp_path) -> None:
    path, made = tmp_path / "trace.npz", tmp_path / "made"
    save_trace(path, fake_trace())
    holding = np.array([Payload(made)], dtype=object)
    if form == "pickle":
        path.write_bytes(pickle.dumps(Payload(made)))
    elif form == "array":
        path.write_bytes(saved_array(holding))
    else:
        rewritten(path, **{"reads" if form == "heads" else "about": holding})
    if form in ("array", "heads"):
        loaded = np.load(path, allow_pickle=True)
        assert loaded if form == "array" else loaded["reads"]
        loaded.close() if form == "heads" else None
        assert made.exists(), "with less care it would have been"
        made.unlink()
    with pytest.raises(UserError, match=r"trace\.npz is corrupted"):
        load_trace(path)
    assert not made.exists()
