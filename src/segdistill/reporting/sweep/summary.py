"""Summary of a sweep, written at the end of a multirun."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from segdistill.reporting.figures import save_figure
from segdistill.reporting.page import drawn, environment
from segdistill.reporting.palette import COLOURS
from segdistill.reporting.sweep.comparison import BaselineStudy, gain_record, study
from segdistill.reporting.sweep.findings import score_label, scored_classes, sweep_warnings
from segdistill.reporting.sweep.jobs import ConfigGroup, Jobs, read_jobs
from segdistill.reporting.sweep.table import sweep_table
from segdistill.utils.console import terminal
from segdistill.utils.io import atomic_write, write_json

log = logging.getLogger(__name__)


def summarise(sweep_dir: Path, baseline: Mapping[str, str] | None = None) -> Jobs:
    """Write `summary.{csv,json,html}` and `summary.png` into a sweep's directory, and print the table.

    Args:
        sweep_dir: Directory of a multirun, which may still be running.
        baseline: Swept key -> value of the setting to compare with; None selects the one without a teacher.

    Raises:
        UserError: If there is no such folder.
    """
    jobs = read_jobs(sweep_dir)
    for name, reason in jobs.skipped.items():
        log.warning("%s: skipped, no job of a sweep (%s)", sweep_dir / name, reason)
    settings, compared, warnings = jobs.by_setting(), study(jobs, baseline), sweep_warnings(jobs, baseline)
    records = [_record(setting, jobs.swept, compared) for setting in settings]
    write_json(sweep_dir / "summary.json", records)
    with atomic_write(sweep_dir / "summary.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]) if records else [])
        writer.writeheader()
        writer.writerows({**record, "jobs": " ".join(record["jobs"])} for record in records)
    figure = sweep_figure(settings, jobs.swept, compared.teacher if compared else None)
    if figure is None:
        (sweep_dir / "summary.png").unlink(missing_ok=True)  # drawn when there were fewer jobs
    else:
        with atomic_write(sweep_dir / "summary.png") as temporary:
            save_figure(figure, temporary, "png")
    page = (
        environment()
        .get_template("sweep.html.j2")
        .render(
            name=sweep_dir.resolve().name,
            swept=jobs.swept,
            settings=settings,
            jobs=jobs,
            study=compared,
            label=score_label(jobs),
            mixed=len(jobs.score_labels) > 1,
            scored=scored_classes(jobs),
            warnings=warnings,
            figure=None if figure is None else drawn(figure),
            pages={job.name for job in jobs.jobs if (sweep_dir / job.name / "report.html").is_file()},
        )
    )
    with atomic_write(sweep_dir / "summary.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    terminal().print(sweep_table(jobs, compared, warnings))
    return jobs


def sweep_figure(settings: Sequence[ConfigGroup], swept: Sequence[str], teacher: float | None = None) -> Figure | None:
    """Plot means with bars of one standard deviation for one swept key, a heat map for two, nothing for others.

    Nothing is plotted if settings were tested on different splits.

    Args:
        settings: Settings to plot.
        swept: Keys that differ between the settings.
        teacher: Mean IoU of the teacher, a fraction of 1, for a line beside the marks.
    """
    labels = {setting.score_label for setting in settings}
    if len(labels) != 1 or len(swept) not in (1, 2):
        return None
    (label,) = labels
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.subplots()
    if len(swept) == 1:
        ordered = sorted(settings, key=lambda setting: _sortable(setting.values[swept[0]]))
        places = range(len(ordered))
        means = [100 * setting.mean for setting in ordered]
        deviations = [100 * (setting.deviation or 0.0) for setting in ordered]
        numbers = all(_is_number(setting.values[swept[0]]) for setting in ordered)
        line = "-" if numbers else "none"
        axes.errorbar(places, means, deviations, marker="o", capsize=4, linestyle=line, color=COLOURS["student"])
        if teacher is not None:
            axes.axhline(100 * teacher, color=COLOURS["teacher"], linestyle="--", label="teacher")
            axes.legend(frameon=False)
        axes.margins(x=0.1)
        axes.set_xticks(places, [setting.values[swept[0]] for setting in ordered])
        axes.set_xlabel(swept[0])
        axes.set_ylabel(f"{label}, %")
        axes.grid(visible=True, alpha=0.25)
        return figure
    rows, columns = (sorted({setting.values[key] for setting in settings}, key=_sortable) for key in swept)
    grid = np.full((len(rows), len(columns)), np.nan)
    for setting in settings:
        grid[rows.index(setting.values[swept[0]]), columns.index(setting.values[swept[1]])] = 100 * setting.mean
    image = axes.imshow(grid, cmap="viridis", aspect="auto")
    for row, column in np.ndindex(grid.shape):
        if np.isfinite(grid[row, column]):
            bright = grid[row, column] > (np.nanmin(grid) + np.nanmax(grid)) / 2
            text = f"{grid[row, column]:.2f}"
            axes.text(column, row, text, ha="center", va="center", color="black" if bright else "white")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(swept[1])
    axes.set_ylabel(swept[0])
    figure.colorbar(image, label=f"{label}, %")
    return figure


def _record(setting: ConfigGroup, swept: Sequence[str], compared: BaselineStudy | None) -> dict[str, Any]:
    return {
        **{key: setting.values[key] for key in swept},
        "split": setting.jobs[0].split,
        "selected_on": setting.jobs[0].selected_on,
        "seeds": len(setting.scores),
        "miou_mean": setting.mean,
        "miou_std": setting.deviation,
        **(gain_record(compared.of(setting)) if compared else {}),
        "jobs": [job.name for job in setting.jobs],
    }


def _is_number(value: str) -> bool:
    return _sortable(value)[0] == 0


def _sortable(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value
