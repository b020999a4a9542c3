"""The optimisers against the scalar equations, torch's own, and themselves after a reload."""

import io
import math

import pytest
import torch
from torch import nn

from ntmbench.config import TrainConfig
from ntmbench.optim import EPSILON, GravesRMSprop, clip, gradients, make_optimiser


def train_config(**changes):
    return TrainConfig(sequences=1, vary={"length": [1, 1]}, **changes)


def gradient_of(update, index):
    """A gradient that changes sign and size, so that no term of the equations can hide."""
    return 3 * math.sin(1.7 * update + index) * 10.0 ** (index - 2)


def steps_of(optimiser, weights, updates):
    for update in updates:
        for index, weight in enumerate(weights):
            weight.grad = torch.full_like(weight, gradient_of(update, index))
        optimiser.step()


def new_weights(count=5, dtype=torch.float64):
    return [nn.Parameter(torch.full((2,), float(k), dtype=dtype)) for k in range(count)]


def plain_graves(weight, gradient_list, lr, decay, momentum):
    """Graves 2013 (arXiv 1308.0850), eq. 38 to 41, for one number."""
    n = m = d = 0.0
    for g in gradient_list:
        n = decay * n + (1 - decay) * g * g
        m = decay * m + (1 - decay) * g
        d = momentum * d - lr * g / math.sqrt(n - m * m + 1e-4)
        weight += d
    return weight


@pytest.mark.parametrize("lr, decay, momentum", [(1e-2, 0.95, 0.9), (1e-1, 0.5, 0.0)])
def test_graves_rmsprop_follows_its_equations(lr, decay, momentum):
    weights = new_weights()
    steps_of(GravesRMSprop(weights, lr, decay, momentum), weights, range(20))
    for index, weight in enumerate(weights):
        given = [gradient_of(update, index) for update in range(20)]
        expected = plain_graves(float(index), given, lr, decay, momentum)
        assert abs(expected - index) > lr / 10, "the weights must move"
        assert weight.tolist() == pytest.approx([expected] * 2, rel=0, abs=1e-12)


def test_graves_rmsprop_by_hand():
    """One update with g = 2: n = 0.2, m = 0.1, d = -0.1 x 2 / sqrt(0.2 - 0.01 + 0.0001)."""
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    weight.grad = torch.full_like(weight, 2.0)
    GravesRMSprop([weight], 0.1, 0.95, 0.9).step()
    assert weight.item() == pytest.approx(1 - 0.2 / math.sqrt(0.1901), abs=1e-14)
    assert EPSILON == 1e-4


@pytest.mark.parametrize("size, differs", [(0.01, True), (1e-3, True), (1e4, False)])
def test_graves_rmsprop_is_not_torchs_centred_one(size, differs):
    """Only for gradients far over the root of 1e-4 does its place make no difference."""
    ours, theirs = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    optimisers = [
        GravesRMSprop([ours], 1e-2, 0.95, 0.9),
        torch.optim.RMSprop([theirs], lr=1e-2, alpha=0.95, eps=1e-4, momentum=0.9, centered=True),
    ]
    for update in range(20):
        for weight in (ours, theirs):
            weight.grad = torch.full_like(weight, size * (1 + math.sin(update)))
        for optimiser in optimisers:
            optimiser.step()
    assert abs(ours.item()) > 1e-3
    assert (abs(ours.item() / theirs.item() - 1) > 0.1) == differs


def test_graves_rmsprop_skips_what_has_no_gradient():
    moved, still = new_weights(2)
    optimiser = GravesRMSprop([moved, still], 1e-2, 0.95, 0.9)
    moved.grad = torch.ones_like(moved)
    optimiser.step()
    assert (moved != 0).all() and (still == 1).all() and still not in optimiser.state


