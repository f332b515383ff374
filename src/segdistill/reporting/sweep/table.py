"""Table of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from segdistill.reporting.sweep.comparison import BaselineStudy, gain_record
from segdistill.reporting.sweep.findings import score_label, scored_classes
from segdistill.reporting.sweep.jobs import Jobs
from segdistill.utils.console import caption, compact_table


def sweep_table(jobs: Jobs, compared: BaselineStudy | None, warnings: Sequence[str]) -> Table:
    """Build a table of the settings, with notes and warnings below it."""
    mixed = len(jobs.score_labels) > 1
    table = compact_table(f"{score_label(jobs)} in %, best first" + (" in each split" if mixed else ""))
    caption(table, _legend(jobs, compared), warnings)
    for key in jobs.swept:
        table.add_column(escape(key), no_wrap=True)
    if mixed:
        table.add_column("score", no_wrap=True)
    headings = ["mean", "std", "seeds", *(["gain", "from", "to", "p", "gap %", "verdict"] if compared else [])]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for setting in jobs.by_setting():
        cells = [setting.score_label] if mixed else []
        cells += [f"{100 * setting.mean:.2f}", _percent(setting.deviation), str(len(setting.scores))]
        if compared:
            gain = compared.of(setting)
            record = gain_record(gain)
            cells += [_percent(record[key], "+.2f") for key in ("gain", "gain_low", "gain_high")]
            cells += [
                gain.probability if gain else "-",
                _percent(record["gap_closed"], ".0f"),
                record["verdict"] or ("baseline" if setting == compared.baseline else "no common seed"),
            ]
        table.add_row(*(escape(setting.values[key]) for key in jobs.swept), *cells)
    return table


def _legend(jobs: Jobs, compared: BaselineStudy | None) -> list[str]:
    lines = [scored] if (scored := scored_classes(jobs)) else []
    if compared is None:
        return lines
    over = ", ".join(f"{key}={value}" for key, value in compared.baseline.values.items())
    gain = f"gain over {over} in points, paired over seeds, with its 95 % interval; p adjusted by Holm"
    if compared.teacher is not None:
        gain += f"; the teacher has {100 * compared.teacher:.2f}, gap: how much of its lead is closed"
    elif compared.teachers:
        gain += "; gap: how much of the lead of a setting's own teachers is closed"
    return [*lines, gain, compared.coverage]


def _percent(share: float | None, form: str = ".2f") -> str:
    return "-" if share is None else format(100 * share, form)
