"""The models against torch.nn, against a plain-Python NTM written from the paper, and the registry.

"The paper" is Graves, Wayne, Danihelka 2014.
"""

# B batch, T time, I input, O output, H hidden units, N memory rows, M row width, J heads

import importlib.metadata
import itertools
import math
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from ntmbench.errors import UserError
from ntmbench.generators import AssociativeRecall, Copy, DynamicNgrams, PrioritySort, RepeatCopy
from ntmbench.metrics import score
from ntmbench.models import (
    BUILT_IN,
    ModelSpec,
    build_model,
    complete_arguments,
    find_model,
    known_models,
)
from ntmbench.models.ntm import ADDRESSING, CONTROLLERS, NTM, READ_ORDER
from ntmbench.models.recurrent import GRU, LSTM
from ntmbench.resolve import make_model
from ntmbench.tasks import load_task

MEMORIES, WEIGHTINGS = ("random", "constant", "learned"), ("one-hot", "uniform", "zero")
# Addressing, initial memory and weightings with which heads can tell the rows apart.
STARTS = [
    (mode, memory, weightings)
    for mode, memory, weightings in itertools.product(ADDRESSING, MEMORIES, WEIGHTINGS)
    if (memory == "random" and mode != "location")
    or (weightings == "one-hot" and mode != "content")
]
SMALL = {
    "lstm": {"hidden_size": 4, "layers": 2},
    "gru": {"hidden_size": 4, "layers": 2},
    "ntm": {"hidden_size": 4, "memory_rows": 5, "memory_width": 3},
    "ntm-gru": {"hidden_size": 4, "memory_rows": 5, "memory_width": 3},
    "ntm-ff": {"hidden_size": 4, "memory_rows": 5, "memory_width": 3, "heads": 2},
}


def parameter_count(model):
    return sum(weight.numel() for weight in model.parameters())


def randomised(model, *, scale=0.5, seed=0):
    """`model` in float64 with every parameter drawn, so that no bias or initial state is zero."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, scale, generator=generator)
    return model


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def small(name, input_size=3, output_size=2, **more):
    torch.manual_seed(1)
    return build_model(
        complete_arguments(find_model(name), SMALL[name] | more), input_size, output_size
    )


def flat(state):
    """The tensors of a nested state, in order."""
    if isinstance(state, torch.Tensor):
        return [state]
    return [tensor for part in state for tensor in flat(part)]


def assert_same(a, b, atol=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


# LSTM and GRU


@pytest.mark.parametrize(
    "input_size, output_size, hidden_size, printed",
    [(10, 9, 256, 1_352_969), (8, 7, 512, 5_312_007), (8, 6, 256, 1_344_518), (1, 1, 128, 331_905)],
)
def test_lstm_has_as_many_parameters_as_the_paper_prints(
    input_size, output_size, hidden_size, printed
):
    """Table 3 of the paper: copy and repeat copy with its own channels, recall, N-grams."""
    model = LSTM(input_size, output_size, hidden_size=hidden_size, layers=3)
    assert parameter_count(model) == printed


def stack_count(gates, states, i, h, layers):
    return (
        gates * h * (i + h + 1) + (layers - 1) * gates * h * (i + 2 * h + 1) + states * h * layers
    )


@pytest.mark.parametrize(
    "i, o, h, layers", [(1, 1, 1, 1), (3, 2, 5, 1), (3, 2, 5, 2), (10, 9, 7, 4)]
)
def test_parameter_counts_follow_the_formula(i, o, h, layers):
    readout = (h * layers + 1) * o
    lstm, gru = (made(i, o, hidden_size=h, layers=layers) for made in (LSTM, GRU))
    assert parameter_count(lstm) == stack_count(4, 2, i, h, layers) + readout
    assert parameter_count(gru) == stack_count(3, 1, i, h, layers) + readout


@pytest.mark.parametrize("heads, layers, reach", [(1, 1, 1), (3, 2, 2)])
@pytest.mark.parametrize("reads", ["learned", "zero"])
def test_ntm_parameter_count(heads, layers, reach, reads):
    i, o, h, width = 3, 2, 5, 4
    fed, seen = i + heads * width, h * layers
    controllers = {
        "lstm": stack_count(4, 2, fed, h, layers),
        "gru": stack_count(3, 1, fed, h, layers),
        "ff": h * (fed + 1) + (layers - 1) * h * (fed + h + 1),
    }
    address = width + 3 + 2 * reach + 1  # key, three scalars, shifts
    head_numbers = heads * (2 * address + 2 * width)
    rest = (seen + 1) * head_numbers + (seen + heads * width + 1) * o
    rest += heads * width if reads == "learned" else 0
    for controller, count in controllers.items():
        model = NTM(
            i,
            o,
            controller=controller,
            hidden_size=h,
            layers=layers,
            heads=heads,
            memory_rows=6,
            memory_width=width,
            shift_range=reach,
            initial_reads=reads,
        )
        assert parameter_count(model) == count + rest
        assert all(size != 6 for p in model.parameters() for size in p.shape), (
            "no parameter may have a side of N"
        )


def torch_twin(model):
    """torch.nn's network with the weights of a one-layer stack; its second bias is zero."""
    layer = model.stack.layers[0]
    made = nn.LSTM if isinstance(model, LSTM) else nn.GRU
    hidden_size = layer.recurrent_weight_GH.shape[1]
    twin = made(layer.input_weight_GI.shape[1], hidden_size, batch_first=True).double()
    with torch.no_grad():
        twin.weight_ih_l0.copy_(layer.input_weight_GI)
        twin.weight_hh_l0.copy_(layer.recurrent_weight_GH)
        twin.bias_ih_l0.copy_(layer.bias_G)
        twin.bias_hh_l0.zero_()
    return twin


@pytest.mark.parametrize("made", [LSTM, GRU])
def test_one_layer_equals_torch(made):
    model = randomised(made(3, 2, hidden_size=5, layers=1))
    twin, layer = torch_twin(model), model.stack.layers[0]
    inputs = drawn(4, 6, 3)
    ours_in, theirs_in = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    learned = [model.stack.initial_hidden]
    learned += [model.stack.initial_cell] if made is LSTM else []
    assert all(row.detach().abs().min() > 0 for row in learned), "the test needs them non-zero"
    started = [row.detach().clone().requires_grad_() for row in learned]
    wide = [row.unsqueeze(1).expand(1, 4, 5) for row in started]
    theirs_TH, final = twin(theirs_in, tuple(wide) if made is LSTM else wide[0])
    theirs = nn.functional.linear(
        theirs_TH, model.readout.weight.detach(), model.readout.bias.detach()
    )
    ours, state = model(ours_in)
    assert ours.abs().max() > 0.1
    assert_same(ours, theirs)
    final = final if made is LSTM else (final,)
    for mine, their in zip(flat(state), final, strict=True):
        assert_same(mine, their[0])

    wanted = drawn(4, 6, 2, seed=1)
    (ours * wanted).sum().backward()
    (theirs * wanted).sum().backward()
    pairs = [
        (ours_in.grad, theirs_in.grad),
        (layer.input_weight_GI.grad, twin.weight_ih_l0.grad),
        (layer.recurrent_weight_GH.grad, twin.weight_hh_l0.grad),
        (layer.bias_G.grad, twin.bias_ih_l0.grad),
        *((row.grad, start.grad) for row, start in zip(learned, started, strict=True)),
    ]
    for mine, their in pairs:
        assert mine.abs().max() > 1e-3
        assert_same(mine, their)


