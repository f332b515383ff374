"""JPEG files decoded at a reduced size: large enough, aligned with their masks, and nearly the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.settings import fit_config
from numpy.typing import NDArray
from PIL import Image

from segdistill.config.data import FolderConfig, SplitFolders
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.image_cache import ImageCache
from segdistill.data.sources.base import DatasetIndex
from segdistill.data.sources.folder import open_folder
from segdistill.utils.image import decoded_size, read_rgb, resized_rgb
from segdistill.utils.preprocessing import Preprocessing

HEIGHT, WIDTH = 240, 336
TURNED_LEFT = 8  # EXIF: shown upright after a quarter turn against the clock


def photo(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth blobs of colour, as in a camera's image."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(
    ("at_least", "size"),
    [
        (None, (240, 336)),
        ((121, 100), (240, 336)),
        ((120, 168), (120, 168)),
        ((61, 84), (120, 168)),
        ((60, 83), (60, 84)),
        ((5, 5), (30, 42)),
        ((500, 500), (240, 336)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_size_that_suffices(
    tmp_path: Path, at_least: tuple[int, int] | None, size: tuple[int, int]
) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.jpg", quality=92)
    reduced = read_rgb(tmp_path / "a.jpg", at_least=at_least)
    assert reduced.shape == (*size, 3)
    assert decoded_size(tmp_path / "a.jpg", at_least) == size
    scale = HEIGHT // size[0]
    blocks = read_rgb(tmp_path / "a.jpg").reshape(size[0], scale, size[1], scale, 3)
    assert np.abs(reduced - blocks.mean(axis=(1, 3))).mean() < 1.5


def test_a_reduced_jpeg_ends_where_its_image_ends(tmp_path: Path) -> None:
    Image.fromarray(photo(240, 330)).save(tmp_path / "a.jpg", quality=92)
    assert read_rgb(tmp_path / "a.jpg", at_least=(10, 10)).shape == (120, 165, 3)  # 330 / 4 is no whole number


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_jpegs_are_reduced_as_well(tmp_path: Path, mode: str) -> None:
    Image.fromarray(photo()).convert(mode).save(tmp_path / "a.jpg", quality=95)
    whole = resized_rgb(read_rgb(tmp_path / "a.jpg"), (120, 168))
    assert np.abs(read_rgb(tmp_path / "a.jpg", at_least=(120, 168)).astype(float) - whole).mean() < 3


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_formats_that_cannot_reduce_are_decoded_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(photo()).save(path)
    np.testing.assert_array_equal(read_rgb(path, at_least=(30, 40)), photo())
    assert decoded_size(path, (30, 40)) == (HEIGHT, WIDTH)


def test_a_turned_jpeg_is_large_enough_when_it_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = TURNED_LEFT
    Image.fromarray(photo(200, 400)).save(tmp_path / "a.jpg", exif=exif)
    assert read_rgb(tmp_path / "a.jpg").shape == (400, 200, 3)
    for at_least, size in (((200, 51), (200, 100)), ((101, 40), (200, 100)), ((100, 50), (100, 50))):
        assert read_rgb(tmp_path / "a.jpg", at_least=at_least).shape == (*size, 3)
        assert decoded_size(tmp_path / "a.jpg", at_least) == size


def test_a_turned_jpeg_whose_mask_fits_the_stored_pixels_stays_as_it_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = TURNED_LEFT
    Image.fromarray(photo(200, 400)).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(np.zeros((200, 400), np.uint8)).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.jpg", tmp_path / "a.png", (51, 200)).shape == (100, 200, 3)


@pytest.fixture
def source(tmp_path: Path) -> DatasetIndex:
    """JPEG images of which the darker half is another class."""
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            for part in ("images", "masks"):
                (tmp_path / split / part).mkdir(parents=True, exist_ok=True)
            image = photo(seed=10 * len(split) + index)
            Image.fromarray(image).save(tmp_path / split / "images" / f"{index}.jpg", quality=95)
            mask = (image.mean(axis=2) > 127).astype(np.uint8)
            Image.fromarray(mask).save(tmp_path / split / "masks" / f"{index}.png")
    splits = {split: SplitFolders(f"{split}/images", f"{split}/masks") for split in ("train", "val")}
    classes = {"dark": 0, "bright": 1}
    config = FolderConfig(input_size=[60, 80], root=str(tmp_path), splits=splits, classes=dict(classes), void=[])
    return open_folder(config, tmp_path / "cache")


@pytest.mark.parametrize("place", ["none", "memory", "disk"])
def test_draft_changes_pixels_a_little_and_labels_not_at_all(source: DatasetIndex, tmp_path: Path, place: str) -> None:
    fit = fit_config(max_epochs=1, batch_size=3, crop=[60, 80], scale=[1.5, 1.5])
    kept = ImageCache(place, tmp_path / "cache")
    whole, draft, again = (
        SegmentationDataModule(
            source, fit, preprocessing=Preprocessing((60, 80)), num_workers=0, images=kept, draft=drafted
        )
        for drafted in (False, True, True)
    )
    for loader in ("train_dataloader", "val_dataloader"):
        (expected,), (batch,), (second,) = (list(getattr(data, loader)()) for data in (whole, draft, again))
        assert 0 < (batch["image"] - expected["image"]).abs().mean() < 2 / 255
        assert (batch["mask"] == expected["mask"]).all()
        assert all((batch[key] == second[key]).all() for key in batch)
    assert draft.raw_sample("train", 0)[0].shape == (60, 80, 3)
