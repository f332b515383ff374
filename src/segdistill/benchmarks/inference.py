"""What exported files take, in every runtime that is installed.

Each file has a process of its own for each runtime; all of them take turns on the same decoded images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segdistill.inference.backends import installed_runtimes
from segdistill.inference.benchmark import Backend, Measurement, measure
from segdistill.inference.paths import found
from segdistill.inference.round_buffer import Images
from segdistill.inference.scoring import MaskScores
from segdistill.inference.segmenter import Segmenter
from segdistill.utils.console import compact_table, terminal
from segdistill.utils.errors import UserError
from segdistill.utils.hardware import cpu_count, cpu_name
from segdistill.utils.image import IMAGE_SUFFIXES, read_rgb
from segdistill.utils.io import write_json
from segdistill.utils.preprocessing import Preprocessing


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    command.add_argument("models", type=Path, nargs="+", metavar="MODEL.onnx", help="the first is the baseline_row")
    command.add_argument("--images", metavar="PATH", help="a folder or pattern of images; default: noise")
    command.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="default: what the first file was trained for"
    )
    command.add_argument("--count", type=int, default=96, help="images at most")
    command.add_argument("--threads", type=int, default=cpu_count())
    command.add_argument("--batch-size", type=int, default=8, help="timed besides single images")
    command.add_argument("--output", type=Path, default=Path("benchmark-inference.json"))


def run(arguments: argparse.Namespace) -> None:
    """Run the benchmark, print a table and save it as JSON.

    Raises:
        UserError: If a file cannot be loaded, no file can be run, or the input size is unknown.
    """
    segmenters = [Segmenter(path) for path in arguments.models]
    steps = segmenters[0].preprocessing
    if arguments.size:
        steps = Preprocessing(tuple(arguments.size), gamma=steps.gamma if steps else 1.0)
    if steps is None:
        raise UserError(f"{arguments.models[0]}: does not tell its input size; give --size H W")
    files = [segmenter.path for segmenter in segmenters]
    engines = [Backend(path.name, runtime, path) for path in files for runtime in installed_runtimes()]
    images = _images(arguments.images, arguments.count, steps)
    scores = MaskScores([0] * len(engines), num_classes=0)
    measured = measure(engines, images, scores, threads=arguments.threads, batch_size=arguments.batch_size)
    batch_size = min(arguments.batch_size, len(images))
    rows = [
        _row(each, measured[0], scores.agreement(place), batch_size)
        for place, each in enumerate(measured)
        if each.error is None
    ]
    failed = [{"file": m.engine.model, "runtime": m.engine.name, "error": m.error} for m in measured if m.error]
    if not rows:
        raise UserError("; ".join("{file} in {runtime}: {error}".format(**each) for each in failed))
    height, width = steps.size
    what = arguments.images or "noise"
    table = compact_table(
        f"{len(images)} images of {height} x {width} ({what}), {arguments.threads} threads",
        f"p50, p95 and batch in ms, agree: pixels as the first row, in turns, on {cpu_name()}",
    )
    for heading in ("file", "runtime", "MB", "p50", "p95", "faster", "images/s", "batch", "images/s", "agree %"):
        table.add_column(heading, justify="left" if heading in ("file", "runtime") else "right", no_wrap=True)
    for row in rows:
        *names, agreement = row["file"], row["runtime"], row["agreement"]
        figures = (f"{value:.1f}" if isinstance(value, float) else "-" for value in list(row.values())[2:-1])
        table.add_row(*map(str, names), *figures, f"{100 * agreement:.2f}" if isinstance(agreement, float) else "-")
    for each in failed:
        table.add_row(each["file"], each["runtime"], "failed")
    terminal().print(table)
    for each in failed:
        terminal().print("{file} in {runtime} failed: {error}".format(**each))
    content = {"rows": rows, "failed": failed, "size": steps.size, "threads": arguments.threads, "device": cpu_name()}
    write_json(arguments.output, content)


def _row(
    measured: Measurement, first: Measurement, agreement: float | None, batch_size: int
) -> dict[str, str | float | None]:
    batch_ms = measured.batch_ms
    return {
        "file": measured.engine.model,
        "runtime": measured.engine.name,
        "file_mb": measured.engine.path.stat().st_size / 1e6,
        "latency_ms_p50": measured.percentile_ms(50),
        "latency_ms_p95": measured.percentile_ms(95),
        "times_faster": first.percentile_ms(50) / measured.percentile_ms(50) if first.error is None else None,
        "images_per_s": measured.images_per_s,
        "batch_ms_p50": batch_ms,
        "batch_images_per_s": 1000 * batch_size / batch_ms if batch_ms else None,
        "agreement": agreement,
    }


def _images(path: str | None, count: int, steps: Preprocessing) -> Images:
    """Return files, prepared, or noise; the same each time they are read, and without true classes."""
    unlabelled = np.zeros(steps.size, np.uint8)
    if path is None:

        def noise(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            return np.random.default_rng(index).integers(0, 256, (*steps.size, 3), np.uint8), unlabelled

        return Images([Path()] * count, noise, steps)
    files = [each for each in found(path) if each.suffix.lower() in IMAGE_SUFFIXES][:count]
    if not files:
        raise UserError(f"{path}: holds, or matches, no image")
    return Images(files, lambda index: (steps.image(read_rgb(files[index])), unlabelled), steps)
