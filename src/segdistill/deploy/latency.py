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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segdistill.pictures import read_rgb, resized_rgb
from segdistill.turns import Serve, Worker

WARM_UP = 5  # untimed pictures before the first turn
TURN = 8  # timed pictures a turn
BATCHES = 5  # timed batches
PAUSE_S = 0.05  # before a turn, for the last engine's threads to fall asleep
Predict = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Engine:
    """Something that turns pictures into masks.

    Attributes:
        model: Whose weights it runs: "teacher", "student".
        name: How: one of RUNTIMES, and after a dash the precision: "pytorch", "onnxruntime-int8".
        path: An exported `.onnx`, or a `Deployable` saved whole by `torch.save`.
        decodes: Begins with the picture's file, not with decoded pixels.
    """

    model: str
    name: str
    path: Path
    decodes: bool = False


@dataclass
class Measurement:
    """What one engine did.

    Attributes:
        engine: Which.
        latencies_ms: One entry a picture, float64.
        batches_ms: One entry a batch; empty where the engine decodes.
        masks: uint8 [n, H, W], what it predicted.
    """

    engine: Engine
    latencies_ms: list[float] = field(default_factory=list)
    batches_ms: list[float] = field(default_factory=list)
    masks: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))

    def percentile_ms(self, share: float) -> float:
        """Returns the latency that `share` percent of the pictures stay below."""
        return float(np.percentile(self.latencies_ms, share))

    @property
    def images_per_s(self) -> float:
        """Pictures over the sum of their latencies."""
        return 1000 * len(self.latencies_ms) / sum(self.latencies_ms)

    @property
    def batch_ms(self) -> float | None:
        """Median of a batch; None where none was timed."""
        return float(np.median(self.batches_ms)) if self.batches_ms else None

    def confusion(self, truth: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
        """Returns the confusion matrix int64 [C, C], rows are the truth, over uint8 [n, H, W]."""
        total = np.zeros((num_classes, num_classes), np.int64)
        for predicted, expected in zip(self.masks, truth, strict=True):
            total += count(predicted, expected, num_classes)
        return total

    def agreement(self, other: Measurement) -> float:
        """Returns the share of all pixels that have the same class in both."""
        return float(np.mean([np.mean(mine == theirs) for mine, theirs in zip(self.masks, other.masks, strict=True)]))


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures in a `.npy` file that every process maps, and the files that they come from.

    Attributes:
        decoded: uint8 [n, H, W, 3] RGB, in a file of this path.
        files: n pictures of any size and format.
    """

    decoded: Path
    files: Sequence[Path]

    def __len__(self) -> int:
        return len(self.files)


def measure(engines: Sequence[Engine], pictures: Pictures, *, threads: int, batch_size: int = 1) -> list[Measurement]:
    """Runs every engine over every picture, one picture at a time, and then over some batches.

    Args:
        engines: What to measure.
        pictures: What on.
        threads: Cores each engine may use.
        batch_size: Pictures of a batch; 1 leaves the batches out.

    Raises:
        RuntimeError: If an engine fails; names it and what it said.
    """
    measurements = [Measurement(engine) for engine in engines]
    batch_size = min(batch_size, len(pictures))
    in_batches = [index for index, engine in enumerate(engines) if batch_size > 1 and not engine.decodes]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(f"{engine.model} {engine.name}", _serve, engine, pictures, threads))
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
        for round_number in range(1 + BATCHES if in_batches else 0):
            for offset in range(len(in_batches)):
                turn = in_batches[(round_number + offset) % len(in_batches)]
                time.sleep(PAUSE_S)
                spent = workers[turn].ask(batch_size)
                if round_number:  # the first one warms up
                    measurements[turn].batches_ms.append(spent)
        for worker, measurement in zip(workers, measurements, strict=True):
            measurement.masks = worker.ask(None)
    return measurements


def _serve(engine: Engine, pictures: Pictures, threads: int) -> Serve:
    """Opens and warms an engine.

    A range of pictures is answered with latencies, a batch size with the milliseconds of a batch, None with the masks.
    """
    decoded = np.load(pictures.decoded, mmap_mode="r")
    predict = RUNTIMES[engine.name.partition("-")[0]](engine.path, threads)
    masks = np.zeros(decoded.shape[:3], np.uint8)

    def given(index: int) -> Any:
        return pictures.files[index] if engine.decodes else np.array(decoded[index : index + 1])

    def run(given: Any) -> NDArray[np.uint8]:
        if engine.decodes:
            given = resized_rgb(read_rgb(given), decoded.shape[1:3])[None]
        return predict(given)

    def timed(given: Any) -> tuple[float, NDArray[np.uint8]]:
        begin = time.perf_counter()
        mask = run(given)
        return 1000 * (time.perf_counter() - begin), mask

    def serve(request: tuple[int, int] | int | None) -> list[float] | float | NDArray[np.uint8]:
        if request is None:
            return masks
        if isinstance(request, int):
            return timed(np.array(decoded[:request]))[0]
        run(given(request[0]))  # wakes threads and caches
        latencies = []
        for index in range(*request):
            spent, mask = timed(given(index))
            latencies.append(spent)
            masks[index] = mask[0]
        return latencies

    for _ in range(WARM_UP):
        run(given(0))
    return serve


def count(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Returns the confusion matrix int64 [C, C], rows are the truth, of one mask; void pixels are left out."""
    valid = truth < num_classes
    cells = num_classes * truth[valid].astype(np.int64) + predicted[valid]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def _pytorch(path: Path, threads: int) -> Predict:
    import torch

    torch.set_num_threads(threads)
    module = torch.load(path, weights_only=False).to(memory_format=torch.channels_last)  # this run wrote the file

    def predict(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with torch.inference_mode():
            mask: NDArray[np.uint8] = module(torch.from_numpy(pictures))[0].numpy()
        return mask

    return predict


def _onnxruntime(path: Path, threads: int) -> Predict:
    from segdistill.deploy.segmenter import Segmenter

    return Segmenter(path, threads=threads).masks


def _openvino(path: Path, threads: int) -> Predict:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # the default is bf16 on processors that multiply it
    }
    model = openvino.Core().compile_model(path, "CPU", settings)

    def predict(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        mask: NDArray[np.uint8] = model([pictures])["mask"]
        return mask

    return predict


RUNTIMES: dict[str, Callable[[Path, int], Predict]] = {
    "pytorch": _pytorch,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
"""(path, threads) -> a function from pictures uint8 [N, H, W, 3] to masks uint8 [N, H, W], by name."""


def installed_runtimes() -> list[str]:
    """Returns the names of the runtimes for exported files that can be imported here."""
    return [name for name in ("onnxruntime", "openvino") if find_spec(name) is not None]
