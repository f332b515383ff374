"""`segdistill report RUN_DIR` writes the page of a run anew; several runs are compared in one table and figure."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from segdistill.reporting.compared_runs import read_runs
from segdistill.reporting.figures import save_figure
from segdistill.reporting.page import write_report
from segdistill.reporting.pareto import comparison_table, pareto_figure
from segdistill.reporting.results import read_failures, read_results
from segdistill.reporting.table import results_table
from segdistill.utils.console import as_markdown, terminal
from segdistill.utils.errors import UserError
from segdistill.utils.io import atomic_write

FIGURE_FORMATS = (".png", ".svg", ".pdf")


def main() -> None:
    """Parse the command line; write the page or the figure, or print the table."""
    parser = argparse.ArgumentParser(prog="segdistill report", description=__doc__)
    help_text = "a run directory or, except for the page, a file of results; several are compared"
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=help_text)
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown, and write no page")
    help_text = "draw mean IoU over latency of every student, with the Pareto line (.png, .svg, .pdf)"
    parser.add_argument("-o", "--out", type=_figure_path, metavar="FIGURE", help=help_text)
    given = parser.parse_args()
    try:
        if given.out is not None:
            _write_figure(given.runs, given.out)
        if len(given.runs) > 1:
            table = comparison_table(read_runs(given.runs))
            if given.markdown:
                sys.stdout.write(f"{as_markdown(table)}\n")
            elif given.out is None:
                terminal().print(table)
        elif given.markdown or given.out is None:
            _report(given.runs[0], markdown=given.markdown)
    except UserError as error:
        sys.exit(f"error: {error}")


def _write_figure(runs: list[Path], out: Path) -> None:
    figure = pareto_figure(read_runs(runs))
    try:
        with atomic_write(out) as temporary:
            save_figure(figure, temporary, out.suffix[1:])
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    sys.stdout.write(f"{out}\n")


def _report(run: Path, *, markdown: bool) -> None:
    """Write the page of a run, or print its table."""
    results = run / "results.json" if run.is_dir() else run
    try:
        if markdown:
            sys.stdout.write(f"{as_markdown(results_table(read_results(results), read_failures(results)))}\n")
        else:
            sys.stdout.write(f"{write_report(run)}\n")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{results}: {type(error).__name__}: {error}") from error


def _figure_path(text: str) -> Path:
    path = Path(text)
    if path.suffix not in FIGURE_FORMATS:
        raise argparse.ArgumentTypeError(f"{text}: must end in {', '.join(FIGURE_FORMATS)}")
    return path


if __name__ == "__main__":
    main()