@pytest.mark.parametrize("made, cell", [(LSTM, nn.LSTMCell), (GRU, nn.GRUCell)])
def test_three_layers_equal_torch_cells_fed_the_input_and_the_layer_below(made, cell):
    h = 4
    model = randomised(made(3, 2, hidden_size=h, layers=3))
    cells = []
    for layer in model.stack.layers:
        twin = cell(layer.input_weight_GI.shape[1], h).double()
        with torch.no_grad():
            twin.weight_ih.copy_(layer.input_weight_GI)
            twin.weight_hh.copy_(layer.recurrent_weight_GH)
            twin.bias_ih.copy_(layer.bias_G)
            twin.bias_hh.zero_()
        cells.append(twin)
    inputs = drawn(2, 5, 3)
    hidden = [row.expand(2, h) for row in model.stack.initial_hidden]
    memory = [row.expand(2, h) for row in model.stack.initial_cell] if made is LSTM else None
    expected = []
    for step in range(5):
        below = inputs[:, step]
        for k, twin in enumerate(cells):
            fed = below if k == 0 else torch.cat([inputs[:, step], below], 1)
            if memory is None:
                hidden[k] = twin(fed, hidden[k])
            else:
                hidden[k], memory[k] = twin(fed, (hidden[k], memory[k]))
            below = hidden[k]
        expected.append(model.readout(torch.cat(hidden, 1)))
    assert_same(model(inputs)[0], torch.stack(expected, 1))


@pytest.mark.parametrize("made, gates", [(LSTM, 4), (GRU, 3)])
def test_initial_weights(made, gates):
    """Uniform within 1 / sqrt(inputs), reaching near it; zero biases, but a forget bias of 1."""
    torch.manual_seed(0)
    model = made(6, 2, hidden_size=20, layers=2)
    for layer, inputs in zip(model.stack.layers, (6, 26), strict=True):
        bound = 1 / math.sqrt(inputs + 20)
        for weight in (layer.input_weight_GI, layer.recurrent_weight_GH):
            assert 0.9 * bound < weight.abs().max() <= bound and weight.min() < 0 < weight.max()
        bias = layer.bias_G.detach().view(gates, 20)
        for gate, row in enumerate(bias):
            assert (row == (1 if made is LSTM and gate == 1 else 0)).all()
    assert not any(tensor.any() for tensor in flat(model.initial_state(2)))


# The NTM against a plain-Python one


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softplus(x):
    return math.log1p(math.exp(x))


def softmax(values):
    powers = [math.exp(v) for v in values]
    return [p / sum(powers) for p in powers]


def linear(weight, bias, vector):
    rows = zip(weight.tolist(), bias.tolist(), strict=True)
    return [sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in rows]


def affine(layer, fed, hidden):
    """W x + b and U h of a recurrent layer, apart."""
    zeros = torch.zeros_like(layer.bias_G)
    from_input = linear(layer.input_weight_GI, layer.bias_G, fed)
    return from_input, linear(layer.recurrent_weight_GH, zeros, hidden)


def plain_lstm(layer, fed, hidden, cell):
    x, r = affine(layer, fed, hidden)
    size, new_hidden, new_cell = len(hidden), [], []
    for u in range(size):
        i, f, g, o = (x[gate * size + u] + r[gate * size + u] for gate in range(4))
        new_cell.append(sigmoid(f) * cell[u] + sigmoid(i) * math.tanh(g))
        new_hidden.append(sigmoid(o) * math.tanh(new_cell[u]))
    return new_hidden, new_cell


def plain_gru(layer, fed, hidden):
    x, r = affine(layer, fed, hidden)
    size, new_hidden = len(hidden), []
    for u in range(size):
        reset = sigmoid(x[u] + r[u])
        update = sigmoid(x[size + u] + r[size + u])
        candidate = math.tanh(x[2 * size + u] + reset * r[2 * size + u])
        new_hidden.append((1 - update) * candidate + update * hidden[u])
    return new_hidden


def plain_controller(kind, model, fed, state):
    """Features (all layers) and the new state: the hidden vectors and, for the LSTM, the cells."""
    features, new, below = [], [], []
    for k, layer in enumerate(model.controller.layers):
        into = fed + below
        if kind == "ff":
            below = [math.tanh(v) for v in linear(layer.weight, layer.bias, into)]
        elif kind == "gru":
            below = plain_gru(layer, into, state[0][k])
            new.append(below)
        else:
            below, cell = plain_lstm(layer, into, state[0][k], state[1][k])
            new.append((below, cell))
        features += below
    if kind == "ff":
        return features, []
    return features, [new] if kind == "gru" else [[h for h, _ in new], [c for _, c in new]]


def plain_address(mode, numbers, memory, previous, width, reach):
    """Figure 2 of the paper for one head, whose raw numbers are key, beta, gate, shifts, gamma."""
    key, rest = [math.tanh(v) for v in numbers[:width]], numbers[width:]
    beta, gate, gamma = softplus(rest[0]), sigmoid(rest[1]), 1 + softplus(rest[-1])
    shifts, rows = softmax(rest[2:-1]), len(memory)
    weighting = previous
    if mode != "location":
        similarity = []
        for row in memory:
            dot = sum(k * m for k, m in zip(key, row, strict=True))
            similarity.append(dot / (math.hypot(*key) * math.hypot(*row)))  # eq. 6
        weighting = softmax([beta * s for s in similarity])  # eq. 5
    if mode == "content":
        return weighting
    if mode == "content+location":
        pairs = zip(weighting, previous, strict=True)
        weighting = [gate * c + (1 - gate) * p for c, p in pairs]  # eq. 7
    offsets = range(-reach, reach + 1)
    shifted = [
        sum(s * weighting[(i - d) % rows] for s, d in zip(shifts, offsets, strict=True))
        for i in range(rows)
    ]  # eq. 8
    powers = [w**gamma for w in shifted]
    return [p / sum(powers) for p in powers]  # eq. 9


