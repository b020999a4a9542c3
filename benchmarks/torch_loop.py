"""The shortest training loop in torch: what a user would write around a model.

The loss, clipping and optimiser of `ntmbench.train` with copy's settings, without its metrics.
Shape suffixes: B batch, T time, I input, O output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ntmbench import load_task
from ntmbench.config import TrainConfig, build
from ntmbench.generators import Batch
from ntmbench.optim import clip, gradients, make_optimiser


class TorchLoop:
    """A model in training on copy."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.config = build(TrainConfig, load_task("copy").table["train"], "train")
        self.optimiser = make_optimiser(self.config, model)

    def update(self, batch: Batch) -> float:
        """The batch's loss in nats, before an update on it."""
        loss = self.gradient(batch)
        self.step()
        return loss.item()

    def gradient(self, batch: Batch) -> Tensor:
        """The mean of the sequences' losses; leaves the gradient at the weights."""
        inputs_BTI, targets_BTO, mask_BT = (torch.from_numpy(part) for part in batch)
        logits_BTO, _ = self.model(inputs_BTI)
        scored_BTO = mask_BT.unsqueeze(2).expand_as(targets_BTO)
        total = binary_cross_entropy_with_logits(
            logits_BTO, targets_BTO, weight=scored_BTO, reduction="sum"
        )
        loss = total / len(mask_BT)
        self.optimiser.zero_grad()
        loss.backward()
        return loss

    def step(self) -> None:
        """Clip the gradient and take a step."""
        self.norm = torch.nn.utils.get_total_norm(gradients(self.model))
        if self.norm.isfinite():
            clip(self.config, self.model, self.norm)
            self.optimiser.step()
