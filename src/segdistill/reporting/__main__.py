"""`python -m segdistill.reporting RUN_DIR` writes the page of a run anew."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from segdistill.reporting.page import write_report


def main() -> None:
    """Parse the command line, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m segdistill.reporting", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="holds results.json")
    try:
        sys.stdout.write(f"{write_report(parser.parse_args().run_dir)}\n")
    except OSError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
