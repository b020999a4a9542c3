"""The group of all verbs, and what happens to a user's mistake."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import click

import ntmbench
from ntmbench.errors import UserError
from ntmbench.terminal import say


class _Refused(click.ClickException):
    """A user's mistake: the message without a traceback, exit code 2."""

    exit_code = 2


class _Verbs(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise _Refused(str(error)) from error
        except BrokenPipeError:
            raise  # of whoever reads the output and has enough: click ends quietly
        except OSError as error:  # the output goes to a full disk, a path is too long, and the like
            with contextlib.suppress(OSError):  # nor can it be written as the process ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise _Refused(str(error)) from error
        except MemoryError as error:
            raise _Refused(f"there is not enough memory for this: {error}") from error
        except RuntimeError as error:
            if "allocate" in str(error) and "memory" in str(error):  # torch's, CPU and CUDA
                raise _Refused(f"there is not enough memory for this: {error}") from error
            raise
        except KeyboardInterrupt:
            say("left at once; what was saved before is whole")
            ctx.exit(130)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ntmbench.__version__, prog_name="ntmbench")
def main() -> None:
    """The algorithmic tasks of the Neural Turing Machine paper, for models with memory.

    \b
    ntmbench list                                what there is to run
    ntmbench run copy --model ntm                train, test on longer sequences
    ntmbench sweep --tasks copy --seeds 0-9      many runs, on every core
    ntmbench status                              where they stand
    ntmbench report                              one HTML file about all runs in results/
    ntmbench trace results/copy/ntm/seed0        what the memory of a run does
    """
