"""What splits hold together: leaks from one into another, classes that do not occur, splits without a label."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdistill.config.data import FolderConfig, SplitFolders
from segdistill.data.sources.folder import open_folder
from segdistill.utils.errors import UserError
from segdistill.utils.preprocessing import Preprocessing

ORIENTATION = 0x0112


def image(config: FolderConfig, split: str, index: int) -> Path:
    return Path(config.root) / split / "images" / f"{index:03}.png"


def copy_image(config: FolderConfig, source: tuple[str, int], target: tuple[str, int]) -> tuple[Path, Path]:
    """Gives one image's pixels to another; returns both files."""
    paths = image(config, *source), image(config, *target)
    shutil.copy(*paths)
    return paths


def fill_masks(config: FolderConfig, split: str, value: int) -> None:
    for path in (Path(config.root) / split / "masks").iterdir():
        Image.fromarray(np.full((24, 36), value, np.uint8)).save(path)


def test_an_image_in_two_splits_is_refused_with_both_files_and_the_key(
    folder_config: FolderConfig, cache_dir: Path
) -> None:
    first, second = copy_image(folder_config, ("train", 1), ("val", 2))
    copy_image(folder_config, ("train", 1), ("test", 0))
    copy_image(folder_config, ("val", 0), ("test", 1))
    with pytest.raises(UserError) as raised:
        open_folder(folder_config, cache_dir)
    message = str(raised.value)
    assert message.startswith(f"{second}: val holds the same image as train, {first} (and 2 more like it)")
    assert message.endswith("data.allow_duplicates=true")


def test_an_image_saved_again_without_loss_is_the_same_image(folder_config: FolderConfig, cache_dir: Path) -> None:
    stored, again = image(folder_config, "train", 0), image(folder_config, "val", 0).with_suffix(".bmp")
    turned, exif = image(folder_config, "train", 2), Image.Exif()
    again.with_suffix(".png").unlink()
    with Image.open(stored) as opened:
        opened.save(again)
    exif[ORIENTATION] = 3
    with Image.open(turned) as opened:
        opened.transpose(Image.Transpose.ROTATE_180).save(image(folder_config, "test", 0), exif=exif)
    with pytest.raises(UserError, match=r"\(and 1 more like it\)"):
        open_folder(folder_config, cache_dir)


def test_equal_bytes_of_another_shape_are_another_image(folder_config: FolderConfig, cache_dir: Path) -> None:
    for split, shape in (("train", (24, 36)), ("val", (36, 24))):
        Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(image(folder_config, split, 0))
        Image.fromarray(np.zeros(shape, np.uint8)).save(Path(folder_config.root) / split / "masks" / "000.png")
    open_folder(folder_config, cache_dir)


