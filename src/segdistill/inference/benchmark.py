"""Times and scores backends on the same images: each in its own process, taking turns.

Backends that share a process slow each other down, because idle threads spin. Backends timed one after the other run
under different conditions, because clock rates and the load of other processes drift. So every backend has a process
of its own and gets a few images at a time, in turn. Only the time from a decoded image to its mask is measured, except
for backends that decode. Each round's images and masks replace those of the previous round, so that memory does not
grow with the number of images.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segdistill.inference.backends import PAUSE_S, RUNTIMES
from segdistill.inference.round_buffer import Images, RoundBuffer
from segdistill.inference.scoring import MaskScores
from segdistill.utils.image import read_rgb
from segdistill.utils.preprocessing import Preprocessing
from segdistill.utils.tiles import Tiling
from segdistill.utils.worker import Serve, SubprocessError, SubprocessWorker

WARM_UP = 5  # untimed images before the first turn
IMAGES_PER_ROUND = 8  # timed images per turn
BATCHES = 5  # timed batches
HANGS_AFTER_S = 1800  # without an answer; a batch of a large network can take minutes


@dataclass(frozen=True)
class Backend:
    """A model in one runtime and precision, which turns images into masks.

    Attributes:
        model: Name of the model whose weights it runs: "teacher", "student".
        name: Key of RUNTIMES, and the precision after a dash: "pytorch", "onnxruntime-int8".
        path: Exported `.onnx` file, or an `ExportWrapper` saved as a whole by `torch.save`.
        decodes: Whether it starts from the image file instead of decoded pixels.
    """

    model: str
    name: str
    path: Path
    decodes: bool = False


@dataclass
class Measurement:
    """Timings of one backend.

    Attributes:
        engine: Measured backend.
        latencies_ms: Latency of each image.
        batches_ms: Time of each batch; empty if the backend decodes.
        error: One-line reason why the backend was given up; None if it finished.
    """

    engine: Backend
    latencies_ms: list[float] = field(default_factory=list)
    batches_ms: list[float] = field(default_factory=list)
    error: str | None = None

    def percentile_ms(self, share: float) -> float:
        """Return the latency that `share` percent of the images stay below."""
        return float(np.percentile(self.latencies_ms, share))

    @property
    def images_per_s(self) -> float:
        """Number of images divided by the sum of their latencies."""
        return 1000 * len(self.latencies_ms) / sum(self.latencies_ms)

    @property
    def batch_ms(self) -> float | None:
        """Median time of a batch; None if no batch was timed."""
        return float(np.median(self.batches_ms)) if self.batches_ms else None


class _Runner:
    """A backend in its process, which gets no more requests after it has failed."""

    def __init__(self, engine: Backend, worker: SubprocessWorker) -> None:
        self.measurement, self._worker = Measurement(engine), worker

    @property
    def runs(self) -> bool:
        return self.measurement.error is None

    def open(self) -> None:
        self._attempt(self._worker.wait_until_ready)

    def take_turn(self, indices: range) -> None:
        self.measurement.latencies_ms += self._call((indices.start, indices.stop)) or []

    def time_batch(self, size: int) -> float | None:
        spent: float | None = self._call(size)
        return spent

    def masks(self) -> NDArray[np.uint8] | None:
        masks: NDArray[np.uint8] | None = self._call(None)
        return masks

    def _call(self, request: tuple[int, int] | int | None) -> Any:
        return self._attempt(lambda: self._worker.call(request))

    def _attempt(self, step: Callable[[], Any]) -> Any:
        if not self.runs:
            return None
        try:
            return step()
        except SubprocessError as error:
            self.measurement.error = error.reason.partition("\n")[0]
            return None


def measure(
    engines: Sequence[Backend],
    images: Images,
    scores: MaskScores,
    *,
    threads: int,
    batch_size: int = 1,
    tiling: Tiling | None = None,
) -> list[Measurement]:
    """Run every backend on every image, one image at a time, and then on some batches.

    A backend that fails, dies or hangs is given up, and the others continue.

    Args:
        engines: Backends to measure.
        images: Images to measure them on.
        scores: Accumulates the masks; its backends are in the order of `engines`.
        threads: Number of cores each backend may use.
        batch_size: Number of images per batch; 1 times no batches.
        tiling: Tiles in which every backend gets an image; None for whole images.

    Returns:
        The timings of each backend, in the order of `engines`.
    """
    rounds = [
        range(start, min(start + IMAGES_PER_ROUND, len(images))) for start in range(0, len(images), IMAGES_PER_ROUND)
    ]
    first_batch = range(min(batch_size, len(images)))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        buffer = RoundBuffer(folder / "images.npy", images, max(len(rounds[0]), len(first_batch)))
        buffer.load(rounds[0])
        runners = []
        for engine in engines:
            name = f"{engine.model} {engine.name}"
            serving = (name, _serve, engine, buffer.path, images.files, images.preprocessing, threads, tiling)
            runners.append(_Runner(engine, stack.enter_context(SubprocessWorker(*serving, timeout_s=HANGS_AFTER_S))))
        for runner in runners:
            runner.open()
        progress = stack.enter_context(Progress(*columns, transient=True))
        bar = progress.add_task("Timing and scoring", total=len(engines) * len(images))
        for number, indices in enumerate(rounds):
            truth = buffer.load(indices)
            for runner in _taking_turns(runners, number):
                runner.take_turn(indices)
                progress.advance(bar, len(indices))
            _add_up(scores, runners, truth)
        if len(first_batch) > 1:
            buffer.load(first_batch)
            _time_batches([runner for runner in runners if not runner.measurement.engine.decodes], len(first_batch))
    return [runner.measurement for runner in runners]


def _taking_turns(runners: Sequence[_Runner], number: int) -> Iterator[_Runner]:
    """Yield the backends that still run, each round another one first, so that none always follows the same one."""
    for offset in range(len(runners)):
        runner = runners[(number + offset) % len(runners)]
        if runner.runs:
            time.sleep(PAUSE_S)
            yield runner


def _add_up(scores: MaskScores, runners: Sequence[_Runner], truth: NDArray[np.uint8]) -> None:
    """Fetch the masks of a round, one backend's at a time, when nothing is being timed."""
    for place in scores.order:
        masks = runners[place].masks()
        if masks is not None:
            scores.add(place, masks, truth)
    scores.end_round()


