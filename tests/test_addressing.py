"""Equations 2 to 9 of Graves, Wayne, Danihelka 2014: by hand, by loops, and as distributions."""

# B batch, N memory rows, M row width, J heads, S shifts

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntmbench.models import addressing

few_examples = settings(deadline=None, max_examples=50, derandomize=True, database=None)


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def assert_equal(got, expected):
    torch.testing.assert_close(got, f64(expected), rtol=0, atol=1e-9)


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def distributions(*shape, seed=0):
    return torch.softmax(2 * drawn(*shape, seed=seed), -1)


MEMORY = f64([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [-2.0, 0.0]]])  # one sequence, four rows
B, N, M, J = 2, 4, 3, 2  # sizes of the comparisons with loops


def test_read_by_hand():
    """Eq. 2: 0.1 (1, 2) + 0.2 (3, 4) + 0.3 (5, 6) + 0.4 (-2, 0) = (1.4, 2.8)."""
    assert_equal(addressing.read(MEMORY, f64([[[0.1, 0.2, 0.3, 0.4]]])), [[[1.4, 2.8]]])


def test_read_of_several_heads_and_sequences():
    memory, weightings = drawn(B, N, M), distributions(B, J, N, seed=1)
    got = addressing.read(memory, weightings).tolist()
    for b, j, m in itertools.product(range(B), range(J), range(M)):
        total = sum(weightings[b, j, i].item() * memory[b, i, m].item() for i in range(N))
        assert got[b][j][m] == pytest.approx(total, abs=1e-12)


def test_erase_by_hand():
    """Eq. 3: row 0 keeps (1 - 0.5 x 1, 1 - 0.5 x 0.5), row 1 (1 - 0.25, 1 - 0.125)."""
    got = addressing.erase(MEMORY, f64([[[0.5, 0.25, 0.0, 0.0]]]), f64([[[1.0, 0.5]]]))
    assert_equal(got, [[[0.5, 1.5], [2.25, 3.5], [5.0, 6.0], [-2.0, 0.0]]])


def test_erase_of_two_heads_multiplies():
    """Both heads fully on row 2, erasing 0.5 and 0.2 of column 0: 5 x 0.5 x 0.8 = 2."""
    on_row_2 = [0.0, 0.0, 1.0, 0.0]
    got = addressing.erase(MEMORY, f64([[on_row_2, on_row_2]]), f64([[[0.5, 0.0], [0.2, 0.0]]]))
    assert_equal(got, [[[1.0, 2.0], [3.0, 4.0], [2.0, 6.0], [-2.0, 0.0]]])


def test_erase_of_several_heads_and_sequences():
    memory, weightings = drawn(B, N, M), distributions(B, J, N, seed=1)
    erase = torch.sigmoid(drawn(B, J, M, seed=2))
    before = memory.clone()
    got = addressing.erase(memory, weightings, erase).tolist()
    for b, i, m in itertools.product(range(B), range(N), range(M)):
        left = memory[b, i, m].item()
        for j in range(J):
            left *= 1 - weightings[b, j, i].item() * erase[b, j, m].item()
        assert got[b][i][m] == pytest.approx(left, abs=1e-12)
    assert torch.equal(memory, before), "the memory that was given must stay as it is"


def test_add_by_hand():
    """Eq. 4, two heads: row 0 gets 0.5 (10, 20), row 3 gets 0.5 (10, 20) + 1 (1, -1)."""
    weightings = f64([[[0.5, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0]]])
    got = addressing.add(MEMORY, weightings, f64([[[10.0, 20.0], [1.0, -1.0]]]))
    assert_equal(got, [[[6.0, 12.0], [3.0, 4.0], [5.0, 6.0], [4.0, 9.0]]])


