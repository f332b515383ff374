"""`segdistill benchmark soak`: does memory, or the number of open files, grow with what is done?

One process predicts thousands of images, or runs the jobs of a sweep, while its memory and its open files are read
again and again. Linux alone tells them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segdistill.inference.segmenter import Segmenter
from segdistill.utils.console import terminal
from segdistill.utils.errors import UserError
from segdistill.utils.io import write_json

SAMPLES, DIFFERENT_IMAGES, PAUSE_S = 50, 16, 0.2
KILOBYTES_A_MEGABYTE = 1024


@dataclass(frozen=True)
class Reading:
    """Resources of a process: resident memory in MB and number of open files."""

    memory_mb: float
    files: int

    @classmethod
    def of(cls, process: int | str) -> Reading:
        """Read the resources of a process from /proc; "self" is the current one."""
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        resident = int(status["VmRSS"].split()[0]) / KILOBYTES_A_MEGABYTE
        return cls(resident, len(list(Path(f"/proc/{process}/fd").iterdir())))


def predictions(model: Path, count: int) -> list[Reading]:
    """Segment `count` images of noise with one file; read the resources of this process at regular intervals."""
    segmenter = Segmenter(model)
    height, width = segmenter.input_size or (256, 256)
    images = np.random.default_rng(0).integers(0, 256, (DIFFERENT_IMAGES, height, width, 3), np.uint8)
    readings = []
    for number in range(count):
        segmenter(images[number % len(images)])
        if number % max(1, count // SAMPLES) == 0:
            readings.append(Reading.of("self"))
    return readings


def sweep(jobs: int) -> list[Reading]:
    """Run a sweep over `jobs` seeds of a tiny training; read the resources of its process after each finished job."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tiny = ["experiment=smoke", "data.train=8", "data.val=4", "data.test=4", "distill=none", "callbacks=none"]
        placed = [f"hydra.sweep.dir={place / 'sweep'}", f"cache_dir={place / 'cache'}", "logger=csv"]
        command = [sys.executable, "train.py", "-m", *tiny, *placed, f"seed=range({jobs})"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        readings: list[Reading] = []
        while process.poll() is None:
            finished = len(list(place.glob("sweep/*/checkpoints/last.ckpt")))
            if finished > len(readings):
                readings.append(Reading.of(process.pid))
            time.sleep(PAUSE_S)
        if process.returncode != 0:
            raise UserError(f"{' '.join(command)}: ended with code {process.returncode}; run it from the checkout")
    return readings


def growth(readings: list[Reading], value: Callable[[Reading], float]) -> float:
    """Return the median of the last third divided by that of the second third; the first third is for warming up."""
    third = len(readings) // 3
    second, last = readings[third : 2 * third], readings[2 * third :]
    return statistics.median(map(value, last)) / statistics.median(map(value, second))


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=Path, metavar="MODEL.onnx", help="a file to predict with")
    what.add_argument("--jobs", type=int, help="jobs of a sweep to run, from a checkout")
    command.add_argument("--predictions", type=int, default=10_000)
    command.add_argument("--output", type=Path, default=Path("benchmark-soak.json"))


def run(arguments: argparse.Namespace) -> None:
    """Run the benchmark, print the growth of memory and open files, and save every reading as JSON.

    Raises:
        UserError: If there are too few predictions or jobs to compare, or the sweep fails.
    """
    count = arguments.predictions if arguments.model else arguments.jobs
    if count < 9:
        raise UserError(f"{count}: at least 9 are needed, to compare the last third with the second")
    readings = predictions(arguments.model, count) if arguments.model else sweep(count)
    memory, files = growth(readings, lambda r: r.memory_mb), growth(readings, lambda r: r.files)
    last, what = readings[-1], "predictions" if arguments.model else "jobs"
    held = (
        f"{last.memory_mb:.0f} MB ({100 * (memory - 1):+.1f} %), {last.files} open files ({100 * (files - 1):+.1f} %)"
    )
    terminal().print(f"{count} {what}: {held}; last third against the second")
    write_json(arguments.output, {"memory_mb": [r.memory_mb for r in readings], "files": [r.files for r in readings]})
