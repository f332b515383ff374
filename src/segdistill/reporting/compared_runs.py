"""Results of several runs, named by their students, and whether they can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import OmegaConf

from segdistill.reporting.results import Row, baseline_row, read_results
from segdistill.utils.errors import UserError, first_line

REFERENCE = ("teacher", "onnxruntime-fp32")
"""Model and engine whose time in each run is the unit in which runs are compared."""


@dataclass(frozen=True)
class ComparedRun:
    """Scored rows of one run.

    Attributes:
        name: Name of its student.
        path: Run directory, or file of results.
        rows: Rows with a mean IoU, without those that time decoding; at least one.
    """

    name: str
    path: Path
    rows: list[Row]

    @property
    def reference(self) -> Row:
        """The teacher's float32 file, or the row closest to it."""
        return baseline_row(self.rows)

    @property
    def machine(self) -> str:
        """Processor and number of threads of its times."""
        return f"{self.reference.device}, {self.reference.threads} threads"

    @property
    def teacher(self) -> tuple[int, float] | None:
        """What tells its teacher from others: number of parameters and mean IoU; None if it has none."""
        row = self.reference
        return (row.params, round(row.miou or 0.0, 4)) if row.model == "teacher" else None


def read_runs(paths: Sequence[Path]) -> list[ComparedRun]:
    """Read run directories, or files of results, of which no two get the same name.

    Raises:
        UserError: If one cannot be read, or several cannot be compared: they were scored on different images or
            classes, at different sizes or beside different teacher networks, or one has not timed its teacher's
            float32 file.
    """
    runs = [_read_run(path) for path in paths]
    if len(runs) > 1:
        for run in runs:
            _require_comparable(runs[0], run)
        _require_same_images(runs)
    counts = Counter(run.name for run in runs)
    runs = [run if counts[run.name] == 1 else replace(run, name=f"{run.name} ({run.path.name})") for run in runs]
    counts = Counter(run.name for run in runs)
    runs = [run if counts[run.name] == 1 else replace(run, name=str(run.path)) for run in runs]
    return runs


def reference_ms(runs: Sequence[ComparedRun]) -> float:
    """Return the median time of the teacher's float32 file in ms, over the runs on the first one's machine."""
    return median(run.reference.latency_ms_p50 for run in runs if run.machine == runs[0].machine)


def _read_run(path: Path) -> ComparedRun:
    file = path / "results.json" if path.is_dir() else path
    folder = file.parent if file.name == "results.json" else None
    try:
        rows = read_results(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: cannot be read as results of a run ({first_line(error)})") from error
    rows = [row for row in rows if row.miou is not None and not row.decodes]
    if not any(row.model == "student" for row in rows):
        raise UserError(f"{file}: has no row of a student with a score; give a run that trained and timed one")
    student = None if folder is None else group_choices(folder).get("student")
    name = file.stem if folder is None else str(student or folder.resolve().name)
    return ComparedRun(name, path if folder is None else folder.resolve(), rows)


def group_choices(run_dir: Path) -> dict[str, Any]:
    """Return the option that a run has of each group, "student" -> "lraspp"; empty if Hydra did not record them."""
    try:
        choices = OmegaConf.select(OmegaConf.load(run_dir / ".hydra" / "hydra.yaml"), "hydra.runtime.choices")
        listed = OmegaConf.to_container(choices, resolve=False)
    except Exception:  # no file, no YAML, or YAML that OmegaConf rejects
        return {}
    return {str(group): option for group, option in listed.items()} if isinstance(listed, dict) else {}


def _require_comparable(first: ComparedRun, other: ComparedRun) -> None:
    reference = other.reference
    if (reference.model, reference.engine) != REFERENCE:
        raise UserError(
            f"{other.path}: has no row of {' '.join(REFERENCE)}, in whose time runs are compared; "
            "leave the run out, or let it time its teacher"
        )
    mine, theirs = (f"{run.rows[0].images} {run.rows[0].split} images" for run in (first, other))
    if mine != theirs:
        raise UserError(
            f"{other.path}: was scored on {theirs}, {first.path} on {mine}; compare runs on the same images"
        )
    if set(first.rows[0].class_iou) != set(other.rows[0].class_iou):
        raise UserError(
            f"{other.path}: has the classes {', '.join(other.rows[0].class_iou)}, {first.path} has "
            f"{', '.join(first.rows[0].class_iou)}; compare runs on the same classes"
        )
    mine, theirs = (_cost(run.reference) for run in (first, other))
    if mine != theirs:
        raise UserError(
            f"{other.path}: its teacher takes {theirs}, that of {first.path} {mine}; times are multiples of the "
            "teacher's, so compare runs of one teacher network at one input size"
        )


def _require_same_images(runs: Sequence[ComparedRun]) -> None:
    first, *others = [run for run in runs if run.rows[0].fingerprint is not None] or runs[:1]
    for other in others:
        if other.rows[0].fingerprint != first.rows[0].fingerprint:
            raise UserError(
                f"{other.path}: was scored on other images than {first.path}, or on the same ones with another gamma, "
                "cut or coding of classes; compare runs of one evaluation split and preprocessing"
            )


def _cost(row: Row) -> str:
    """Return what a network's time depends on, whatever its weights."""
    height, width = row.input_size
    return f"{row.params:,} parameters and {row.gmacs:.3f} GMACs at {height} x {width}"
