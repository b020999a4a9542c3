"""The contenders: each makes a function that does so many whole updates and returns the last loss.

A whole update: data generation, forward, backward, clipping, optimiser. The outside ways read the
loss after every update too, so that no update overlaps the next one.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ntmbench.generators import Copy

NEVER = 10**15  # sequences: no validation, and no end, is ever reached
LIBRARY = {
    "fused": "torch",
    "eager": "torch",
    "compile": "torch",
    "jax": "jax",
    "torch-nn": "torch",
}
NTM_CONTROLLERS = {"ntm": "lstm", "ntm-ff": "ff"}

Updates = Callable[[int], float]
"""Does so many updates; the loss of the last one in bits."""


class NotAvailable(Exception):
    """A contender that cannot run here; says why."""


def with_known(function: Callable[..., Any], **keywords: Any) -> dict[str, Any]:
    """Those of the keywords that `function` has."""
    known = inspect.signature(function).parameters
    return {name: value for name, value in keywords.items() if name in known}


def make_trainer(engine: str, model: str, length: int, batch: int, threads: int) -> Any:
    """A `Trainer` on copy with `length` vectors and the engine, which never validates."""
    from ntmbench import UserError, load_task
    from ntmbench.resolve import resolve
    from ntmbench.train import Trainer

    chosen = with_known(resolve, engine=engine, threads=threads)
    if engine != "eager" and "engine" not in chosen:
        raise NotAvailable("this version of ntmbench has the eager engine alone")
    overrides = [
        f"train.vary={{length=[{length}, {length}]}}",
        f"train.batch_size={batch}",
        f"train.sequences={NEVER}",
        f"train.curve_every={NEVER}",
        "train.validation_sequences=1",
    ]
    try:
        config = resolve(load_task("copy"), model, seed=0, overrides=overrides, **chosen)
        return Trainer(config)
    except UserError as error:
        raise NotAvailable(str(error)) from error


def trainer_updates(engine: str, model: str, length: int, batch: int, threads: int) -> Updates:
    """The updates of `ntmbench run`, with the engine."""
    trainer = make_trainer(engine, model, length, batch, threads)
    trained = trainer.run()

    def updates(count: int) -> float:
        wanted, loss_bits = trainer.progress.updates + count, 0.0
        while trainer.progress.updates < wanted:  # an engine may make several at one go
            loss_bits = next(trained).loss_bits
        return loss_bits

    return updates


def drawn_updates(update: Callable[[Any], float], length: int, batch: int) -> Updates:
    """Updates of `update`, which maps a batch to the loss in nats, on batches drawn one by one."""
    generator, rng = Copy(), np.random.default_rng(0)

    def updates(count: int) -> float:
        nats = math.nan
        for _ in range(count):
            nats = update(generator.sample(rng, batch, length=length))
        return nats / math.log(2)

    return updates


def compiled_updates(model: str, length: int, batch: int) -> Updates:
    """The eager NTM, its step under torch.compile."""
    from compiled_ntm import compile_step
    from torch_loop import TorchLoop

    from ntmbench import load_task, make_model

    loop = TorchLoop(make_model(model, load_task("copy")))
    compile_step(loop.model)
    return drawn_updates(loop.update, length, batch)


def torch_nn_updates(model: str, length: int, batch: int) -> Updates:
    """torch.nn's LSTM or GRU."""
    from torch_loop import TorchLoop
    from torch_rnn import TorchRNN

    sizes = Copy()
    loop = TorchLoop(TorchRNN(model, sizes.input_size, sizes.output_size))
    return drawn_updates(loop.update, length, batch)


def jax_updates(model: str, length: int, batch: int) -> Updates:
    """The NTM in JAX."""
    from jax_model import draw_weights
    from jax_ntm import make_update

    controller = NTM_CONTROLLERS[model]
    weights = draw_weights(np.random.default_rng(0), controller)
    training, update_on, _ = make_update(controller, weights)

    def update(batch: Any) -> float:
        nonlocal training
        training, loss = update_on(training, *batch)
        return float(loss)

    return drawn_updates(update, length, batch)


def make(contender: str, model: str, length: int, batch: int, threads: int) -> Updates:
    """The contender of this name.

    Raises:
        NotAvailable: it cannot run here.
    """
    if contender in ("fused", "eager"):
        return trainer_updates(contender, model, length, batch, threads)
    outside = {"compile": compiled_updates, "jax": jax_updates, "torch-nn": torch_nn_updates}
    return outside[contender](model, length, batch)
