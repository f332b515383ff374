"""`python -m segdistill.reporting.sweep DIR` writes the summary of a sweep anew."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from segdistill.reporting.sweep.summary import summarise
from segdistill.utils.errors import UserError


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="python -m segdistill.reporting.sweep", description=__doc__)
    parser.add_argument("sweep_dir", type=Path, help="the directory of a multirun")
    try:
        summarise(parser.parse_args().sweep_dir)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
