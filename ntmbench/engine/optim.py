"""The optimisers as one pass over all parameters: twins of `ntmbench.optim` and of torch's.

All arrays are flat and aligned, W numbers each. A step takes the gradient as it was computed, clips
it, and leaves zeros behind.
"""

from __future__ import annotations

import numpy as np

from ntmbench.engine.borrowed import borrow
from ntmbench.engine.products import fill, inlined, kernel
from ntmbench.engine.scalars import inverse_root
from ntmbench.engine.shapes import CLIPS, OPTIMISERS
from ntmbench.optim import EPSILON

GRAVES, RMSPROP = OPTIMISERS.index("graves-rmsprop"), OPTIMISERS.index("rmsprop")
CLIP_NORM, CLIP_VALUE = CLIPS.index("norm"), CLIPS.index("value")
BETA_1, BETA_2, SMALL = 0.9, 0.999, 1e-8  # torch's defaults

CHUNK = 2048
"""Parameters that an optimiser's loops work on together, so that they stay in the first cache."""


@kernel
def norm(gradient_W):
    """The Euclidean norm."""
    gradient_W = borrow(gradient_W)
    total, chunk = 0.0, 4096  # float32 within a chunk, float64 over chunks
    for start in range(0, gradient_W.size, chunk):
        part = gradient_W[start : start + chunk]
        inner = gradient_W.dtype.type(0)
        for w in range(part.size):
            inner += part[w] * part[w]
        total += inner
    return np.sqrt(total)


@kernel
def advance(rule, weights_W, gradient_W, state_3W, loss, updates):
    """One update of all parameters, unless the loss or the norm is not finite; returns the norm.

    Args:
        rule: a `shapes.Rule`.
        gradient_W: zeros afterwards, if the update was made.
        state_3W: the optimiser's three running values of each parameter.
        updates: how many there have been with this one.
    """
    weights_W, gradient_W, state_3W = borrow((weights_W, gradient_W, state_3W))
    number = weights_W.dtype.type
    length = norm(gradient_W)
    if not (np.isfinite(loss) and np.isfinite(length)):
        return length
    scale = min(1.0, rule.clip_at / (length + 1e-6)) if rule.clip == CLIP_NORM else 1.0  # as torch
    limit = number(rule.clip_at if rule.clip == CLIP_VALUE else np.inf)
    rate, momentum = number(rule.learning_rate), number(rule.momentum)
    decay, new = number(rule.decay), number(1 - rule.decay)
    a_W, b_W, c_W = state_3W[0], state_3W[1], state_3W[2]
    for start in range(0, weights_W.size, CHUNK):
        end = min(start + CHUNK, weights_W.size)
        weights, gradient = weights_W[start:end], gradient_W[start:end]
        a, b, c = a_W[start:end], b_W[start:end], c_W[start:end]
        clip(gradient, number(scale), limit)
        if rule.optimiser == GRAVES:
            graves_rmsprop(gradient, a, b, decay, new)
            move(weights, gradient, c, rate, momentum)
        elif rule.optimiser == RMSPROP:
            rmsprop(gradient, a, decay, new)
            move(weights, gradient, c, rate, momentum)
        else:
            adam(weights, gradient, a, b, rate, updates)
        fill(gradient, 0)
    return length


@inlined
def clip(gradient_W, scale, limit):
    """Multiply by `scale`, then hold every component within -limit .. limit."""
    low, high = -limit, limit
    for w in range(gradient_W.size):
        g = gradient_W[w] * scale
        g = low if g < low else g
        gradient_W[w] = high if g > high else g


@inlined
def graves_rmsprop(gradient_W, square_W, mean_W, decay, new):
    """g / sqrt(n - m^2 + 1e-4): Graves 2013 (arXiv 1308.0850), eq. 38 to 40, in the gradient's
    place."""
    number = gradient_W.dtype.type
    zero, epsilon = number(0), number(EPSILON)
    for w in range(gradient_W.size):
        g = gradient_W[w]
        square = decay * square_W[w] + new * g * g
        mean = decay * mean_W[w] + new * g
        variance = square - mean * mean
        variance = zero if variance < zero else variance  # rounding can make it negative
        square_W[w] = square
        mean_W[w] = mean
        gradient_W[w] = g * inverse_root(variance + epsilon)


@inlined
def rmsprop(gradient_W, square_W, decay, new):
    """g / (sqrt(n) + 1e-8) in the gradient's place: torch.optim.RMSprop, not centred."""
    small = gradient_W.dtype.type(SMALL)
    for w in range(gradient_W.size):
        g = gradient_W[w]
        square = decay * square_W[w] + new * g * g
        square_W[w] = square
        gradient_W[w] = g / (np.sqrt(square) + small)


@inlined
def move(weights_W, direction_W, step_W, rate, momentum):
    """d = momentum d - rate direction; w = w + d."""
    for w in range(weights_W.size):
        moved = momentum * step_W[w] - rate * direction_W[w]
        step_W[w] = moved
        weights_W[w] += moved


@inlined
def adam(weights_W, gradient_W, mean_W, square_W, rate, updates):
    """Kingma and Ba 2015, algorithm 1, with torch's defaults."""
    number = weights_W.dtype.type
    small = number(SMALL)
    beta_1, new_1 = number(BETA_1), number(1 - BETA_1)
    beta_2, new_2 = number(BETA_2), number(1 - BETA_2)
    rate = number(rate / (1 - BETA_1**updates))
    root = number(1 / np.sqrt(1 - BETA_2**updates))
    for w in range(gradient_W.size):
        g = gradient_W[w]
        mean = beta_1 * mean_W[w] + new_1 * g
        square = beta_2 * square_W[w] + new_2 * g * g
        mean_W[w] = mean
        square_W[w] = square
        gradient_W[w] = mean / (np.sqrt(square) * root + small)
    for w in range(weights_W.size):
        weights_W[w] -= rate * gradient_W[w]
