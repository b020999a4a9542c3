"""Random streams: a purpose has its own, derived from a seed, so that no draw disturbs another."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The generator for `purpose` ("training", "validation", ...) under `seed`."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def torch_seed(seed: int, purpose: str) -> int:
    """The seed of a torch generator for `purpose` under `seed`."""
    return int(stream(seed, purpose).integers(2**63))
