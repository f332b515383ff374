"""`segdistill report-sweep DIR` writes the summary of a sweep anew; several sweeps and files of rows are joined."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from segdistill.reporting.sweep.arguments import read_sweeps, settings
from segdistill.reporting.sweep.comparison import study
from segdistill.reporting.sweep.findings import sweep_warnings
from segdistill.reporting.sweep.rows import write_rows
from segdistill.reporting.sweep.summary import summarise
from segdistill.reporting.sweep.table import sweep_table
from segdistill.utils.console import as_markdown, terminal
from segdistill.utils.errors import UserError


def main() -> None:
    """Parse the command line, and write or print the summary."""
    parser = argparse.ArgumentParser(prog="segdistill report-sweep", description=__doc__)
    help_text = "the directory of a multirun, or a file of --rows; several are joined and printed"
    parser.add_argument("sweep", type=Path, nargs="+", help=help_text)
    parser.add_argument("--baseline", metavar="KEY=VALUE,...", type=settings, help="compare with this setting")
    help_text = "print the table of another metric of the test than test/miou: test/int8_miou, test/iou_<class>"
    parser.add_argument("--score", metavar="METRIC", help=help_text)
    parser.add_argument("--rows", metavar="FILE.csv", type=Path, help="keep the jobs as rows of one file, too")
    parser.add_argument("--markdown", action="store_true", help="print the table of rows or joined sweeps as Markdown")
    given = parser.parse_args()
    try:
        summarised = len(given.sweep) == 1 and given.sweep[0].suffix != ".csv" and given.score is None
        if summarised:
            jobs = summarise(given.sweep[0], given.baseline)
        else:
            jobs = read_sweeps(given.sweep)
            for name, reason in jobs.skipped.items():
                sys.stderr.write(f"{name}: skipped, no job of a sweep ({reason})\n")
        if given.rows is not None:
            write_rows(jobs, given.rows)
        if summarised:
            return
        if given.score is not None:
            jobs = jobs.scored_by(given.score)
        table = sweep_table(jobs, study(jobs, given.baseline), sweep_warnings(jobs, given.baseline))
        if given.markdown:
            sys.stdout.write(f"{as_markdown(table)}\n")
        else:
            terminal().print(table)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
