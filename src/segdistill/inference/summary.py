"""What `predict` counts and times, and how it shows where it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from segdistill.inference.flicker import Flicker
from segdistill.inference.segmenter import Segmenter
from segdistill.utils.errors import UserError
from segdistill.utils.preprocessing import IGNORE_INDEX

BAR_WIDTH = 40
REFRESH_SECONDS = 0.2


@dataclass
class Summary:
    """Counts and timing of a prediction.

    Attributes:
        images: Number of segmented images and video frames.
        skipped: Number of files that could not be decoded.
        cut_short: Number of videos that could be decoded up to some frame alone.
        seconds: Time spent in the network, including resizing, without decoding and writing.
        pixels: Number of pixels by class id, int64 [256].
        videos: A line for each video or stream.
    """

    images: int = 0
    skipped: int = 0
    cut_short: int = 0
    seconds: float = 0.0
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    videos: list[str] = field(default_factory=list)

    def segment(self, segmenter: Segmenter, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segment an image, uint8 [H, W, 3], into class ids, uint8 [H, W], and count and time that."""
        begin = time.perf_counter()
        mask = segmenter(image)
        self.seconds += time.perf_counter() - begin
        self.images += 1
        self.pixels += np.bincount(mask.ravel(), minlength=256)
        return mask

    def skip(self, error: UserError) -> None:
        """Count a file that could not be decoded, and say so."""
        self.skipped += 1
        sys.stderr.write(f"\rwarning: {error}; skipped\n")

    def cut(self, error: UserError, frames: int) -> None:
        """Count a video of which only the first `frames` frames could be decoded, and say so."""
        self.cut_short += 1
        sys.stderr.write(f"\rwarning: {error}; kept up to frame {frames}\n")

    def lines(self, classes: Sequence[str]) -> list[str]:
        """Return the summary as lines of text."""
        each = f", {1000 * self.seconds / self.images:.1f} ms each" if self.images else ""
        cut_short = f", {self.cut_short} cut short" if self.cut_short else ""
        lines = [f"{self.images} images{each}; {self.skipped} skipped{cut_short}"]
        width = max(map(len, classes), default=0)
        named = dict(enumerate(classes))
        if self.pixels[IGNORE_INDEX]:
            named[IGNORE_INDEX] = "void"
        for index, name in named.items():
            lines.append(f"  {name:<{width}}  {self.pixels[index] / max(1, self.pixels.sum()):7.2%} of all pixels")
        return [*lines, *self.videos]


class VideoProgress:
    """Counts the frames of one video, and shows them on a terminal with the frames a second.

    Args:
        name: What the line is headed by.
    """

    def __init__(self, name: str) -> None:
        self.frames, self._name = 0, name
        self._begin, self._shown = time.perf_counter(), 0.0

    @property
    def rate(self) -> float:
        """Frames a second so far, with decoding and writing, without what is `untimed`."""
        return self.frames / max(time.perf_counter() - self._begin, 1e-9)

    @contextmanager
    def untimed(self) -> Iterator[None]:
        """Leave the block out of the frames a second."""
        begin = time.perf_counter()
        yield
        self._begin += time.perf_counter() - begin

    def step(self, total: int) -> None:
        """Count a frame of a video of `total` frames, 0 if nobody knows."""
        self.frames += 1
        if sys.stderr.isatty() and (now := time.perf_counter()) - self._shown > REFRESH_SECONDS:
            self._shown = now
            of_all = f"/{total}" if total else ""
            sys.stderr.write(f"\r{self._name}: {self.frames}{of_all} frames, {self.rate:.1f} frames/s ")
            sys.stderr.flush()

    def line(self, flicker: Flicker) -> str:
        """Return a line for the summary."""
        line = f"{self._name}: {self.frames} frames, {self.rate:.1f} frames/s with decoding and writing"
        if flicker.share is None:
            return line
        still = flicker.still / flicker.pixels
        return f"{line}; flicker: {flicker.share:.2%} of the still pixels ({still:.1%} of all) change class a frame"


def show_progress(done: int, total: int) -> None:
    """Draw a bar of files on a terminal."""
    if sys.stderr.isatty():
        filled = BAR_WIDTH * done // total
        end = "\n" if done == total else ""
        sys.stderr.write(f"\r[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {done}/{total}{end}")
        sys.stderr.flush()
