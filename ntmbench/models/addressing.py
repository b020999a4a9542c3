"""Equations 2 to 9 of Graves, Wayne, Danihelka 2014, one function each.

Shape suffixes: B batch, N memory rows (locations), M row width, J heads, S shifts
(2 x shift range + 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALL = 1e-6  # a floor of norms, see `cosine_similarity`: an all-zero row has a finite gradient
TINY = 1e-16  # under the logarithm of a weighting: the log of an empty location is finite


def read(memory_BNM: Tensor, weightings_BJN: Tensor) -> Tensor:
    """r(j) = sum_i w_j(i) M(i): eq. 2. Returns reads_BJM."""
    return weightings_BJN @ memory_BNM


def erase(memory_BNM: Tensor, weightings_BJN: Tensor, erase_BJM: Tensor) -> Tensor:
    """M(i) <- M(i) prod_j (1 - w_j(i) e_j): eq. 3, for several heads in any order."""
    for head in range(weightings_BJN.shape[1]):
        share_BNM = weightings_BJN[:, head, :, None] * erase_BJM[:, head, None, :]
        memory_BNM = memory_BNM * (1 - share_BNM)
    return memory_BNM


def add(memory_BNM: Tensor, weightings_BJN: Tensor, add_BJM: Tensor) -> Tensor:
    """M(i) <- M(i) + sum_j w_j(i) a_j: eq. 4."""
    return memory_BNM + weightings_BJN.transpose(1, 2) @ add_BJM


def content_weighting(similarity_BJN: Tensor, beta_BJ1: Tensor) -> Tensor:
    """w(i) = softmax_i(beta K(k, M(i))): eq. 5."""
    return torch.softmax(beta_BJ1 * similarity_BJN, -1)


def cosine_similarity(key_BJM: Tensor, memory_BNM: Tensor, row_floor: float = SMALL) -> Tensor:
    """K(k, M(i)) = k . M(i) / (|k| |M(i)|): eq. 6. Returns similarity_BJN.

    For |k| stands the root of |k|^2 + 1e-12, for |M(i)| that of |M(i)|^2 + row_floor^2.
    """
    key_norm_BJ1 = (key_BJM.square().sum(-1, keepdim=True) + SMALL * SMALL).sqrt()
    row_norm_B1N = (memory_BNM.square().sum(-1) + row_floor * row_floor).sqrt().unsqueeze(1)
    return (key_BJM / key_norm_BJ1) @ memory_BNM.transpose(1, 2) / row_norm_B1N


def interpolate(content_BJN: Tensor, previous_BJN: Tensor, gate_BJ1: Tensor) -> Tensor:
    """w = g w_content + (1 - g) w_previous: eq. 7."""
    return torch.lerp(previous_BJN, content_BJN, gate_BJ1)


def shift(weightings_BJN: Tensor, shift_BJS: Tensor) -> Tensor:
    """w(i) = sum_d s(d) w(i - d), circular: eq. 8. shift_BJS: d = -range .. +range in order."""
    reach = shift_BJS.shape[-1] // 2
    wrapped = torch.cat(
        [weightings_BJN[..., -reach:], weightings_BJN, weightings_BJN[..., :reach]], -1
    )
    windows_BJNS = wrapped.unfold(-1, 2 * reach + 1, 1)  # window i: w(i - range) .. w(i + range)
    return (windows_BJNS @ shift_BJS.flip(-1).unsqueeze(-1)).squeeze(-1)


def sharpen(weightings_BJN: Tensor, gamma_BJ1: Tensor) -> Tensor:
    """w(i)^gamma / sum_j w(j)^gamma: eq. 9, as softmax(gamma log w), which cannot become 0 / 0."""
    return torch.softmax(gamma_BJ1 * torch.log(weightings_BJN + TINY), -1)
