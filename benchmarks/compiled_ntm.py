"""The eager NTM with its step under torch.compile; the loop over time stays Python's."""

from __future__ import annotations

import torch
from contenders import NotAvailable

from ntmbench.models.ntm import NTM


def compile_step(model: NTM) -> None:
    """Compile the step in place, for one shape; it happens in the first update.

    Raises:
        NotAvailable: torch finds no C++ compiler.
    """
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler as error:
        raise NotAvailable("torch.compile finds no C++ compiler") from error
    model._step = torch.compile(model._step, fullgraph=True, dynamic=False)
