"""The scores of a block of sequences and the gradient of the loss: the twin of `metrics.score`.

Shape suffixes: T steps, B sequences, O output.
"""

from __future__ import annotations

import math

from ntmbench.engine.products import kernel
from ntmbench.engine.scalars import cross_entropy, sigmoid


@kernel
def score(logits_TBO, targets_TBO, mask_TB, share_B, scores_B3):
    """Sets loss_bits, wrong_bits and exact of each sequence; logits become the loss' gradients.

    `share_B` is what a nat of a sequence counts in the loss: the derivative of the one by the
    other. Steps with mask 0 do not count, whatever the logits are.
    """
    steps, batch, outputs = logits_TBO.shape
    zero = logits_TBO.dtype.type(0)
    scores_B3[:] = 0
    for t in range(steps):
        for b in range(batch):
            logits_O, targets_O = logits_TBO[t, b], targets_TBO[t, b]
            if mask_TB[t, b] == 0:
                logits_O[:] = 0
                continue
            nats, share = zero, share_B[b]
            for o in range(outputs):
                x, target = logits_O[o], targets_O[o]
                nats += cross_entropy(x, target)
                right = x > zero if target > 0.5 else x <= zero
                scores_B3[b, 1] += not right
                logits_O[o] = (sigmoid(x) - target) * share
            scores_B3[b, 0] += nats
    for b in range(batch):
        scores_B3[b, 0] /= math.log(2)
        scores_B3[b, 2] = scores_B3[b, 1] == 0
