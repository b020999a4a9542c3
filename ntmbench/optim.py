"""The optimisers, and what is done to a gradient before them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ntmbench.config import TrainConfig

EPSILON = 1e-4


class GravesRMSprop(torch.optim.Optimizer):
    """RMSProp in the form of Graves 2013 (arXiv 1308.0850), eq. 38 to 41: centred, with momentum.

    n = decay n + (1 - decay) g^2; m = decay m + (1 - decay) g;
    d = momentum d - rate g / sqrt(n - m^2 + 1e-4); w = w + d.
    The 1e-4 stands inside the root; torch's RMSprop of the same name is another optimiser.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, decay: float, momentum: float
    ) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            decay, momentum = group["decay"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    for name in ("square", "mean", "step"):
                        state[name] = torch.zeros_like(weight)
                gradient = weight.grad
                square = state["square"].mul_(decay).addcmul_(gradient, gradient, value=1 - decay)
                mean = state["mean"].mul_(decay).add_(gradient, alpha=1 - decay)
                variance = torch.addcmul(square, mean, mean, value=-1)
                root = variance.clamp_(min=0).add_(EPSILON).sqrt_()  # rounding can make it negative
                step = state["step"].mul_(momentum).addcdiv_(gradient, root, value=-group["lr"])
                weight.add_(step)


def make_optimiser(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that the configuration names, over the model's parameters."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    rate = config.learning_rate
    if config.optimiser == "graves-rmsprop":
        return GravesRMSprop(weights, rate, config.decay, config.momentum)
    if config.optimiser == "rmsprop":
        return torch.optim.RMSprop(weights, lr=rate, alpha=config.decay, momentum=config.momentum)
    return torch.optim.Adam(weights, lr=rate)


def gradients(model: nn.Module) -> list[Tensor]:
    """The gradients that the last backward pass left."""
    return [weight.grad for weight in model.parameters() if weight.grad is not None]


def clip(config: TrainConfig, model: nn.Module, norm: Tensor) -> None:
    """Clip the gradients in place; `norm` is their joint Euclidean norm."""
    found = gradients(model)
    if config.clip == "norm":
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), config.clip_at, norm)
    elif config.clip == "value":
        for gradient in found:
            gradient.clamp_(-config.clip_at, config.clip_at)
