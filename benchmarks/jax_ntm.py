"""The NTM trained in JAX: data in, one jitted function an update, one scan over time.

The loss is that of `ntmbench.metrics`, clipping and optimiser are those of `ntmbench.optim`, for
copy's settings. `jax_ntm.py --check FILE` compares it with what `check_jax.py` wrote.

Written for the CPU. With JAX 0.10.2 on one thread of a Xeon (Sapphire Rapids, two shared cores), 10
vectors, LSTM controller, an update takes 1.05 ms at batch 1, 7.3 at 16, 27 at 64. What was tried
instead, and how many times slower it is there (under 1.1 could not be told from noise):

- the scan unrolled 3 times 1.3, 7 times 2.2, fully 2.8 at batch 1: every operation of a graph costs
  the runtime, a turn of the loop does not;
- weights transposed inside the scan: 1.35 at batch 1;
- weight gradients summed in the backward scan: 1.2 at batch 1 and 16;
- memory kept as rows x width: 1.2 at batch 16; outer products of the write as broadcasts and not as
  einsum, whose backward pass is a product again: 1.3 at batch 16;
- keeping all residuals, not the few in KEPT: 1.1 at batch 16, 1.7 at 64; keeping none: 1.1 at 1;
- a batch over CHUNK sequences in one piece: 1.3 at batch 64; pieces of 8: 1.1; pieces of 4 at
  batch 16: 1.25;
- an optimiser step an array, not one for all: 1.1 at batch 1;
- two threads within the operations, not a part of the batch each: 1.9 at batch 16, 2.3 at 64;
- XLA's default scheduler: 1.1 at batch 16 (at batch 1 it is the better one, by 1.2).

No difference: all gates' or heads' activations in one operation, transposed copies of the weights
for the backward pass, softmax by other means, fast math, 512-bit vectors, oneDNN, no XNNPACK, no
fusion emitters, XLA's preset for a fast runtime.

The products of the input, the readout and the weight gradients are each one product for all steps,
outside the scan: the backward scan yields the gradients of the steps' pre-activations, as those of
the terms that are fed in.

Shape suffixes: as in `jax_model`; P all parameters.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec
from jax_model import (
    HEADS,
    HIDDEN,
    INPUT,
    INPUT_BIAS,
    INPUT_WEIGHT,
    MEMORY,
    RECURRENT_WEIGHT,
    ROWS,
    Carry,
    step,
    summed_nats,
)

CHUNK = 16
RATE, DECAY, MOMENTUM, CLIP_AT, EPSILON = 1e-4, 0.95, 0.9, 10.0, 1e-4


class Training(NamedTuple):
    """All parameters as one vector, and the optimiser's three running values of each."""

    weights_P: jax.Array
    square_P: jax.Array
    mean_P: jax.Array
    step_P: jax.Array


def start_of(controller: str, weights: dict[str, jax.Array], batch_size: int):
    """The learned start of a sequence: carried hidden and cell, and reads."""
    empty = jnp.zeros((1, 0))
    lstm = controller == "lstm"
    rows = (
        weights["controller.initial_hidden"] if lstm else empty,
        weights["controller.initial_cell"] if lstm else empty,
        weights["initial_reads_HM"],
    )
    return tuple(jnp.broadcast_to(row, (batch_size, row.shape[1])) for row in rows)


def unroll(weight_ZG, head_weight_HX, memory_NM, start, drive_TBG, head_drive_TBX):
    """The scan: features (T, B, H) and reads (T, B, M) of every step."""
    hidden_BK, cell_BK, reads_BM = start
    batch_size = len(reads_BM)
    memory_BMN = jnp.broadcast_to(memory_NM.T, (batch_size, *memory_NM.T.shape))
    weightings_BJN = jnp.zeros((batch_size, HEADS, ROWS)).at[:, :, 0].set(1)
    carry = Carry(hidden_BK, cell_BK, reads_BM, memory_BMN, weightings_BJN)
    turn = partial(step, (weight_ZG, head_weight_HX))
    return lax.scan(turn, carry, (drive_TBG, head_drive_TBX))[1]