def plain_step(kind, model, inputs, controller, reads, memory, weightings):
    """One step of one sequence, all in lists: logits, then the new state, as it was given."""
    heads, width, reach = len(reads), len(memory[0]), model.shift_range
    fed = inputs + [v for read in reads for v in read]
    features, controller = plain_controller(kind, model, fed, controller)
    numbers = linear(model.head_layer.weight, model.head_layer.bias, features)
    each = width + 3 + 2 * reach + 1
    weightings = [
        plain_address(
            model.addressing, numbers[j * each :][:each], memory, weightings[j], width, reach
        )
        for j in range(2 * heads)
    ]
    rows, before = range(len(memory)), memory
    memory = [list(row) for row in before]
    pieces = [numbers[2 * heads * each + 2 * width * h :][: 2 * width] for h in range(heads)]
    for weighting, piece in zip(weightings[heads:], pieces, strict=True):
        for i, m in itertools.product(rows, range(width)):
            memory[i][m] *= 1 - weighting[i] * sigmoid(piece[m])  # eq. 3
    for weighting, piece in zip(weightings[heads:], pieces, strict=True):
        for i, m in itertools.product(rows, range(width)):
            memory[i][m] += weighting[i] * math.tanh(piece[width + m])  # eq. 4
    read_from = memory if model.reads_after_writes else before
    reads = [
        [sum(weightings[j][i] * read_from[i][m] for i in rows) for m in range(width)]  # eq. 2
        for j in range(heads)
    ]
    seen = features + [v for read in reads for v in read]
    logits = linear(model.readout.weight, model.readout.bias, seen)
    return logits, controller, reads, memory, weightings


def one_sequence(part, b):
    """Sequence `b` of a nested state, as lists."""
    if isinstance(part, torch.Tensor):
        return part[b].tolist()
    return [one_sequence(inner, b) for inner in part]


@pytest.mark.parametrize("controller", sorted(CONTROLLERS))
@pytest.mark.parametrize("heads, layers, reach", [(1, 1, 1), (1, 2, 2), (2, 1, 2), (2, 2, 1)])
@pytest.mark.parametrize("mode", ADDRESSING)
@pytest.mark.parametrize("order", READ_ORDER)
def test_ntm_equals_a_plain_one_step_by_step(controller, heads, layers, reach, mode, order):
    model = randomised(
        NTM(
            3,
            2,
            controller=controller,
            hidden_size=4,
            layers=layers,
            heads=heads,
            memory_rows=5,
            memory_width=3,
            shift_range=reach,
            addressing=mode,
            read_order=order,
        ),
        scale=1.0,
    )
    inputs = drawn(2, 3, 3, seed=1)
    start = model.initial_state(2)
    start = start._replace(  # a memory and weightings that differ between sequences
        memory_BNM=drawn(2, 5, 3, seed=2),
        weightings_BJN=torch.softmax(drawn(2, 2 * heads, 5, seed=3), -1),
    )
    with torch.no_grad():
        logits, end = model(inputs, start)
    assert not torch.allclose(end.memory_BNM, start.memory_BNM, atol=0.1)
    for b in range(2):
        state = [one_sequence(part, b) for part in start]
        for step in range(3):
            expected, *state = plain_step(controller, model, inputs[b, step].tolist(), *state)
            np.testing.assert_allclose(logits[b, step].tolist(), expected, rtol=0, atol=1e-10)
        for mine, plain in zip(end, state, strict=True):
            np.testing.assert_allclose(one_sequence(mine, b), plain, rtol=0, atol=1e-10)


# What the NTM tells of its heads


def uneven(rows, heads, reach, mode, controller, order="before-writes"):
    """A small NTM, and inputs and a state in which nothing is equal to anything else."""
    given = {"hidden_size": 4, "memory_rows": 7, "memory_width": 3, "read_order": order}
    model = NTM(
        3, 2, controller=controller, heads=heads, shift_range=reach, addressing=mode, **given
    )
    model = randomised(model, scale=1.0)
    start = model.initial_state(2, memory_rows=rows)
    start = start._replace(
        memory_BNM=drawn(2, rows, 3, seed=2),
        weightings_BJN=torch.softmax(drawn(2, 2 * heads, rows, seed=3), -1),
    )
    return model, drawn(2, 4, 3, seed=1), start


@pytest.mark.parametrize("controller", sorted(CONTROLLERS))
@pytest.mark.parametrize("heads, reach, rows", [(1, 1, 7), (3, 2, 5), (2, 1, 12)])
@pytest.mark.parametrize("mode", ADDRESSING)
@pytest.mark.parametrize("order", READ_ORDER)
@torch.no_grad()
def test_a_trace_is_what_the_states_of_prefixes_say(controller, heads, reach, rows, mode, order):
    """Weightings and reads are those of the state; the memory follows from erases and adds."""
    model, inputs, state = uneven(rows, heads, reach, mode, controller, order)
    found = model.trace(inputs, state)
    logits, _ = model(inputs, state)
    assert torch.equal(found["logits"], logits) and logits.abs().max() > 0.1
    memory = state.memory_BNM
    for step in range(4):
        _, after = model(inputs[:, : step + 1], state)
        read, write = after.weightings_BJN[:, :heads], after.weightings_BJN[:, heads:]
        assert torch.equal(found["read_weightings"][:, step], read)
        assert torch.equal(found["write_weightings"][:, step], write)
        assert torch.equal(found["reads"][:, step], after.reads_BHM)
        read_from = after.memory_BNM if order == "after-writes" else memory
        assert_same(found["reads"][:, step], torch.einsum("bhn,bnm->bhm", read, read_from))  # eq. 2
        erased = torch.einsum("bhn,bhm->bhnm", write, found["erases"][:, step])
        added = torch.einsum("bhn,bhm->bnm", write, found["adds"][:, step])
        expected = memory * (1 - erased).prod(1) + added  # eq. 3, 4
        assert not torch.allclose(after.memory_BNM, memory, atol=1e-3)
        memory = after.memory_BNM
        assert_same(memory, expected)