def test_add_of_several_heads_and_sequences():
    memory, weightings, add = drawn(B, N, M), distributions(B, J, N, seed=1), drawn(B, J, M, seed=2)
    got = addressing.add(memory, weightings, add).tolist()
    for b, i, m in itertools.product(range(B), range(N), range(M)):
        total = memory[b, i, m].item()
        total += sum(weightings[b, j, i].item() * add[b, j, m].item() for j in range(J))
        assert got[b][i][m] == pytest.approx(total, abs=1e-12)


def test_content_weighting_by_hand():
    """Eq. 5 at beta = ln 2: similarities 1, 0, -1, 0 weigh 2 : 1 : 1/2 : 1, their sum is 4.5."""
    got = addressing.content_weighting(f64([[[1.0, 0.0, -1.0, 0.0]]]), f64([[[math.log(2)]]]))
    assert_equal(got, [[[2 / 4.5, 1 / 4.5, 0.5 / 4.5, 1 / 4.5]]])


def test_content_weighting_of_several_heads_and_sequences():
    similarity, beta = drawn(B, J, N), drawn(B, J, 1, seed=1).abs()
    got = addressing.content_weighting(similarity, beta).tolist()
    for b, j in itertools.product(range(B), range(J)):
        weights = [math.exp(beta[b, j, 0].item() * k) for k in similarity[b, j].tolist()]
        assert got[b][j] == pytest.approx([w / sum(weights) for w in weights], abs=1e-12)


def test_cosine_similarity_by_hand():
    """Eq. 6: key (3, 4), norm 5; rows along it, against it, across it and along an axis."""
    memory = f64([[[6.0, 8.0], [-3.0, -4.0], [-4.0, 3.0], [0.0, 2.0]]])
    got = addressing.cosine_similarity(f64([[[3.0, 4.0]]]), memory)
    assert_equal(got, [[[1.0, -1.0, 0.0, 0.8]]])


def test_cosine_similarity_of_several_heads_and_sequences():
    key, memory = drawn(B, J, M), drawn(B, N, M, seed=1)
    got = addressing.cosine_similarity(key, memory).tolist()
    for b, j, i in itertools.product(range(B), range(J), range(N)):
        k, row = key[b, j].tolist(), memory[b, i].tolist()
        dot = sum(x * y for x, y in zip(k, row, strict=True))
        assert got[b][j][i] == pytest.approx(dot / (math.hypot(*k) * math.hypot(*row)), abs=1e-10)


def test_a_row_shorter_than_the_floor_is_like_no_key():
    """The cosine times |M| / sqrt(|M|^2 + floor^2): with a floor of 2, 0.6 for a row of 1.5."""
    memory = f64([[[0.9, 1.2], [1200.0, 1600.0], [0.0, 0.0], [3e-5, 4e-5]]])
    got = addressing.cosine_similarity(f64([[[3.0, 4.0]]]), memory, 2.0)[0, 0]
    assert got.tolist() == pytest.approx([0.6, 1, 0, 2.5e-5], rel=1e-6)