def loss_and_gradient(controller: str, memory_NM, weights: dict[str, jax.Array], batch):
    """The loss in nats, summed over the batch, and the gradient of every parameter."""
    inputs_TBI, targets_TBO, mask_TB = (jnp.swapaxes(part, 0, 1) for part in batch)
    steps, batch_size = mask_TB.shape
    weight_GI, read_weight_GM = jnp.split(weights[INPUT_WEIGHT[controller]], (INPUT,), 1)
    weight_GZ = read_weight_GM
    if controller == "lstm":
        weight_GZ = jnp.concatenate([read_weight_GM, weights[RECURRENT_WEIGHT]], 1)
    head_bias_X = weights["head_layer.bias"]
    drive_TBG = inputs_TBI @ weight_GI.T + weights[INPUT_BIAS[controller]]
    head_drive_TBX = jnp.broadcast_to(head_bias_X, (steps, batch_size, len(head_bias_X)))
    start = start_of(controller, weights, batch_size)

    # forward and backward
    scan = partial(unroll, weight_GZ.T, weights["head_layer.weight"].T, memory_NM)
    (features_TBH, reads_TBM), scan_back = jax.vjp(scan, start, drive_TBG, head_drive_TBX)
    seen_TBF = jnp.concatenate([features_TBH, reads_TBM], 2)
    nats = partial(summed_nats, targets_TBO=targets_TBO, mask_TB=mask_TB)
    readout = weights["readout.weight"], weights["readout.bias"]
    loss, (d_seen_TBF, *d_readout) = jax.value_and_grad(nats, (0, 1, 2))(seen_TBF, *readout)
    d_start, d_drive_TBG, d_head_TBX = scan_back(tuple(jnp.split(d_seen_TBF, (HIDDEN,), 2)))

    # weight gradients, all steps at once
    hidden_BK, _, reads_BM = start
    before_TBM = jnp.concatenate([reads_BM[None], reads_TBM[:-1]])
    fed_TBI = jnp.concatenate([inputs_TBI, before_TBM], 2)
    gradient = {
        INPUT_WEIGHT[controller]: jnp.einsum("tbg,tbi->gi", d_drive_TBG, fed_TBI),
        INPUT_BIAS[controller]: d_drive_TBG.sum((0, 1)),
        "head_layer.weight": jnp.einsum("tbx,tbh->xh", d_head_TBX, features_TBH),
        "head_layer.bias": d_head_TBX.sum((0, 1)),
        "readout.weight": d_readout[0],
        "readout.bias": d_readout[1],
        "initial_reads_HM": d_start[2].sum(0, keepdims=True),
    }
    if controller == "lstm":
        before_TBH = jnp.concatenate([hidden_BK[None], features_TBH[:-1]])
        gradient[RECURRENT_WEIGHT] = jnp.einsum("tbg,tbh->gh", d_drive_TBG, before_TBH)
        gradient["controller.initial_hidden"] = d_start[0].sum(0, keepdims=True)
        gradient["controller.initial_cell"] = d_start[1].sum(0, keepdims=True)
    return loss, gradient


def mean_gradient(controller: str, memory_NM, weights: dict[str, jax.Array], batch):
    """The mean over the batch; a large one is taken in pieces whose memories stay in the cache."""
    one = partial(loss_and_gradient, controller, memory_NM, weights)
    batch_size = len(batch[0])
    if batch_size <= CHUNK or batch_size % CHUNK:
        sums = one(batch)
    else:
        pieces = tuple(part.reshape(-1, CHUNK, *part.shape[1:]) for part in batch)
        zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, weights)
        sums, _ = lax.scan(
            lambda total, piece: (jax.tree.map(jnp.add, total, one(piece)), None), zero, pieces
        )
    return jax.tree.map(lambda total: total / batch_size, sums)


def optimise(training: Training, gradient_P, loss) -> Training:
    """Clip the norm, and a step of Graves 2013, eq. 38 to 41; none if the update is not finite."""
    norm = jnp.sqrt((gradient_P**2).sum())
    usable = jnp.isfinite(loss) & jnp.isfinite(norm)
    gradient_P = gradient_P * jnp.minimum(CLIP_AT / (norm + 1e-6), 1)
    square_P = DECAY * training.square_P + (1 - DECAY) * gradient_P**2
    mean_P = DECAY * training.mean_P + (1 - DECAY) * gradient_P
    root_P = jnp.sqrt(jnp.maximum(square_P - mean_P**2, 0) + EPSILON)
    step_P = MOMENTUM * training.step_P - RATE * gradient_P / root_P
    new = Training(training.weights_P + step_P, square_P, mean_P, step_P)
    return jax.tree.map(lambda after, before: jnp.where(usable, after, before), new, training)


def on_all_devices(gradient_of: Callable[..., Any], batch_size: int) -> Callable[..., Any]:
    """`gradient_of(weights, batch)` with the batch dealt to the devices, if it can be; the mean."""
    devices = jax.devices()
    if len(devices) == 1 or batch_size % len(devices):
        return gradient_of
    return jax.shard_map(
        lambda weights_P, batch: lax.pmean(gradient_of(weights_P, batch), "device"),
        mesh=Mesh(np.array(devices), ("device",)),
        in_specs=(PartitionSpec(), PartitionSpec("device")),
        out_specs=PartitionSpec(),
        check_vma=False,
    )


def make_update(
    controller: str, weights: dict[str, np.ndarray]
) -> tuple[Training, Callable[..., tuple[Training, jax.Array]], Callable[[Any], dict[str, Any]]]:
    """What is trained, the update (training, *batch) -> (training, loss), weights by name again.

    The update takes over the buffers of the training that it is given.
    """
    memory_NM = weights[MEMORY]
    trained = {name: jnp.asarray(value) for name, value in weights.items() if name != MEMORY}
    weights_P, by_name = ravel_pytree(trained)

    def flat_gradient(weights_P, batch):
        loss, gradient = mean_gradient(controller, memory_NM, by_name(weights_P), batch)
        return loss, ravel_pytree(gradient)[0]

    @partial(jax.jit, donate_argnums=0)
    def update(training: Training, *batch):
        gradient_of = on_all_devices(flat_gradient, len(batch[0]))
        loss, gradient_P = gradient_of(training.weights_P, batch)
        return optimise(training, gradient_P, loss), loss

    zeros = (jnp.zeros_like(weights_P) for _ in range(3))
    return Training(weights_P, *zeros), update, by_name


if __name__ == "__main__":
    from check_jax import agrees

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", metavar="FILE", required=True, help="a .npz of check_jax.py")
    raise SystemExit(0 if agrees(parser.parse_args().check) else 1)
