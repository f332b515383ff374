"""Segments images with an exported file: `segdistill predict MODEL PATH -o OUT`.

Needs only onnxruntime, numpy and Pillow; videos and cameras need `pip install av`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segdistill.inference.flicker import Flicker
from segdistill.inference.paths import OVERLAY_VIDEO, found, is_video, output_names, require_free, writable
from segdistill.inference.segmenter import Segmenter
from segdistill.inference.summary import Summary, VideoProgress, show_progress
from segdistill.inference.tiled import add_arguments, open_segmenter
from segdistill.inference.video import VideoReader, open_stream
from segdistill.inference.video_writer import VideoWriter
from segdistill.utils.drawing import blend, colour_table
from segdistill.utils.errors import UserError
from segdistill.utils.image import ImageError, read_rgb
from segdistill.utils.io import atomic_write

EXIT_USER_ERROR, EXIT_SKIPPED = 1, 3
OPACITY = 0.5
"""Opacity of the colours over an image, where none is given."""

STREAM_NAME = "stream"
Sink = Callable[[int, NDArray[np.uint8], NDArray[np.uint8], float], None]
"""Takes the index of a frame, its pixels, uint8 [H, W, 3], its class ids, uint8 [H, W], and its time in seconds."""


def predict(
    segmenter: Segmenter,
    path: str,
    out: Path,
    *,
    overlay: float | None = None,
    overwrite: bool = False,
    video: bool = False,
) -> Summary:
    """Write a mask, a PNG with the exported file's palette, for every image or video frame.

    Of a damaged video the frames before the damage are kept. An interruption leaves no part of a file.

    Args:
        segmenter: Exported network.
        path: An image, a folder of images, a glob pattern, or a video.
        out: Folder to write to.
        overlay: Opacity from 0 to 1 of the colours in `<name>.overlay.jpg`; None writes only masks.
        overwrite: Whether to replace files of an earlier call.
        video: Whether to write one `<name>.overlay.mp4` for each video instead of files for each of its frames.

    Returns:
        Counts and timing.

    Raises:
        UserError: If there is nothing to read, or the folder cannot be written to or already contains such files.
    """
    sources = found(path)
    names = output_names(sources)
    require_free(writable(out), sources, names, overlay=overlay is not None, overwrite=overwrite, video=video)
    summary, palette = Summary(), colour_table(segmenter.palette)

    for done, (source, name) in enumerate(zip(sources, names, strict=True)):
        show_progress(done, len(sources))
        try:
            if not is_video(source):
                image = read_rgb(source)
                _write(out, name, image, summary.segment(segmenter, image), palette, overlay)
            elif video:
                opacity = OPACITY if overlay is None else overlay
                _to_video(segmenter, VideoReader(source), out / f"{name}{OVERLAY_VIDEO}", summary, opacity)
            else:
                numbered = partial(_write_frame, out, name, palette, overlay)
                _segment_video(segmenter, VideoReader(source), source.name, summary, numbered)
        except ImageError as error:
            summary.skip(error)
    show_progress(len(sources), len(sources))
    return summary


def predict_stream(
    segmenter: Segmenter, source: str, out: Path, *, overlay: float | None = None, overwrite: bool = False
) -> Summary:
    """Write `stream.overlay.mp4`: a camera or stream with its masks blended over it, until it ends or Ctrl-C.

    Args:
        segmenter: Exported network.
        source: Index of a camera, or anything else that FFmpeg opens.
        out: Folder to write to.
        overlay: Opacity from 0 to 1 of the colours; None is `OPACITY`.
        overwrite: Whether to replace the file of an earlier call.

    Returns:
        Counts and timing.

    Raises:
        UserError: If there is no such camera or stream, or the file cannot be written or exists.
    """
    path = writable(out) / f"{STREAM_NAME}{OVERLAY_VIDEO}"
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists; --overwrite replaces it")
    summary = Summary()
    try:
        _to_video(segmenter, open_stream(source), path, summary, OPACITY if overlay is None else overlay, live=True)
    except ImageError as error:
        mend = "give the N of a /dev/videoN, or an address or file that FFmpeg opens"
        raise UserError(f"--stream {source}: {error}; {mend}") from error
    return summary


def _to_video(
    segmenter: Segmenter, reader: VideoReader, path: Path, summary: Summary, opacity: float, *, live: bool = False
) -> None:
    """Write a video with its masks over it; Ctrl-C is the end of a `live` one, and leaves nothing of any other."""
    palette = colour_table(segmenter.palette)
    with VideoWriter(path) as writer:

        def write(_: int, image: NDArray[np.uint8], mask: NDArray[np.uint8], seconds: float) -> None:
            writer.write(blend(image, palette[mask], opacity), seconds)

        try:
            _segment_video(segmenter, reader, Path(str(reader.source)).name, summary, write)
        except KeyboardInterrupt:
            if not live:
                raise
            sys.stderr.write("\n")


def _segment_video(segmenter: Segmenter, reader: VideoReader, name: str, summary: Summary, sink: Sink) -> None:
    """Segment the frames that can be decoded; ImageError if there are none."""
    progress, flicker = VideoProgress(name), Flicker()
    try:
        for image, seconds in reader:
            mask = summary.segment(segmenter, image)
            with progress.untimed():
                flicker.update(image, mask)
            sink(progress.frames, image, mask, seconds)
            progress.step(reader.frames)
    except ImageError as error:
        if not progress.frames:
            raise
        summary.cut(error, progress.frames)
    finally:
        if progress.frames:
            summary.videos.append(progress.line(flicker))


def _write_frame(
    out: Path,
    name: str,
    palette: NDArray[np.uint8],
    overlay: float | None,
    index: int,
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    _: float,
) -> None:
    _write(out, f"{name}_{index:06d}", image, mask, palette, overlay)


def _write(
    out: Path,
    name: str,
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    overlay: float | None,
) -> None:
    indexed = Image.fromarray(mask, "P")
    indexed.putpalette(palette.tobytes())
    with atomic_write(out / f"{name}.png") as temporary:
        indexed.save(temporary, "PNG")
    if overlay is not None:
        with atomic_write(out / f"{name}.overlay.jpg") as temporary:
            Image.fromarray(blend(image, palette[mask], overlay)).save(temporary, "JPEG", quality=92, subsampling=0)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: must be from 0 to 1")
    return value


def main() -> int:
    """Parse the command line and write the masks; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="segdistill predict",
        description="Segments images with an exported file; masks are PNG files with the file's palette.",
        epilog=f"Exit code {EXIT_USER_ERROR}: an error; {EXIT_SKIPPED}: some files could not be decoded to their end.",
    )
    add_arguments(parser)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("path", nargs="?", help="an image, a folder, a quoted glob pattern, or a video")
    help_text = "instead of PATH the camera N, or an address or file that FFmpeg opens; writes one video, until Ctrl-C"
    given.add_argument("--stream", metavar="N", help=help_text)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the masks")
    parser.add_argument(
        "--overlay", type=_share, nargs="?", const=OPACITY, metavar="OPACITY", help="also blend the mask over the image"
    )
    help_text = "write one video with its masks over it for each video, instead of files for each frame"
    parser.add_argument("--video", action="store_true", help=help_text)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    arguments = parser.parse_args()
    overlay, overwrite = arguments.overlay, arguments.overwrite
    try:
        segmenter = open_segmenter(arguments)
        if arguments.stream is not None:
            summary = predict_stream(segmenter, arguments.stream, arguments.out, overlay=overlay, overwrite=overwrite)
        else:
            summary = predict(
                segmenter, arguments.path, arguments.out, overlay=overlay, overwrite=overwrite, video=arguments.video
            )
    except (UserError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USER_ERROR
    chosen = [str(segmenter.path)] if arguments.model.is_dir() else []
    sys.stdout.write("\n".join([*chosen, *summary.lines(segmenter.classes)]) + "\n")
    return EXIT_SKIPPED if summary.skipped or summary.cut_short else 0


if __name__ == "__main__":
    sys.exit(main())
