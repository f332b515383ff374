"""results.json: one row for each (model, engine)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segdistill.utils.io import write_json

SELECTION_SPLIT = "val"
"""The split whose mean IoU chooses the best checkpoint."""


@dataclass(frozen=True)
class Row:
    """One engine's figures. Accuracies are fractions of 1, None where nothing could be counted.

    Attributes:
        model: "teacher" or "student".
        engine: "pytorch", "onnxruntime-int8", ...; with "+decode" the clock begins at the picture's file.
        split: The split it was scored and timed on.
        selected_on: Whether checkpoints were selected on that very split, so that its scores are optimistic.
        images: How many pictures.
        overall_acc: Share of right pixels.
        mean_acc: Mean recall over the classes that occur.
        freqw_acc: IoU weighted by each class's share of true pixels.
        miou: Mean IoU over the classes that occur.
        classes_scored: Number of classes that `miou` averages over: those that occur in truth or prediction.
        class_iou: Name -> IoU.
        never_predicted: Classes that occur in the truth and in no predicted mask.
        collapsed_to: The class that every predicted pixel has; None where at least two classes are predicted.
        params: Parameters of the network.
        gmacs: Billions of multiply-accumulates for one picture.
        file_mb: Size of the file that was run, in 10^6 bytes.
        latency_ms_p50: Median over the pictures, at batch 1.
        latency_ms_p95: 95th percentile.
        total_ms: Sum over the pictures.
        images_per_s: Pictures over that sum.
        batch_size: Of the batches below; None where none was timed.
        batch_ms_p50: Median of a whole batch.
        batch_images_per_s: At that median.
        agreement: Share of all pixels with the class that PyTorch gives them, fp32; None where that failed.
        threads: Cores it could use.
        device: The processor's name.
        input_size: [H, W].
    """

    model: str
    engine: str
    split: str
    selected_on: bool
    images: int
    overall_acc: float | None
    mean_acc: float | None
    freqw_acc: float | None
    miou: float | None
    classes_scored: int
    class_iou: dict[str, float | None]
    never_predicted: list[str]
    collapsed_to: str | None
    params: int
    gmacs: float
    file_mb: float
    latency_ms_p50: float
    latency_ms_p95: float
    total_ms: float
    images_per_s: float
    batch_size: int | None
    batch_ms_p50: float | None
    batch_images_per_s: float | None
    agreement: float | None
    threads: int
    device: str
    input_size: list[int]

    @property
    def decodes(self) -> bool:
        """Whether the clock began at the picture's file."""
        return "+" in self.engine


@dataclass(frozen=True)
class FailedRow:
    """A model in an engine that could not be exported, run or timed; the training and its test stand.

    Attributes:
        model: "teacher" or "student".
        engine: As of a `Row`.
        split: The split it would have been scored on.
        error: One line: what failed, and why.
    """

    model: str
    engine: str
    split: str
    error: str


def write_results(path: Path, rows: Sequence[Row], failed: Sequence[FailedRow] = ()) -> None:
    """Write results.json: measured rows first, then those that failed, which hold an `error`."""
    write_json(path, [*map(asdict, rows), *map(asdict, failed)])


def read_results(path: Path) -> list[Row]:
    """Read the measured rows of results.json."""
    return [Row(**row) for row in json.loads(path.read_text()) if "error" not in row]


def read_failures(path: Path) -> list[FailedRow]:
    """Read the rows of results.json that failed."""
    return [FailedRow(**row) for row in json.loads(path.read_text()) if "error" in row]


def read_confusions(run_dir: Path) -> dict[str, NDArray[np.int64]]:
    """Returns the confusion matrix [C, C] of each network in PyTorch, rows are the truth; empty without a timing."""
    path, engine = run_dir / "confusion.json", " pytorch"
    matrices = json.loads(path.read_text()) if path.is_file() else {}
    return {name.removesuffix(engine): np.array(m) for name, m in matrices.items() if name.endswith(engine)}


YARDSTICK = "onnxruntime-fp32"


def baseline_row(rows: Sequence[Row]) -> Row:
    """Returns the row that others are compared with: the teacher's float32 file, or what comes nearest to it."""
    return min(rows, key=lambda row: (row.model != "teacher", row.engine != YARDSTICK, row.engine != "pytorch"))
