"""Several students in one figure of speed against accuracy, and in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from matplotlib.figure import Figure
from rich.table import Table

from segdistill.reporting.compared_runs import ComparedRun, reference_ms
from segdistill.reporting.findings import split_label
from segdistill.reporting.palette import COLOURS, SERIES
from segdistill.reporting.results import Row
from segdistill.reporting.scatter import Point, speed_scatter
from segdistill.utils.console import caption, compact_table

SIZE = (7.5, 5.2)  # inches
STUDENT_COLOURS = [colour for colour in SERIES if colour != COLOURS["teacher"]]
NUMBERS = ("M", "MB", "INT8", "mIoU", "INT8", "p50", "INT8", "faster", "INT8", "teacher")


def pareto_figure(runs: Sequence[ComparedRun]) -> Figure:
    """Plot mean IoU over latency: a mark for each student in each engine, and for the teacher.

    PyTorch's marks are left out of several runs that have exported files. Their times are then given as multiples of
    each one's own teacher in float32, because two machines, or one at two times, are not equally fast; an axis above
    says what they come to in ms on the machine of the first run.

    Args:
        runs: At least one run; several have timed their teacher's float32 file.
    """
    together = len(runs) > 1
    if together:
        runs = [_exported(run) for run in runs]
    points = list(_teacher_points(runs))
    for index, run in enumerate(runs):
        colour, unit = STUDENT_COLOURS[index % len(STUDENT_COLOURS)], run.reference.latency_ms_p50 if together else 1.0
        points += [
            _point(row, run.name, colour, row.latency_ms_p50 / unit) for row in run.rows if row.model == "student"
        ]
    first = runs[0].reference
    label = f"{split_label(first.split, first.selected_on, 'mean IoU')}, %"
    if not together:
        return speed_scatter(points, f"p50 latency, ms an image on {runs[0].machine} (log)", label, SIZE)
    time = reference_ms(runs)
    above = f"ms an image on {runs[0].machine}, where the teacher's float32 file takes {time:.1f} ms"
    below = "p50 latency as a multiple of the teacher's float32 file in the same run (log)"
    return speed_scatter(points, "\n".join([below, *_machines(runs)]), label, SIZE, top=(time, above))


def comparison_table(runs: Sequence[ComparedRun]) -> Table:
    """Build a table with a row for each student in each runtime, and for each teacher, in float32 and INT8.

    Args:
        runs: Several runs that have timed their teacher's float32 file.
    """
    first = runs[0].reference
    images = split_label(first.split, first.selected_on, "images")
    table = compact_table(f"{len(runs)} students on {first.images} {images}")
    legend = [
        "M: million parameters; MB, mean IoU in %, p50 latency in ms: in float32, and beside it in INT8",
        "faster: than the teacher's float32 file in the same run, whose p50 stands last; runs compare by that alone",
    ]
    caption(table, [*legend, *_machines(runs)], [])
    for heading in ("student", "runtime"):
        table.add_column(heading, no_wrap=True)
    for heading in NUMBERS:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, run, model in _networks(runs):
        rows = [row for row in run.rows if row.model == model]
        for runtime in dict.fromkeys(_runtime(row) for row in rows):
            table.add_row(*_cells(name, runtime, [row for row in rows if _runtime(row) == runtime], run))
    return table


def _networks(runs: Sequence[ComparedRun]) -> Iterator[tuple[str, ComparedRun, str]]:
    """Yield name, run and role of each different teacher, then of each student."""
    teachers = {run.teacher: run for run in reversed(runs) if run.teacher is not None}
    for teacher in dict.fromkeys(run.teacher for run in runs):
        if teacher is not None:
            yield (
                "teacher" if len(teachers) == 1 else f"teacher of {teachers[teacher].name}",
                teachers[teacher],
                "teacher",
            )
    yield from ((run.name, run, "student") for run in runs)


def _teacher_points(runs: Sequence[ComparedRun]) -> Iterator[Point]:
    """Yield the points of each different teacher; times are medians over the runs that have it."""
    for name, first, role in _networks(runs):
        if role == "student":
            continue
        for row in (row for row in first.rows if row.model == "teacher"):
            times = [
                other.latency_ms_p50 / (run.reference.latency_ms_p50 if len(runs) > 1 else 1.0)
                for run in runs
                if run.teacher == first.teacher
                for other in run.rows
                if (other.model, other.engine) == ("teacher", row.engine)
            ]
            yield _point(row, name, COLOURS["teacher"], median(times))


def _point(row: Row, name: str, colour: str, latency: float) -> Point:
    return Point(latency, 100 * (row.miou or 0.0), name, row.engine, f"{name} {row.engine}", colour)


def _exported(run: ComparedRun) -> ComparedRun:
    """Return a run without its rows of PyTorch, unless its student has no others."""
    rows = [row for row in run.rows if row.engine != "pytorch"]
    return replace(run, rows=rows) if any(row.model == "student" for row in rows) else run


def _machines(runs: Sequence[ComparedRun]) -> list[str]:
    """Return a line for each processor, with the students that were timed on it."""
    named: dict[str, list[str]] = {}
    for run in runs:
        named.setdefault(run.machine, []).append(run.name)
    if len(named) == 1:
        return [f"all on {runs[0].machine}"]
    return [f"{', '.join(names)}: {machine}" for machine, names in named.items()]


def _runtime(row: Row) -> str:
    return row.engine.partition("-")[0]


def _cells(name: str, runtime: str, rows: Sequence[Row], run: ComparedRun) -> list[str]:
    """Return the cells of one network in one runtime, in float32 and in INT8 where that was timed."""
    whole = next((row for row in rows if not row.engine.endswith(("-int8", "-fp16"))), None)
    small = next((row for row in rows if row.engine.endswith("-int8")), None)
    time, forms = run.reference.latency_ms_p50, (whole, small)
    return [
        name,
        runtime,
        f"{rows[0].params / 1e6:.2f}",
        *("-" if row is None else f"{row.file_mb:.1f}" for row in forms),
        *("-" if row is None else f"{100 * (row.miou or 0.0):.2f}" for row in forms),
        *("-" if row is None else f"{row.latency_ms_p50:.1f}" for row in forms),
        *("-" if row is None else f"{time / row.latency_ms_p50:.1f}x" for row in forms),
        f"{time:.1f}",
    ]
