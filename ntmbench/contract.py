"""What a generator's batches must be like, whoever wrote it: see `ntmbench.generators`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ntmbench.generators import Batch


def check_form(generator: Any, batch: Any, batch_size: int) -> None:
    """Check the form of a batch, and of what the generator's solver says of it.

    Raises:
        AssertionError: which promise is broken.
    """
    assert isinstance(batch, Batch), (
        f"sample() must give an ntmbench.generators.Batch, not {type(batch).__name__}"
    )
    for name, array in zip(batch._fields, batch, strict=True):
        assert isinstance(array, np.ndarray), f"{name} must be a numpy array, not {type(array)}"
        assert array.dtype == np.float32 and array.dtype.isnative, (
            f"{name} must be float32, not {array.dtype}"
        )
        assert all(stride >= 0 for stride in array.strides), f"{name} must not run backwards"
    steps = batch.mask_BT.shape[-1]
    shapes = (
        (batch_size, steps, generator.input_size),
        (batch_size, steps, generator.output_size),
        (batch_size, steps),
    )
    for name, array, shape in zip(batch._fields, batch, shapes, strict=True):
        assert array.shape == shape, f"{name} must have shape {shape}, not {array.shape}"
    assert np.isin(batch.targets_BTO, (0, 1)).all(), "targets must be 0 or 1"
    assert np.isin(batch.mask_BT, (0, 1)).all(), "the mask must be 0 or 1"
    assert (batch.mask_BT.sum(1) > 0).all(), "a sequence has no scored step"
    solved, chance = generator.solve(batch), generator.coin_bits(batch)
    assert isinstance(solved, np.ndarray) and solved.shape == batch.targets_BTO.shape, (
        "solve() must give a probability a target bit"
    )
    assert isinstance(chance, np.ndarray) and chance.shape == (batch_size,), (
        "coin_bits() must give a number a sequence"
    )
