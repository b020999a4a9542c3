"""Checks that the NTM in JAX is the eager one: equal losses, gradients and optimiser steps.

The eager side writes what it computed to a .npz file, the JAX side, in an interpreter that has jax,
compares. Differences are the largest of an array, relative to its largest value.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TOLERANCE = 1e-4
SIZES = (1, 3, 32)  # of the batches; 32 sequences are more than JAX takes in one piece


def write_reference(controller: str, path: Path) -> None:
    """The eager model's weights, batches, losses and gradients, and the weights after training."""
    import torch
    from torch_loop import TorchLoop

    import ntmbench
    from ntmbench.generators import Copy

    torch.manual_seed(0)
    name = {"lstm": "ntm", "ff": "ntm-ff"}[controller]
    loop = TorchLoop(ntmbench.make_model(name, ntmbench.load_task("copy")))
    rng = np.random.default_rng(0)
    with torch.no_grad():  # starts and biases that are not zero, heads that are not all alike
        for weight in loop.model.parameters():
            weight.add_(torch.from_numpy(rng.normal(0, 0.3, weight.shape).astype(np.float32)))

    def arrays(prefix: str, values) -> dict[str, np.ndarray]:
        return {prefix + key: value.detach().numpy().copy() for key, value in values}

    kept = {"controller": np.array(controller)}
    kept |= arrays("weights/", loop.model.state_dict().items())
    clipped = False
    for number, size in enumerate(SIZES):
        batch = Copy().sample(rng, size, length=rng.integers(1, 11, size=size))  # mixed lengths
        kept |= {f"batch{number}/{part}": values for part, values in enumerate(batch)}
        kept[f"loss{number}"] = np.array(loop.gradient(batch).item())
        named = list(loop.model.named_parameters())
        kept |= arrays(f"gradient{number}/", ((key, weight.grad) for key, weight in named))
        loop.step()
        clipped |= bool(loop.norm > loop.config.clip_at)
        state = loop.optimiser.state
        kept |= arrays(f"step{number}/", ((key, state[weight]["step"]) for key, weight in named))
    assert clipped, "no gradient was clipped"
    np.savez(path, **kept)


def agrees(path: str) -> bool:
    """Compare JAX with the reference in `path` and print the differences."""
    import jax
    from jax_model import load_weights
    from jax_ntm import make_update, mean_gradient

    with np.load(path) as arrays:
        reference = dict(arrays)
    controller, weights, worst = str(reference["controller"]), load_weights(path, "weights/"), {}

    def compare(what: str, found, expected) -> None:
        assert np.abs(expected).max() > 0, f"{what}: nothing to compare"
        relative = float(np.abs(found - expected).max() / np.abs(expected).max())
        worst[what] = max(worst.get(what, 0.0), relative)

    training, update, by_name = make_update(controller, weights)
    gradient_of = jax.jit(partial(mean_gradient, controller, weights["initial_memory_NM"]))
    for number in range(len(SIZES)):
        batch = [reference[f"batch{number}/{part}"] for part in range(3)]
        loss, gradient = gradient_of(by_name(training.weights_P), batch)
        compare("loss", float(loss), reference[f"loss{number}"])
        for name, found in gradient.items():
            compare(f"gradient of {name}", found, reference[f"gradient{number}/{name}"])
        training, _ = update(training, *batch)
        for name, found in by_name(training.step_P).items():
            compare(f"step of {name}", found, reference[f"step{number}/{name}"])
    for what, relative in worst.items():
        print(f"{controller:4}  {relative:.1e}  {what}")
    return max(worst.values()) < TOLERANCE


def main() -> int:
    """0 if both controllers agree; the interpreter with jax can be given as the one argument."""
    python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    failed = []
    for controller in ("lstm", "ff"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "reference.npz"
            write_reference(controller, path)
            ran = subprocess.run([python, str(HERE / "jax_ntm.py"), "--check", str(path)])
        failed += [controller] if ran.returncode else []
    print(f"differs: {', '.join(failed)}" if failed else f"equal within {TOLERANCE:g}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
