"""Times and scores engines over the same pictures: each alone in its process, all of them taking turns.

Engines that share a process slow each other down, because idle threads spin. Engines timed one after the other meet
different machines, because clocks and neighbours drift. So every engine gets a process of its own, and a few pictures
at a time, in turn. The clock runs from a decoded picture to its mask, and around nothing else.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

WARM_UP = 5  # untimed pictures before the first turn
TURN = 8  # timed pictures a turn
PAUSE_S = 0.05  # before a turn, for the last engine's threads to fall asleep
STOP_TIMEOUT_S = 10
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
        workers = [stack.enter_context(_Worker(engine, pictures, threads)) for engine in engines]
        for worker in workers:
            worker.receive()  # ready and warm
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


class _Worker:
    """The parent's end of an engine's process."""

    def __init__(self, engine: Engine, pictures: Pictures, threads: int) -> None:
        self.engine = engine
        context = get_context("spawn")
        self.connection, child = context.Pipe()
        self.process = context.Process(target=_serve, args=(child, engine, pictures, threads), daemon=True)

    def __enter__(self) -> _Worker:
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()  # the process ends when nobody asks any more
        self.process.join(STOP_TIMEOUT_S)
        self.process.kill()

    def ask(self, request: tuple[int, int] | None) -> Any:
        self.connection.send(request)
        return self.receive()

    def receive(self) -> Any:
        while not self.connection.poll(timeout=1):
            if not self.process.is_alive() and not self.connection.poll():
                raise RuntimeError(f"{self._name}: its process ended with code {self.process.exitcode}")
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise RuntimeError(f"{self._name}: {answer}") from answer
        return answer

    @property
    def _name(self) -> str:
        return f"{self.engine.model} {self.engine.name}"


def _serve(connection: Connection, engine: Engine, pictures: Pictures, threads: int) -> None:
    """An engine's process: a range of pictures is answered with latencies, None with the confusion matrix."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    try:
        predict = _open(engine.path, threads)
        images, masks = (np.load(path, mmap_mode="r") for path in (pictures.images, pictures.masks))
        confusion = np.zeros((pictures.num_classes, pictures.num_classes), np.int64)
        for _ in range(WARM_UP):
            predict(np.array(images[:1]))
        connection.send("ready")
        while (turn := connection.recv()) is not None:
            predict(np.array(images[turn[0] : turn[0] + 1]))  # wakes threads and caches
            latencies = []
            for index in range(*turn):
                image = np.array(images[index : index + 1])
                begin = time.perf_counter()
                predicted = predict(image)
                latencies.append(1000 * (time.perf_counter() - begin))
                confusion += count(predicted[0], masks[index], pictures.num_classes)
            connection.send(latencies)
        connection.send(confusion)
    except EOFError:  # the parent is gone
        return
    except Exception as error:
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


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
