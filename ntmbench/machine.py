"""What a run ran on: versions, commit, machine, threads; recorded beside its results."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import ntmbench
from ntmbench.errors import UserError

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""What a container (cgroup version 2) is granted: microseconds of CPU, and in how many."""
CUDNN = ("enabled", "benchmark", "deterministic", "allow_tf32")
"""Settings of torch.backends.cudnn that change numbers."""


def choose_device(name: str) -> Literal["cpu", "cuda"]:
    """The device that "auto", "cpu" or "cuda" means here.

    Raises:
        UserError: "cuda" was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' was asked for, but torch finds no CUDA device; use 'cpu'")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if name == "cuda" else "cpu"


def pin_threads(threads: int = 1) -> None:
    """Compute with a fixed number of threads, so that results do not depend on the machine's.

    Sums differ in their last digits between thread counts.
    """
    torch.set_num_threads(threads)


@contextlib.contextmanager
def settings_kept() -> Iterator[None]:
    """Put global settings of torch and numpy back, on which the next run relies.

    Models of others change them, such as with `torch.set_default_dtype`.
    """
    dtype, folder, errors = torch.get_default_dtype(), os.getcwd(), np.geterr()
    grad, precision = torch.is_grad_enabled(), torch.get_float32_matmul_precision()
    exact = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = {name: getattr(torch.backends.cudnn, name) for name in CUDNN}
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_default_device(None)
        torch.set_grad_enabled(grad)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(exact, warn_only=lenient)
        torch.set_flush_denormal(False)
        for name, value in cudnn.items():
            setattr(torch.backends.cudnn, name, value)
        np.seterr(**errors)
        os.chdir(folder)


def free_memory(device: str) -> None:
    """Give back what torch keeps of a GPU's memory after a run, so that others can have it."""
    if device != "cpu":
        torch.cuda.empty_cache()


def gpus() -> int:
    """How many GPUs torch finds."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def usable_cores() -> int:
    """The cores that this process may use: those it is bound to, within a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, _quota()))


def _quota() -> int:
    """The cores that a container (cgroup version 2) grants; many where it sets no limit."""
    try:
        granted, period = QUOTA.read_text(encoding="utf-8").split()
        return max(1, int(granted) // int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 16


@functools.cache
def _commit() -> str | None:
    """The commit of the checkout that this runs from, `+` if it was changed; None if installed."""
    package = Path(ntmbench.__file__).resolve().parent
    if not (package.parent / ".git").exists():
        return None
    git = ["git", "-C", str(package.parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        status = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True
        )
    except OSError:
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")


def _processor() -> str:
    """The name of the CPU as people know it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def environment(device: str) -> dict[str, Any]:
    """Versions, commit and machine, as config.json and summary.json hold them."""
    found: dict[str, Any] = {
        "ntmbench": ntmbench.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if device != "cpu":
        found["gpu"] = torch.cuda.get_device_name()
    return found
