"""The terminal, or what stands in for it."""

from __future__ import annotations

import sys

from rich.console import Console

PIPED_WIDTH = 100


def terminal() -> Console:
    """Returns a console as wide as the terminal; 100 columns where the output is piped."""
    return Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
