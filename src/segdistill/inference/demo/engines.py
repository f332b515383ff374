"""Exported files in the installed runtimes, each with the latencies of its last calls."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segdistill.inference.backends import PAUSE_S, RUNTIMES, Predict, installed_runtimes
from segdistill.inference.segmenter import Segmenter
from segdistill.utils.drawing import spread_colour
from segdistill.utils.errors import UserError, first_line
from segdistill.utils.preprocessing import Preprocessing

CALLS = 20
"""Number of calls whose latencies are kept."""


class Engine:
    """An exported file in a runtime.

    Args:
        segmenter: The file, opened.
        runtime: Key of RUNTIMES.
        threads: Number of cores it may use; 0 uses all of them.

    Attributes:
        path: The file.
        classes: Class names by id.
        colours: Colour [R, G, B] by id, of every class.
        latencies_ms: Of the last calls, from the prepared image to its mask.
    """

    def __init__(self, segmenter: Segmenter, runtime: str, threads: int = 0) -> None:
        self.path, self.runtime = segmenter.path, runtime
        self._segmenter, self._threads = segmenter, threads
        count = max(len(segmenter.classes), len(segmenter.palette))
        self.classes = segmenter.classes + [f"class {index}" for index in range(len(segmenter.classes), count)]
        self.colours = segmenter.palette + [spread_colour(index) for index in range(len(segmenter.palette), count)]
        self.latencies_ms: deque[float] = deque(maxlen=CALLS)

    @cached_property
    def _predict(self) -> Predict:
        return (
            self._segmenter.masks if self.runtime == "onnxruntime" else RUNTIMES[self.runtime](self.path, self._threads)
        )

    def __call__(self, image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Segment an image, uint8 [H, W, 3] RGB, into class ids, uint8 [*size], void 255 where it is cut.

        A file that does not tell its input size is given the image at `size`. The first call is made twice, because a
        runtime prepares itself in it.

        Raises:
            UserError: If the network cannot process the image.
        """
        steps = self._segmenter.preprocessing or Preprocessing(size)
        prepared = steps.image(image)[None]
        try:
            if not self.latencies_ms:
                self._predict(prepared)
            time.sleep(PAUSE_S)
            begin = time.perf_counter()
            mask = self._predict(prepared)[0]
            self.latencies_ms.append(1000 * (time.perf_counter() - begin))
        except UserError:
            raise
        except Exception as error:  # each runtime raises classes of its own
            raise UserError(f"{self.path.name}: {self.runtime} cannot run it ({first_line(error)})") from error
        return steps.restored(mask, size)

    @property
    def p50_ms(self) -> float:
        """Median latency of the last calls."""
        return float(np.median(self.latencies_ms))

    @property
    def file_mb(self) -> float:
        """Size of the file."""
        return self.path.stat().st_size / 1e6


def open_engines(files: Sequence[Path], threads: int = 0) -> dict[str, Engine]:
    """Open every file, in every installed runtime, by a name that tells them apart.

    Raises:
        UserError: If a file cannot be used.
    """
    stems, runtimes = Counter(path.stem for path in files), installed_runtimes()
    engines = {}
    for path in files:
        segmenter = Segmenter(path, threads=threads)
        for runtime in runtimes:
            name = path.stem if stems[path.stem] == 1 else str(path.with_suffix(""))
            engines[f"{name} ({runtime})" if len(runtimes) > 1 else name] = Engine(segmenter, runtime, threads)
    return engines


def first_choices(engines: Mapping[str, Engine]) -> tuple[str | None, str]:
    """Return the names of the engines to begin with: a teacher left and the smallest student right.

    Where one of them is missing, the first two files are taken; None is the image alone, beside the only file.
    """
    first_runtimes: dict[Path, str] = {}
    for name, engine in engines.items():
        first_runtimes.setdefault(engine.path, name)
    names, stems = list(first_runtimes.values()), [path.stem for path in first_runtimes]  # names may hold folders
    teachers = [name for name, stem in zip(names, stems, strict=True) if "teacher" in stem]
    students = {name: stem for name, stem in zip(names, stems, strict=True) if name not in teachers}
    if teachers and students:
        return teachers[0], next((name for name, stem in students.items() if "int8" in stem), next(iter(students)))
    return (names[0], names[1]) if len(names) > 1 else (None, names[0])
