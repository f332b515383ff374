"""Videos as frames, turned the way a player shows them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from segdistill.inference.video import VideoReader
from segdistill.utils.image import ImageError

HEIGHT, WIDTH = 32, 64
BRIGHT, DARK = 190, 60


def write_video(path: Path, degrees: int = 0, hflip: bool = False) -> None:
    """Writes frames that are red in their upper left quarter, with a display matrix."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[: HEIGHT // 2, : WIDTH // 2, 0] = 255
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.set_display_rotation(degrees, hflip=hflip)
        for _ in range(2):
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        video.mux(stream.encode())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("degrees", "hflip", "red"),  # where the red quarter goes: turned against the clock, then mirrored
    [
        (0, False, "upper left"),
        (90, False, "lower left"),
        (180, False, "lower right"),
        (270, False, "upper right"),
        (0, True, "upper right"),
        (90, True, "lower right"),
        (180, True, "lower left"),
        (270, True, "upper left"),
    ],
)
def test_frames_are_turned_as_the_display_matrix_says(
    degrees: int, hflip: bool, red: str, suffix: str, tmp_path: Path
) -> None:
    write_video(tmp_path / f"a{suffix}", degrees, hflip)
    frames = [frame for frame, _ in VideoReader(tmp_path / f"a{suffix}")]
    assert len(frames) == 2
    height, width = (WIDTH, HEIGHT) if degrees in (90, 270) else (HEIGHT, WIDTH)
    assert {frame.shape for frame in frames} == {(height, width, 3)}
    for row, vertical in enumerate(("upper", "lower")):
        for column, horizontal in enumerate(("left", "right")):
            level = frames[1][(2 * row + 1) * height // 4, (2 * column + 1) * width // 4, 0]
            assert level > BRIGHT if red == f"{vertical} {horizontal}" else level < DARK


def test_a_file_that_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(ImageError, match=r"a\.mp4: cannot be decoded \(") as raised:
        list(VideoReader(path))
    assert "\n" not in str(raised.value)
