"""The kernels that Python calls: a block of sequences forward, or forward and back, and the step.

Shape suffixes: see `engine.shapes`.
"""

from __future__ import annotations

from ntmbench.engine import loop
from ntmbench.engine.borrowed import borrow
from ntmbench.engine.loss import score
from ntmbench.engine.optim import norm, step
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
    shape, places, weights, start, batch, kept, back, scratch, seen_TBF, logits_TBO, share_B,
    scores_B3, d_weights,
):  # fmt: skip
    """Scores of a block, and its gradients added to `d_weights`."""
    places, weights, start, batch, kept, back, scratch = borrow(
        (places, weights, start, batch, kept, back, scratch)
    )
    seen_TBF, logits_TBO, share_B, scores_B3, d_weights = borrow(
        (seen_TBF, logits_TBO, share_B, scores_B3, d_weights)
    )
    inputs_TBI, targets_TBO, mask_TB = batch
    loop.begin(shape, places, weights, start, kept)
    loop.forward(shape, places, weights, inputs_TBI, kept, scratch)
    loop.see(shape, kept, seen_TBF)
    loop.read_out(shape, places, weights, seen_TBF, logits_TBO)
    score(logits_TBO, targets_TBO, mask_TB, share_B, scores_B3)
    loop.read_out_backward(shape, places, weights, seen_TBF, logits_TBO, back, d_weights)
    loop.backward(shape, places, weights, inputs_TBI, kept, back, d_weights, scratch)


ENTRIES = (begin, predict, learn, norm, step)
"""What Python calls, and what the cache keeps."""
