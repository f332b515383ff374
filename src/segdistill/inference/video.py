"""Videos, cameras and streams as arrays, frame by frame. Needs PyAV: `pip install av`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdistill.utils.errors import UserError, first_line
from segdistill.utils.image import ImageError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
ASSUMED_RATE = 25  # frames a second of a video that does not tell when its frames are shown


class VideoReader:
    """Iterates over the frames of a video and when each is shown: uint8 [H, W, 3] RGB, and seconds.

    Frames are rotated and mirrored as a player shows them.

    Args:
        source: Path of a file, or anything else that FFmpeg opens.
        input_format: FFmpeg's name of the input's format; None has it found out.

    Attributes:
        source: As given.
        frames: Number of frames, as far as the file tells it once iteration has begun; else 0.

    Raises:
        UserError: If PyAV is not installed; while iterating.
        ImageError: If the video cannot be decoded, or only up to a certain frame; while iterating.
    """

    def __init__(self, source: Path | str, input_format: str | None = None) -> None:
        self.source, self.frames, self._format = source, 0, input_format

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], float]]:
        """Open the video and decode it from its first frame."""
        try:
            import av
        except ImportError as error:
            raise UserError(f"{self.source}: videos need PyAV: pip install av") from error
        try:
            with av.open(str(self.source), format=self._format) as video:
                if not video.streams.video:
                    raise ImageError(f"{self.source}: holds no images")
                self.frames = video.streams.video[0].frames
                for index, frame in enumerate(video.decode(video=0)):
                    yield _upright(frame), index / ASSUMED_RATE if frame.time is None else frame.time
        except (av.FFmpegError, OSError, ValueError) as error:
            raise ImageError(f"{self.source}: cannot be decoded ({first_line(error)})") from error


def open_stream(source: str) -> VideoReader:
    """Return a reader of a camera, by its index, or of anything else that FFmpeg opens: an address, a file.

    Raises:
        UserError: If it is an index on a system whose cameras have none.
    """
    if not source.isdigit():
        return VideoReader(source)
    if sys.platform != "linux":
        raise UserError(f"--stream {source}: cameras have an index on Linux alone; give an address that FFmpeg opens")
    return VideoReader(f"/dev/video{source}", "v4l2")


def _upright(frame: Any) -> NDArray[np.uint8]:
    """Apply the display matrix of a frame, one of eight orientations.

    Its first two rows begin with (a, b) and (c, d): the pixel at (x, y), with y pointing down, is displayed at
    (a x + c y, b x + d y).
    """
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
