"""results.json: one row per model and engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segdistill.utils.io import write_json

SKIPPED = "skipped.json"
"""File of a run directory: split -> one line for each of its files that `data.on_bad=skip` left out."""

SELECTION_SPLIT = "val"
"""Split whose mean IoU selects the best checkpoint."""


@dataclass(frozen=True)
class Row:
    """Results of one model in one engine. Accuracies are fractions of 1, None if nothing could be counted.

    Attributes:
        model: Role of the network, "teacher" or "student".
        engine: "pytorch", "onnxruntime-int8", ...; with "+decode" the times include decoding the image file.
        split: Split on which it was scored and timed.
        selected_on: Whether checkpoints were selected on that split, so that its scores are optimistic.
        images: Number of images.
        overall_acc: Share of correctly classified pixels.
        mean_acc: Mean recall over the classes that occur.
        freqw_acc: IoU weighted by each class's share of true pixels.
        miou: Mean IoU over the classes that occur.
        classes_scored: Number of classes that `miou` averages over: those that occur in truth or prediction.
        class_iou: Class name -> IoU.
        never_predicted: Classes that occur in the truth but in no predicted mask.
        collapsed_to: Class of every predicted pixel; None if at least two classes are predicted.
        params: Number of parameters of the network.
        gmacs: Billions of multiply-accumulates per image.
        file_mb: Size of the file that was run, in 10^6 bytes.
        latency_ms_p50: Median latency per image in ms, at batch size 1.
        latency_ms_p95: 95th percentile of the same latencies.
        total_ms: Sum of the latencies of all images, in ms.
        images_per_s: Images per second over that sum.
        batch_size: Size of the batches below; None if none was timed.
        batch_ms_p50: Median latency of a whole batch, in ms.
        batch_images_per_s: Images per second at that median.
        agreement: Share of all pixels with the same class as in PyTorch, fp32; None if PyTorch missed any.
        threads: Number of cores that it could use.
        device: Name of the processor.
        input_size: Size [H, W] of the images.
        skipped: Number of further images of the split that `data.on_bad=skip` left out.
        fingerprint: Hash of the scored images, their labels and their preprocessing; None in older results.
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
    skipped: int = 0
    fingerprint: str | None = None

    @property
    def decodes(self) -> bool:
        """Whether the times include decoding the image file."""
        return "+" in self.engine


@dataclass(frozen=True)
class FailedRow:
    """A model in an engine that could not be exported, run or timed; the training and its test are unaffected.

    Attributes:
        model: Role of the network, "teacher" or "student".
        engine: Name of the engine, as in `Row`.
        split: Split on which it would have been scored.
        error: One line that says what failed and why.
    """

    model: str
    engine: str
    split: str
    error: str


def write_results(path: Path, rows: Sequence[Row], failed: Sequence[FailedRow] = ()) -> None:
    """Write results.json: measured rows first, then the failed ones, which have an `error`."""
    write_json(path, [*map(asdict, rows), *map(asdict, failed)])


def read_results(path: Path) -> list[Row]:
    """Read the measured rows of results.json."""
    return [Row(**row) for row in json.loads(path.read_text()) if "error" not in row]


def read_failures(path: Path) -> list[FailedRow]:
    """Read the failed rows of results.json."""
    return [FailedRow(**row) for row in json.loads(path.read_text()) if "error" in row]


def read_confusions(run_dir: Path) -> dict[str, NDArray[np.int64]]:
    """Read the confusion matrix [C, C] of each network in PyTorch, rows are the truth; empty if nothing was timed."""
    path, engine = run_dir / "confusion.json", " pytorch"
    matrices = json.loads(path.read_text()) if path.is_file() else {}
    return {name.removesuffix(engine): np.array(m) for name, m in matrices.items() if name.endswith(engine)}


YARDSTICK = "onnxruntime-fp32"


def baseline_row(rows: Sequence[Row]) -> Row:
    """Return the row that others are compared with: the teacher's float32 file, or the row closest to it."""
    return min(rows, key=lambda row: (row.model != "teacher", row.engine != YARDSTICK, row.engine != "pytorch"))
