"""What the page offers: exported files, and sample images where there are some."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segdistill.inference.segmenter import Segmenter
from segdistill.utils.drawing import SHEET_BAR, SHEET_GAP
from segdistill.utils.errors import UserError
from segdistill.utils.image import IMAGE_SUFFIXES, ImageError, read_rgb
from segdistill.utils.preprocessing import Preprocessing

MAX_SAMPLES = 9


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
    files = [*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")]
    if not files:
        raise UserError(f"{folder}: holds no .onnx file, nor does its folder onnx/; give a run directory or the files")
    return files


def write_samples(given: Sequence[Path], segmenter: Segmenter, out: Path) -> list[Path]:
    """Copy up to MAX_SAMPLES sample images of the given folders to `out`.

    The samples of a run are the images on its sheets of predictions, those on which teacher and student differ most
    first. Those of any other folder are the images in it and in its folders.

    Args:
        given: What the command line names; samples are those of folders.
        segmenter: A network of the run; its preprocessing tells where on a sheet the image is.
        out: Existing folder to write to.
    """
    samples: list[Path] = []
    for source in _candidates(folder for folder in given if folder.is_dir()):
        if len(samples) == MAX_SAMPLES:
            break
        sheet = source.parent.name in ("predictions", "differing")
        name = source.stem.partition("_")[2] if source.parent.name == "differing" else source.stem
        target = out / f"{name}{'.png' if sheet else source.suffix}"
        if target in samples or (sheet and not _write_first_panel(source, segmenter.preprocessing, target)):
            continue
        if not sheet:
            shutil.copyfile(source, target)
        samples.append(target)
    return samples


def _candidates(folders: Iterator[Path]) -> Iterator[Path]:
    for folder in folders:
        patterns = ("differing/*.png", "*.png") if (folder / "predictions").is_dir() else ("*", "*/*")
        root = folder / "predictions" if (folder / "predictions").is_dir() else folder
        for pattern in patterns:
            yield from sorted(path for path in root.glob(pattern) if path.suffix.lower() in IMAGE_SUFFIXES)


def _write_first_panel(sheet: Path, steps: Preprocessing | None, target: Path) -> bool:
    """Write the image of a sheet, and return whether it is one that the network can be given once more.

    An image that was cut, or whose gamma was corrected, is not: both would be done to it twice.
    """
    if steps is None or steps != Preprocessing(steps.size):
        return False
    height, width = steps.size
    try:
        pixels = read_rgb(sheet)
    except ImageError:
        return False
    if pixels.shape[0] < SHEET_BAR + height or (pixels.shape[1] + SHEET_GAP) % (width + SHEET_GAP):
        return False
    Image.fromarray(np.ascontiguousarray(pixels[SHEET_BAR : SHEET_BAR + height, :width])).save(target)
    return True
