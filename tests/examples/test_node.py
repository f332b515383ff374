"""examples/node segments as `Segmenter` does, pixel by pixel."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.examples import halves, masks, require_ten_equal_masks, write_folders
from helpers.runs import ROOT
from PIL import Image

from segdistill.inference import Segmenter
from segdistill.reporting.pack.folder import LABELS, file_labels
from segdistill.utils.io import write_json

EXAMPLE = ROOT / "examples" / "node"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (EXAMPLE / "node_modules").is_dir(), reason="needs `npm install --ignore-scripts` in examples/node"
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node")
    write_folders(folder)
    return folder


def command(model: Path) -> list[str]:
    return ["node", str(EXAMPLE / "segment.mjs"), str(model)]


def test_ten_images_have_the_masks_of_segmenter(folder: Path) -> None:
    require_ten_equal_masks(folder, command)


def test_a_jpeg_is_segmented_upright(folder: Path) -> None:
    turned, exif = folder / "turned.jpg", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(halves()).save(turned, exif=exif, quality=95)
    own, expected = masks(command(folder / "plain"), turned, folder / "plain")
    assert own.shape == expected.shape == (64, 40)
    assert (own == expected).mean() > 0.97  # decoders may differ at the border of the colours


def test_the_file_that_labels_name_is_taken_among_several(folder: Path) -> None:
    model = folder / "several"
    model.mkdir()
    (model / "a.onnx").write_text("no network")
    shutil.copy(folder / "plain" / "student.int8.onnx", model / "student.onnx")
    write_json(model / LABELS, file_labels(Segmenter(model / "student.onnx")))
    image = folder / "several.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 32, 3), np.uint8)).save(image)
    own, expected = masks(command(model), image, folder / "plain")
    np.testing.assert_array_equal(own, expected)
