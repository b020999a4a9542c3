"""The one exception a user's mistake raises, and the "did you mean" that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: what was wrong, what was given, what is allowed.

    The command line prints the message without a traceback and exits with code 2.
    """


def unknown(kind: str, given: object, allowed: Iterable[str]) -> UserError:
    """The error for a name that does not exist: the nearest valid one first, then all of them."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    listed = ", ".join(names) if names else "none"
    return UserError(f"unknown {kind} '{given}'{hint} (allowed: {listed})")
