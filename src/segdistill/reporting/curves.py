"""Training curves, read from the files of Lightning's CSV logger."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from segdistill.reporting.figures import Curve

SCORES = ("val/miou", "test/miou")
MAX_POINTS = 400  # per curve; more than a page can show
Points = dict[str, dict[float, float]]


def read_curves(run_dir: Path) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """Read training losses and scores (in %) as curves over the steps.

    A run that was resumed has one file for each start. Where a later file begins, the curves of the earlier ones end:
    those steps were lost with the interruption, and trained again.

    Args:
        run_dir: Run directory with `csv/version_<n>/metrics.csv`.
    """
    curves: Points = {}
    for path in sorted((run_dir / "csv").glob("version_*/metrics.csv"), key=_version):
        fresh = _points(path)
        first = min((step for points in fresh.values() for step in points), default=float("inf"))
        for name in curves.keys() | fresh.keys():
            kept = {step: value for step, value in curves.get(name, {}).items() if step < first}
            curves[name] = kept | fresh.get(name, {})
    drawn = {name: _thinned(points) for name, points in sorted(curves.items()) if points}
    losses = {name: curve for name, curve in drawn.items() if name not in SCORES}
    return losses, {name: drawn[name] for name in SCORES if name in drawn}


def _version(path: Path) -> int:
    number = path.parent.name.removeprefix("version_")
    return int(number) if number.isdigit() else -1


def _points(path: Path) -> Points:
    curves: Points = {}
    with path.open(newline="") as file:
        for record in csv.DictReader(file):
            for name, value in _drawn(record):
                curves.setdefault(name, {})[float(record["step"])] = 100 * value if name in SCORES else value
    return curves


def _drawn(record: dict[str, str]) -> Iterator[tuple[str, float]]:
    """Yield the values of a record to draw; none for a record that was cut off in the middle of its line."""
    if None in record.values():
        return
    for name, value in record.items():
        if value and (name.startswith("train/loss") or name in SCORES):
            yield name, float(value)


def _thinned(points: dict[float, float]) -> Curve:
    every = 1 + len(points) // MAX_POINTS
    return list(points)[::every], list(points.values())[::every]
