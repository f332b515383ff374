"""What the page offers: exported files, and sample images where there are some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segdistill.inference.demo.uploads import read_upload
from segdistill.inference.exported import onnx_files
from segdistill.inference.segmenter import Segmenter
from segdistill.utils.drawing import first_panel
from segdistill.utils.errors import UserError
from segdistill.utils.image import IMAGE_SUFFIXES
from segdistill.utils.preprocessing import Preprocessing

MAX_SAMPLES = 9
SAMPLE_FOLDERS = ("samples/images", "samples", "images", ".")
"""Where sample images may lie in a folder, the first that holds some; `segdistill pack` takes the first name."""
SHEETS = ("differing", "predictions")


def find_files(given: Sequence[Path]) -> list[Path]:
    """Return the exported files that are given or lie in given folders or in their `onnx/`, each once, teachers first.

    Raises:
        UserError: If something does not exist, or a folder holds none.
    """
    found = [path for each in given for path in ([each] if each.is_file() else _files_of(each))]
    unique = {path.resolve(): path for path in found}
    return sorted(unique.values(), key=lambda path: ("teacher" not in path.stem, path.stem))


def _files_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such file or directory")
    files = [*onnx_files(folder), *onnx_files(folder / "onnx")]
    if not files:
        raise UserError(f"{folder}: holds no .onnx file, nor does its folder onnx/; give a run directory or the files")
    return files


def write_samples(given: Sequence[Path], segmenter: Segmenter, out: Path) -> list[Path]:
    """Write up to MAX_SAMPLES sample images of the given folders to `out`, which is served.

    Each is decoded and written anew as `<name>.png`, so that nothing but pixels is served, whatever a link or a name
    leads to; what is no image that could be uploaded is left out. Those of a run are the images of its sheets of
    predictions, first those on which teacher and student differ most; those of any other folder lie in its
    `samples/images`, `samples` or `images`, or in the folder itself.

    Args:
        given: What the command line names; samples are those of folders.
        segmenter: A network of the run, which tells what is on its sheets.
        out: Existing folder to write to.
    """
    samples: dict[str, Path] = {}
    for name, source in chain.from_iterable(map(_sources, given)):
        if len(samples) == MAX_SAMPLES:
            break
        if name in samples:
            continue
        image = None
        with suppress(UserError):
            on_sheet = source.parent.name in SHEETS
            image = _drawn(source, segmenter.preprocessing) if on_sheet else read_upload(source)
        if image is not None:
            samples[name] = out / f"{name}.png"
            Image.fromarray(image).save(samples[name], compress_level=1)  # a photograph takes seconds otherwise
    return list(samples.values())


def _sources(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the sample images of a folder, or else the sheets of a run, by the name of the image."""
    lying = next(filter(None, (_images(folder / name) for name in SAMPLE_FOLDERS)), [])
    yield from ((path.stem, path) for path in lying)
    differing, evenly_spaced = (folder / name for name in ("predictions/differing", "predictions"))
    yield from ((path.stem.partition("_")[2], path) for path in _images(differing))  # after their rank
    yield from ((path.stem, path) for path in _images(evenly_spaced))


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _drawn(sheet: Path, steps: Preprocessing | None) -> NDArray[np.uint8] | None:
    """Return the image of a sheet; None if it was cut or corrected, which would be done to it once more.

    Raises:
        UserError: If the file is no sheet of such images.
    """
    if steps is None or steps != Preprocessing(steps.resize):
        return None
    return first_panel(sheet, steps.size)