def _time_batches(runners: Sequence[_Runner], size: int) -> None:
    for number in range(1 + BATCHES):
        for runner in _taking_turns(runners, number):
            spent = runner.time_batch(size)
            if number and spent is not None:  # the first one warms up
                runner.measurement.batches_ms.append(spent)


def _serve(
    engine: Backend, buffer: Path, files: Sequence[Path], steps: Preprocessing, threads: int, tiling: Tiling | None
) -> Serve:
    """Open and warm up a backend; return the function that answers requests.

    The answer to a range of images is their latencies, to a batch size the milliseconds of one batch, and to None the
    masks of the last range.
    """
    decoded = np.load(buffer, mmap_mode="r")
    predict = RUNTIMES[engine.name.partition("-")[0]](engine.path, threads)
    masks = np.zeros((0, *decoded.shape[1:3]), np.uint8)

    def given(index: int, slot: int) -> Any:
        return files[index] if engine.decodes else np.array(decoded[slot : slot + 1])

    def run(given: Any) -> NDArray[np.uint8]:
        if engine.decodes:
            given = steps.image(read_rgb(given))[None]
        return predict(given) if tiling is None else tiling.segment(predict, given)

    def timed(given: Any) -> tuple[float, NDArray[np.uint8]]:
        begin = time.perf_counter()
        mask = run(given)
        return 1000 * (time.perf_counter() - begin), mask

    def serve(request: tuple[int, int] | int | None) -> list[float] | float | NDArray[np.uint8]:
        nonlocal masks
        if request is None:
            return masks
        if isinstance(request, int):
            return timed(np.array(decoded[:request]))[0]
        start, stop = request
        run(given(start, 0))  # wakes up threads and warms caches
        masks, latencies = np.zeros((stop - start, *decoded.shape[1:3]), np.uint8), []
        for slot, index in enumerate(range(start, stop)):
            spent, mask = timed(given(index, slot))
            latencies.append(spent)
            masks[slot] = mask[0]
        return latencies

    for _ in range(WARM_UP):
        run(given(0, 0))
    return serve
