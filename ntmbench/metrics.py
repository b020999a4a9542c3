"""The scores of a sequence: loss in bits, wrong bits, exact or not.

Two different numbers are called "bits" in the literature; here they are never mixed up.
Shape suffixes: B batch, T time steps, O output channels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


class Score(NamedTuple):
    """Scores of each sequence: torch tensors of shape (B,), but for the last one.

    loss_bits: cross-entropy / ln 2, summed over the sequence's scored bits: the figure of Graves,
        Wayne, Danihelka 2014. It carries the gradient.
    wrong_bits: scored bits on the wrong side of 1/2; at 1/2 exactly the prediction is 0; NaN is
        wrong.
    exact: 1 for a sequence without a wrong bit, else 0.
    step_bits_BT: the part of loss_bits that each step adds.
    """

    loss_bits: Tensor
    wrong_bits: Tensor
    exact: Tensor
    step_bits_BT: Tensor


def score(logits_BTO: Tensor, targets_BTO: Tensor, mask_BT: Tensor) -> Score:
    """The scores of a model's logits; steps with mask 0 do not count, whatever the logits are."""
    targets_BTO = targets_BTO.to(logits_BTO.dtype)
    loss_BTO = binary_cross_entropy_with_logits(logits_BTO, targets_BTO, reduction="none")
    right_BTO = torch.where(targets_BTO > 0.5, logits_BTO > 0, logits_BTO <= 0)
    return _summed(loss_BTO / math.log(2), right_BTO, mask_BT)


def score_probabilities(
    probabilities_BTO: np.ndarray, targets_BTO: np.ndarray, mask_BT: np.ndarray
) -> Score:
    """The scores of predicted P(bit = 1), in float64; sure and wrong costs infinitely many bits."""
    one_BTO = torch.from_numpy(probabilities_BTO.astype(np.float64))
    is_one_BTO = torch.from_numpy(targets_BTO > 0.5)
    loss_BTO = -torch.where(is_one_BTO, one_BTO, 1 - one_BTO).log2()
    right_BTO = torch.where(is_one_BTO, one_BTO > 0.5, one_BTO <= 0.5)
    return _summed(loss_BTO, right_BTO, torch.from_numpy(mask_BT))


def _summed(bits_BTO: Tensor, right_BTO: Tensor, mask_BT: Tensor) -> Score:
    scored_BT = mask_BT > 0
    step_bits_BT = torch.where(scored_BT, bits_BTO.sum(2), 0.0)
    wrong_bits = ((~right_BTO).sum(2) * scored_BT).sum(1).to(bits_BTO.dtype)
    exact = (wrong_bits == 0).to(bits_BTO.dtype)
    return Score(step_bits_BT.sum(1), wrong_bits, exact, step_bits_BT)
