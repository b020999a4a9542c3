"""The eager engine: autograd through the model. It trains any model, on any device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ntmbench.config import TrainConfig
from ntmbench.engine.outcome import Outcome, first_not_finite
from ntmbench.generators import Batch
from ntmbench.metrics import score
from ntmbench.optim import clip, gradients, make_optimiser


class EagerEngine:
    """Updates of a model by torch."""

    def __init__(self, model: nn.Module, train: TrainConfig, device: str) -> None:
        self.model, self.train, self.device = model, train, device
        self.optimiser = make_optimiser(train, model)
        self.ahead = 1
        self.memory_bytes = None

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's, live."""
        return self.optimiser.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The optimiser's; torch raises what does not fit."""
        self.optimiser.load_state_dict(state)

    def set_rate(self, rate: float) -> None:
        """The learning rate of the updates to come."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def updates_of(self, batches: list[Batch]) -> Iterator[Outcome]:
        """An update a batch, in order, as the outcomes are asked for."""
        return map(self.update, batches)

    def update(self, batch: Batch) -> Outcome:
        """Learn from a batch; no step is made if the loss or the gradient's norm is not finite."""
        inputs, targets, mask = (torch.from_numpy(part).to(self.device) for part in batch)
        logits, _ = self.model(inputs)
        scores = score(logits, targets, mask)
        nats = scores.loss_bits * math.log(2)
        if self.train.loss == "mean":
            nats = nats / (mask.sum(1) * targets.shape[2])
        self.optimiser.zero_grad()
        nats.mean().backward()
        norm = torch.nn.utils.get_total_norm(gradients(self.model))
        loss_bits, norm_value = scores.loss_bits.mean().item(), norm.item()
        totals = [part.sum().item() for part in scores[:3]]
        if not (math.isfinite(loss_bits) and math.isfinite(norm_value)):
            found = {
                name: value.grad
                for name, value in self.model.named_parameters()
                if value.grad is not None
            }
            refused = first_not_finite(self.model, logits, loss_bits, found)
            return Outcome(totals, norm_value, refused)
        clip(self.train, self.model, norm)
        self.optimiser.step()
        return Outcome(totals, norm_value, "")
