"""The algorithmic tasks of the Neural Turing Machine paper: a benchmark for models with memory.

The names below are imported when they are first used, so that `import ntmbench` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ntmbench.errors import UserError as UserError
    from ntmbench.resolve import make_model as make_model
    from ntmbench.results import load_results as load_results
    from ntmbench.saved import load_run as load_run
    from ntmbench.tasks import load_task as load_task

__version__ = "0.1.0"

_HOME = {
    "UserError": "ntmbench.errors",
    "load_results": "ntmbench.results",
    "load_run": "ntmbench.saved",
    "load_task": "ntmbench.tasks",
    "make_model": "ntmbench.resolve",
}
__all__ = ["UserError", "load_results", "load_run", "load_task", "make_model"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ntmbench' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
