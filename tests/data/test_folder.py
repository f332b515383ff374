from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from segdistill.config.data import IGNORE_INDEX, FolderConfig
from segdistill.data.sources.folder import open_folder
from segdistill.utils.errors import UserError

MASK, IMAGE = "train/masks/001.png", "train/images/001.png"


def save(pixels: NDArray[np.generic], path: Path) -> None:
    Image.fromarray(pixels).save(path)


def poke(path: Path, value: int) -> None:
    """Sets the first pixel of an image."""
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[0, 0] = value
    save(pixels, path)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_images_and_masks_are_paired_by_stem(folder_config: FolderConfig, cache_dir: Path) -> None:
    root = Path(folder_config.root)
    with Image.open(root / IMAGE) as image:
        image.save(root / "train/images/001.JPG", "JPEG")
    (root / IMAGE).unlink()
    (root / "train/images/notes.txt").write_text("not an image")
    source = open_folder(folder_config, cache_dir)
    assert source.name == "data"
    assert source.labels.names == ("background", "car", "lane")
    assert {split: len(samples) for split, samples in source.splits.items()} == {"train": 5, "val": 3, "test": 2}
    assert [sample.image.name for sample in source.splits["train"]] == [
        "000.png",
        "001.JPG",
        "002.png",
        "003.png",
        "004.png",
    ]
    for samples in source.splits.values():
        assert all(sample.mask is not None and sample.image.stem == sample.mask.stem for sample in samples)


def test_mask_values_become_class_ids(folder_config: FolderConfig, cache_dir: Path) -> None:
    with Image.open(Path(folder_config.root) / MASK) as stored:
        values = np.array(stored)
    with Image.open(Path(folder_config.root) / IMAGE) as stored:
        pixels = np.array(stored)
    image, ids = open_folder(folder_config, cache_dir).read("train", 1)
    expected = np.select([values == 0, (values == 1) | (values == 2), values == 7], [0, 1, 2], IGNORE_INDEX)
    assert {image.dtype, ids.dtype} == {np.dtype(np.uint8)}
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_masks_with_and_without_a_palette_hold_the_same_ids(
    folder_config: FolderConfig, cache_dir: Path, mode: str
) -> None:
    path = Path(folder_config.root) / MASK
    ids = (np.arange(24 * 36).reshape(24, 36) % 3).astype(np.uint8)
    image = Image.frombytes(mode, (36, 24), ids.tobytes())
    if mode == "P":
        image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    image.save(path)
    _, read = open_folder(folder_config, cache_dir).read("train", 1)
    np.testing.assert_array_equal(read, np.array([0, 1, 1])[ids])


@pytest.mark.parametrize(
    ("spoil", "named", "reason"),
    [
        pytest.param(lambda root: (root / MASK).unlink(), IMAGE, "has no mask in", id="mask missing"),
        pytest.param(lambda root: (root / IMAGE).unlink(), MASK, "has no image in", id="image missing"),
        pytest.param(
            lambda root: shutil.copy(root / IMAGE, (root / IMAGE).with_suffix(".bmp")),
            IMAGE,
            "has the same stem as 001.bmp",
            id="stem twice",
        ),
        pytest.param(
            lambda root: [path.unlink() for path in (root / "val/masks").iterdir()],
            "val/masks",
            "holds no .png",
            id="empty folder",
        ),
        pytest.param(lambda root: shutil.rmtree(root / "val/masks"), "val/masks", "no such folder", id="no folder"),
        pytest.param(
            lambda root: save(np.zeros((24, 35), np.uint8), root / MASK),
            MASK,
            "35 x 24, its image is 36 x 24",
            id="other size",
        ),
        pytest.param(lambda root: cut(root / IMAGE), IMAGE, "cannot be read", id="truncated image"),
        pytest.param(lambda root: cut(root / MASK), MASK, "cannot be read", id="truncated mask"),
        pytest.param(lambda root: (root / IMAGE).write_text("no image"), IMAGE, "cannot be read", id="text as image"),
        pytest.param(lambda root: save(np.zeros((24, 36, 3), np.uint8), root / MASK), MASK, "is RGB", id="RGB mask"),
        pytest.param(
            lambda root: save(np.full((24, 36), 300, np.uint16), root / MASK),
            MASK,
            "mask value 300 belongs to no class (864 pixels); give it one by data.classes",
            id="16-bit mask",
        ),
        pytest.param(lambda root: poke(root / MASK, 9), MASK, "mask value 9 belongs to no class", id="unowned value"),
    ],
)
def test_a_faulty_file_gives_one_error_that_names_it(
    folder_config: FolderConfig, cache_dir: Path, spoil: Callable[[Path], object], named: str, reason: str
) -> None:
    root = Path(folder_config.root)
    spoil(root)
    with pytest.raises(UserError, match=re.escape(reason)) as raised:
        open_folder(folder_config, cache_dir)
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith(str(root / named))


