"""Every kind of bad input: one line that names the file and what to do, and stands in docs/data.md."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.runs import ROOT
from helpers.settings import fit_config
from numpy.typing import NDArray
from PIL import Image

from segdistill.config.data import FolderConfig
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.sources.folder import open_folder
from segdistill.utils.errors import UserError
from segdistill.utils.preprocessing import Preprocessing

DOCS = (ROOT / "docs" / "data.md").read_text("utf-8")
IMAGE, MASK = "train/images/001.png", "train/masks/001.png"


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(9).integers(0, 256, shape, np.uint8)


def save(path: Path, pixels: NDArray[Any], **options: Any) -> None:
    Image.fromarray(pixels).save(path, **options)


def truncated_jpeg(root: Path) -> None:
    whole = root / "whole.jpg"
    save(whole, noise(24, 36, 3))
    (root / IMAGE).write_bytes(whole.read_bytes()[:-200])


def animated(path: Path, *pixels: NDArray[np.uint8]) -> None:
    first, *others = map(Image.fromarray, pixels)
    first.save(path, save_all=True, append_images=others)


def turned(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / MASK, np.ones((24, 36), np.uint8), exif=exif)


CASES: list[tuple[str, str, Callable[[Path], object], str]] = [
    ("image without mask", IMAGE, lambda root: (root / MASK).unlink(), "has no mask in"),
    ("mask without image", MASK, lambda root: (root / IMAGE).unlink(), "has no image in"),
    ("truncated JPEG", IMAGE, truncated_jpeg, "cannot be read as an image"),
    ("empty file", IMAGE, lambda root: (root / IMAGE).write_bytes(b""), "cannot be read as an image"),
    (
        "animated image",
        IMAGE,
        lambda root: animated(root / IMAGE, noise(24, 36, 3), 255 - noise(24, 36, 3)),
        "holds 2 images, as an animation does",
    ),
    (
        "animated mask",
        MASK,
        lambda root: animated(root / MASK, np.zeros((24, 36), np.uint8), np.ones((24, 36), np.uint8)),
        "holds 2 images, as an animation does",
    ),
    (
        "floating-point image",
        IMAGE,
        lambda root: Image.fromarray(np.ones((24, 36), np.float32)).save(root / IMAGE, "TIFF"),
        "holds floating-point values",
    ),
    (
        "other size",
        MASK,
        lambda root: save(root / MASK, np.ones((12, 18), np.uint8)),
        "its image is 36 x 24; make it anew",
    ),
    ("turned mask", MASK, turned, "its image is 36 x 24; turn it upright"),
    (
        "value of no class",
        MASK,
        lambda root: save(root / MASK, np.full((24, 36), 9, np.uint8)),
        "mask value 9 belongs to no class",
    ),
    (
        "16-bit value of no class",
        MASK,
        lambda root: save(root / MASK, np.arange(864, dtype=np.uint16).reshape(24, 36)),
        "belong to no class",
    ),
    ("colours", MASK, lambda root: save(root / MASK, noise(24, 36, 3)), "a mask needs one channel of ids"),
    (
        "empty folder",
        "val/masks",
        lambda root: [path.rename(root / path.name) for path in (root / "val/masks").iterdir()],
        "holds no .png",
    ),
    (
        "masks as JPEG",
        "val/masks",
        lambda root: [path.rename(path.with_suffix(".jpg")) for path in (root / "val/masks").iterdir()],
        "a mask must not be a JPEG",
    ),
    ("no folder", "val/images", lambda root: shutil.rmtree(root / "val/images"), "no such folder"),
    (
        "two of a stem",
        IMAGE,
        lambda root: save(root / "train/images/001.bmp", noise(24, 36, 3)),
        "has the same stem as",
    ),
    (
        "one image in two splits",
        "val/images/002.png",
        lambda root: shutil.copy(root / IMAGE, root / "val/images/002.png"),
        "holds the same image as",
    ),
]


@pytest.mark.parametrize(("named", "spoil", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_input_is_one_line_with_its_file_and_stands_in_the_docs(
    folder_config: FolderConfig, cache_dir: Path, named: str, spoil: Callable[[Path], object], message: str
) -> None:
    root = Path(folder_config.root)
    spoil(root)
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        open_folder(folder_config, cache_dir)
    assert str(raised.value).startswith(str(root / named))
    assert "\n" not in str(raised.value)
    assert message in DOCS


def rgba(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.dstack([pixels, noise(24, 36)]))


def upright(pixels: NDArray[np.uint8], path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by a quarter with the clock
    Image.fromarray(np.rot90(pixels)).save(path, exif=exif)


@pytest.mark.parametrize(
    "store",
    [
        pytest.param(lambda pixels, path: rgba(pixels).save(path), id="RGBA"),
        pytest.param(lambda pixels, path: Image.fromarray(pixels).convert("CMYK").save(path, "TIFF"), id="CMYK"),
        pytest.param(lambda pixels, path: Image.fromarray(pixels).save(path, "WEBP", lossless=True), id="WebP"),
        pytest.param(upright, id="EXIF"),
    ],
)
def test_images_of_any_mode_are_read_as_what_viewers_show(
    folder_config: FolderConfig, cache_dir: Path, store: Callable[[NDArray[np.uint8], Path], None]
) -> None:
    pixels = noise(24, 36, 3)
    store(pixels, Path(folder_config.root) / IMAGE)
    image, ids = open_folder(folder_config, cache_dir).read("train", 1)
    assert ids.shape == (24, 36)
    np.testing.assert_array_equal(image, pixels)


def test_a_16_bit_image_is_read_by_its_high_bits(folder_config: FolderConfig, cache_dir: Path) -> None:
    levels = np.linspace(0, 65_535, 24 * 36).astype(np.uint16).reshape(24, 36)
    save(Path(folder_config.root) / IMAGE, levels)
    image, _ = open_folder(folder_config, cache_dir).read("train", 1)
    np.testing.assert_array_equal(image, np.repeat((levels >> 8)[..., None], 3, axis=2))


def test_paths_may_have_spaces_and_letters_of_any_script(folder_config: FolderConfig, cache_dir: Path) -> None:
    root = Path(folder_config.root)
    for kind in ("images", "masks"):
        (root / "train" / kind / "001.png").rename(root / "train" / kind / "Straße 1 · 道路 #2.png")
    moved = root.rename(root.with_name("mes données (1)"))
    source = open_folder(replace(folder_config, root=str(moved)), cache_dir)
    assert [sample.image.name for sample in source.splits["train"]][-1] == "Straße 1 · 道路 #2.png"
    assert source.read("train", 4)[1].shape == (24, 36)
    (moved / "train/masks/Straße 1 · 道路 #2.png").write_text("no mask")
    with pytest.raises(UserError, match=r"mes données .*Straße 1 · 道路 #2\.png: cannot be read"):
        open_folder(replace(folder_config, root=str(moved)), cache_dir)


def test_an_image_smaller_than_the_crop_is_trained_on(folder_config: FolderConfig, cache_dir: Path) -> None:
    root = Path(folder_config.root)
    for index in range(5):
        save(root / f"train/images/{index:03}.png", noise(5 + index, 7, 3))
        save(root / f"train/masks/{index:03}.png", np.ones((5 + index, 7), np.uint8))
    source = open_folder(folder_config, cache_dir)
    fit = fit_config(1, 5, crop=[24, 36], scale=[0.5, 1.0])
    (batch,) = SegmentationDataModule(
        source, fit, preprocessing=Preprocessing((24, 36)), num_workers=0
    ).train_dataloader()
    assert batch["image"].shape == (5, 3, 24, 36)
    assert set(batch["mask"].unique().tolist()) <= {1, 255}
