"""Times and scores engines over the same pictures: each alone in its process, all of them taking turns.

Engines that share a process slow each other down, because idle threads spin. Engines timed one after the other meet
different machines, because clocks and neighbours drift. So every engine gets a process of its own, and a few pictures
at a time, in turn. The clock runs from a decoded picture to its mask, and around nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segdistill.turns import Serve, Worker

WARM_UP = 5  # untimed pictures before the first turn
TURN = 8  # timed pictures a turn
PAUSE_S = 0.05  # before a turn, for the last engine's threads to fall asleep
Predict = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Engine:
    """Something that turns pictures into masks.

    Attributes:
        model: Whose weights it runs: "teacher", "student".
        name: How: "pytorch", "onnxruntime-fp32".
        path: An exported `.onnx`, or a `Deployable` saved whole by `torch.save`.
    """

    model: str
    name: str
    path: Path


@dataclass
class Measurement:
    """What one engine did.

    Attributes:
        engine: Which.
        latencies_ms: One entry a picture, float64.
        confusion: int64 [C, C], rows are the truth.
    """

    engine: Engine
    latencies_ms: list[float] = field(default_factory=list)
    confusion: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    def percentile_ms(self, share: float) -> float:
        """Returns the latency that `share` percent of the pictures stay below."""
        return float(np.percentile(self.latencies_ms, share))


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures and their truth in two `.npy` files, which every process maps.

    Attributes:
        images: uint8 [n, H, W, 3] RGB.
        masks: uint8 [n, H, W], class ids, void 255.
        num_classes: C.
    """

    images: Path
    masks: Path
    num_classes: int

    def __len__(self) -> int:
        return len(np.load(self.masks, mmap_mode="r"))


def measure(engines: Sequence[Engine], pictures: Pictures, *, threads: int) -> list[Measurement]:
    """Runs every engine over every picture, one picture at a time.

    Args:
        engines: What to measure.
        pictures: What on.
        threads: Cores each engine may use.

    Raises:
        RuntimeError: If an engine fails; names it and what it said.
    """
    measurements = [Measurement(engine) for engine in engines]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(f"{engine.model} {engine.name}", _engine, engine, pictures, threads))
            for engine in engines
        ]
        for worker in workers:
            worker.wait_until_ready()
        progress = stack.enter_context(Progress(*columns, transient=True))
        bar = progress.add_task("Timing and scoring", total=len(engines) * len(pictures))
        for round_number, start in enumerate(range(0, len(pictures), TURN)):
            stop = min(start + TURN, len(pictures))
            for offset in range(len(engines)):
                turn = (round_number + offset) % len(engines)  # no engine always follows the same one
                time.sleep(PAUSE_S)
                measurements[turn].latencies_ms += workers[turn].ask((start, stop))
                progress.advance(bar, stop - start)
        for worker, measurement in zip(workers, measurements, strict=True):
            measurement.confusion = worker.ask(None)
    return measurements


def _engine(engine: Engine, pictures: Pictures, threads: int) -> Serve:
    """Opens and warms an engine: a range of pictures is answered with latencies, None with the confusion matrix."""
    predict = _open(engine.path, threads)
    images, masks = (np.load(path, mmap_mode="r") for path in (pictures.images, pictures.masks))
    confusion = np.zeros((pictures.num_classes, pictures.num_classes), np.int64)
    for _ in range(WARM_UP):
        predict(np.array(images[:1]))

    def serve(turn: tuple[int, int] | None) -> list[float] | NDArray[np.int64]:
        if turn is None:
            return confusion
        predict(np.array(images[turn[0] : turn[0] + 1]))  # wakes threads and caches
        latencies = []
        for index in range(*turn):
            image = np.array(images[index : index + 1])
            begin = time.perf_counter()
            predicted = predict(image)
            latencies.append(1000 * (time.perf_counter() - begin))
            confusion[:] += count(predicted[0], masks[index], pictures.num_classes)
        return latencies

    return serve


def count(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Returns the confusion matrix int64 [C, C], rows are the truth, of one mask; void pixels are left out."""
    valid = truth < num_classes
    cells = num_classes * truth[valid].astype(np.int64) + predicted[valid]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def _open(path: Path, threads: int) -> Predict:
    if path.suffix == ".onnx":
        from segdistill.deploy.segmenter import Segmenter

        return Segmenter(path, threads=threads)
    import torch

    torch.set_num_threads(threads)
    module = torch.load(path, weights_only=False).to(memory_format=torch.channels_last)  # this run wrote the file

    def predict(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with torch.inference_mode():
            mask: NDArray[np.uint8] = module(torch.from_numpy(pictures))[0].numpy()
        return mask

    return predict
