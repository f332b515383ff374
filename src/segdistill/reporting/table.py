"""Table of a run's results, for terminal and log."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from segdistill.reporting.findings import failures, run_warnings, scored_classes, split_label
from segdistill.reporting.results import FailedRow, Row, baseline_row
from segdistill.utils.console import caption, compact_table

SCORES = ("overall", "mean", "freqw", "mIoU", "agree", "MB", "p50", "p95", "faster")


def results_table(rows: Sequence[Row], failed: Sequence[FailedRow] = ()) -> Table:
    """Build a table of the rows that fits into 100 columns, with notes and warnings below it.

    Args:
        rows: Measured rows; may be empty.
        failed: Failed rows; each gets a row of its own, and its error a line below the table.
    """
    table = compact_table(_title(rows))
    caption(table, _legend(rows), [*run_warnings(rows), *failures(failed)])
    for heading in ("model", "engine"):
        table.add_column(heading, no_wrap=True)
    for heading in SCORES:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        shares = (row.overall_acc, row.mean_acc, row.freqw_acc, row.miou, row.agreement)
        table.add_row(
            row.model,
            row.engine,
            *("-" if value is None else f"{100 * value:.2f}" for value in shares),
            *map(_brief, (row.file_mb, row.latency_ms_p50, row.latency_ms_p95)),
            f"{baseline_row(rows).latency_ms_p50 / row.latency_ms_p50:.1f}x",
        )
    for failure in failed:
        table.add_row(failure.model, failure.engine, "failed", *["-"] * (len(SCORES) - 1))
    return table


def _brief(value: float) -> str:
    """Format a number in at most five characters, up to 99 999."""
    return f"{value:.1f}" if value < 999.95 else f"{value:.0f}"


def _title(rows: Sequence[Row]) -> str:
    if not rows:
        return "nothing was timed"
    first = rows[0]
    height, width = first.input_size
    images = split_label(first.split, first.selected_on, "images")
    return f"{first.images} {images} of {height} x {width}, batch 1, {first.threads} threads"


def _legend(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    reference = baseline_row(rows)
    sizes = {row.model: f"{row.model}: {row.params / 1e6:.2f} M parameters, {row.gmacs:.2f} GMACs" for row in rows}
    return [
        "accuracies and agreement with PyTorch in %, p50 and p95 in ms, "
        f"faster: than {reference.model} {reference.engine}; {'; '.join(sizes.values())}; on {reference.device}",
        scored_classes(rows),
    ]
