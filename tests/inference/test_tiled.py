"""`predict --tile`: large images at their own size, a tile at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.exported import export_brightest, run_predict, sample_image, written_masks
from helpers.networks import Tiny
from PIL import Image

from segdistill.export.onnx import export_onnx
from segdistill.inference import Segmenter, predict
from segdistill.inference.metadata import write_preprocessing
from segdistill.inference.tiled import TiledSegmenter
from segdistill.utils.errors import UserError
from segdistill.utils.preprocessing import Preprocessing
from segdistill.utils.tiles import Tiling


def test_tiles_give_the_mask_of_the_whole_image_at_its_own_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(0, 256, (149, 203, 3), np.uint8)
    path = tmp_path / "model.onnx"
    export_onnx(Tiny().eval(), path, image[None, :20, :32], {"preprocessing": '{"resize": [20, 32]}'})
    whole = Segmenter(path).masks(image[None])[0]
    assert len(np.unique(whole)) == 2
    np.testing.assert_array_equal(TiledSegmenter(path, Tiling((64, 96), 16))(image), whole)
    assert (Segmenter(path)(image) != whole).any()  # that one is resized


def test_tiles_have_the_gamma_of_the_file_and_no_pixel_of_the_rows_that_it_cuts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(0, 256, (149, 203, 3), np.uint8)
    path, steps = tmp_path / "model.onnx", Preprocessing((20, 32), cut_bottom=5, gamma=1 / 3)
    export_onnx(Tiny().eval(), path, image[None, :20, :32], {"preprocessing": write_preprocessing(steps)})
    mask = TiledSegmenter(path, Tiling((64, 96), 16))(image)
    assert (mask[112:] == 255).all()  # three of four rows are seen
    corrected = np.rint(255 * (image[None, :112] / 255) ** (1 / 3)).astype(np.uint8)
    np.testing.assert_array_equal(mask[:112], Segmenter(path).masks(corrected)[0])


def test_the_command_segments_an_image_beyond_pillows_limit_in_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = export_brightest(tmp_path / "model.onnx"), sample_image(161, 243)
    Image.fromarray(image).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    arguments = [model, tmp_path / "a.png", "-o", tmp_path / "out", "--overwrite"]
    assert run_predict(monkeypatch, *arguments) == predict.EXIT_SKIPPED
    for tile in ("64", "64x128"):
        assert run_predict(monkeypatch, *arguments, "--tile", tile, "--overlap", "16") == 0
        np.testing.assert_array_equal(written_masks(tmp_path / "out")["a.png"], image.argmax(axis=2))


@pytest.mark.parametrize("tile", ["0", "1024x", "x1024", "-64", "64,64"])
def test_a_malformed_tile_is_refused(
    tile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = export_brightest(tmp_path / "model.onnx")
    Image.fromarray(sample_image()).save(tmp_path / "a.png")
    try:
        code = run_predict(monkeypatch, model, tmp_path / "a.png", "-o", tmp_path / "out", f"--tile={tile}")
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code
    assert "--tile" in capsys.readouterr().err


def test_an_overlap_as_large_as_the_tile_is_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--tile 128x256: must be at least 32 larger than the overlap, 128"):
        TiledSegmenter(export_brightest(tmp_path / "model.onnx"), Tiling((128, 256)))