def test_an_image_too_large_to_be_real_is_named(
    folder_config: FolderConfig, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pillow refuses images of over twice this many pixels, with an error of a class of its own.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 36)
    path = Path(folder_config.root) / IMAGE
    save(np.zeros((48, 48, 3), np.uint8), path)
    with pytest.raises(UserError, match=re.escape(str(path))):
        open_folder(folder_config, cache_dir)


def test_many_faults_are_all_named_up_to_ten_and_counted(folder_config: FolderConfig, cache_dir: Path) -> None:
    root = Path(folder_config.root)
    for index in range(5, 12):
        for kind in ("images", "masks"):
            shutil.copy(root / "train" / kind / "001.png", root / "train" / kind / f"{index:03}.png")
    masks = sorted((root / "train/masks").iterdir())
    for path in masks:
        poke(path, 9)
    with pytest.raises(UserError, match=r"\(and 2 more\)$") as raised:
        open_folder(folder_config, cache_dir)
    assert [path for path in masks if str(path) in str(raised.value)] == masks[:10]


def test_a_passed_check_is_remembered(folder_config: FolderConfig, cache_dir: Path, readings: list[Path]) -> None:
    first = open_folder(folder_config, cache_dir)
    assert len(readings) == 10
    second = open_folder(folder_config, cache_dir)
    assert len(readings) == 10
    assert second.fingerprint == first.fingerprint


def test_a_failed_check_is_not_remembered(folder_config: FolderConfig, cache_dir: Path) -> None:
    poke(Path(folder_config.root) / MASK, 9)
    for _ in range(2):
        with pytest.raises(UserError, match="mask value 9"):
            open_folder(folder_config, cache_dir)


def test_a_changed_file_is_checked_again(folder_config: FolderConfig, cache_dir: Path) -> None:
    open_folder(folder_config, cache_dir)
    poke(Path(folder_config.root) / MASK, 9)
    with pytest.raises(UserError, match="mask value 9"):
        open_folder(folder_config, cache_dir)


def test_values_that_the_classes_lose_are_checked_again(folder_config: FolderConfig, cache_dir: Path) -> None:
    open_folder(folder_config, cache_dir)
    with pytest.raises(UserError, match="mask value 2 belongs to no class"):
        open_folder(replace(folder_config, classes={"background": 0, "car": 1, "lane": 7}), cache_dir)


def test_the_fingerprint_does_not_change_with_times_or_places(
    folder_config: FolderConfig, cache_dir: Path, tmp_path: Path, readings: list[Path]
) -> None:
    before = open_folder(folder_config, cache_dir).fingerprint
    os.utime(Path(folder_config.root) / MASK, (1, 1))
    assert open_folder(folder_config, cache_dir).fingerprint == before
    elsewhere = shutil.copytree(folder_config.root, tmp_path / "elsewhere")
    assert open_folder(replace(folder_config, root=str(elsewhere)), cache_dir).fingerprint == before
    assert len(readings) == 10 + 1 + 10


@pytest.mark.parametrize("name", [IMAGE, MASK])
def test_the_fingerprint_changes_with_any_files_content(
    folder_config: FolderConfig, cache_dir: Path, name: str
) -> None:
    path = Path(folder_config.root) / name
    with Image.open(path) as image:
        first_pixel = np.array(image)[0, 0]
    before = open_folder(folder_config, cache_dir).fingerprint
    poke(path, 7 if np.any(first_pixel != 7) else 0)
    assert open_folder(folder_config, cache_dir).fingerprint != before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"classes": {"background": 0, "vehicle": [1, 2], "lane": 7}}, id="name"),
        pytest.param({"classes": {"car": [1, 2], "background": 0, "lane": 7}}, id="order"),
        pytest.param({"classes": {"background": 0, "car": 1, "lane": [2, 7]}}, id="values"),
        pytest.param({"classes": {"background": 0, "car": [1, 2]}, "void": [7, 255]}, id="void"),
    ],
)
def test_the_fingerprint_changes_with_the_classes(
    folder_config: FolderConfig, cache_dir: Path, change: dict[str, object]
) -> None:
    before = open_folder(folder_config, cache_dir).fingerprint
    changed = replace(folder_config, **change)  # type: ignore[arg-type] # fields by name
    assert open_folder(changed, cache_dir).fingerprint != before


def test_the_fingerprint_changes_with_the_splits(folder_config: FolderConfig, cache_dir: Path) -> None:
    before = open_folder(folder_config, cache_dir).fingerprint
    splits = folder_config.splits
    swapped = {"train": splits["train"], "val": splits["test"], "test": splits["val"]}
    assert open_folder(replace(folder_config, splits=swapped), cache_dir).fingerprint != before


@pytest.mark.parametrize(("splits", "expected"), [(("train", "val", "test"), "test"), (("train", "val"), "val")])
def test_results_are_reported_on_test_or_else_on_val(
    folder_config: FolderConfig, cache_dir: Path, splits: tuple[str, ...], expected: str
) -> None:
    config = replace(folder_config, splits={name: folder_config.splits[name] for name in splits})
    assert open_folder(config, cache_dir).eval_split == expected
