"""Weights and checkpoints as files: plain data only, and a clear error for anything else."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ntmbench.errors import UserError
from ntmbench.files import write_bytes


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write a state_dict as safetensors, in one step."""
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    write_bytes(path, safetensors.torch.save(plain))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state_dict in a safetensors file.

    Raises:
        UserError: the file is missing or corrupted.
    """
    try:
        return safetensors.torch.load(path.read_bytes())
    except OSError as error:
        raise UserError(f"weights {path} cannot be read: {error.strerror}") from error
    except safetensors.SafetensorError as error:
        raise UserError(f"weights {path} are corrupted: {error}") from error


def load_weights(path: Path, model: nn.Module) -> None:
    """Load a safetensors file into `model`.

    Raises:
        UserError: the file is missing or corrupted, or its tensors are not this model's.
    """
    weights = read_weights(path)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"weights {path} do not fit the model of this run: {reason}") from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint in one step. It is serialised first, so that only writing can fail."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors, on the CPU, and plain values; never code.

    Raises:
        UserError: the file is corrupted, or holds anything but plain data.
    """
    try:
        content = io.BytesIO(path.read_bytes())
        damaged = zipfile.ZipFile(content).testzip()  # torch.load does not look at the checksums
        if damaged is not None:
            raise UserError(f"checkpoint {path} is corrupted: the checksum of {damaged} is wrong")
        content.seek(0)
        return torch.load(content, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {path} is refused: it is corrupted, or holds code instead of plain data"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"checkpoint {path} is corrupted: {error}") from error
