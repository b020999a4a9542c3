"""The step of the NTM in JAX, its weights and its loss: what `jax_ntm` trains.

The computation of `ntmbench.models.ntm` with that model's defaults on copy, its parameters under
the same names and in the same shapes. Needs jax and numpy alone.

Shape suffixes: B batch, T time, I input, O output, G gates x hidden, H hidden, K carried hidden
(H for lstm, 0 for ff), N memory rows, M row width, J heads (read, write), S shifts, X head values,
Z what the controller is fed of the state (reads and carried hidden), F what the readout sees.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

INPUT, OUTPUT, HIDDEN, ROWS, WIDTH, SHIFTS = 9, 8, 100, 128, 20, 3
HEADS = 2
READ_SIZE = WIDTH + 3 + SHIFTS
SMALL, TINY = 1e-12, 1e-16
KEPT = ("drive", "head values", "shifted", "dot", "row norm")
LAYER = "controller.layers.0."
INPUT_WEIGHT = {"lstm": LAYER + "input_weight_GI", "ff": LAYER + "weight"}
INPUT_BIAS = {"lstm": LAYER + "bias_G", "ff": LAYER + "bias"}
RECURRENT_WEIGHT = LAYER + "recurrent_weight_GH"
MEMORY = "initial_memory_NM"


class Carry(NamedTuple):
    """What a sequence carries from step to step."""

    hidden_BK: jax.Array
    cell_BK: jax.Array
    reads_BM: jax.Array
    memory_BMN: jax.Array
    weightings_BJN: jax.Array


def draw_weights(rng: np.random.Generator, controller: str) -> dict[str, np.ndarray]:
    """Fresh weights and initial memory, in the shapes and ranges of the eager model."""

    def within(fan_in: int, *shape: int) -> np.ndarray:
        return rng.uniform(-(fan_in**-0.5), fan_in**-0.5, shape).astype(np.float32)

    fed, lstm = INPUT + WIDTH, controller == "lstm"
    gates, head_values = HIDDEN * (4 if lstm else 1), HEADS * READ_SIZE + 2 * WIDTH
    fan_in = fed + HIDDEN if lstm else fed
    weights = {
        INPUT_WEIGHT[controller]: within(fan_in, gates, fed),
        INPUT_BIAS[controller]: np.zeros(gates, np.float32) if lstm else within(fed, gates),
        "head_layer.weight": within(HIDDEN, head_values, HIDDEN),
        "head_layer.bias": within(HIDDEN, head_values),
        "readout.weight": within(HIDDEN + WIDTH, OUTPUT, HIDDEN + WIDTH),
        "readout.bias": within(HIDDEN + WIDTH, OUTPUT),
        "initial_reads_HM": np.zeros((1, WIDTH), np.float32),
        MEMORY: within(ROWS + WIDTH, ROWS, WIDTH),
    }
    if lstm:
        weights[INPUT_BIAS["lstm"]][HIDDEN : 2 * HIDDEN] = 1
        weights[RECURRENT_WEIGHT] = within(fan_in, gates, HIDDEN)
        for name in ("controller.initial_hidden", "controller.initial_cell"):
            weights[name] = np.zeros((1, HIDDEN), np.float32)
    return weights


def load_weights(path: str, prefix: str = "") -> dict[str, np.ndarray]:
    """The weights of an eager model: its state_dict as arrays of a .npz file, under `prefix`."""
    with np.load(path) as arrays:
        return {name[len(prefix) :]: arrays[name] for name in arrays if name.startswith(prefix)}


def controller_step(weight_ZG, drive_BG, reads_BM, hidden_BK, cell_BK):
    """The controller's features and the state it carries on; K = 0 says that it carries none."""
    drive_BG = drive_BG + jnp.concatenate([reads_BM, hidden_BK], 1) @ weight_ZG
    drive_BG = checkpoint_name(drive_BG, "drive")
    if hidden_BK.shape[1] == 0:
        return jnp.tanh(drive_BG), hidden_BK, cell_BK
    input_gate, forget_gate, candidate, output_gate = jnp.split(drive_BG, 4, 1)
    kept_BK = jax.nn.sigmoid(forget_gate) * cell_BK
    cell_BK = kept_BK + jax.nn.sigmoid(input_gate) * jnp.tanh(candidate)
    hidden_BK = jax.nn.sigmoid(output_gate) * jnp.tanh(cell_BK)
    return hidden_BK, hidden_BK, cell_BK


