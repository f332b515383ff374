"""Segments images with an exported file: `segdistill predict MODEL PATH -o OUT`.

Needs only onnxruntime, numpy and Pillow; videos need `pip install av`.
"""

from __future__ import annotations

import argparse
import glob
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segdistill.inference.segmenter import Segmenter
from segdistill.inference.tiled import add_arguments, open_segmenter
from segdistill.inference.video import VIDEO_SUFFIXES, read_frames
from segdistill.utils.drawing import blend, colour_table
from segdistill.utils.errors import UserError
from segdistill.utils.image import IMAGE_SUFFIXES, ImageError, read_rgb
from segdistill.utils.io import atomic_write
from segdistill.utils.preprocessing import IGNORE_INDEX

EXIT_USER_ERROR, EXIT_SKIPPED = 1, 3
FRAME_MASK = re.compile(r"(.+)_\d{6,}\.png")
BAR_WIDTH = 40
Frame = tuple[str, NDArray[np.uint8]]


@dataclass
class Summary:
    """Counts and timing of a prediction.

    Attributes:
        images: Number of segmented images and video frames.
        skipped: Number of files that could not be decoded.
        seconds: Time spent in the network, including resizing, without decoding and writing.
        pixels: Number of pixels by class id, int64 [256].
    """

    images: int = 0
    skipped: int = 0
    seconds: float = 0.0
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))

    def lines(self, classes: Sequence[str]) -> list[str]:
        """Return the summary as lines of text."""
        each = f", {1000 * self.seconds / self.images:.1f} ms each" if self.images else ""
        lines = [f"{self.images} images{each}; {self.skipped} skipped"]
        width = max(map(len, classes), default=0)
        named = dict(enumerate(classes))
        if self.pixels[IGNORE_INDEX]:
            named[IGNORE_INDEX] = "void"
        for index, name in named.items():
            lines.append(f"  {name:<{width}}  {self.pixels[index] / max(1, self.pixels.sum()):7.2%} of all pixels")
        return lines


def predict(
    segmenter: Segmenter, path: str, out: Path, *, overlay: float | None = None, overwrite: bool = False
) -> Summary:
    """Write a mask, a PNG with the exported file's palette, for every image or video frame.

    Args:
        segmenter: Exported network.
        path: An image, a folder of images, a glob pattern, or a video.
        out: Folder to write to.
        overlay: Opacity from 0 to 1 of the colours in `<name>.overlay.jpg`; None writes only masks.
        overwrite: Whether to replace files of an earlier call.

    Returns:
        Counts and timing.

    Raises:
        UserError: If there is nothing to read, or the folder cannot be written to or already contains such files.
    """
    sources = found(path)
    names = _names(sources)
    _require_free(_writable(out), sources, names, overlay=overlay is not None, overwrite=overwrite)
    summary, palette = Summary(), colour_table(segmenter.palette)
    for done, (source, name) in enumerate(zip(sources, names, strict=True)):
        _show_progress(done, len(sources))
        frames = _frames(source, name)
        while True:
            try:
                frame = next(frames, None)
            except ImageError as error:
                summary.skipped += 1
                sys.stderr.write(f"\rwarning: {error}; skipped\n")
                break
            if frame is None:
                break
            frame_name, image = frame
            begin = time.perf_counter()
            mask = segmenter(image)
            summary.seconds += time.perf_counter() - begin
            summary.images += 1
            summary.pixels += np.bincount(mask.ravel(), minlength=256)
            _write(out, frame_name, image, mask, palette, overlay)
    _show_progress(len(sources), len(sources))
    return summary


def found(path: str) -> list[Path]:
    """Return the images and videos that a path refers to, sorted by name.

    Raises:
        UserError: If there are none.
    """
    if Path(path).is_file():
        return [Path(path)]
    candidates = Path(path).iterdir() if Path(path).is_dir() else map(Path, glob.glob(path, recursive=True))  # noqa: PTH207 # absolute patterns, too
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    paths = sorted(each for each in candidates if each.suffix.lower() in suffixes and each.is_file())
    if not paths:
        raise UserError(f"{path}: holds, or matches, no file of {', '.join(suffixes)}")
    return paths


def _names(sources: Sequence[Path]) -> list[str]:
    """Return one name per source: its stem, or its file name if another source has the same stem."""
    stems = Counter(source.stem for source in sources)
    names = [source.stem if stems[source.stem] == 1 else source.name for source in sources]
    counts = Counter(names)
    for name, source in zip(names, sources, strict=True):
        if counts[name] > 1:
            raise UserError(f"{source}: another image has the same name; segment one folder at a time")
    return names


def _writable(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror})") from error
    return out


def _require_free(out: Path, sources: Sequence[Path], names: Sequence[str], *, overlay: bool, overwrite: bool) -> None:
    """Refuse to overwrite the source images, and existing files unless `overwrite` is set.

    The folder is listed only once, because it may hold as many files as there are sources.
    """
    existing = {path.name for path in out.iterdir()}
    earlier_frames = {found[1]: name for name in existing if (found := FRAME_MASK.fullmatch(name))}
    given = {source.resolve() for source in sources}
    for source, name in zip(sources, names, strict=True):
        if source.suffix.lower() in VIDEO_SUFFIXES:
            taken = [earlier_frames[name]] if name in earlier_frames else []
        else:
            written = [f"{name}.png", f"{name}.overlay.jpg"] if overlay else [f"{name}.png"]
            taken = [each for each in written if each in existing]
        for path in (out / each for each in taken):
            if path.resolve() in given:
                raise UserError(f"{path}: is an image to be segmented; give another folder with -o")
            if not overwrite:
                raise UserError(f"{path}: exists; --overwrite replaces it")


def _frames(source: Path, name: str) -> Iterator[Frame]:
    if source.suffix.lower() not in VIDEO_SUFFIXES:
        yield name, read_rgb(source)
        return
    for index, frame in enumerate(read_frames(source)):
        yield f"{name}_{index:06d}", frame


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


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        filled = BAR_WIDTH * done // total
        end = "\n" if done == total else ""
        sys.stderr.write(f"\r[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {done}/{total}{end}")
        sys.stderr.flush()


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
        epilog=f"Exit code {EXIT_USER_ERROR}: an error; {EXIT_SKIPPED}: some files could not be decoded.",
    )
    add_arguments(parser)
    parser.add_argument("path", help="an image, a folder, a quoted glob pattern, or a video")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the masks")
    parser.add_argument(
        "--overlay", type=_share, nargs="?", const=0.5, metavar="OPACITY", help="also blend the mask over the image"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    arguments = parser.parse_args()
    try:
        segmenter = open_segmenter(arguments)
        summary = predict(
            segmenter, arguments.path, arguments.out, overlay=arguments.overlay, overwrite=arguments.overwrite
        )
    except (UserError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USER_ERROR
    chosen = [str(segmenter.path)] if arguments.model.is_dir() else []
    sys.stdout.write("\n".join([*chosen, *summary.lines(segmenter.classes)]) + "\n")
    return EXIT_SKIPPED if summary.skipped else 0


if __name__ == "__main__":
    sys.exit(main())
