"""Video files as arrays, frame by frame. Needs PyAV: `pip install av`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdistill.utils.errors import UserError, first_line
from segdistill.utils.image import ImageError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")


def read_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a video, uint8 [H, W, 3] RGB, rotated and mirrored as a player shows them.

    Raises:
        UserError: If PyAV is not installed.
        ImageError: If the video cannot be decoded, or only up to a certain frame.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(f"{path}: videos need PyAV: pip install av") from error
    try:
        with av.open(str(path)) as video:
            if not video.streams.video:
                raise ImageError(f"{path}: holds no images")
            for frame in video.decode(video=0):
                yield _upright(frame)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be decoded ({first_line(error)})") from error


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