@pytest.mark.parametrize("heads, reach", [(1, 1), (2, 2)])
@pytest.mark.parametrize("mode", ADDRESSING)
@torch.no_grad()
def test_a_trace_tells_the_parameters_that_its_addressing_uses(heads, reach, mode):
    """From the numbers of the head layer, by section 3.3 of the paper, in lists."""
    model, inputs, state = uneven(7, heads, reach, mode, "lstm")
    raw = []
    with model.head_layer.register_forward_hook(lambda *call: raw.append(call[-1])):
        found = model.trace(inputs, state)
    used = {
        "content+location": {"key_strength", "gate", "shift", "gamma"},
        "content": {"key_strength"},
        "location": {"shift", "gamma"},
    }[mode]
    of_both = {f"{kind}_{name}" for kind in ("read", "write") for name in {"weightings", *used}}
    assert set(found) == {"logits", "reads", "adds", "erases"} | of_both
    each = 3 + 3 + 2 * reach + 1
    for step, b, j in itertools.product(range(4), range(2), range(2 * heads)):
        beta, gate, *shifts, gamma = raw[step][b, j * each + 3 : (j + 1) * each].tolist()
        expected = {
            "key_strength": softplus(beta),
            "gate": sigmoid(gate),
            "shift": softmax(shifts),
            "gamma": 1 + softplus(gamma),
        }
        kind, head = ("read", j) if j < heads else ("write", j - heads)
        for name in used:
            mine = found[f"{kind}_{name}"][b, step, head].tolist()
            np.testing.assert_allclose(mine, expected[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(name for name in SMALL if name.startswith("ntm")))
@torch.no_grad()
def test_the_logits_of_a_trace_are_forwards_bit_for_bit_in_single_precision(name):
    model, inputs = small(name), drawn(3, 6, 3).float()
    for rows in (None, 9):
        state = None if rows is None else model.initial_state(3, memory_rows=rows)
        found, (logits, _) = model.trace(inputs, state), model(inputs, state)
        assert torch.equal(found["logits"], logits) and logits.any()
        assert found["read_weightings"].shape == (3, 6, model.heads, rows or 5)
    again = model.trace(inputs[:, 2:], model(inputs[:, :2])[1])
    whole = model.trace(inputs)
    for key, tensor in whole.items():
        assert_same(again[key], tensor[:, 2:], atol=1e-6)
        assert tensor.dtype == torch.float32


# Gradients


def check_gradients(model, inputs, fast):
    names = [name for name, _ in model.named_parameters()]
    weights = [weight.detach().clone().requires_grad_() for weight in model.parameters()]

    def logits_of(*values):
        return functional_call(model, dict(zip(names, values, strict=True)), (inputs,))[0]

    assert torch.autograd.gradcheck(logits_of, weights, fast_mode=fast)
    grads = torch.autograd.grad(logits_of(*weights).square().sum(), weights)
    return {name: grad.abs().max().item() for name, grad in zip(names, grads, strict=True)}


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_recurrent_finite_differences(name):
    model = randomised(small(name, 2, 1, hidden_size=2))
    largest = check_gradients(model, drawn(2, 3, 2), fast=False)
    assert min(largest.values()) > 1e-6, largest


@pytest.mark.parametrize("controller", sorted(CONTROLLERS))
def test_ntm_finite_differences_in_every_parameter(controller):
    torch.manual_seed(0)
    sizes = {"hidden_size": 2, "memory_rows": 3, "memory_width": 2}
    model = randomised(NTM(1, 1, controller=controller, **sizes))
    largest = check_gradients(model, drawn(1, 3, 1), fast=False)
    assert min(largest.values()) > 1e-6, largest


@pytest.mark.parametrize("controller", sorted(CONTROLLERS))
@pytest.mark.parametrize("reads", ["learned", "zero"])
@pytest.mark.parametrize("mode, memory, weightings", STARTS)
def test_ntm_finite_differences_in_a_random_direction(controller, mode, memory, weightings, reads):
    torch.manual_seed(0)
    model = NTM(
        1,
        1,
        controller=controller,
        hidden_size=2,
        heads=2,
        memory_rows=4,
        memory_width=2,
        addressing=mode,
        initial_memory=memory,
        initial_weightings=weightings,
        initial_reads=reads,
    )
    largest = check_gradients(randomised(model), drawn(1, 3, 1), fast=True)
    assert min(largest.values()) > 1e-9, largest


# The contract of a model


@pytest.mark.parametrize("name", sorted(SMALL))
def test_two_halves_with_the_state_carried_equal_the_whole(name):
    model, inputs = randomised(small(name)), drawn(3, 7, 3)
    with torch.no_grad():
        whole, end = model(inputs)
        first, state = model(inputs[:, :4])
        second, end_of_second = model(inputs[:, 4:], state)
        forgetful, _ = model(inputs[:, 4:])
    assert_same(torch.cat([first, second], 1), whole)
    assert (forgetful - second).abs().max() > 1e-3, "the state must matter"
    for a, b in zip(flat(end), flat(end_of_second), strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_permuted_batch_permutes(name):
    model, inputs = randomised(small(name)), drawn(4, 5, 3)
    order = [2, 0, 3, 1]
    with torch.no_grad():
        logits, _ = model(inputs)
        permuted, _ = model(inputs[order])
    assert not torch.allclose(logits[0], logits[1])
    assert_same(permuted, logits[order])


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_state_is_a_value(name):
    """Two calls give the same, and a call changes neither the state given nor the initial one."""
    model, inputs = randomised(small(name)), drawn(3, 5, 3)
    with torch.no_grad():
        _, state = model(inputs)
        copies = [tensor.clone() for tensor in flat(state)]
        once, after_once = model(inputs, state)
        twice, after_twice = model(inputs, state)
        fresh, _ = model(inputs)
        started, _ = model(inputs, model.initial_state(3))
    assert torch.equal(once, twice) and torch.equal(fresh, started)
    assert (once - fresh).abs().max() > 1e-3
    for kept, copy in zip(flat(state), copies, strict=True):
        assert torch.equal(kept, copy)
    for a, b in zip(flat(after_once), flat(after_twice), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize(
    "generator, axes",
    [
        (Copy(width=2), {"length": [1, 4, 2]}),
        (RepeatCopy(width=2), {"length": [1, 3, 2], "repeats": [3, 1, 2]}),
        (AssociativeRecall(width=3, item_length=2), {"items": [2, 4, 3]}),
        (DynamicNgrams(context=2), {"bits": [3, 9, 5]}),
        (PrioritySort(width=2), {"vectors": [2, 6, 4]}),
    ],
    ids=["copy", "repeat copy", "recall", "n-grams", "sort"],
)
def test_a_padded_sequence_scores_as_it_does_alone(name, generator, axes):
    model = randomised(small(name, generator.input_size, generator.output_size))
    axes = {axis: np.array(values) for axis, values in axes.items()}
    mixed = generator.sample(np.random.default_rng(5), 3, **axes)
    rng = np.random.default_rng(5)
    alone = [
        generator.sample(rng, 1, **{axis: int(v[row]) for axis, v in axes.items()})
        for row in range(3)
    ]
    assert len({len(batch.mask_BT[0]) for batch in alone}) > 1, "nothing was padded"

    def scores(batch):
        inputs, targets, mask = (torch.from_numpy(part).double() for part in batch)
        with torch.no_grad():
            return score(model(inputs)[0], targets, mask)

    together = scores(mixed)
    for row, batch in enumerate(alone):
        single = scores(batch)
        assert_same(together.loss_bits[row], single.loss_bits[0], atol=1e-10)
        assert together.wrong_bits[row] == single.wrong_bits[0]
        assert together.exact[row] == single.exact[0]
        steps = batch.mask_BT.shape[1]
        assert_same(together.step_bits_BT[row, :steps], single.step_bits_BT[0], atol=1e-10)
        assert not together.step_bits_BT[row, steps:].any()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_state_dict_round_trip(name):
    source, target = small(name), small(name)
    with torch.no_grad():
        for tensor in source.state_dict().values():
            tensor.add_(torch.randn_like(tensor))
    inputs = torch.randn(2, 5, 3)
    with torch.no_grad():
        assert not torch.allclose(source(inputs)[0], target(inputs)[0])
        target.load_state_dict(source.state_dict())
        assert torch.equal(source(inputs)[0], target(inputs)[0])


# The NTM's initial state


def ntm(**arguments):
    sizes = {"hidden_size": 4, "memory_rows": 6, "memory_width": 3}
    return NTM(2, 2, **(sizes | arguments))


def test_random_memory_is_drawn_once_and_saved_but_not_learned():
    torch.manual_seed(1)
    model, other = ntm(), ntm()
    memory, bound = model.initial_state(2).memory_BNM, 1 / math.sqrt(6 + 3)
    assert memory.shape == (2, 6, 3) and torch.equal(memory[0], memory[1])
    assert torch.equal(memory, model.initial_state(2).memory_BNM)
    assert not torch.equal(memory, other.initial_state(2).memory_BNM)
    assert bound / 2 < memory.abs().max() <= bound and memory.min() < 0 < memory.max()
    assert "initial_memory_NM" not in dict(model.named_parameters())
    assert torch.equal(model.state_dict()["initial_memory_NM"], memory[0])


def test_constant_memory_is_constant_and_learned_memory_one_row():
    constant = ntm(initial_memory="constant")
    assert (constant.initial_state(2).memory_BNM == torch.tensor(1e-6)).all()
    assert "initial_memory_NM" not in constant.state_dict()
    learned = ntm(initial_memory="learned")
    row = dict(learned.named_parameters())["initial_memory_NM"]
    assert row.shape == (1, 3) and row.detach().any()
    assert torch.equal(learned.initial_state(2).memory_BNM, row.expand(2, 6, 3))
    learned(torch.ones(1, 2, 2))[0].sum().backward()
    assert row.grad.any()


@pytest.mark.parametrize("heads", [1, 3])
def test_initial_weightings(heads):
    def made(kind):
        weightings = ntm(heads=heads, initial_weightings=kind).initial_state(2).weightings_BJN
        assert weightings.shape == (2, 2 * heads, 6)
        return weightings

    one_hot = made("one-hot")
    assert (one_hot[..., 0] == 1).all() and not one_hot[..., 1:].any()
    assert (made("uniform") == torch.tensor(1 / 6)).all()
    assert not made("zero").any()


def test_initial_reads():
    learned, zero = ntm(heads=2), ntm(heads=2, initial_reads="zero")
    assert dict(learned.named_parameters())["initial_reads_HM"].shape == (2, 3)
    assert "initial_reads_HM" not in dict(zero.named_parameters())
    assert "initial_reads_HM" not in zero.state_dict()
    assert zero.initial_state(5).reads_BHM.shape == (5, 2, 3)
    assert not zero.initial_state(5).reads_BHM.any()
    with torch.no_grad():
        learned.initial_reads_HM.add_(2)
    assert (learned.initial_state(5).reads_BHM == 2).all()


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("reach", [1, 2])
def test_strengths_gates_and_sharpenings_can_begin_elsewhere(heads, reach):
    """Each bias reaches its own numbers of every head, and nothing else is drawn differently."""
    sizes = {"heads": heads, "shift_range": reach, "memory_rows": 8}

    def biases(**given):
        torch.manual_seed(1)
        model = ntm(**sizes, **given)
        with torch.no_grad():
            values = model._head_values(torch.zeros(1, model.controller.output_size))
        return model.head_layer.bias.detach().clone(), values

    usual, _ = biases()
    moved, values = biases(beta_bias=3, gate_bias=-2.0, gamma_bias=1)
    added, counts = (moved - usual).round(decimals=4).unique(return_counts=True)
    assert dict(zip(added.tolist(), counts.tolist(), strict=True)) == {
        -2: 2 * heads,
        0: len(usual) - 6 * heads,
        1: 2 * heads,
        3: 2 * heads,
    }
    bound = 1 / math.sqrt(ntm(**sizes).head_layer.in_features)
    assert (values.beta_BJ1.expm1().log() - 3).abs().max() <= bound + 1e-5
    assert (values.gate_BJ1.logit() + 2).abs().max() <= bound + 1e-5
    assert ((values.gamma_BJ1 - 1).expm1().log() - 1).abs().max() <= bound + 1e-5


@pytest.mark.parametrize(("heads", "reach"), [(1, 1), (3, 2)])
def test_read_keys_can_begin_as_what_the_write_heads_add(heads, reach):
    """With "adds" they are equal, whatever the features, and nothing else is drawn differently."""

    def begun(initial_keys):
        torch.manual_seed(1)
        sizes = {"heads": heads, "shift_range": reach, "memory_rows": 8}
        model = ntm(**sizes, initial_keys=initial_keys, beta_bias=3.0)
        features_BF = drawn(4, model.controller.output_size).to(model.head_layer.weight)
        with torch.no_grad():
            return model._head_values(features_BF)

    own, adds = begun("own"), begun("adds")
    assert not torch.allclose(own.key_BJM[:, :heads], own.add_BHM, atol=1e-3)
    torch.testing.assert_close(adds.key_BJM[:, :heads], adds.add_BHM, rtol=0, atol=1e-6)
    assert torch.equal(adds.key_BJM[:, heads:], own.key_BJM[:, heads:])
    for name in set(own._fields) - {"key_BJM"}:
        assert torch.equal(getattr(adds, name), getattr(own, name)), name


@pytest.mark.parametrize(("heads", "reach"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_write_heads_can_begin_by_writing_in_sequence(controller, heads, reach):
    """Untrained, their step t is at location t, on whatever input; read heads do as they did."""

    def begun(initial_writes):
        torch.manual_seed(1)
        sizes = {"heads": heads, "shift_range": reach, "memory_rows": 16}
        model = ntm(**sizes, controller=controller, initial_writes=initial_writes)
        with torch.no_grad():
            return model, model.trace(drawn(4, 10, 2).to(model.head_layer.weight))

    own, own_trace = begun("own")
    sequential, trace = begun("sequential")
    weightings_BTHN = trace["write_weightings"]
    assert weightings_BTHN.amax(-1).min() > 0.9
    expected_T = torch.arange(1, 11)[:, None]
    assert (weightings_BTHN.argmax(-1) == expected_T).all()
    assert not (own_trace["write_weightings"].argmax(-1) == expected_T).all()
    difference_X = (sequential.head_layer.bias - own.head_layer.bias).detach()
    width = sequential.memory_width
    read_size = width + 3 + 2 * reach + 1
    of_writes_HX = difference_X[heads * read_size : 2 * heads * read_size].unflatten(0, (heads, -1))
    expected_X = torch.zeros(read_size)
    gate, forward = width + 1, width + 2 + reach + 1  # after the key: beta, gate, shifts, gamma
    expected_X[gate], expected_X[forward], expected_X[-1] = -3, 4, 3
    torch.testing.assert_close(of_writes_HX.float(), expected_X.expand(heads, -1))
    assert difference_X.count_nonzero() == 3 * heads
    states = own.state_dict(), sequential.state_dict()
    for name in set(states[0]) - {"head_layer.bias"}:
        assert torch.equal(states[0][name], states[1][name]), name


@pytest.mark.parametrize("controller", CONTROLLERS)
@torch.no_grad()
def test_the_first_read_heads_can_begin_by_reading_what_was_written_last(controller):
    """Nothing else is drawn differently; memory begins so small that only what is written shows."""

    def begun(**given):
        torch.manual_seed(1)
        sizes = {"heads": 3, "memory_rows": 16, "memory_scale": 1e-3, "read_order": "after-writes"}
        return ntm(**sizes, controller=controller, initial_writes="sequential", **given)

    own, model = begun(), begun(sequential_reads=2)
    difference_JX = (model.head_layer.bias - own.head_layer.bias)[: 6 * 9].unflatten(0, (6, 9))
    expected_X = torch.tensor([0, 0, 0, 0, -3.0, 0, 0, 4, 3])  # key, beta, gate, shifts, gamma
    torch.testing.assert_close(difference_JX[:2], expected_X.expand(2, -1))
    assert not difference_JX[2:].any()
    states = own.state_dict(), model.state_dict()
    for name in set(states[0]) - {"head_layer.bias"}:
        assert torch.equal(states[0][name], states[1][name]), name
    found = model.trace(drawn(4, 10, 2).to(model.head_layer.weight))
    written_BTM = found["adds"].sum(2)  # all write heads are at one location
    torch.testing.assert_close(found["reads"][:, :, 0], written_BTM, rtol=0, atol=0.1)
    torch.testing.assert_close(found["reads"][:, :, 1], written_BTM, rtol=0, atol=0.1)
    assert not torch.allclose(found["reads"][:, :, 2], written_BTM, rtol=0, atol=0.5)


@pytest.mark.parametrize("asked", [{"initial_writes": "sequential"}, {"sequential_reads": 1}])
@pytest.mark.parametrize("start", [{"addressing": "content"}, {"initial_weightings": "uniform"}])
def test_heads_in_sequence_need_shifts_and_a_location_to_begin_at(asked, start):
    with pytest.raises(UserError, match=f"^{next(iter(asked))} .* needs heads that shift"):
        ntm(**asked, **start)


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize(
    "start",
    [
        {},
        {"initial_writes": "sequential"},
        {"sequential_reads": 2},
        {"initial_keys": "adds", "gate_bias": 1.0, "gamma_bias": 2.0},
    ],
)
@torch.no_grad()
def test_the_last_write_heads_can_begin_where_the_read_heads_are(controller, start):
    """Whatever these begin with. They erase little, and nothing else is drawn differently."""

    def begun(**given):
        torch.manual_seed(1)
        return ntm(heads=3, controller=controller, **start, **given)

    own, model = begun(), begun(erasing_writes=2)
    inputs_STI = drawn(4, 10, 2).to(model.head_layer.weight)
    for name, changed in model.state_dict().items():
        if not name.startswith("head_layer."):
            assert torch.equal(changed, own.state_dict()[name]), name
    found = model.trace(inputs_STI)
    for said in ("weightings", "key_strength", "gate", "shift", "gamma"):
        reads, writes = found[f"read_{said}"], found[f"write_{said}"]
        torch.testing.assert_close(reads[:, :, 1:], writes[:, :, 1:], rtol=0, atol=1e-6, msg=said)
        assert not torch.allclose(reads[:, :, 0], writes[:, :, 0], rtol=0, atol=1e-3), said
    erased_H = found["erases"].mean((0, 1, 3))
    assert (erased_H[1:] < 0.1).all() and erased_H[0] > 0.3
    assert torch.equal(found["adds"][:, 0], own.trace(inputs_STI)["adds"][:, 0])


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_controllers_can_begin_without_a_look_at_what_is_read(controller, layers):
    """Another memory gives other reads, and heads do the same. Nothing else is drawn otherwise."""

    def begun(**given):
        torch.manual_seed(1)
        return ntm(controller=controller, layers=layers, heads=2, hidden_size=5, **given)

    def said(model, scale):
        model.initial_memory_NM *= scale
        return model.trace(drawn(4, 10, 2).to(model.head_layer.weight))

    own, model = begun(), begun(initial_feedback="none")
    for name, changed in model.state_dict().items():
        before = own.state_dict()[name]
        if "weight" in name and "controller" in name and "recurrent" not in name:
            fed, of_reads = before.clone(), slice(2, 2 + 2 * 3)  # after two inputs
            assert fed[:, of_reads].all()
            fed[:, of_reads] = 0
            before = fed
        assert torch.equal(changed, before), name
    for of, same in ((own, False), (model, True)):
        once, twice = said(of, 1), said(of, 2)
        assert not torch.equal(once["reads"], twice["reads"])
        assert not torch.equal(once["logits"], twice["logits"])
        for name in ("read_key_strength", "write_gate", "adds", "erases"):
            assert torch.equal(once[name], twice[name]) == same, name


def test_one_head_can_begin_by_erasing_what_it_reads_but_not_in_sequence_as_well():
    assert ntm(heads=1, erasing_writes=1)
    with pytest.raises(UserError, match="erasing_writes 2 leaves none of 2 write heads for"):
        ntm(heads=2, erasing_writes=2, initial_writes="sequential")


@pytest.mark.parametrize("name", ["sequential_reads", "erasing_writes"])
@pytest.mark.parametrize("value", [-1, 3, 1.0, True, "1"])
def test_heads_that_begin_otherwise_are_a_number_of_heads(name, value):
    with pytest.raises(UserError, match=f"{name} must be a whole number from 0 to heads, which is"):
        ntm(heads=2, **{name: value})


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("controller", ["lstm", "gru"])
def test_controllers_can_begin_by_keeping_their_state(controller, layers):
    """With a large bias what a unit was stays in what it is; nothing else is drawn differently."""

    def begun(forget_bias):
        torch.manual_seed(1)
        return ntm(controller=controller, layers=layers, hidden_size=5, forget_bias=forget_bias)

    usual, keeping = begun(0.0), begun(40)
    states = usual.state_dict(), keeping.state_dict()
    for name, before in states[0].items():
        change = states[1][name] - before
        if name.startswith("controller.layers") and name.endswith("bias_G"):
            of_gates_GH = change.unflatten(0, (-1, 5))
            assert (of_gates_GH[1] == 40).all()
            of_gates_GH[1] = 0
        assert not change.any(), name

    input_BI = drawn(3, keeping.controller.layers[0].input_weight_GI.shape[1])

    def difference_kept(model):
        """By how much two states that differ by 1 in every cell (GRU: unit) differ a step on."""
        state = model.controller.initial_state(3)
        other = state._replace(**{state._fields[-1]: tuple(x + 1 for x in state[-1])})
        with torch.no_grad():
            steps = [model.controller.step(input_BI.to(x[-1][0]), x)[1][-1] for x in (state, other)]
        return steps[1][0] - steps[0][0]

    ones = torch.ones_like(difference_kept(keeping))
    torch.testing.assert_close(difference_kept(keeping), ones)
    assert (difference_kept(usual) < 0.9).all()


def test_a_controller_without_a_state_cannot_keep_it():
    assert ntm(controller="ff", forget_bias=0)
    with pytest.raises(UserError, match="forget_bias must be 0 with controller 'ff'"):
        ntm(controller="ff", forget_bias=1.0)


@pytest.mark.parametrize("name", ["beta_bias", "gate_bias", "gamma_bias", "forget_bias"])
@pytest.mark.parametrize("value", [True, "1", None, 101.0, math.inf, math.nan])
def test_biases_are_numbers(name, value):
    with pytest.raises(UserError, match=f"{name} must be a number from -100 to 100, not "):
        ntm(**{name: value})


@pytest.mark.parametrize("memory", ["random", "learned"])
def test_memory_can_begin_larger(memory):
    """Every number of it, and of rows past the trained ones, and nothing else."""

    def begun(scale):
        torch.manual_seed(1)
        model = ntm(initial_memory=memory, memory_scale=scale, memory_rows=20)
        return model.initial_state(1, memory_rows=30).memory_BNM, model.state_dict()

    (usual_BNM, usual), (large_BNM, large) = begun(1.0), begun(12)
    torch.testing.assert_close(large_BNM, 12 * usual_BNM)
    assert usual.keys() == large.keys()
    for name in usual.keys() - {"initial_memory_NM"}:
        assert torch.equal(usual[name], large[name]), name


@pytest.mark.parametrize("scale", [True, "1", None, 0, -1.0, 1001, math.inf, math.nan])
def test_scales_are_numbers_over_0(scale):
    with pytest.raises(UserError, match="memory_scale must be a number over 0 and up to 1000, not"):
        ntm(memory_scale=scale)
    with pytest.raises(UserError, match="row_floor must be a number from 1e-06 to 1000, not"):
        ntm(row_floor=scale)


def test_a_floor_so_low_that_its_square_is_lost_is_refused():
    with pytest.raises(UserError, match="row_floor must be a number from 1e-06 to 1000, not 1e-30"):
        ntm(row_floor=1e-30)


def test_a_constant_memory_has_no_scale():
    assert ntm(initial_memory="constant", memory_scale=1)
    with pytest.raises(UserError, match="memory_scale must be 1 with initial_memory 'constant'"):
        ntm(initial_memory="constant", memory_scale=2.0)


@pytest.mark.parametrize("mode", ADDRESSING)
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("weightings", WEIGHTINGS)
def test_no_model_that_can_be_made_keeps_its_weightings_uniform_for_ever(mode, memory, weightings):
    """Equal rows, or heads that are everywhere alike with nothing to tell rows apart, stay so."""
    try:
        model = ntm(addressing=mode, initial_memory=memory, initial_weightings=weightings)
    except UserError:
        return
    assert (mode, memory, weightings) in STARTS
    model = randomised(model, scale=2.0)
    with torch.no_grad():
        _, state = model(drawn(1, 10, 2))
    spread = state.weightings_BJN.amax(-1) - state.weightings_BJN.amin(-1)
    assert spread.max() > 1e-3


@pytest.mark.parametrize("memory", ["constant", "learned"])
def test_equal_rows_with_uniform_weightings_are_refused(memory):
    with pytest.raises(UserError, match=f"initial_memory '{memory}'.*uniform.*one-hot"):
        ntm(initial_memory=memory, initial_weightings="uniform")


# Another number of memory rows


@pytest.mark.parametrize("rows", [3, 5, 6, 9, 40])
@pytest.mark.parametrize("memory", MEMORIES)
def test_memory_rows_can_change_at_test_time(rows, memory):
    model = ntm(initial_memory=memory).double()
    trained = model.initial_state(2).memory_BNM
    state = model.initial_state(2, memory_rows=rows)
    assert state.memory_BNM.shape == (2, rows, 3) and state.memory_BNM.dtype == torch.float64
    assert state.weightings_BJN.shape == (2, 2, rows)
    assert (state.weightings_BJN[..., 0] == 1).all() and state.weightings_BJN.sum() == 4
    both = min(rows, 6)
    assert torch.equal(state.memory_BNM[:, :both], trained[:, :both])
    with torch.no_grad():
        inputs = drawn(2, 5, 2)
        logits, end = model(inputs, state)
        usual, _ = model(inputs)
    assert end.memory_BNM.shape == (2, rows, 3) and logits.isfinite().all()
    assert (rows == 6) == torch.equal(logits, usual)


def test_rows_past_the_trained_ones_are_drawn_like_them_and_always_the_same():
    torch.manual_seed(1)
    model = ntm()
    memory = model.initial_state(1, memory_rows=60).memory_BNM[0]
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = model.initial_state(1, memory_rows=60).memory_BNM[0]
    assert torch.equal(memory, again) and torch.equal(torch.get_rng_state(), before)
    fewer = model.initial_state(1, memory_rows=20).memory_BNM[0]
    assert torch.equal(fewer, memory[:20])
    bound = 1 / math.sqrt(6 + 3)  # of the trained size, whatever the new one
    assert 0.9 * bound < memory[6:].abs().max() <= bound
    assert len(memory.unique(dim=0)) == 60, "all rows differ"


@pytest.mark.parametrize("rows", [0, -4, 2.0, True, "8"])
def test_memory_rows_that_are_no_size_are_refused(rows):
    with pytest.raises(UserError, match=r"memory_rows must be a whole number of 1 or more, not"):
        ntm().initial_state(1, memory_rows=rows)


@pytest.mark.parametrize("reach, rows", [(1, 2), (2, 4)])
def test_fewer_rows_than_the_shifts_need_are_refused(reach, rows):
    for refuse in (
        lambda: ntm(shift_range=reach, memory_rows=rows),
        lambda: ntm(shift_range=reach).initial_state(1, memory_rows=rows),
    ):
        with pytest.raises(UserError, match=f"shift_range {reach} is wider.*which is {rows}"):
            refuse()
    assert ntm(shift_range=reach, memory_rows=rows + 1).memory_rows == rows + 1


# What constructors refuse


@pytest.mark.parametrize(
    "argument, value, allowed",
    [
        ("controller", "rnn", "lstm, gru, ff"),
        ("addressing", "location+content", r"content\+location, content, location"),
        ("initial_memory", "zero", "random, constant, learned"),
        ("initial_weightings", "random", "one-hot, uniform, zero"),
        ("initial_reads", "random", "learned, zero"),
        ("initial_feedback", "zero", "own, none"),
        ("initial_keys", "learned", "own, adds"),
        ("initial_writes", "random", "own, sequential"),
        ("read_order", "after", "before-writes, after-writes"),
    ],
)
def test_ntm_refuses_a_choice_that_is_none(argument, value, allowed):
    with pytest.raises(UserError, match=rf"{argument} must be one of {allowed}, not '"):
        ntm(**{argument: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
@pytest.mark.parametrize(
    "argument", ["hidden_size", "layers", "heads", "memory_rows", "memory_width", "shift_range"]
)
@pytest.mark.parametrize("controller", sorted(CONTROLLERS))
def test_ntm_refuses_a_size_that_is_none(argument, value, controller):
    with pytest.raises(UserError, match=f"{argument} must be a whole number of 1 or more, not "):
        ntm(**{"controller": controller, argument: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
@pytest.mark.parametrize("argument", ["hidden_size", "layers"])
@pytest.mark.parametrize("made", [LSTM, GRU])
def test_recurrent_models_refuse_a_size_that_is_none(made, argument, value):
    with pytest.raises(UserError, match=f"{argument} must be a whole number of 1 or more, not "):
        made(2, 2, **{argument: value})


# The registry


OWN_MODEL = """
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self, input_size, output_size, *, units, slope=2.0):
        super().__init__()
        if units > 100:
            raise ValueError("too many units")
        self.sizes = (input_size, output_size, units, slope)
        self.layer = nn.Linear(input_size, output_size)
    def initial_state(self, batch_size):
        return ()
    def forward(self, inputs_BTI, state=None):
        return self.layer(inputs_BTI), ()

class Hiding(Mine):
    def __init__(self, input_size, output_size, **keywords):
        super().__init__(input_size, output_size, **keywords)

class Stateless(nn.Module):
    def __init__(self, input_size, output_size):
        super().__init__()

number = 3
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """The name of a module beside the user, in the current folder."""
    (tmp_path / "own_ntmbench_model.py").write_text(OWN_MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "own_ntmbench_model"
    sys.modules.pop("own_ntmbench_model", None)


@pytest.mark.parametrize(
    "name, made, controller",
    [
        ("lstm", "LSTM", None),
        ("gru", "GRU", None),
        ("ntm", "NTM", "lstm"),
        ("ntm-lstm", "NTM", "lstm"),
        ("ntm-gru", "NTM", "gru"),
        ("ntm-ff", "NTM", "ff"),
    ],
)
def test_models_by_name(name, made, controller):
    spec = complete_arguments(find_model(name), {})
    assert spec.arguments.get("controller") == controller
    model = build_model(spec, 3, 2)
    assert type(model).__name__ == made
    if controller:
        assert type(model.controller) is CONTROLLERS[controller]
    assert model(torch.zeros(2, 4, 3))[0].shape == (2, 4, 2)


def test_the_built_in_models_are_these():
    assert set(BUILT_IN) == {
        "lstm", "lstm-large", "gru", "gru-large", "ntm", "ntm-gru", "ntm-ff",
    }  # fmt: skip
    assert known_models().keys() >= BUILT_IN.keys()
    assert all(spec.name == name for name, spec in BUILT_IN.items())
    assert find_model("ntm-lstm") is find_model("ntm")


@pytest.mark.parametrize(
    "name, nearest", [("ltsm", "lstm"), ("ntm_ff", "ntm-ff"), ("ntm-lsm", "ntm-lstm")]
)
def test_an_unknown_model_gives_the_nearest(name, nearest):
    with pytest.raises(UserError, match=f"unknown model '{name}'; did you mean '{nearest}'"):
        find_model(name)


def test_an_unknown_model_lists_all():
    with pytest.raises(UserError, match="unknown model 'xyzzy'") as caught:
        find_model("xyzzy")
    assert "did you mean" not in str(caught.value)
    assert all(name in str(caught.value) for name in [*BUILT_IN, "ntm-lstm", "module:Class"])


def test_an_installed_package_adds_a_model_but_replaces_none(monkeypatch, own_module):
    points = [
        importlib.metadata.EntryPoint(name, f"{own_module}:Mine", "ntmbench.models")
        for name in ("theirs", "lstm")
    ]
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda group: points if group == "ntmbench.models" else [],
    )
    spec = complete_arguments(find_model("theirs"), {"units": 3})
    assert type(build_model(spec, 3, 2)).__name__ == "Mine"
    assert find_model("lstm") is BUILT_IN["lstm"]


def test_a_class_beside_the_user(own_module):
    spec = find_model(f"{own_module}:Mine")
    assert spec.name == f"{own_module}.Mine", "it becomes a folder's name: without a colon"
    complete = complete_arguments(spec, {"units": 3})
    assert complete.arguments == {"units": 3, "slope": 2.0}
    model = build_model(complete, 5, 4)
    assert model.sizes == (5, 4, 3, 2.0)
    assert model(torch.zeros(2, 3, 5))[0].shape == (2, 3, 4)


def test_a_constructor_with_keywords_is_refused(own_module):
    with pytest.raises(UserError, match=r"takes \*\*keywords"):
        complete_arguments(find_model(f"{own_module}:Hiding"), {"units": 3})


def test_a_required_argument_must_be_given(own_module):
    with pytest.raises(UserError, match=r"needs --set model.units=VALUE"):
        complete_arguments(find_model(f"{own_module}:Mine"), {"slope": 1.0})


def test_a_class_without_the_methods_is_refused(own_module):
    spec = complete_arguments(find_model(f"{own_module}:Stateless"), {})
    with pytest.raises(UserError, match=r"has no method initial_state\(\)"):
        build_model(spec, 3, 2)


@pytest.mark.parametrize("units", [101, "many"])
def test_what_a_constructor_raises_is_the_users_error(own_module, units):
    spec = complete_arguments(find_model(f"{own_module}:Mine"), {"units": units})
    with pytest.raises(UserError, match=r"cannot be made with .*units"):
        build_model(spec, 3, 2)


@pytest.mark.parametrize(
    "target, message",
    [
        ("own_ntmbench_model:Mime", "unknown class .*did you mean 'Mine'"),
        ("own_ntmbench_model:number", "unknown class in own_ntmbench_model 'number'"),
        ("no_such_module_at_all:Mine", "importing no_such_module_at_all failed"),
        ("own_ntmbench_model:", "must be given as package.module:Class"),
        (":Mine", "must be given as package.module:Class"),
    ],
)
def test_a_class_that_is_not_there(own_module, target, message):
    with pytest.raises(UserError, match=message):
        complete_arguments(find_model(target), {})


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_misspelt_argument_gives_the_nearest(name):
    with pytest.raises(
        UserError, match=f"argument of model '{name}' 'hiden_size'; did you mean 'hidden_size'"
    ):
        complete_arguments(find_model(name), {"hiden_size": 3})


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_input_and_output_size_cannot_be_set(name):
    with pytest.raises(UserError, match=r"unknown argument .*'input_size'"):
        complete_arguments(find_model(name), {"input_size": 3})


def test_given_arguments_win_over_the_named_models_own():
    assert complete_arguments(find_model("ntm"), {"controller": "ff"}).arguments["controller"] == (
        "ff"
    )
    spec = ModelSpec(name="ntm", target=BUILT_IN["ntm"].target, arguments={"heads": 2})
    arguments = complete_arguments(spec, {"layers": 3}).arguments
    assert (arguments["heads"], arguments["layers"], arguments["memory_rows"]) == (2, 3, 128)


def test_make_model_follows_the_tasks_recipe():
    sort = load_task("priority_sort")
    model = make_model("ntm", sort, memory_rows=8)
    assert (model.heads, len(model.controller.layers), model.memory_rows) == (2, 1, 8)
    assert model(torch.zeros(1, 2, 10))[0].shape == (1, 2, 8)
    assert make_model("ntm", sort, heads=1).heads == 1
    torch.manual_seed(3)
    first = make_model("gru", sort)
    torch.manual_seed(3)
    second = make_model("gru", sort)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
