"""What exported files take, in every runtime that is installed.

Each file has a process of its own for each runtime; all of them take turns on the same decoded pictures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segdistill.console import compact_table, terminal
from segdistill.deploy.latency import Engine, Measurement, Pictures, installed_runtimes, measure
from segdistill.deploy.predict import found
from segdistill.deploy.segmenter import Segmenter
from segdistill.errors import UserError
from segdistill.files import write_json
from segdistill.machine import cpu_count, cpu_name
from segdistill.pictures import IMAGE_SUFFIXES, read_rgb, resized_rgb


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    command.add_argument("models", type=Path, nargs="+", metavar="MODEL.onnx", help="the first is the yardstick")
    command.add_argument("--pictures", metavar="PATH", help="a folder or pattern of pictures; default: noise")
    command.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="default: what the first file was trained for"
    )
    command.add_argument("--count", type=int, default=96, help="pictures at most")
    command.add_argument("--threads", type=int, default=cpu_count())
    command.add_argument("--batch-size", type=int, default=8, help="timed besides single pictures")
    command.add_argument("--output", type=Path, default=Path("benchmark-inference.json"))


def run(arguments: argparse.Namespace) -> None:
    """Prints a table and saves it as JSON.

    Raises:
        UserError: If a file cannot be run, or no size is known.
    """
    segmenters = [Segmenter(path) for path in arguments.models]
    size = tuple(arguments.size or segmenters[0].input_size or ())
    if len(size) != 2:
        raise UserError(f"{arguments.models[0]}: does not tell its input size; give --size H W")
    engines = [Engine(path.name, runtime, path) for path in arguments.models for runtime in installed_runtimes()]
    with tempfile.TemporaryDirectory() as scratch:
        decoded = _pictures(arguments.pictures, arguments.count, size)
        np.save(Path(scratch) / "decoded.npy", decoded)
        pictures = Pictures(Path(scratch) / "decoded.npy", [Path()] * len(decoded))
        measured = measure(engines, pictures, threads=arguments.threads, batch_size=arguments.batch_size)
    rows = [_row(each, measured[0], min(arguments.batch_size, len(decoded))) for each in measured]
    height, width = size
    what = arguments.pictures or "noise"
    table = compact_table(
        f"{len(decoded)} pictures of {height} x {width} ({what}), {arguments.threads} threads",
        f"p50, p95 and batch in ms, agree: pixels as the first row, in turns, on {cpu_name()}",
    )
    for heading in ("file", "runtime", "MB", "p50", "p95", "faster", "images/s", "batch", "images/s", "agree %"):
        table.add_column(heading, justify="left" if heading in ("file", "runtime") else "right", no_wrap=True)
    for row in rows:
        figures = (f"{value:.1f}" if isinstance(value, float) else "-" for value in list(row.values())[2:-1])
        table.add_row(str(row["file"]), str(row["runtime"]), *figures, f"{100 * float(row['agreement'] or 0):.2f}")
    terminal().print(table)
    write_json(arguments.output, {"rows": rows, "size": size, "threads": arguments.threads, "device": cpu_name()})


def _row(measured: Measurement, first: Measurement, batch_size: int) -> dict[str, str | float | None]:
    batch_ms = measured.batch_ms
    return {
        "file": measured.engine.model,
        "runtime": measured.engine.name,
        "file_mb": measured.engine.path.stat().st_size / 1e6,
        "latency_ms_p50": measured.percentile_ms(50),
        "latency_ms_p95": measured.percentile_ms(95),
        "times_faster": first.percentile_ms(50) / measured.percentile_ms(50),
        "images_per_s": measured.images_per_s,
        "batch_ms_p50": batch_ms,
        "batch_images_per_s": 1000 * batch_size / batch_ms if batch_ms else None,
        "agreement": measured.agreement(first),
    }


def _pictures(path: str | None, count: int, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """uint8 [n, H, W, 3]."""
    if path is None:
        return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)
    height, width = size
    files = [each for each in found(path) if each.suffix.lower() in IMAGE_SUFFIXES][:count]
    return np.stack([resized_rgb(read_rgb(each), (height, width)) for each in files])