@pytest.mark.parametrize("size", [5.0, 10.0, 1e3, 1e5])
def test_graves_rmsprop_stays_finite_when_a_gradient_stays_the_same(size):
    """n - m^2 tends to 0; float32 rounds it to either side: the root must not see it under 0."""
    generator = torch.Generator().manual_seed(0)
    constant = size * (0.5 + 0.5 * torch.rand(1000, generator=generator))
    weight = nn.Parameter(torch.zeros(1000))
    optimiser = GravesRMSprop([weight], 1e-4, 0.95, 0.9)
    for _ in range(600):
        weight.grad = constant.clone()
        optimiser.step()
    assert weight.isfinite().all(), f"{(~weight.isfinite()).sum()} of 1000 weights are not finite"


@pytest.mark.parametrize("name", ["graves-rmsprop", "rmsprop", "adam"])
def test_a_reloaded_optimiser_goes_on_exactly(name):
    config = train_config(optimiser=name, learning_rate=1e-2)

    def made():
        model = nn.ParameterList(new_weights(dtype=torch.float32))
        return model, make_optimiser(config, model)

    model, optimiser = made()
    steps_of(optimiser, list(model), range(7))
    file = io.BytesIO()
    torch.save((model.state_dict(), optimiser.state_dict()), file)
    steps_of(optimiser, list(model), range(7, 20))

    again, reloaded = made()
    file.seek(0)
    weights, state = torch.load(file)
    again.load_state_dict(weights)
    reloaded.load_state_dict(state)
    steps_of(reloaded, list(again), range(7, 20))

    fresh, forgetful = made()
    fresh.load_state_dict(weights)
    steps_of(forgetful, list(fresh), range(7, 20))
    for whole, resumed, forgot in zip(model, again, fresh, strict=True):
        assert torch.equal(whole, resumed)
        assert not torch.equal(whole, forgot), "the state must matter"


def test_make_optimiser_takes_the_configuration():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    settings = {"learning_rate": 0.3, "decay": 0.6, "momentum": 0.7}
    expected = {
        "graves-rmsprop": (GravesRMSprop, {"lr": 0.3, "decay": 0.6, "momentum": 0.7}),
        "rmsprop": (torch.optim.RMSprop, {"lr": 0.3, "alpha": 0.6, "momentum": 0.7}),
        "adam": (torch.optim.Adam, {"lr": 0.3}),
    }
    for name, (made, values) in expected.items():
        optimiser = make_optimiser(train_config(optimiser=name, **settings), model)
        (group,) = optimiser.param_groups
        assert type(optimiser) is made
        assert {key: group[key] for key in values} == values
        assert [weight is model.weight for weight in group["params"]] == [True]


# Clipping


def with_gradients():
    """Gradients (3, 0, -4) and 12: their joint norm is 13. A third parameter has none."""
    model = nn.ParameterList([nn.Parameter(torch.zeros(n)) for n in (3, 1, 2)])
    model[0].grad, model[1].grad = torch.tensor([3.0, 0.0, -4.0]), torch.tensor([12.0])
    return model


def clipped(**changes):
    model = with_gradients()
    norm = torch.nn.utils.get_total_norm(gradients(model))
    assert norm == 13
    clip(train_config(**changes), model, norm)
    assert model[2].grad is None
    return [number for gradient in gradients(model) for number in gradient.tolist()]


def test_clip_by_norm_scales_all_gradients_by_the_same():
    expected = [v * 6.5 / 13 for v in (3, 0, -4, 12)]
    assert clipped(clip="norm", clip_at=6.5) == pytest.approx(expected, rel=1e-6)


def test_clip_by_norm_leaves_what_is_under_it():
    assert clipped(clip="norm", clip_at=14.0) == [3, 0, -4, 12]


@pytest.mark.parametrize(
    "clip_at, expected", [(3.5, [3, 0, -3.5, 3.5]), (1.0, [1, 0, -1, 1]), (20.0, [3, 0, -4, 12])]
)
def test_clip_by_value_holds_each_component(clip_at, expected):
    assert clipped(clip="value", clip_at=clip_at) == expected


def test_clip_none_leaves_everything():
    assert clipped(clip="none", clip_at=0.5) == [3, 0, -4, 12]
