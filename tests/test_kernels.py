"""Each compiled kernel against its twin in the package, against autograd, or against numpy."""

# B batch, T steps, O outputs; P rows, K summed over, G columns, H hidden units or heads, J heads,
# M memory width, N memory rows, S shifts

import importlib
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ntmbench import metrics
from ntmbench.config import TrainConfig
from ntmbench.engine import compiled
from ntmbench.engine.shapes import CLIPS, FF, OPTIMISERS, Rule, Shape
from ntmbench.models import addressing as twins
from ntmbench.models.ntm import NTM
from ntmbench.models.recurrent import Layer, gru_cell, lstm_cell
from ntmbench.optim import clip as clip_gradients
from ntmbench.optim import make_optimiser

pytestmark = pytest.mark.parametrize("dtype", [np.float32, np.float64])
CLOSE = {np.float32: 2e-6, np.float64: 1e-12}
of_all_sizes = pytest.mark.parametrize("rows", [3, 4, 5, 16, 17, 40])
"""Numbers of memory rows: with and without what is left over from a vector."""


@pytest.fixture(scope="module")
def engine():
    """The modules of the kernels. Whoever imports one of them before `compiled.kernels` is called
    settles the vectors of the whole process: they are narrower then, and all is compiled again."""
    kernels = compiled.kernels()
    names = ("addressing", "cells", "heads", "loss", "optim", "products", "scalars")
    modules = {name: importlib.import_module(f"ntmbench.engine.{name}") for name in names}
    return SimpleNamespace(kernels=kernels, **modules)


def drawn(dtype, *shape, seed=0, scale=1.0):
    """Normally distributed numbers."""
    return (scale * np.random.default_rng([seed, *shape]).normal(size=shape)).astype(dtype)


def shares(dtype, *shape, seed=0):
    """Numbers over 0 with the sum 1 along the last axis."""
    weights = np.exp(drawn(np.float64, *shape, seed=seed))
    return (weights / weights.sum(-1, keepdims=True)).astype(dtype)


def close(found, expected, within, what=""):
    """Equal to `within` of the largest expected number, which is not zero."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    largest = np.abs(expected).max()
    assert largest > 0, f"{what}: there is nothing to compare"
    np.testing.assert_allclose(found, expected, rtol=0, atol=within * largest, err_msg=what)


def near(found, expected, within):
    """Equal to `within`: for what may be zero."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=within)


def leaf(array):
    """A batch of one sequence in float64, that autograd differentiates by."""
    return torch.tensor(np.asarray(array)[None], dtype=torch.float64, requires_grad=True)


def twin_of(function, given, *arrays):
    """A function of arrays: its value and, after it, the gradients of (value . given) by each."""
    leaves = [leaf(array) for array in arrays]
    output = function(*leaves)
    given = torch.tensor(np.asarray(given)[None], dtype=torch.float64)
    found = torch.autograd.grad(output, leaves, given)
    return [tensor[0].detach().numpy() for tensor in (output, *found)]


# Scalars

SCALARS = ("exp", "log", "log1p", "inverse_root", "sigmoid", "tanh", "softplus")


@pytest.fixture(scope="module")
def scalar(engine):
    """`scalar(name, x_K)`: the values of one function; all of them are in one compilation."""
    exp, log, log1p, inverse_root, sigmoid, tanh, softplus = (
        getattr(engine.scalars, name) for name in SCALARS
    )

    @engine.products.kernel
    def all_of_them(x_7K, y_7K):
        for k in range(x_7K.shape[1]):
            y_7K[0, k] = exp(x_7K[0, k])
            y_7K[1, k] = log(x_7K[1, k])
            y_7K[2, k] = log1p(x_7K[2, k])
            y_7K[3, k] = inverse_root(x_7K[3, k])
            y_7K[4, k] = sigmoid(x_7K[4, k])
            y_7K[5, k] = tanh(x_7K[5, k])
            y_7K[6, k] = softplus(x_7K[6, k])

    def one(name, x_K):
        x_7K = np.full((7, len(x_K)), 0.5, x_K.dtype)
        x_7K[SCALARS.index(name)] = x_K
        y_7K = np.empty_like(x_7K)
        all_of_them(x_7K, y_7K)
        return y_7K[SCALARS.index(name)]

    return one