def test_allowed_duplicates_are_a_warning(
    folder_config: FolderConfig, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = copy_image(folder_config, ("train", 1), ("val", 2))
    open_folder(replace(folder_config, allow_duplicates=True), cache_dir)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{second}: val holds the same image as train, {first}" in caplog.text


def test_duplicates_within_a_split_are_counted_in_a_warning(
    folder_config: FolderConfig, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in (1, 2):
        copy_image(folder_config, ("train", 0), ("train", index))
    open_folder(folder_config, cache_dir)
    assert caplog.messages == ["data.splits.train: 2 of 5 images repeat another one of this split"]


def test_one_folder_as_two_splits_is_a_leak(folder_config: FolderConfig, cache_dir: Path) -> None:
    splits = folder_config.splits
    leaking = replace(folder_config, splits={**splits, "val": splits["train"]})
    with pytest.raises(UserError, match=r"val holds the same image as train.*\(and 4 more like it\)"):
        open_folder(leaking, cache_dir)
    assert len(open_folder(replace(leaking, allow_duplicates=True), cache_dir).splits["val"]) == 5


def test_overfitting_reuses_images_without_a_complaint(
    folder_config: FolderConfig, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = open_folder(folder_config, cache_dir).overfitting()
    np.testing.assert_array_equal(source.read("val", 0)[0], source.read("train", 0)[0])
    assert not caplog.messages


def test_classes_that_do_not_occur_are_named_by_split(
    folder_config: FolderConfig, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("val", "test"):
        fill_masks(folder_config, split, 1)
    open_folder(replace(folder_config, classes={**folder_config.classes, "tram": 9}), cache_dir)
    assert caplog.messages == [
        "data.splits.train: 1 of 4 classes occur in no mask: tram",
        "data.splits.val: 3 of 4 classes occur in no mask: background, lane, tram",
        "data.splits.test: 3 of 4 classes occur in no mask: background, lane, tram",
    ]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_whose_masks_are_all_void_is_refused(folder_config: FolderConfig, cache_dir: Path, split: str) -> None:
    fill_masks(folder_config, split, 255)
    with pytest.raises(UserError, match=rf"^data\.splits\.{split}: every pixel of every mask is void; see data\.void$"):
        open_folder(folder_config, cache_dir)


def test_faults_of_files_and_of_splits_are_reported_together(folder_config: FolderConfig, cache_dir: Path) -> None:
    image(folder_config, "train", 0).write_text("no image")
    _, leaked = copy_image(folder_config, ("train", 1), ("val", 2))
    fill_masks(folder_config, "test", 255)
    with pytest.raises(UserError) as raised:
        open_folder(folder_config, cache_dir)
    faults = str(raised.value).split("; ")
    assert [fault.partition(":")[0] for fault in faults if ": " in fault] == [
        str(image(folder_config, "train", 0)),
        str(leaked),
        "data.splits.test",
    ]


def test_a_split_is_not_called_void_while_a_file_of_it_cannot_be_read(
    folder_config: FolderConfig, cache_dir: Path
) -> None:
    fill_masks(folder_config, "test", 255)
    image(folder_config, "test", 0).write_text("no image")
    with pytest.raises(UserError) as raised:
        open_folder(folder_config, cache_dir)
    assert "void" not in str(raised.value)


def test_a_remembered_check_still_refuses_and_warns(
    folder_config: FolderConfig, cache_dir: Path, caplog: pytest.LogCaptureFixture, readings: list[Path]
) -> None:
    copy_image(folder_config, ("train", 1), ("val", 2))
    copy_image(folder_config, ("train", 0), ("train", 3))
    allowing = replace(folder_config, allow_duplicates=True)
    for _ in range(2):
        caplog.clear()
        open_folder(allowing, cache_dir)
        assert len(caplog.messages) == 2
        with pytest.raises(UserError, match="val holds the same image as train"):
            open_folder(folder_config, cache_dir)
    assert len(readings) == 10


def test_a_remembered_check_judges_the_splits_of_today(folder_config: FolderConfig, cache_dir: Path) -> None:
    root = Path(folder_config.root)
    fill_masks(folder_config, "test", 255)
    whole = {"train": folder_config.splits["train"], "val": folder_config.splits["test"]}
    with pytest.raises(UserError, match=r"^data\.splits\.val: every pixel"):
        open_folder(replace(folder_config, splits=whole), cache_dir)
    renamed = {"val": SplitFolders("train/images", "train/masks"), "train": SplitFolders("test/images", "test/masks")}
    with pytest.raises(UserError, match=r"^data\.splits\.train: every pixel"):
        open_folder(replace(folder_config, root=str(root), splits=renamed), cache_dir)


@pytest.mark.parametrize(("turned_mask", "orientation"), [(False, 6), (True, 6), (False, 3), (True, 8)])
def test_an_image_and_its_mask_are_read_upright(
    folder_config: FolderConfig, cache_dir: Path, turned_mask: bool, orientation: int
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    turns = {3: 2, 6: 3, 8: 1}[orientation]  # quarters, against the clock
    path, mask = image(folder_config, "train", 0), Path(folder_config.root) / "train" / "masks" / "000.png"
    with Image.open(path) as opened, Image.open(mask) as opened_mask:
        pixels, ids = np.array(opened), np.array(opened_mask)
    Image.fromarray(pixels).save(path, exif=exif)
    if turned_mask:
        Image.fromarray(ids).save(mask, exif=exif)
    else:
        Image.fromarray(np.rot90(ids, turns)).save(mask)
    read, labels = open_folder(folder_config, cache_dir).read("train", 0)
    np.testing.assert_array_equal(read, np.rot90(pixels, turns))
    np.testing.assert_array_equal(labels == 2, np.rot90(ids == 7, turns))


@pytest.mark.parametrize(("orientation", "turned_mask"), [(6, False), (8, False), (5, True)])
def test_a_mask_drawn_over_the_stored_pixels_is_read_with_these(
    folder_config: FolderConfig, cache_dir: Path, orientation: int, turned_mask: bool
) -> None:
    exif, mask_exif = Image.Exif(), Image.Exif()
    exif[ORIENTATION] = orientation
    mask_exif[ORIENTATION] = 6
    path, mask = image(folder_config, "train", 0), Path(folder_config.root) / "train" / "masks" / "000.png"
    with Image.open(path) as opened, Image.open(mask) as opened_mask:
        pixels, ids = np.array(opened), np.array(opened_mask)
    Image.fromarray(pixels).save(path, exif=exif)
    if turned_mask:  # stored a quarter turn against the clock, which its own orientation mends
        Image.fromarray(np.rot90(ids)).save(mask, exif=mask_exif)
    read, labels = open_folder(folder_config, cache_dir).read("train", 0)
    np.testing.assert_array_equal(read, pixels)
    np.testing.assert_array_equal(labels == 2, ids == 7)


def test_an_image_and_a_mask_turned_against_each_other_are_named_with_the_reason(
    folder_config: FolderConfig, cache_dir: Path
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    mask = Path(folder_config.root) / "train" / "masks" / "000.png"
    with Image.open(mask) as opened:
        opened.copy().save(mask, exif=exif)
    with pytest.raises(
        UserError, match=r"24 x 36, its image is 36 x 24; turn it upright, .*: EXIF orientation is applied to both$"
    ):
        open_folder(folder_config, cache_dir)


def test_the_fingerprint_follows_what_is_decoded_and_not_the_format(
    folder_config: FolderConfig, cache_dir: Path
) -> None:
    path, exif = image(folder_config, "train", 0), Image.Exif()
    before = open_folder(folder_config, cache_dir).fingerprint
    with Image.open(path) as opened:
        pixels = np.array(opened)
    Image.fromarray(pixels).save(path, compress_level=1)
    assert open_folder(folder_config, cache_dir).fingerprint == before
    exif[ORIENTATION] = 3
    Image.fromarray(pixels).save(path, exif=exif)
    assert open_folder(folder_config, cache_dir).fingerprint != before


def test_the_fingerprint_of_a_split_is_that_of_its_own_images_as_networks_see_them(
    folder_config: FolderConfig, cache_dir: Path
) -> None:
    seen = Preprocessing((24, 36))
    source = open_folder(folder_config, cache_dir)
    before = source.split_fingerprint("test", seen)
    assert before is not None
    assert source.without_labels(2).split_fingerprint("test", seen) == before
    copy_image(folder_config, ("train", 1), ("train", 0))
    assert open_folder(folder_config, cache_dir).split_fingerprint("test", seen) == before
    voided = replace(folder_config, void=[255, 7], classes={"background": 0, "car": [1, 2]})
    others = [
        source.limited(1).split_fingerprint("test", seen),
        source.split_fingerprint("val", seen),
        *(source.split_fingerprint("test", replace(seen, **change)) for change in ({"gamma": 0.5}, {"cut_bottom": 4})),
        open_folder(voided, cache_dir).split_fingerprint("test", seen),
    ]
    fill_masks(folder_config, "test", 0)
    others.append(open_folder(folder_config, cache_dir).split_fingerprint("test", seen))
    assert len({before, *others}) == 7
    assert replace(source, measures={}).split_fingerprint("test", seen) is None
