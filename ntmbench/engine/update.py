"""The kernels that Python calls: sequences forward, or forward and back, and the step.

Shape suffixes: see `engine.shapes`.
"""

from __future__ import annotations

import numpy as np

from ntmbench.engine import loop
from ntmbench.engine.borrowed import borrow
from ntmbench.engine.loss import score
from ntmbench.engine.optim import advance
from ntmbench.engine.products import kernel


@kernel
def begin(shape, places, weights, start, kept):
    """Put the initial state before step 0 of `kept`."""
    places, weights, start, kept = borrow((places, weights, start, kept))
    loop.begin(shape, places, weights, start, kept)


@kernel
def predict(shape, places, weights, inputs_TBI, kept, scratch, seen_TBF, logits_TBO):
    """Logits from the state that `kept` holds before step 0, where the state after them is put."""
    places, weights, inputs_TBI, kept, scratch, seen_TBF, logits_TBO = borrow(
        (places, weights, inputs_TBI, kept, scratch, seen_TBF, logits_TBO)
    )
    loop.forward(shape, places, weights, inputs_TBI, kept, scratch)
    loop.see(shape, kept, seen_TBF)
    loop.read_out(shape, places, weights, seen_TBF, logits_TBO)
    loop.carry(shape, kept, inputs_TBI.shape[0])


@kernel
def learn(
    shape, places, weights, start, batches, ends_U, kept, back, scratch, seen_TBF, logits_TBO,
    share_UB, scores_UB3, d_weights, rule, state_3W, norms_U, updates,
):  # fmt: skip
    """Updates by U batches, which lie one behind the other in time and end at `ends_U`.

    A rule without an optimiser adds the gradients to `d_weights` and makes no step. `updates` is
    how many there were before. Sets the scores and the norms. Returns how many updates were made:
    fewer than U, if that of the next batch was not finite; its gradient is then in `d_weights`.
    """
    places, weights, start, batches, kept, back, scratch = borrow(
        (places, weights, start, batches, kept, back, scratch)
    )
    seen_TBF, logits_TBO, share_UB, scores_UB3, d_weights, state_3W = borrow(
        (seen_TBF, logits_TBO, share_UB, scores_UB3, d_weights, state_3W)
    )
    all_inputs_TBI, all_targets_TBO, all_mask_TB = batches
    first = 0
    for u in range(ends_U.size):
        end = ends_U[u]
        inputs_TBI, scores_B3 = all_inputs_TBI[first:end], scores_UB3[u]
        seen, logits = seen_TBF[: end - first], logits_TBO[: end - first]
        loop.begin(shape, places, weights, start, kept)
        loop.forward(shape, places, weights, inputs_TBI, kept, scratch)
        loop.see(shape, kept, seen)
        loop.read_out(shape, places, weights, seen, logits)
        score(logits, all_targets_TBO[first:end], all_mask_TB[first:end], share_UB[u], scores_B3)
        loop.read_out_backward(shape, places, weights, seen, logits, back, d_weights)
        loop.backward(shape, places, weights, inputs_TBI, kept, back, d_weights, scratch)
        first = end
        if rule.optimiser:
            loss = 0.0
            for b in range(scores_B3.shape[0]):
                loss += scores_B3[b, 0]
            norms_U[u] = advance(rule, weights, d_weights, state_3W, loss, updates + u + 1)
            if not (np.isfinite(loss) and np.isfinite(norms_U[u])):
                return u
    return ends_U.size


ENTRIES = (begin, predict, learn, advance)
"""What Python calls, and what the cache keeps."""