POINTS = 20_011
RANGES = {
    "exp": (np.linspace(-86.9, 88, POINTS), np.exp),
    "log": (np.geomspace(1.2e-38, 3.4e38, POINTS), np.log),
    "log near 1": (np.linspace(0.5, 2, POINTS), np.log),
    "log1p": (np.linspace(0, 1, POINTS), np.log1p),
    "log1p near 0": (np.geomspace(1e-30, 1e-2, POINTS), np.log1p),
    "inverse_root": (np.geomspace(1.2e-38, 3.4e38, POINTS), lambda x: 1 / np.sqrt(x)),
    "sigmoid": (np.linspace(-80, 80, POINTS), lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (np.linspace(-20, 20, POINTS), np.tanh),
    "tanh near 0": (np.geomspace(1e-30, 1, POINTS), np.tanh),
    "softplus": (np.linspace(-80, 80, POINTS), lambda x: np.logaddexp(0, x)),
}


@pytest.mark.parametrize("what", RANGES)
def test_scalars_are_right_to_the_last_digits(what, dtype, scalar):
    """Relatively, though some values span 38 powers of ten."""
    x_K, exact = RANGES[what]
    x_K = x_K.astype(dtype)
    found, expected = scalar(what.split()[0], x_K), exact(x_K.astype(np.float64))
    zero = expected == 0
    assert np.ptp(expected) > 0 and not found[zero].any()
    error = np.abs(found[~zero] - expected[~zero]) / np.abs(expected[~zero])
    assert error.max() < {np.float32: 3e-7, np.float64: 1e-15}[dtype]


@pytest.mark.parametrize("name", SCALARS)
def test_a_scalar_of_nan_is_nan(name, dtype, scalar):
    """In every lane of a vector, and in no other one."""
    x_K = np.full(67, 0.5, dtype)
    x_K[::5] = math.nan
    np.testing.assert_array_equal(np.isnan(scalar(name, x_K)), np.isnan(x_K))


NOTHING = (0, 1.7e-38)
EXTREMES = {
    "exp": [(0, 1, 1), (-1e4, *NOTHING), (-math.inf, *NOTHING), (88, 1.6e38, 1.7e38)],
    "log": [(1, 0, 0), (1.1754944e-38, -87.3366, -87.3365)],
    "log1p": [(0, 0, 0), (1, 0.693147, 0.693148)],
    "inverse_root": [(1, 1, 1), (0.25, 2, 2), (1e-12, 999_999.8, 1_000_000.2)],
    "sigmoid": [(0, 0.5, 0.5), (1e30, 1, 1), (-1e30, *NOTHING), (-math.inf, *NOTHING)],
    "tanh": [(0, 0, 0), (math.inf, 1, 1), (-math.inf, -1, -1), (-1e30, -1, -1)],
    "softplus": [(1e30, 1e30, 1e30), (-1e30, *NOTHING), (-math.inf, *NOTHING)],
}


@pytest.mark.parametrize("name", SCALARS)
def test_scalars_at_the_ends(name, dtype, scalar):
    """Each argument with the least and the greatest value allowed."""
    at, low, high = (np.array(part, dtype) for part in zip(*EXTREMES[name], strict=True))
    found = scalar(name, at)
    room = 2e-7 * np.abs(found)
    assert ((low - room <= found) & (found <= high + room)).all(), found


# Products. Small whole numbers: their sums are exact in any order.

SIZES = range(1, 10)
COLUMNS = (1, 3, 4, 8, 9, 17, 35)
PRODUCTS = {
    "add_product": lambda p, k, g: ((p, k), (k, g), (p, g), lambda a, b: a @ b),
    "add_product_transposed": lambda p, k, g: ((p, g), (k, g), (p, k), lambda a, b: a @ b.T),
    "add_outer_products": lambda p, k, g: ((p, k), (p, g), (k, g), lambda a, b: a.T @ b),
}


def whole(dtype, rng, *shape):
    return rng.integers(-4, 5, shape).astype(dtype)


def changes_only(c_size, dtype, rng, change, expected_change):
    """Whether `change` does to an array what is expected, and nothing to what lies around it."""
    outer = whole(dtype, rng, c_size[0] + 2, *c_size[1:])
    expected = outer.copy()
    expected[1:-1] = expected_change(expected[1:-1])
    change(outer[1:-1])
    return np.array_equal(outer, expected)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_all_remainders(name, dtype, engine):
    rng, product = np.random.default_rng(0), getattr(engine.products, name)
    for sizes in itertools.product(SIZES, SIZES, COLUMNS):
        a_size, b_size, c_size, exact = PRODUCTS[name](*sizes)
        a, b = whole(dtype, rng, *a_size), whole(dtype, rng, *b_size)
        added = exact(a, b)
        assert changes_only(
            c_size, dtype, rng, lambda c, a=a, b=b: product(a, b, c), lambda c, d=added: c + d
        ), sizes


def test_dot_and_rows_of_all_remainders(dtype, engine):
    rng, kernels = np.random.default_rng(1), engine.products
    for rows, columns in itertools.product(SIZES, COLUMNS):
        a, b = whole(dtype, rng, rows, columns), whole(dtype, rng, columns)
        total = a.sum(0)
        assert kernels.dot(a[0], b) == a[0] @ b
        assert changes_only(
            (columns,), dtype, rng, lambda c, a=a: kernels.add_rows(a, c), lambda c, d=total: c + d
        )
        assert changes_only(
            (rows, columns), dtype, rng, lambda c, b=b: kernels.set_rows(c, b), lambda c, b=b: b
        )


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_pass_nan_on(name, dtype, engine):
    """Even where it is multiplied with zero; and only where it is summed over."""
    for sizes, k in itertools.product([(2, 5, 5), (4, 8, 16), (5, 9, 17), (9, 4, 3)], (0, -1)):
        a_size, b_size, c_size, exact = PRODUCTS[name](*sizes)
        a, b, c = np.ones(a_size, dtype), np.zeros(b_size, dtype), np.zeros(c_size, dtype)
        a[0, k] = math.nan
        getattr(engine.products, name)(a, b, c)
        np.testing.assert_array_equal(c, exact(a, b))
        assert 0 < np.isnan(c).sum() < c.size


# Cells. The twins find what they are given themselves, by an input weight that is the identity.


def layer_of(gates, size, recurrent_GH):
    layer = Layer(gates * size, size, gates).double()
    with torch.no_grad():
        layer.input_weight_GI.copy_(torch.eye(gates * size))
        layer.recurrent_weight_GH.copy_(torch.as_tensor(recurrent_GH))
    return layer


@pytest.mark.parametrize("size", [1, 5, 16, 21])
def test_lstm_cell(size, dtype, engine):
    """Forward, and back from gradients of the hidden values and of the new cell."""
    gates, cell = drawn(dtype, 4 * size, scale=2), drawn(dtype, size, seed=1)
    d_hidden, d_cell = drawn(dtype, size, seed=2), drawn(dtype, size, seed=3)
    layer, nothing = layer_of(4, size, np.zeros((4 * size, size))), torch.zeros(1, size).double()
    both, d_gates, d_old = twin_of(
        lambda gates_B, cell_B: torch.cat(lstm_cell(layer, gates_B, nothing, cell_B), 1),
        np.concatenate([d_hidden, d_cell]), gates, cell,
    )  # fmt: skip

    found = np.empty((2, size), dtype)
    engine.cells.lstm_cell(gates, cell, found[1], found[0])
    close(found.ravel(), both, CLOSE[dtype], "hidden values and cell")
    engine.cells.lstm_cell_backward(gates, cell, found[1], d_hidden, d_cell)
    close(gates, d_gates, CLOSE[dtype], "gradient of the gates")
    close(d_cell, d_old, CLOSE[dtype], "gradient of the old cell")


@pytest.mark.parametrize("size", [1, 5, 16, 21])
def test_gru_cell(size, dtype, engine):
    """The old hidden values have two ways in: the product, and straight to the new ones."""
    gates, hidden = drawn(dtype, 3 * size, scale=2), drawn(dtype, size, seed=1)
    d_hidden, d_old = drawn(dtype, size, seed=2), drawn(dtype, size, seed=3)
    weight_GH = drawn(np.float64, 3 * size, size)
    recurrent, layer = (weight_GH @ hidden).astype(dtype), layer_of(3, size, weight_GH)
    expected, d_gates, d_both = twin_of(
        lambda gates_B, hidden_B: gru_cell(layer, gates_B, hidden_B), d_hidden, gates, hidden
    )

    new, given = np.empty_like(hidden), d_old.copy()
    engine.cells.gru_cell(gates, recurrent, hidden, new)
    close(new, expected, CLOSE[dtype], "hidden values")
    engine.cells.gru_cell_backward(gates, recurrent, hidden, d_hidden, d_old)
    close(gates, d_gates, CLOSE[dtype], "gradient of the gates")
    through_product = weight_GH.T @ recurrent
    assert np.abs(through_product).max() > 1e-3
    close(d_old - given + through_product, d_both, 2 * CLOSE[dtype], "gradient of the old")


def test_tanh_cell(dtype, engine):
    gates, d_hidden = drawn(dtype, 21, scale=2), drawn(dtype, 21, seed=1)
    expected, d_gates = twin_of(torch.tanh, d_hidden, gates)
    hidden = np.empty_like(gates)
    engine.cells.tanh_cell(gates, hidden)
    close(hidden, expected, CLOSE[dtype])
    engine.cells.tanh_cell_backward(gates, hidden, d_hidden)
    close(gates, d_gates, CLOSE[dtype])


# Addressing. The kernels' memory has its width first; what is set, not added to, begins as nines.


@of_all_sizes
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_read(rows, heads, dtype, engine):
    memory, weightings = drawn(dtype, 5, rows), shares(dtype, heads, rows)
    d_reads, d_weightings = drawn(dtype, heads, 5), drawn(dtype, heads, rows, seed=1)
    expected, *gradients = twin_of(twins.read, d_reads, memory.T, weightings)

    reads, given = np.full((heads, 5), 9, dtype), d_weightings.copy()
    engine.addressing.read(memory, weightings, reads)
    close(reads, expected, CLOSE[dtype])
    engine.addressing.read_backward(memory, d_reads, d_weightings)
    close(d_weightings - given, gradients[1], CLOSE[dtype])
    d_memory, own = np.ones_like(memory), np.zeros(rows, dtype)
    engine.addressing.add_to_memory(own, memory, d_reads, weightings, d_memory)
    close(d_memory.T - 1, gradients[0], CLOSE[dtype])


@of_all_sizes
@pytest.mark.parametrize("heads", [1, 2, 3, 4])
def test_write(rows, heads, dtype, engine):
    memory, weightings = drawn(dtype, 3, rows), shares(dtype, heads, rows)
    erase_add = np.concatenate([shares(dtype, heads, 3), drawn(dtype, heads, 3)], 1)
    d_memory, d_weightings = drawn(dtype, 3, rows, seed=1), drawn(dtype, heads, rows)

    def twin(memory, weightings, erase_add):
        erased = twins.erase(memory, weightings, erase_add[..., :3])
        return twins.add(erased, weightings, erase_add[..., 3:])

    expected, *gradients = twin_of(twin, d_memory.T, memory.T, weightings, erase_add)
    new, given = np.full_like(memory, 9), d_weightings.copy()
    engine.addressing.write(memory, weightings, erase_add, new)
    close(new.T, expected, CLOSE[dtype])
    d_erase_add, stages = np.full_like(erase_add, 9), np.empty((heads, rows), dtype)
    engine.addressing.write_backward(
        memory, weightings, erase_add, d_memory, d_weightings, d_erase_add, stages
    )
    close(d_memory.T, gradients[0], CLOSE[dtype], "gradient of the memory")
    close(d_weightings - given, gradients[1], CLOSE[dtype], "gradient of the weightings")
    close(d_erase_add, gradients[2], CLOSE[dtype], "gradient of erase and add")


@of_all_sizes
@pytest.mark.parametrize("width, heads", [(2, 1), (4, 2), (5, 3), (7, 4), (9, 2)])
@pytest.mark.parametrize("floor", [1e-6, 0.7])
def test_cosine_similarity(rows, width, heads, floor, dtype, engine):
    """The memory gets its gradient from `add_to_memory`; the key's is divided by its norm here."""
    keys, memory = drawn(dtype, heads, width, scale=3), drawn(dtype, width, rows)
    d_similarity, kernels = drawn(dtype, heads, rows), engine.addressing

    def twin(keys, memory):
        return twins.cosine_similarity(keys, memory, floor)

    expected, *gradients = twin_of(twin, d_similarity, keys, memory.T)

    units = np.empty_like(keys)
    inverse = [engine.heads.unit_key(key, unit) for key, unit in zip(keys, units, strict=True)]
    inverse_norm, similarity = np.full(rows, 9, dtype), np.full((heads, rows), 9, dtype)
    kernels.cosine_similarity(units, memory, floor, inverse_norm, similarity)
    squares_N = np.square(memory.astype(np.float64)).sum(0)
    close(inverse_norm, 1 / np.sqrt(squares_N + floor**2), CLOSE[dtype], "norms")
    close(similarity, expected, CLOSE[dtype], "similarity")
    d_units, own, d_memory = np.full_like(keys, 9), np.full(rows, 9, dtype), np.ones_like(memory)
    kernels.cosine_similarity_backward(memory, inverse_norm, similarity, d_similarity, d_units, own)
    kernels.add_to_memory(own, memory, units, d_similarity, d_memory)
    close(d_memory.T - 1, gradients[1], 2 * CLOSE[dtype], "gradient of the memory")
    along = (units * d_units).sum(1, keepdims=True)
    d_keys = np.array(inverse)[:, None] * (d_units - along * units)
    close(d_keys, gradients[0], 2 * CLOSE[dtype], "gradient of the keys")


def test_cosine_similarity_of_zeros(dtype, engine):
    memory, units = np.zeros((3, 4), dtype), np.empty((2, 3), dtype)
    memory[:, 1] = 2
    inverse_norm, similarity = np.empty(4, dtype), np.empty((2, 4), dtype)
    assert engine.heads.unit_key(np.zeros(3, dtype), units[0]) == pytest.approx(1e6)
    engine.heads.unit_key(np.ones(3, dtype), units[1])
    engine.addressing.cosine_similarity(units, memory, 1e-6, inverse_norm, similarity)
    near(similarity, [[0, 0, 0, 0], [0, 1, 0, 0]], 1e-6)
    assert inverse_norm[[0, 2, 3]] == pytest.approx(1e6)


@of_all_sizes
@pytest.mark.parametrize("beta", [0.0, 1.3, 50.0])
def test_content_weighting(rows, beta, dtype, engine):
    similarity, d_weighting = drawn(dtype, 1, rows), drawn(dtype, 1, rows, seed=1)
    expected, *gradients = twin_of(twins.content_weighting, d_weighting, similarity, [[beta]])
    (similarity,), (d_weighting,), kernels = similarity, d_weighting, engine.addressing

    beta, (scratch, weighting) = dtype(beta), np.full((2, rows), 9, dtype)
    kernels.content_weighting(similarity, beta, weighting, scratch)
    close(weighting, expected[0], 20 * CLOSE[dtype])
    weighting[:] = expected
    d_beta = kernels.content_weighting_backward(similarity, beta, weighting, d_weighting)
    within = CLOSE[dtype] * (1 + beta)  # of what is summed: it may cancel
    near(d_beta, gradients[1].item(), within)
    near(d_weighting, gradients[0][0], within)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 128])
