"""Which files `predict` reads and writes."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from segdistill.inference.video import VIDEO_SUFFIXES
from segdistill.utils.errors import UserError
from segdistill.utils.image import IMAGE_SUFFIXES

FRAME_MASK = re.compile(r"(.+)_\d{6,}\.png")
OVERLAY_VIDEO = ".overlay.mp4"


def is_video(path: Path) -> bool:
    """Return whether a file is taken for a video, by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


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


def output_names(sources: Sequence[Path]) -> list[str]:
    """Return one name per source: its stem, or its file name if another source has the same stem.

    Raises:
        UserError: If even the file names are not unique.
    """
    stems = Counter(source.stem for source in sources)
    names = [source.stem if stems[source.stem] == 1 else source.name for source in sources]
    counts = Counter(names)
    for name, source in zip(names, sources, strict=True):
        if counts[name] > 1:
            raise UserError(f"{source}: another image has the same name; segment one folder at a time")
    return names


def writable(out: Path) -> Path:
    """Return a folder, which is made if it is missing.

    Raises:
        UserError: If it cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror})") from error
    return out


def require_free(
    out: Path, sources: Sequence[Path], names: Sequence[str], *, overlay: bool, overwrite: bool, video: bool
) -> None:
    """Refuse to overwrite the source images, and existing files unless `overwrite` is set.

    The folder is listed only once, because it may hold as many files as there are sources.

    Raises:
        UserError: If a file would be written over.
    """
    existing = {path.name for path in out.iterdir()}
    earlier_frames = {found[1]: name for name in existing if (found := FRAME_MASK.fullmatch(name))}
    given = {source.resolve() for source in sources}
    for source, name in zip(sources, names, strict=True):
        if is_video(source) and not video:
            taken = [earlier_frames[name]] if name in earlier_frames else []
        else:
            written = [f"{name}.png", f"{name}.overlay.jpg"] if overlay else [f"{name}.png"]
            if is_video(source):
                written = [f"{name}{OVERLAY_VIDEO}"]
            taken = [each for each in written if each in existing]
        for path in (out / each for each in taken):
            if path.resolve() in given:
                raise UserError(f"{path}: is an image to be segmented; give another folder with -o")
            if not overwrite:
                raise UserError(f"{path}: exists; --overwrite replaces it")
