"""Checks that anybody's model or generator keeps the contracts; ours run them over every built-in.

They raise AssertionError with a sentence that says which promise is broken.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ntmbench.contract import check_form
from ntmbench.evaluate import draw_vary
from ntmbench.memory import KINDS, check_heads
from ntmbench.metrics import score, score_probabilities
from ntmbench.tasks import Task, load_task


def check_model(model: nn.Module, input_size: int, output_size: int, *, steps: int = 6) -> None:
    """Check that a model keeps its contract: see `ntmbench.models`.

    Shapes; logits that depend on the input, at their own step and earlier ones only; the state as a
    value (two halves with the state carried equal the whole, a second call equals the first); each
    sequence of a batch by itself; gradients that are finite. Of a model with `trace`: the logits of
    `forward`, arrays of the promised names and shapes, weightings that are.

    Raises:
        AssertionError: which promise is broken.
    """
    model.eval()
    generator = torch.Generator().manual_seed(0)
    inputs_BTI = torch.rand(3, steps, input_size, generator=generator)
    assert callable(getattr(model, "initial_state", None)), "the model has no initial_state()"
    answer = model(inputs_BTI)
    assert isinstance(answer, tuple) and len(answer) == 2, (
        f"forward() must give (logits, state), not {type(answer).__name__}"
    )
    logits_BTO = answer[0]
    assert logits_BTO.shape == (3, steps, output_size), (
        f"logits must have shape (3, {steps}, {output_size}), not {tuple(logits_BTO.shape)}"
    )
    assert logits_BTO.isfinite().all(), "the logits are not finite"

    def same(a: torch.Tensor, b: torch.Tensor) -> bool:
        return torch.allclose(a, b, atol=1e-5)

    again_BTO, _ = model(inputs_BTI)
    assert same(logits_BTO, again_BTO), "a second call gives other logits: the state is kept inside"
    started_BTO, _ = model(inputs_BTI, model.initial_state(3))  # type: ignore[operator]
    assert same(logits_BTO, started_BTO), "state None must mean initial_state(batch_size)"
    half = steps // 2
    first_BTO, state = model(inputs_BTI[:, :half])
    second_BTO, _ = model(inputs_BTI[:, half:], state)
    assert same(logits_BTO, torch.cat([first_BTO, second_BTO], 1)), (
        "two halves with the state carried must equal the whole: either the state does not carry "
        "all that the model remembers, or the model looks ahead"
    )
    swapped_BTO, _ = model(inputs_BTI.flip(0))
    assert same(logits_BTO, swapped_BTO.flip(0)), "a sequence must not see the others of its batch"
    for step in range(steps):
        changed_BTI = inputs_BTI.clone()
        changed_BTI[:, step] = 1 - changed_BTI[:, step]
        changed_BTO, _ = model(changed_BTI)
        assert same(logits_BTO[:, :step], changed_BTO[:, :step]), "a step must not see later inputs"
        assert not torch.equal(logits_BTO[:, step], changed_BTO[:, step]), (
            "the logits do not depend on the input of their own step"
        )
    if callable(getattr(model, "trace", None)):
        _check_trace(model, inputs_BTI, logits_BTO)
    _check_learns(model, inputs_BTI, output_size)


@torch.no_grad()
def _check_trace(model: Any, inputs_BTI: torch.Tensor, logits_BTO: torch.Tensor) -> None:
    """Check what a model tells of its heads: see `ntmbench.models`."""
    found = _traced(model, inputs_BTI)
    logits = logits_BTO.detach().numpy()
    assert found["logits"].shape == logits.shape and np.allclose(
        found["logits"], logits, atol=1e-5
    ), "trace() must give the logits of forward()"
    started = _traced(model, inputs_BTI, model.initial_state(len(inputs_BTI)))
    half = inputs_BTI.shape[1] // 2
    _, state = model(inputs_BTI[:, :half])
    rest = _traced(model, inputs_BTI[:, half:], state)
    swapped = _traced(model, inputs_BTI.flip(0))
    for name, array in found.items():
        assert np.isfinite(array).all(), f"trace(): '{name}' is not finite"
        assert np.allclose(array, started[name], atol=1e-5), (
            f"trace(): '{name}' is another with state initial_state(batch_size) than with None"
        )
        assert np.allclose(array[:, half:], rest[name], atol=1e-5), (
            f"trace(): '{name}' of two halves, with the state carried, is not that of the whole"
        )
        assert np.allclose(array, swapped[name][::-1], atol=1e-5), (
            f"trace(): '{name}' of a sequence depends on the others of its batch"
        )
        if name.endswith("_weightings"):
            low, high, most = array.min(), array.max(), array.sum(-1).max()
            assert low >= 0 and high <= 1 + 1e-4, (
                f"trace(): '{name}' must be within 0 and 1, not {low:.4g} to {high:.4g}"
            )
            assert most <= 1 + 1e-4, (
                f"trace(): '{name}' of a head must have a sum of at most 1, not {most:.4g}"
            )
    for kind in KINDS:
        own = {name for name in found if name.startswith(kind)}  # "reads" is of the read heads
        heads = {found[name].shape[2] for name in own}
        assert len(heads) <= 1, f"trace(): {', '.join(sorted(own))} differ in their heads: {heads}"


def _traced(model: Any, inputs_BTI: torch.Tensor, state: Any = None) -> dict[str, np.ndarray]:
    """What a trace gives, with the names and shapes of heads checked."""
    found = model.trace(inputs_BTI, state)
    assert isinstance(found, Mapping) and "logits" in found, (
        "trace() must give a mapping of names to tensors, with 'logits'"
    )
    arrays = {name: value.numpy() for name, value in found.items()}
    try:
        heads = {name: array for name, array in arrays.items() if name != "logits"}
        check_heads(heads, *inputs_BTI.shape[:2])
    except ValueError as error:
        raise AssertionError(f"trace(): {error}") from error
    return arrays


def _check_learns(model: nn.Module, inputs_BTI: torch.Tensor, output_size: int) -> None:
    """Check that a loss reaches the parameters, with finite gradients."""
    model.train()
    model.zero_grad()
    targets_BTO = torch.ones(*inputs_BTI.shape[:2], output_size)
    logits_BTO, _ = model(inputs_BTI)
    score(logits_BTO, targets_BTO, torch.ones(inputs_BTI.shape[:2])).loss_bits.sum().backward()
    named = list(model.named_parameters())
    assert named, "the model has no parameters"
    got = [(name, weight.grad) for name, weight in named if weight.grad is not None]
    assert any(gradient.any() for _, gradient in got), "no parameter receives a gradient"
    for name, gradient in got:
        assert gradient.isfinite().all(), f"the gradient of {name} is not finite"
    model.zero_grad()


def check_task(task: str | Task, *, batch_size: int = 16) -> None:
    """Check that a task's generator keeps its contract: see `ntmbench.generators`.

    Shapes and types; the same sequences from the same stream, and none of numpy's global state;
    every point of [evaluate] can be drawn; mixed lengths are padded after the end and score as
    alone; the solver reads inputs only and beats chance.

    Raises:
        AssertionError: which promise is broken.
    """
    task = load_task(task) if isinstance(task, str) else task
    generator = task.generator
    keywords = [
        name
        for name, parameter in inspect.signature(generator.sample).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    assert list(generator.axes) == keywords, (
        f"axes {generator.axes} must be the keywords of sample(), which are {keywords}"
    )
    assert set(task.axes) == set(generator.axes), (
        f"train.vary has the axes {task.axes}, the generator {generator.axes}"
    )
    for point in task.table["evaluate"]["points"]:
        _check_batch(generator, point, batch_size)
    drawn = draw_vary(np.random.default_rng(1), task.train.vary, batch_size, each=True)
    _check_batch(generator, drawn, batch_size)
    _check_padding(generator, drawn, batch_size)


def _check_batch(generator: Any, point: dict[str, Any], batch_size: int) -> None:
    """Check one batch: its form, that it can be repeated, and its solver."""
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    batch = generator.sample(np.random.default_rng(0), batch_size, **point)
    again = generator.sample(np.random.default_rng(0), batch_size, **point)
    assert (np.random.get_state()[1] == before).all(), (  # type: ignore[index]
        "sample() draws from numpy's global generator, not from the one given"
    )
    check_form(generator, batch, batch_size)
    for name, array, repeated in zip(batch._fields, batch, again, strict=True):
        assert np.array_equal(array, repeated), (
            f"{name} differs when the same stream is drawn again"
        )
    blind = batch._replace(targets_BTO=np.zeros_like(batch.targets_BTO))
    solved, chance = generator.solve(blind), generator.coin_bits(batch)
    found = score_probabilities(solved, batch.targets_BTO, batch.mask_BT)
    assert float(found.loss_bits.mean()) < float(chance.mean()), "solve() must beat chance"


def _check_padding(generator: Any, drawn: dict[str, np.ndarray], batch_size: int) -> None:
    """Check that a mixed batch holds the sequences that are drawn alone, padded after the end."""
    mixed = generator.sample(np.random.default_rng(2), batch_size, **drawn)
    rng = np.random.default_rng(2)
    for row in range(batch_size):
        alone = generator.sample(rng, 1, **{axis: int(drawn[axis][row]) for axis in drawn})
        steps = alone.mask_BT.shape[1]
        for name, whole, part in zip(mixed._fields, mixed, alone, strict=True):
            assert np.array_equal(whole[row, :steps], part[0]), (
                f"{name}: a sequence of a mixed batch is not the one drawn alone from the stream"
            )
            assert not whole[row, steps:].any(), f"{name} is not zero after a sequence's end"
