"""Classes named as `package.module:Class`, in installed packages or the current folder."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from pathlib import Path

from ntmbench.errors import UserError, unknown


def code_of(spec: str) -> str:
    """A digest of the source file in which the class `module:Class` is; "" where there is none."""
    module = importlib.import_module(spec.partition(":")[0])
    try:
        source = Path(module.__file__ or "").read_bytes()
    except OSError:
        return ""
    return hashlib.sha256(source).hexdigest()[:12]


def import_class(spec: str, kind: str) -> type:
    """The class that `spec` names, as `package.module:Class`; `kind` is for the error message.

    The current folder is searched last, so that one file beside the user is enough.

    Raises:
        UserError: the form is wrong, the module does not import, or it has no such class.
    """
    module_name, _, class_name = spec.partition(":")
    if not module_name or not class_name:
        raise UserError(f"{kind} '{spec}' must be given as package.module:Class")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever somebody's module raises while it is imported
        raise UserError(
            f"{kind} '{spec}': importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise unknown(f"class in {module_name}", class_name, classes)
    return found