@pytest.mark.parametrize("zero", ["key", "row", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cosine_similarity_of_zeros_is_finite_and_so_is_its_gradient(zero, dtype):
    key, memory = drawn(1, 1, M).to(dtype), drawn(1, N, M, seed=1).to(dtype)
    if zero != "row":
        key.zero_()
    if zero != "key":
        memory[:, 2] = 0
    key.requires_grad_()
    memory.requires_grad_()
    similarity = addressing.cosine_similarity(key, memory)
    assert similarity[0, 0, 2] == 0
    similarity.square().sum().add(similarity.sum()).backward()
    for tensor in (similarity, key.grad, memory.grad):
        assert tensor.isfinite().all()
    assert key.grad.any() and memory.grad.any() == (zero == "row")


def test_interpolate_by_hand():
    """Eq. 7 at gate 0.25: a quarter of the content weighting, the rest of the previous one."""
    content, previous = f64([[[1.0, 0.0, 0.0, 0.0]]]), f64([[[0.0, 0.0, 0.2, 0.8]]])
    got = addressing.interpolate(content, previous, f64([[[0.25]]]))
    assert_equal(got, [[[0.25, 0.0, 0.15, 0.6]]])
    assert torch.equal(addressing.interpolate(content, previous, f64([[[1.0]]])), content)
    assert torch.equal(addressing.interpolate(content, previous, f64([[[0.0]]])), previous)


def test_interpolate_of_several_heads_and_sequences():
    content, previous = distributions(B, J, N), distributions(B, J, N, seed=1)
    gate = torch.sigmoid(drawn(B, J, 1, seed=2))
    got = addressing.interpolate(content, previous, gate).tolist()
    for b, j, i in itertools.product(range(B), range(J), range(N)):
        g = gate[b, j, 0].item()
        expected = g * content[b, j, i].item() + (1 - g) * previous[b, j, i].item()
        assert got[b][j][i] == pytest.approx(expected, abs=1e-12)


def test_shift_by_hand():
    """Eq. 8, s(-1) = 0.1, s(0) = 0.2, s(1) = 0.7.

    w(0) = 0.1 x 0.6 + 0.2 x 0.4 + 0.7 x 0 = 0.14; w(1) = 0.1 x 0 + 0.2 x 0.6 + 0.7 x 0.4 = 0.4;
    w(2) = 0.1 x 0 + 0.2 x 0 + 0.7 x 0.6 = 0.42; w(3) = 0.1 x 0.4 + 0.2 x 0 + 0.7 x 0 = 0.04.
    """
    got = addressing.shift(f64([[[0.4, 0.6, 0.0, 0.0]]]), f64([[[0.1, 0.2, 0.7]]]))
    assert_equal(got, [[[0.14, 0.4, 0.42, 0.04]]])


@pytest.mark.parametrize("reach, rows", [(1, 3), (1, 4), (2, 5), (2, 6)])
def test_shift_moves_the_focus_by_its_offset_and_wraps_around(reach, rows):
    for start, (place, offset) in itertools.product(
        range(rows), enumerate(range(-reach, reach + 1))
    ):
        weighting, shift = torch.zeros(1, 1, rows), torch.zeros(1, 1, 2 * reach + 1)
        weighting[0, 0, start], shift[0, 0, place] = 1, 1
        moved = addressing.shift(weighting, shift)
        assert moved.sum() == 1 and moved[0, 0, (start + offset) % rows] == 1


@pytest.mark.parametrize("reach, rows", [(1, 4), (2, 5), (2, 7)])
def test_shift_of_several_heads_and_sequences(reach, rows):
    weightings, shift = distributions(B, J, rows), distributions(B, J, 2 * reach + 1, seed=1)
    got = addressing.shift(weightings, shift).tolist()
    for b, j, i in itertools.product(range(B), range(J), range(rows)):
        total = sum(
            shift[b, j, offset + reach].item() * weightings[b, j, (i - offset) % rows].item()
            for offset in range(-reach, reach + 1)
        )
        assert got[b][j][i] == pytest.approx(total, abs=1e-12)


def test_sharpen_by_hand():
    """Eq. 9 at gamma 2: squares 0.01, 0.04, 0.09, 0.16, by their sum 0.3."""
    got = addressing.sharpen(f64([[[0.1, 0.2, 0.3, 0.4]]]), f64([[[2.0]]]))
    assert_equal(got, [[[1 / 30, 4 / 30, 9 / 30, 16 / 30]]])


def test_sharpen_of_several_heads_and_sequences():
    weightings, gamma = distributions(B, J, N), 1 + drawn(B, J, 1, seed=1).abs()
    got = addressing.sharpen(weightings, gamma).tolist()
    for b, j in itertools.product(range(B), range(J)):
        powers = [w ** gamma[b, j, 0].item() for w in weightings[b, j].tolist()]
        assert got[b][j] == pytest.approx([p / sum(powers) for p in powers], abs=1e-12)


@pytest.mark.parametrize("gamma", [1.0, 1.5, 50.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sharpen_keeps_one_hot_with_finite_gradients(gamma, dtype):
    weighting = torch.tensor([[[0.0, 1.0, 0.0, 0.0]]], dtype=dtype, requires_grad=True)
    exponent = torch.tensor([[[gamma]]], dtype=dtype, requires_grad=True)
    sharp = addressing.sharpen(weighting, exponent)
    torch.testing.assert_close(sharp, weighting)
    (sharp * torch.arange(4.0, dtype=dtype)).sum().backward()
    assert weighting.grad.isfinite().all() and exponent.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sharpen_where_plain_powers_underflow(dtype):
    """0.02 ^ 500 is 0 in float32 and float64: dividing by the sum of powers would be 0 / 0."""
    weighting = torch.full((1, 1, 50), 0.02, dtype=dtype, requires_grad=True)
    gamma = torch.tensor([[[500.0]]], dtype=dtype)
    assert (weighting**gamma).sum() == 0
    sharp = addressing.sharpen(weighting, gamma)
    torch.testing.assert_close(sharp, weighting)
    sharp[0, 0, 0].backward()
    assert weighting.grad.isfinite().all() and weighting.grad[0, 0, 0] > 0


@few_examples
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(5, 40),
    reach=st.integers(1, 2),
    memory_scale=st.integers(-8, 4),
    beta_scale=st.integers(-3, 4),
    gamma_scale=st.integers(-3, 3),
    one_hot=st.booleans(),
)
def test_every_weighting_is_a_distribution(
    seed, rows, reach, memory_scale, beta_scale, gamma_scale, one_hot
):
    generator = torch.Generator().manual_seed(seed)
    memory = torch.randn(2, rows, 5, generator=generator) * 10.0**memory_scale
    key = torch.randn(2, 3, 5, generator=generator)
    beta = torch.rand(2, 3, 1, generator=generator) * 10.0**beta_scale
    gate = torch.rand(2, 3, 1, generator=generator)
    offsets = torch.randn(2, 3, 2 * reach + 1, generator=generator) * 10
    gamma = 1 + torch.rand(2, 3, 1, generator=generator) * 10.0**gamma_scale
    previous = torch.softmax(torch.randn(2, 3, rows, generator=generator) * 5, -1)
    if one_hot:
        previous = torch.nn.functional.one_hot(previous.argmax(-1), rows).float()

    similarity = addressing.cosine_similarity(key, memory)
    assert (similarity.abs() <= 1 + 1e-5).all()
    content = addressing.content_weighting(similarity, beta)
    gated = addressing.interpolate(content, previous, gate)
    shifted = addressing.shift(gated, torch.softmax(offsets, -1))
    sharp = addressing.sharpen(shifted, gamma)
    for weighting in (content, gated, shifted, sharp):
        assert weighting.shape == (2, 3, rows)
        assert (weighting >= 0).all(), weighting.min()
        torch.testing.assert_close(weighting.sum(-1), torch.ones(2, 3), rtol=0, atol=1e-5)
    peak = shifted.argmax(-1, keepdim=True)
    assert (sharp.gather(-1, peak) >= shifted.gather(-1, peak) - 1e-5).all()


@few_examples
@given(seed=st.integers(0, 10**6), beta=st.floats(0.1, 20), factor=st.floats(0.01, 100))
def test_content_ignores_the_length_of_key_and_rows(seed, beta, factor):
    key, memory = drawn(1, 2, 4, seed=seed), drawn(1, 6, 4, seed=seed + 1)
    strength = torch.full((1, 2, 1), beta, dtype=torch.float64)
    weightings = [
        addressing.content_weighting(addressing.cosine_similarity(k, m), strength)
        for k, m in ((key, memory), (key * factor, memory), (key, memory * factor))
    ]
    torch.testing.assert_close(weightings[1], weightings[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(weightings[2], weightings[0], rtol=1e-6, atol=1e-6)
