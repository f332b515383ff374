"""`segdistill report RUN_DIR` writes the page of a run anew, or prints its table as Markdown."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from segdistill.reporting.page import write_report
from segdistill.reporting.results import read_failures, read_results
from segdistill.reporting.table import results_table
from segdistill.utils.console import as_markdown


def main() -> None:
    """Parse the command line, and write the page or print the table."""
    parser = argparse.ArgumentParser(prog="segdistill report", description=__doc__)
    parser.add_argument("run", type=Path, help="a run directory, or with --markdown its results.json")
    parser.add_argument("--markdown", action="store_true", help="print the table, and write nothing")
    given = parser.parse_args()
    results = given.run / "results.json" if given.run.is_dir() else given.run
    try:
        if given.markdown:
            sys.stdout.write(f"{as_markdown(results_table(read_results(results), read_failures(results)))}\n")
        else:
            sys.stdout.write(f"{write_report(given.run)}\n")
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"error: {results}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
