"""results.json, one row for each (model, engine), and the table of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from segdistill.files import write_json


@dataclass(frozen=True)
class Row:
    """One engine's figures. Accuracies are fractions of 1, None where nothing could be counted.

    Attributes:
        model: "teacher" or "student".
        engine: "pytorch", "onnxruntime-fp32".
        split: The split it was scored and timed on.
        images: How many pictures.
        overall_acc: Share of right pixels.
        mean_acc: Mean recall over the classes that occur.
        freqw_acc: IoU weighted by each class's share of true pixels.
        miou: Mean IoU over the classes that occur.
        class_iou: Name -> IoU.
        params: Parameters of the network.
        gmacs: Billions of multiply-accumulates for one picture.
        file_mb: Size of the file that was run, in 10^6 bytes.
        latency_ms_p50: Median over the pictures, at batch 1.
        latency_ms_p95: 95th percentile.
        total_ms: Sum over the pictures.
        threads: Cores it could use.
        device: The processor's name.
        input_size: [H, W].
    """

    model: str
    engine: str
    split: str
    images: int
    overall_acc: float | None
    mean_acc: float | None
    freqw_acc: float | None
    miou: float | None
    class_iou: dict[str, float | None]
    params: int
    gmacs: float
    file_mb: float
    latency_ms_p50: float
    latency_ms_p95: float
    total_ms: float
    threads: int
    device: str
    input_size: list[int]


def write_results(path: Path, rows: Sequence[Row]) -> None:
    """Writes results.json."""
    write_json(path, [asdict(row) for row in rows])


def read_results(path: Path) -> list[Row]:
    """Reads results.json."""
    return [Row(**row) for row in json.loads(path.read_text())]


def results_table(rows: Sequence[Row]) -> Table:
    """Returns the rows as a table that fits into 100 columns."""
    first = rows[0]
    height, width = first.input_size
    table = Table(
        title=f"{first.images} {first.split} images of {height} x {width}, batch 1, {first.threads} threads",
        caption=f"accuracies in %, p50 and p95 in ms, total in s, on {first.device}",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading in ("model", "engine"):
        table.add_column(heading, no_wrap=True)
    figures = ("overall", "mean", "freqw", "mIoU", "params M", "GMACs", "MB", "p50", "p95", "total")
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        accuracies = (row.overall_acc, row.mean_acc, row.freqw_acc, row.miou)
        table.add_row(
            row.model,
            row.engine,
            *("-" if value is None else f"{100 * value:.2f}" for value in accuracies),
            f"{row.params / 1e6:.2f}",
            f"{row.gmacs:.2f}",
            f"{row.file_mb:.1f}",
            f"{row.latency_ms_p50:.1f}",
            f"{row.latency_ms_p95:.1f}",
            f"{row.total_ms / 1000:.1f}",
        )
    return table