def test_maximum_and_softmax(size, dtype, engine):
    """Wherever the largest stands; huge ones do not overflow, and one NaN makes all of them NaN."""
    kernels = engine.addressing
    for place in {0, size // 2, size - 1}:
        x, scratch = drawn(dtype, size), np.empty(size, dtype)
        x[place] = 300
        assert kernels.maximum(x.copy(), scratch) == 300
        assert kernels.maximum(-x - 1000, scratch) == (-x - 1000).max()
        kernels.softmax(x, scratch)
        assert x[place] == 1 and np.delete(x, place).max(initial=0) < 1e-37
        x[place] = math.nan
        kernels.softmax(x, scratch)
        assert np.isnan(x).all()


@of_all_sizes
@pytest.mark.parametrize("gate", [0.0, 0.3, 1.0])
def test_interpolate(rows, gate, dtype, engine):
    content, previous = shares(dtype, 1, rows), shares(dtype, 1, rows, seed=1)
    d_gated = drawn(dtype, 1, rows)
    expected, *gradients = twin_of(twins.interpolate, d_gated, content, previous, [[gate]])
    (content,), (previous,), (d_gated,) = content, previous, d_gated

    gate, (gated, d_previous) = dtype(gate), np.full((2, rows), 9, dtype)
    engine.addressing.interpolate(content, previous, gate, gated)
    close(gated, expected[0], CLOSE[dtype])
    d_gate = engine.addressing.interpolate_backward(content, previous, gate, d_gated, d_previous)
    near(d_gate, gradients[2].item(), CLOSE[dtype])
    near(d_gated, gradients[0][0], CLOSE[dtype])
    near(d_previous, gradients[1][0], CLOSE[dtype])


@pytest.mark.parametrize("reach, rows", [(1, 3), (1, 4), (1, 17), (2, 5), (3, 7), (3, 40)])
def test_shift(reach, rows, dtype, engine):
    weighting, shift = shares(dtype, 1, rows), shares(dtype, 1, 2 * reach + 1)
    d_shifted = drawn(dtype, 1, rows)
    expected, *gradients = twin_of(twins.shift, d_shifted, weighting, shift)
    (weighting,), (shift,), (d_shifted,) = weighting, shift, d_shifted

    shifted, d_weighting, d_shift = (np.full_like(x, 9) for x in (weighting, weighting, shift))
    engine.addressing.shift(weighting, shift, shifted)
    close(shifted, expected[0], CLOSE[dtype])
    engine.addressing.shift_backward(weighting, shift, d_shifted, d_weighting, d_shift)
    close(d_weighting, gradients[0][0], CLOSE[dtype], "gradient of the weighting")
    close(d_shift, gradients[1][0], CLOSE[dtype], "gradient of the shift")


@of_all_sizes
@pytest.mark.parametrize("gamma", [1.0, 2.5, 5.0])
@pytest.mark.parametrize("empty", [False, True])
def test_sharpen(rows, gamma, empty, dtype, engine):
    """An empty location stays empty; its gradient is finite."""
    shifted, d_weighting = shares(dtype, 1, rows), drawn(dtype, 1, rows)
    shifted[0, 1] *= not empty
    expected, d_shifted, d_right = twin_of(twins.sharpen, d_weighting, shifted, [[gamma]])
    (shifted,), (d_weighting,) = shifted, d_weighting

    gamma, (scratch, logs, weighting) = dtype(gamma), np.full((3, rows), 9, dtype)
    engine.addressing.sharpen(shifted, gamma, logs, weighting, scratch)
    close(weighting, expected[0], 50 * CLOSE[dtype])  # a softmax of gamma times a logarithm
    assert (weighting[1] < 1e-15) == empty
    weighting[:] = expected
    summed = np.abs(d_weighting).max() * weighting * gamma / (shifted + twins.TINY)  # may cancel
    d_gamma = engine.addressing.sharpen_backward(shifted, gamma, logs, weighting, d_weighting)
    near(d_gamma, d_right.item(), 10 * CLOSE[dtype])
    assert (np.abs(d_weighting - d_shifted[0]) <= CLOSE[dtype] * summed + 1e-30).all()
    assert np.abs(d_shifted).max() > 1e4 * CLOSE[dtype]


# The head layer's numbers

SHAPE = Shape(
    cell=FF, layers=1, hidden=1, columns=16, inputs=1, outputs=1, heads=2, rows=6, width=3,
    shifts=5, content=True, location=True, row_floor=1e-6, learned_memory=False, reads=6,
    reads_after_writes=False, head_columns=64,
)  # fmt: skip


@pytest.mark.parametrize("scale, around", [(1.0, 0.0), (300.0, 0.0), (1.0, -300.0)])
def test_head_values(scale, around, dtype, engine):
    """As the model's own, for numbers so large that everything is saturated too."""
    model = NTM(1, 1, heads=2, memory_rows=6, memory_width=3, shift_range=2)
    raw = drawn(dtype, model.head_layer.out_features, scale=scale) + dtype(around)
    model.head_layer, given = torch.nn.Identity(), drawn(dtype, len(raw), seed=1)

    def twin(raw_BX):
        *address, gamma, erase, add = model._head_values(raw_BX)
        address.append(gamma - 1)  # so that its gradient is not lost where it is nearly 1
        return torch.cat([torch.cat(x, -1).flatten(1) for x in (address, (erase, add))], 1)

    expected, gradient = twin_of(twin, given, raw)
    engine.heads.head_values(SHAPE, raw)
    within = CLOSE[dtype] if scale == 1 else max(CLOSE[dtype], 3e-9)  # torch: softplus(21) is 21
    np.testing.assert_allclose(raw, expected, rtol=within, atol=within)
    engine.heads.head_values_backward(SHAPE, raw, given)
    near(given, gradient, within)
    assert np.abs(gradient).max() > 1e-2


# The loss

SIZE = T, B, O = 5, 3, 4  # noqa: E741


def scored(engine, logits, targets=None, mask=None):
    """The kernel's scores and gradients, and the twin's in float64, steps first."""
    dtype = logits.dtype
    drawn_bits = np.random.default_rng(0).integers(0, 2, SIZE)
    targets = (drawn_bits if targets is None else targets).astype(dtype)
    mask = np.ones(SIZE[:2], dtype) if mask is None else mask
    of = torch.tensor(logits.swapaxes(0, 1), dtype=torch.float64, requires_grad=True)
    twin = metrics.score(of, *(torch.from_numpy(part.swapaxes(0, 1)) for part in (targets, mask)))
    share = np.array([0.5, 0.25, 2.0], dtype)
    (twin.loss_bits * math.log(2) * torch.tensor(share)).sum().backward()
    scores, gradient = np.full((B, 3), 9, dtype), logits.copy()
    engine.loss.score(gradient, targets, mask, share, scores)
    return scores, gradient, twin, of.grad.numpy().swapaxes(0, 1)


def assert_scores(scores, twin, within):
    np.testing.assert_allclose(scores[:, 0], twin.loss_bits.detach(), rtol=within)
    np.testing.assert_array_equal(scores[:, 1], twin.wrong_bits)
    np.testing.assert_array_equal(scores[:, 2], twin.exact)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_score(scale, dtype, engine):
    mask = np.ones(SIZE[:2], dtype)
    mask[:2, 0] = mask[3:, 1] = 0
    scores, gradient, twin, expected = scored(engine, drawn(dtype, *SIZE, scale=scale), mask=mask)
    assert twin.wrong_bits.min() > 0
    assert_scores(scores, twin, CLOSE[dtype])
    close(gradient, expected, CLOSE[dtype])
    assert not gradient[mask == 0].any()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_steps_that_are_not_scored_do_not_count(value, dtype, engine):
    """Whatever their logits are; but what is wrong in a scored step does."""
    mask, logits = np.ones(SIZE[:2], dtype), drawn(dtype, *SIZE)
    mask[1, 0] = mask[4, 2] = 0
    targets = (drawn(dtype, *SIZE, seed=1) > 0).astype(dtype)
    targets[2, 1, 3] = value < 0
    clean, clean_gradient, *_ = scored(engine, logits, targets, mask)
    logits[mask == 0] = value
    scores, gradient, *_ = scored(engine, logits, targets, mask)
    np.testing.assert_array_equal(scores, clean)
    np.testing.assert_array_equal(gradient, clean_gradient)
    logits[2, 1, 3] = value
    scores, gradient, twin, _ = scored(engine, logits, targets, mask)
    np.testing.assert_array_equal(np.isfinite(scores[:, 0]), [True, False, True])
    np.testing.assert_array_equal(scores[:, 1], twin.wrong_bits)
    assert np.isnan(gradient).sum() == np.isnan(gradient[2, 1, 3]) == math.isnan(value)


@pytest.mark.parametrize("bit", [0, 1])
def test_a_logit_of_zero_says_0(bit, dtype, engine):
    scores, gradient, twin, _ = scored(engine, np.zeros(SIZE, dtype), np.full(SIZE, bit))
    assert_scores(scores, twin, CLOSE[dtype])
    assert scores[0].tolist() == pytest.approx([T * O, bit * T * O, 1 - bit])
    assert gradient[0, 0, 0] == 0.5 * (0.5 - bit)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_huge_logits_cost_what_they_are(size, dtype, engine):
    """1e30 on the wrong side costs 1e30 nats; on the right side nothing; no NaN comes of it."""
    logits = np.full(SIZE, size, dtype)
    scores, gradient, twin, expected = scored(engine, logits, np.zeros(SIZE))
    assert_scores(scores, twin, CLOSE[dtype])
    close(gradient, expected, CLOSE[dtype])
    scores, gradient, *_ = scored(engine, logits, np.ones(SIZE))
    near(scores, [[0, 0, 1]] * B, 1e-30)
    near(gradient, 0, 1e-30)


@pytest.mark.parametrize("size", [5, 10, 17, 25, 60])
@pytest.mark.parametrize("bit", [0, 1])
def test_tiny_losses_keep_their_digits(size, bit, dtype, engine):
    """Those of a solved task are not lost beside the logits, as torch's are where the bit is 0."""
    scores, *_ = scored(engine, np.full(SIZE, size if bit else -size, dtype), np.full(SIZE, bit))
    expected = T * O * math.log1p(math.exp(-size)) / math.log(2)
    assert scores[:, 0].tolist() == pytest.approx([expected] * B, rel=CLOSE[dtype], abs=0)


# The optimisers


@pytest.mark.parametrize("size", [1, 7, 4095, 4096, 4097, 10_000])
def test_norm(size, dtype, engine):
    gradient = drawn(dtype, size)
    expected = np.linalg.norm(gradient.astype(np.float64))
    assert engine.optim.norm(gradient) == pytest.approx(expected, rel=CLOSE[dtype])
    for value in (math.nan, math.inf):
        gradient[-1] = value
        assert not math.isfinite(engine.optim.norm(gradient))


def rule_of(train):
    optimiser, clip = OPTIMISERS.index(train.optimiser), CLIPS.index(train.clip)
    return Rule(optimiser, train.learning_rate, train.decay, train.momentum, clip, train.clip_at)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", OPTIMISERS[1:])
@pytest.mark.parametrize("size", [5, 2048, 4099])
def test_three_updates(name, clip, size, dtype, engine):
    """By the package's and torch's optimisers and clipping; zeros are left in the gradient."""
    train = TrainConfig(
        sequences=1, vary={}, optimiser=name, learning_rate=0.01, decay=0.8, momentum=0.7,
        clip=clip, clip_at=0.4,
    )  # fmt: skip
    weights, state = drawn(dtype, size), np.zeros((3, size), dtype)
    before = weights.astype(np.float64)
    twin = torch.nn.ParameterList([torch.from_numpy(before.copy())])
    optimiser = make_optimiser(train, twin)
    for update in (1, 2, 3):
        gradient = drawn(dtype, size, seed=update)
        twin[0].grad = torch.from_numpy(gradient.astype(np.float64))
        norm = twin[0].grad.norm()
        assert norm > train.clip_at and twin[0].grad.abs().max() > train.clip_at
        clip_gradients(train, twin, norm)
        optimiser.step()
        found = engine.kernels.advance(rule_of(train), weights, gradient, state, 1.0, update)
        assert found == pytest.approx(norm.item(), rel=CLOSE[dtype]) and not gradient.any()
    moved = twin[0].detach().numpy() - before
    assert (moved != 0).all()
    close(weights.astype(np.float64) - before, moved, 20 * CLOSE[dtype])


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("loss, gradient", [(1.0, math.nan), (1.0, math.inf), (math.inf, 1.0)])
def test_an_update_that_is_not_finite_is_not_made(loss, gradient, clip, dtype, engine):
    train = TrainConfig(sequences=1, vary={}, clip=clip)
    arrays = drawn(dtype, 40), drawn(dtype, 40, seed=1), np.ones((3, 40), dtype)
    arrays[1][-1] = gradient
    before = [array.copy() for array in arrays]
    norm = engine.kernels.advance(rule_of(train), *arrays, loss, 1)
    assert math.isfinite(norm) == (gradient == 1)
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)
