"""The compiled kernels: compiled once for a machine and a version, then loaded from a cache.

The cache is a folder of our own, named after everything that decides the machine code. A lock keeps
processes from compiling side by side; a marker, written last, holds their checksum.
`NTMBENCH_KERNEL_CACHE` names another folder, or is "off" to compile in every process.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import filelock
import numpy as np
import platformdirs
import torch

from ntmbench.engine.shapes import (
    FF,
    Places,
    Rule,
    Shape,
    Start,
    make_activations,
    make_gradients,
    make_scratch,
)

VARIABLE = "NTMBENCH_KERNEL_CACHE"
COMPILING = "compiling kernels, once (under a minute)"
_loaded: ModuleType | None = None


def kernels() -> ModuleType:
    """The kernels: `ntmbench.engine.update`. The first call may take a minute; see `prepare`."""
    return prepare(lambda message: None)


def prepare(tell: Callable[[str], object]) -> ModuleType:
    """Load the kernels, or compile them; `tell` is given a line if that takes long."""
    global _loaded
    if _loaded is None:
        _loaded = _load(tell)
    return _loaded


def _load(tell: Callable[[str], object]) -> ModuleType:
    _use_wide_vectors()
    update = _module()
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "off":
        tell(f"compiling kernels for this process alone: {VARIABLE} is off")
        _run_all(update)
        return update
    root = Path(wanted) if wanted else platformdirs.user_cache_path("ntmbench") / "kernels"
    folder = root / _key(Path(str(update.__file__)))
    marker = folder / "complete"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _is_whole(marker) and _usable(update, folder):
            return update
        with _locked(folder.with_suffix(".lock"), tell):
            if _is_whole(marker) and _usable(update, folder):  # another process was quicker
                return update
            tell(COMPILING)
            shutil.rmtree(folder, ignore_errors=True)
            _keep_in(folder, update)
            _run_all(update)
            marker.write_text(_checksum(folder))
    except OSError as error:
        tell(f"compiling kernels for this process alone: {folder} cannot be used: {error.strerror}")
        _keep_in(None, update)
        _run_all(update)
    return update


@contextlib.contextmanager
def _locked(path: Path, tell: Callable[[str], object]) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0.5)
    except filelock.Timeout:
        tell("waiting for another process that is compiling the kernels")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_whole(marker: Path) -> bool:
    """Whether all kernels were kept, and every byte is as it was: a damaged one would crash."""
    return marker.exists() and marker.read_text() == _checksum(marker.parent)


def _checksum(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.nb[ic]")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _module() -> ModuleType:
    from ntmbench.engine import update

    return update


def _usable(update: ModuleType, folder: Path) -> bool:
    """Whether the kernels load from the cache, or it is damaged."""
    try:
        _keep_in(folder, update)
        _run_all(update)
    except OSError:
        raise
    except Exception:  # whatever unpickling a damaged file raises
        return False
    return True


def _keep_in(folder: Path | None, update: ModuleType) -> None:
    """Have what is compiled from now on kept in a folder, or nowhere."""
    from numba.core import caching

    config = _numba_config()
    for kernel in update.ENTRIES:
        if folder is None:
            kernel._cache = caching.NullCache()
            continue
        before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
        try:
            kernel.enable_caching()
        finally:
            config.CACHE_DIR = before
        if not Path(kernel._cache.cache_path).is_relative_to(folder):
            # numba quietly takes another place, where it tells only this file's versions apart
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _numba_config() -> Any:
    """Numba's settings, which it makes up as it is imported."""
    from numba.core import config

    return config


def _use_wide_vectors() -> None:
    """Use 512-bit vectors where there are any; by default the compiler prefers 256 bits.

    It made the matrix products of one sequence 1.2 to 1.4 times as fast (Sapphire Rapids).
    """
    import llvmlite.binding as llvm

    config, features = _numba_config(), llvm.get_host_cpu_features()
    if config.CPU_FEATURES is None and features.get("avx512f"):
        config.CPU_FEATURES = f"{features.flatten()},-prefer-256-bit"


def _key(entry: Path) -> str:
    """What decides the machine code, as a name: sources, versions, processor, settings."""
    engine = Path(__file__).parent
    package = engine.parent
    sources = [*sorted(engine.glob("*.py")), package / "optim.py"]
    sources.append(package / "models" / "addressing.py")
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    stamp = (str(entry), entry.stat().st_mtime)  # numba keeps to a file and its time
    settings = sorted(
        (name, value)
        for name, value in os.environ.items()
        if name.startswith("NUMBA_") and name != "NUMBA_NUM_THREADS"
    )
    digest.update(repr((stamp, description(), platform.python_version(), settings)).encode())
    return digest.hexdigest()[:24]


def description() -> str:
    """What the kernels of this process are compiled with and for; other ones round otherwise."""
    import llvmlite
    import numba
    from numba.core.registry import cpu_target

    _use_wide_vectors()
    context: Any = cpu_target.target_context
    target = repr(context.codegen().magic_tuple())
    digest = hashlib.sha256(target.encode()).hexdigest()[:8]
    return f"numba {numba.__version__}, llvmlite {llvmlite.__version__}, target {digest}"


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Numbers too small for full precision count as 0 meanwhile, in this thread.

    Computing with them is many times slower: weightings that decay towards 0 made updates three to
    eight times as long. No sum here can see them.
    """
    before = np.float32(1e-40) * np.float32(0.5) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(bool(before))


def _run_all(update: ModuleType) -> None:
    """Run every kernel once, in float32, on next to nothing."""
    shape = Shape(
        cell=FF, layers=1, hidden=1, columns=16, inputs=1, outputs=1, heads=1, rows=3, width=1,
        shifts=3, content=True, location=True, row_floor=1e-6,
        learned_memory=False, reads=1, reads_after_writes=False, head_columns=16,
    )  # fmt: skip
    one = np.array([0])
    places = Places(one, one, -1, -1, 64, 96, 112, 128, -1, -1)
    dtype = np.dtype(np.float32)

    def ones(*sizes: int) -> np.ndarray:
        return np.ones(sizes, dtype)

    kept, back = make_activations(shape, 1, 1, dtype), make_gradients(shape, 1, 1, dtype)
    scratch, start = make_scratch(shape, dtype), Start(ones(1, 3), ones(3))
    weights, gradient, state = ones(256), ones(256), ones(3, 256)
    update.begin(shape, places, weights, start, kept)
    update.predict(
        shape, places, weights, ones(1, 1, 1), kept, scratch, ones(1, 1, 2), ones(1, 1, 1)
    )
    rule = Rule(1, 1e-4, 0.9, 0.9, 1, 1.0)
    update.learn(
        shape, places, weights, start, (ones(1, 1, 1), ones(1, 1, 1), ones(1, 1)), np.array([1]),
        kept, back, scratch, ones(1, 1, 2), ones(1, 1, 1), ones(1, 1), ones(1, 1, 3), gradient,
        rule, state, np.ones(1), 0,
    )  # fmt: skip
    update.advance(rule, weights, gradient, state, 1.0, 1)
