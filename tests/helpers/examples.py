"""Images that the programs of examples/ and `Segmenter` have to segment alike."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helpers.exported import HEIGHT, WIDTH, export_brightest, with_metadata
from segdistill.inference import Segmenter
from segdistill.inference.metadata import write_preprocessing
from segdistill.reporting.pack.folder import LABELS, file_labels
from segdistill.utils.image import read_rgb
from segdistill.utils.io import write_json
from segdistill.utils.preprocessing import Preprocessing

PREPARED = {"plain": Preprocessing((HEIGHT, WIDTH)), "cut": Preprocessing((HEIGHT, WIDTH), cut_bottom=5, gamma=1.5)}
SIZES = [(HEIGHT, WIDTH), (7, 5), (HEIGHT, 3 * WIDTH), (61, WIDTH), (131, 203)]
"""As the network sees them, smaller, larger in one direction, and larger by no whole number."""


def write_folders(folder: Path) -> None:
    """Write a folder with an exported file for each of `PREPARED`; the file classifies by the brightest channel."""
    model = export_brightest(folder / "model.onnx")
    for name, steps in PREPARED.items():
        (folder / name).mkdir()
        told = {"preprocessing": write_preprocessing(steps), "training_data": "noise 0"}
        path = with_metadata(model, folder / name / "student.int8.onnx", told)
        write_json(folder / name / LABELS, file_labels(Segmenter(path)))


def images(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Write ten images, and yield each with the folder that is to segment it."""
    rng = np.random.default_rng(0)
    for name in PREPARED:
        for height, width in SIZES:
            path = folder / f"{name}_{height}_{width}.png"
            Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
            yield path, folder / name


def masks(command: Sequence[str], image: Path, model: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the ids that a program writes for an image, and those of `Segmenter`; the palettes are compared here."""
    out = image.with_suffix(".mask.png")
    subprocess.run([*command, str(image), str(out)], check=True, timeout=120)
    segmenter = Segmenter(model)
    with Image.open(out) as mask:
        assert mask.mode == "P"
        palette = [level for colour in segmenter.palette for level in colour]
        assert (mask.getpalette() or []) == palette + [0] * (3 * 256 - len(palette))
        return np.asarray(mask), segmenter(read_rgb(image))


def require_ten_equal_masks(folder: Path, command: Callable[[Path], Sequence[str]]) -> None:
    """Compare a program, whose command line is asked for each folder of an exported file, with `Segmenter`."""
    compared = 0
    for image, model in images(folder):
        own, expected = masks(command(model), image, model)
        np.testing.assert_array_equal(own, expected, err_msg=image.name)
        compared += 1
    assert compared == 10


def halves() -> NDArray[np.uint8]:
    """An image, uint8 [40, 64, 3], whose upper half is red and whose lower half is blue."""
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:20, :, 0], pixels[20:, :, 2] = 200, 200
    return pixels