def address(values_BJX, memory_BMN, previous_BJN):
    """The weightings of both heads: Graves et al. 2014, eq. 5 to 9."""
    key, beta, gate, shift, gamma = jnp.split(
        values_BJX, (WIDTH, WIDTH + 1, WIDTH + 2, WIDTH + 2 + SHIFTS), -1
    )
    key_BJM, shift_BJS = jnp.tanh(key), jax.nn.softmax(shift, -1)
    key_BJM = key_BJM / jnp.sqrt((key_BJM**2).sum(-1, keepdims=True) + SMALL)
    row_norm_BN = checkpoint_name(jnp.sqrt((memory_BMN**2).sum(1) + SMALL), "row norm")
    dot_BJN = checkpoint_name(jnp.einsum("bjm,bmn->bjn", key_BJM, memory_BMN), "dot")
    content_BJN = jax.nn.softmax(jax.nn.softplus(beta) * dot_BJN / row_norm_BN[:, None], -1)
    mixed_BJN = previous_BJN + jax.nn.sigmoid(gate) * (content_BJN - previous_BJN)
    shifted_BJN = sum(
        shift_BJS[..., place : place + 1] * jnp.roll(mixed_BJN, place - SHIFTS // 2, -1)
        for place in range(SHIFTS)
    )
    shifted_BJN = checkpoint_name(shifted_BJN, "shifted")
    return jax.nn.softmax((1 + jax.nn.softplus(gamma)) * jnp.log(shifted_BJN + TINY), -1)


@partial(
    jax.checkpoint,
    prevent_cse=False,
    policy=jax.checkpoint_policies.save_only_these_names(*KEPT),
)
def step(weights, carry, drives):
    """One time step; `drives` are the terms of its two products that do not depend on the state."""
    weight_ZG, head_weight_HX = weights
    drive_BG, head_drive_BX = drives
    features_BH, hidden_BK, cell_BK = controller_step(
        weight_ZG, drive_BG, carry.reads_BM, carry.hidden_BK, carry.cell_BK
    )
    values_BX = checkpoint_name(features_BH @ head_weight_HX + head_drive_BX, "head values")
    address_BX, erase_BM, add_BM = jnp.split(
        values_BX, (HEADS * READ_SIZE, HEADS * READ_SIZE + WIDTH), 1
    )
    memory_BMN = carry.memory_BMN
    address_BJX = address_BX.reshape(-1, HEADS, READ_SIZE)
    weightings_BJN = address(address_BJX, memory_BMN, carry.weightings_BJN)
    read_BN, write_BN = weightings_BJN[:, 0], weightings_BJN[:, 1]
    reads_BM = jnp.einsum("bn,bmn->bm", read_BN, memory_BMN)
    erased_BMN = jnp.einsum("bm,bn->bmn", jax.nn.sigmoid(erase_BM), write_BN)
    added_BMN = jnp.einsum("bm,bn->bmn", jnp.tanh(add_BM), write_BN)
    memory_BMN = memory_BMN * (1 - erased_BMN) + added_BMN
    carry = Carry(hidden_BK, cell_BK, reads_BM, memory_BMN, weightings_BJN)
    return carry, (features_BH, reads_BM)


def summed_nats(seen_TBF, weight_OF, bias_O, targets_TBO, mask_TB):
    """The cross-entropy in nats, summed over the scored bits of all sequences."""
    logits_TBO = seen_TBF @ weight_OF.T + bias_O
    nats_TBO = jax.nn.softplus(logits_TBO) - logits_TBO * targets_TBO
    return jnp.where(mask_TB > 0, nats_TBO.sum(2), 0).sum()
