"""Frames as a video file, H.264 or AV1. Needs PyAV: `pip install av`."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from segdistill.utils.errors import UserError
from segdistill.utils.io import atomic_write

ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "20"},  # plays everywhere
    "libsvtav1": {"preset": "8", "crf": "28"},
    "libaom-av1": {"cpu-used": "8", "crf": "28"},
}
"""FFmpeg's encoders with their options; the first that is there is taken."""

NOMINAL_RATE = 30  # frames a second that the encoder is told; each frame has its own time
TIME_BASE = Fraction(1, 60000)  # in which frames at 24, 25, 30 and 29.97 a second last a whole number


class VideoWriter:
    """Writes frames to an MP4 file, which is there once the `with` block ends without an error.

    Without any frame no file is written. A size that is odd is one pixel larger in the file, because colours are coded
    for two by two pixels; frames of other sizes than the first are resized to it.

    Args:
        path: File to write.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._stack = path, ExitStack()
        self._container: Any = None
        self._last = -1

    def __enter__(self) -> Self:
        return self

    def write(self, frame: NDArray[np.uint8], seconds: float) -> None:
        """Append a frame.

        Args:
            frame: uint8 [H, W, 3] RGB.
            seconds: When it is shown, on the clock of the first frame's; one that is not later than the frame before
                follows that at once.

        Raises:
            UserError: If PyAV, or every encoder, is missing.
        """
        try:
            import av
        except ImportError as error:
            raise UserError(f"{self._path}: videos need PyAV: pip install av") from error
        height, width = (side + side % 2 for side in frame.shape[:2])
        if self._container is None:
            encoder = next((name for name in ENCODERS if name in av.codecs_available), None)
            if encoder is None:
                raise UserError(f"{self._path}: PyAV has no encoder of {', '.join(ENCODERS)}; pip install -U av")
            temporary = self._stack.enter_context(atomic_write(self._path))
            self._container = self._stack.enter_context(av.open(str(temporary), "w", format="mp4"))
            self._stream = self._container.add_stream(encoder, rate=NOMINAL_RATE, options=ENCODERS[encoder])
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.codec_context.time_base = TIME_BASE
            self._start = seconds
            self._stack.push(self._flush)  # an error in it, too, closes the container and removes the file
        padding = (0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0)
        coded = av.VideoFrame.from_ndarray(np.pad(frame, padding, "edge"), format="rgb24")
        coded = coded.reformat(self._stream.width, self._stream.height)
        self._last = max(self._last + 1, round((seconds - self._start) / TIME_BASE))
        coded.pts, coded.time_base = self._last, TIME_BASE
        self._container.mux(self._stream.encode(coded))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def _flush(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._container.mux(self._stream.encode())
