"""Any user's folders by configuration alone: nested ones, names with patterns, lists, splits that are drawn."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.composed import parsed
from PIL import Image

from segdistill.config.data import FolderConfig, SplitFolders
from segdistill.config.random_split import RandomSplit
from segdistill.data.sources.base import Sample
from segdistill.data.sources.folder import open_folder
from segdistill.data.sources.layout import NamePattern
from segdistill.data.sources.random_split import draw_splits
from segdistill.utils.errors import ConfigError, UserError

SHAPE = (6, 9)


def write(root: Path, images: Sequence[str], masks: Sequence[str]) -> None:
    """Write images of noise, no two of them the same, and masks of 0 and 1; names tell the formats."""
    for name in images:
        rng = np.random.default_rng([*name.encode()])
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*SHAPE, 3), np.uint8)).save(root / name)
    for name in masks:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.arange(54).reshape(SHAPE) % 2).astype(np.uint8)).save(root / name)


def folder(root: Path, splits: Mapping[str, SplitFolders], **options: Any) -> FolderConfig:
    classes = {"road": 0, "car": 1}
    return FolderConfig([16, 16], root=str(root), splits=dict(splits), classes=classes, void=[255], **options)


def pairs(config: FolderConfig, split: str, cache_dir: Path) -> list[tuple[str, str]]:
    samples = open_folder(config, cache_dir).splits[split]
    return [
        (s.image.relative_to(config.root).as_posix(), s.mask.relative_to(config.root).as_posix())
        for s in samples
        if s.mask is not None
    ]


def split_folders(split: str) -> SplitFolders:
    return SplitFolders(f"images/{split}", f"masks/{split}")


@pytest.mark.parametrize(
    ("pattern", "name", "key"),
    [
        ("{stem}", "001.PNG", ("", "001")),
        ("{stem}", "001.gif", None),
        ("{stem}", "town/west/001.a.png", ("town/west", "001.a")),
        ("{stem}_leftImg8bit", "aachen/aachen_0_1_leftImg8bit.png", ("aachen", "aachen_0_1")),
        ("{stem}_leftImg8bit", "aachen/aachen_0_1.png", None),
        ("{stem}.png", "a.png", ("", "a")),
        ("{stem}.png", "a.jpg", None),
        ("v1.{stem}", "v1.a.png", ("", "a")),
        ("v1.{stem}", "v1xa.png", None),
        ("{folder}/images/{stem}", "drive/1/images/a.png", ("drive/1", "a")),
        ("{folder}/images/{stem}", "images/a.png", ("", "a")),
        ("{folder}/images/{stem}", "drive/masks/a.png", None),
        ("images/{stem}", "images/a.png", ("", "a")),
        ("images/{stem}", "drive/images/a.png", None),
        ("{folder}_rgb/{stem}", "drive_rgb/a.png", ("drive", "a")),
    ],
)
def test_a_pattern_tells_what_image_and_mask_have_in_common(
    pattern: str, name: str, key: tuple[str, str] | None
) -> None:
    tried = NamePattern(pattern, (".png", ".jpg"), "data.image_name")
    assert tried.match(name) == key
    if key is not None:
        assert tried.name(key, ".PNG" if "PNG" in name else ".png") == name


def test_nested_folders_are_paired_by_folder_and_pattern(tmp_path: Path, cache_dir: Path) -> None:
    frames = ["aachen/aachen_1", "bonn/bonn_1", "bonn/bonn_0"]
    for split, names in {"train": frames, "val": ["ulm/ulm_0"]}.items():
        write(
            tmp_path,
            [f"leftImg8bit/{split}/{name}_leftImg8bit.png" for name in names],
            [f"gtFine/{split}/{name}_gtFine_labelIds.png" for name in names],
        )
        write(tmp_path, [f"gtFine/{split}/{name}_gtFine_color.png" for name in names], [])
    (tmp_path / "leftImg8bit/train/bonn/._bonn_0_leftImg8bit.png").write_text("what macOS leaves")
    splits = {split: SplitFolders(f"leftImg8bit/{split}", f"gtFine/{split}") for split in ("train", "val")}
    patterns = {"image_name": "{stem}_leftImg8bit", "mask_name": "{stem}_gtFine_labelIds"}
    config = folder(tmp_path, splits, recursive=True, **patterns)
    assert pairs(config, "train", cache_dir) == [
        (f"leftImg8bit/train/{name}_leftImg8bit.png", f"gtFine/train/{name}_gtFine_labelIds.png")
        for name in sorted(frames)
    ]
    (tmp_path / "gtFine/train/bonn/bonn_1_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"bonn_1_leftImg8bit.png has no mask .* bonn/bonn_1_gtFine_labelIds\.png$"):
        open_folder(config, cache_dir)
    with pytest.raises(UserError, match=r"holds no .*; it holds folders, which data.recursive=true searches"):
        open_folder(replace(config, recursive=False), cache_dir)
    with pytest.raises(UserError, match=r'that data.image_name="\{stem\}_left" matches, as opposed to aachen/'):
        open_folder(replace(config, image_name="{stem}_left"), cache_dir)


def test_images_and_masks_may_lie_in_one_folder(tmp_path: Path, cache_dir: Path) -> None:
    for split, stems in {"train": ("a", "b"), "val": ("c",)}.items():
        write(tmp_path, [f"{split}/{stem}.png" for stem in stems], [f"{split}/{stem}_mask.png" for stem in stems])
    config = folder(
        tmp_path, {split: SplitFolders(split, split) for split in ("train", "val")}, mask_name="{stem}_mask"
    )
    assert pairs(config, "train", cache_dir) == [
        ("train/a.png", "train/a_mask.png"),
        ("train/b.png", "train/b_mask.png"),
    ]
    with pytest.raises(UserError, match=r"train: holds the images and the masks; data\.image_name and"):
        open_folder(replace(config, mask_name="{stem}"), cache_dir)


def test_a_suffix_tells_images_from_masks(tmp_path: Path, cache_dir: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path, [f"{split}/{split}.jpg"], [f"{split}/{split}.png"])
    splits = {split: SplitFolders(split, split) for split in ("train", "val")}
    config = folder(tmp_path, splits, image_name="{stem}.jpg", mask_name="{stem}.png")
    assert pairs(config, "val", cache_dir) == [("val/val.jpg", "val/val.png")]


def test_each_drive_may_have_folders_of_its_own(tmp_path: Path, cache_dir: Path) -> None:
    names = [("drive1", "a"), ("drive1", "b"), ("drive2", "a")]
    for split, shift in (("train", "x"), ("val", "y")):
        write(
            tmp_path,
            [f"{split}/{drive}/rgb/{shift}{stem}.jpg" for drive, stem in names],
            [f"{split}/{drive}/labels/{shift}{stem}.png" for drive, stem in names],
        )
    splits = {split: SplitFolders(split, split) for split in ("train", "val")}
    patterns = {"image_name": "{folder}/rgb/{stem}", "mask_name": "{folder}/labels/{stem}"}
    found = pairs(folder(tmp_path, splits, recursive=True, **patterns), "train", cache_dir)
    assert found == [(f"train/{d}/rgb/x{s}.jpg", f"train/{d}/labels/x{s}.png") for d, s in names]


def test_masks_may_lie_inside_the_images_folder(tmp_path: Path, cache_dir: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path, [f"{split}/{split}.png"], [f"{split}/masks/{split}.png"])
    splits = {split: SplitFolders(split, f"{split}/masks") for split in ("train", "val")}
    assert pairs(folder(tmp_path, splits), "train", cache_dir) == [("train/train.png", "train/masks/train.png")]
    for split in ("train", "val"):
        write(tmp_path, [f"turned/{split}/images/a{split}.png"], [f"turned/{split}/a{split}.png"])
    turned = {split: SplitFolders(f"turned/{split}/images", f"turned/{split}") for split in ("train", "val")}
    found = pairs(folder(tmp_path, turned, recursive=True), "train", cache_dir)
    assert found == [("turned/train/images/atrain.png", "turned/train/atrain.png")]


def voc(root: Path, **options: Any) -> FolderConfig:
    """One folder of images, one of masks, lists of stems; images are named by their split as well."""
    stems = ["2007_01", "2007_02", "2007 03", "2008_04"]
    write(root, [f"JPEGImages/{stem}.jpg" for stem in [*stems, "unlisted"]], [f"Seg/{stem}.png" for stem in stems])
    (root / "train.txt").write_text("\ufeff# three of them\n2008_04\r\n\n2007 03  \n  2007_01\n", "utf-8")
    (root / "val.txt").write_text("JPEGImages/2007_02.jpg Seg/2007_02.png")
    splits = {split: SplitFolders("JPEGImages", "Seg", f"{split}.txt") for split in ("train", "val")}
    return folder(root, splits, **options)


def test_a_list_names_the_images_of_a_split_in_its_order(tmp_path: Path, cache_dir: Path) -> None:
    config = voc(tmp_path)
    assert pairs(config, "train", cache_dir) == [
        (f"JPEGImages/{stem}.jpg", f"Seg/{stem}.png") for stem in ("2008_04", "2007 03", "2007_01")
    ]
    assert pairs(config, "val", cache_dir) == [("JPEGImages/2007_02.jpg", "Seg/2007_02.png")]


@pytest.mark.parametrize(
    ("entry", "image"),
    [
        ("2007_02.jpg", "2007_02"),
        ("./2007_02", "2007_02"),
        ("2007_02 1 1 2", "2007_02"),  # as in Oxford-IIIT Pet
        ("JPEGImages/2007_02", "2007_02"),
        ("VOC2012/JPEGImages/2007_02.jpg", "2007_02"),
        ("2007_02 Seg/2007_01.png", "2007_02"),
    ],
)
def test_an_entry_may_be_a_path_and_may_have_more_words(
    entry: str, image: str, tmp_path: Path, cache_dir: Path
) -> None:
    root = tmp_path / "VOC2012"
    config = voc(root)
    (root / "val.txt").write_text(entry)
    mask = "2007_01" if "2007_01" in entry else image
    assert pairs(config, "val", cache_dir) == [(f"JPEGImages/{image}.jpg", f"Seg/{mask}.png")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("2007_02\n\n2009_05\n", "val.txt line 3: 2009_05 is no image in {root}/JPEGImages"),
        ("other/JPEGImages/2007_02.jpg", "val.txt line 1: other/JPEGImages/2007_02.jpg is no image in"),
        ("unlisted", "val.txt line 1: {root}/JPEGImages/unlisted.jpg has no mask in {root}/Seg; expected unlisted.png"),
        ("2007_02 Seg/no.png", "2007_02.jpg has no mask in {root}/Seg; expected Seg/no.png"),
        ("# nothing\n", "val.txt: names no image; it needs one a line"),
        (None, "val.txt: cannot be read as a list of images (no such file)"),
        (b"\xff\xfe\x00", "val.txt: cannot be read as a list of images ("),
    ],
)
def test_a_list_that_names_what_is_not_there_is_told_with_its_line(
    content: str | bytes | None, message: str, tmp_path: Path, cache_dir: Path
) -> None:
    config = voc(tmp_path)
    (tmp_path / "val.txt").unlink()
    if content is not None:
        (tmp_path / "val.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as raised:
        open_folder(config, cache_dir)
    assert message.format(root=tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_name_that_stands_for_two_files_is_told(tmp_path: Path, cache_dir: Path) -> None:
    config = voc(tmp_path)
    write(tmp_path, ["JPEGImages/2007_02.png"], [])
    (tmp_path / "val.txt").write_text("2007_02")
    with pytest.raises(UserError, match=r"line 1: 2007_02 may be 2007_02\.jpg or 2007_02\.png in"):
        open_folder(config, cache_dir)


def one_folder(root: Path, split: RandomSplit, names: Sequence[str]) -> FolderConfig:
    write(root, [f"images/{name}.png" for name in names], [f"masks/{name}.png" for name in names])
    return folder(root, {"train": SplitFolders("images", "masks")}, random_split=split, recursive=True)


def test_a_drawn_split_has_its_share_and_leaves_the_rest(tmp_path: Path, cache_dir: Path) -> None:
    names = [f"{index:02}" for index in range(20)]
    config = one_folder(tmp_path, RandomSplit(val=0.1, test=0.25), names)
    index = open_folder(config, cache_dir)
    assert {split: len(samples) for split, samples in index.splits.items()} == {"train": 13, "val": 2, "test": 5}
    found = [sample.image.stem for samples in index.splits.values() for sample in samples]
    assert sorted(found) == names
    assert [s.image.stem for s in index.splits["train"]] == sorted(s.image.stem for s in index.splits["train"])
    others = open_folder(replace(config, random_split=RandomSplit(val=0.1, test=0.25, seed=1)), cache_dir).splits
    assert {s.image for s in others["test"]} != {s.image for s in index.splits["test"]}


def draw(names: Sequence[str], **options: Any) -> dict[str, set[str]]:
    samples = {name: Sample(Path(name), None) for name in names}
    drawn = draw_splits(samples, RandomSplit(**options))
    return {split: {str(sample.image) for sample in part} for split, part in drawn.items()}


def test_a_drawn_split_does_not_depend_on_the_order_of_the_files() -> None:
    names = [f"{index:03}" for index in range(100)]
    shuffled = random.Random(0).sample(names, len(names))
    assert draw(names, val=0.2, test=0.1) == draw(shuffled, val=0.2, test=0.1)
    expected = draw(names, val=0.2)["val"]
    assert len(expected - draw([*names, "100"], val=0.2)["val"]) <= 1


@pytest.mark.parametrize("group_by", ["folder", r"^drive\d+", r"(drive)(\d+)"])
def test_images_of_a_group_stay_together(group_by: str) -> None:
    names = [f"drive{drive}/{frame:03}" for drive in range(12) for frame in range(drive + 1)]
    drawn = draw(names, val=0.2, test=0.2, group_by=group_by)
    groups = {split: {name.partition("/")[0] for name in part} for split, part in drawn.items()}
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 12
    assert set().union(*drawn.values()) == set(names)
    assert all(8 <= len(drawn[split]) <= 24 for split in ("val", "test"))  # 15.6 of 78


def test_few_groups_leave_one_for_every_split() -> None:
    names = [f"{drive}/{frame}" for drive in "abc" for frame in range(50)]
    drawn = draw(names, val=0.01, test=0.9, group_by="folder")
    assert all(len(part) == 50 for part in drawn.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 0.1, "group_by": "folder"}, "group_by=folder: makes 1 groups of 3 images, too few for train, val"),
        ({"val": 0.1, "group_by": "drive"}, "group_by=drive: finds nothing in a, which needs a group, too"),
    ],
)
def test_groups_that_cannot_be_divided_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.random_split\.{message}"):
        draw(["a", "b", "c"], **options)


COMPOSED = ["data=folder", "data.root=.", "data.input_size=[360,640]", "+data.classes={road: 0, car: 1}"]


def test_layouts_are_set_on_the_command_line() -> None:
    nested = ["data.recursive=true", 'data.image_name="{stem}_leftImg8bit"', 'data.mask_name="{folder}/gt/{stem}"']
    drawn = ["~data.splits.val", "data.random_split={val: 0.1, group_by: folder}", "data.splits.train.list=a.txt"]
    data = parsed(*COMPOSED, *nested, *drawn).data
    assert isinstance(data, FolderConfig)
    assert (data.image_name, data.mask_name) == ("{stem}_leftImg8bit", "{folder}/gt/{stem}")
    assert data.random_split == RandomSplit(val=0.1, group_by="folder")
    assert data.splits == {"train": SplitFolders("train/images", "train/masks", "a.txt")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.random_split.val=0.1", r"data\.random_split\.val=0.1: .*take it out by ~data\.splits\.val"),
        ("data.random_split.val=1", r"data\.random_split\.val=1.0: must be a share"),
        ("data.random_split={val: 0.5, test: 0.5}", r"data\.random_split\.val=0.5: must leave images"),
        ("data.random_split.group_by='('", r"data\.random_split\.group_by=\(: must be \"folder\" or a regular"),
        ("~data.splits.val", r"data\.splits=\['train'\]: must name train and val, unless"),
        ("~data.splits.train", r"data\.splits=\['val'\]: must name train"),
        ("data.image_name=image", r"data\.image_name=image: must contain \{stem\} once"),
        ('data.mask_name="{stem}_{id}"', r"data\.mask_name=.*must contain \{stem\} once"),
        ('data.mask_name="{folder}/{stem}"', r"data\.mask_name=.*needs data\.recursive=true"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parsed(*COMPOSED, change)


def test_every_split_but_val_may_be_given_beside_a_drawn_one(tmp_path: Path, cache_dir: Path) -> None:
    for split, stems in {"train": "abcdefghij", "test": "xy"}.items():
        write(tmp_path, [f"images/{split}/{s}.png" for s in stems], [f"masks/{split}/{s}.png" for s in stems])
    splits = {split: split_folders(split) for split in ("train", "test")}
    found = open_folder(folder(tmp_path, splits, random_split=RandomSplit(val=0.2)), cache_dir).splits
    assert {split: len(samples) for split, samples in found.items()} == {"train": 8, "val": 2, "test": 2}
