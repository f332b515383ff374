"""Tables of the package `datasets`, saved by it: columns, splits, class names, and masks of several kinds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.composed import parsed
from PIL import Image

from segdistill.config.data import DataConfig
from segdistill.data.sources.base import DatasetIndex
from segdistill.data.sources.opening import labels_of, open_source
from segdistill.utils.errors import ConfigError, UserError

COUNTS = {"train": 5, "validation": 3}
NAMES = ["road", "car", "sky"]
CLASSES = "+data.classes={road: 0, car: 1, sky: 2}"

needs_datasets = pytest.mark.skipif(find_spec("datasets") is None, reason="needs datasets: pip install datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what `datasets` prepares out of the home folder."""
    if find_spec("datasets") is not None:
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


def image(split: str, index: int) -> Image.Image:
    rng = np.random.default_rng([*split.encode(), index])
    return Image.fromarray(rng.integers(0, 256, (21, 30 + index, 3), np.uint8))


def mask(split: str, index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rng = np.random.default_rng([index, *split.encode()])
    ids = rng.integers(0, 3, (21, 30 + index)).astype(np.uint8)
    ids[0, 0] = 255
    return ids


def saved(folder: Path, kind: str = "image", **changes: Sequence[Any]) -> Path:
    """Save both splits; the masks are images, nested lists of whole numbers, or nested lists of ClassLabels."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
    from datasets import Image as Stored

    inner = {"numbers": Value("int32"), "labels": ClassLabel(names=NAMES)}
    feature = Stored() if kind == "image" else List(List(inner[kind]))
    features = Features({"photo": Stored(), "id": Value("string"), "kind": ClassLabel(names=NAMES), "truth": feature})
    splits = {}
    for split, count in COUNTS.items():
        masks = [mask(split, index) for index in range(count)]
        masks = [np.where(ids == 255, 0, ids) for ids in masks] if kind == "labels" else masks
        rows: dict[str, Sequence[Any]] = {
            "photo": [image(split, index) for index in range(count)],
            "id": [f"{index}" for index in range(count)],
            "kind": [0] * count,
            "truth": [Image.fromarray(ids) if kind == "image" else ids.tolist() for ids in masks],
        }
        splits[split] = Dataset.from_dict({**rows, **(changes if split == "train" else {})}, features=features)
    DatasetDict(splits).save_to_disk(folder)
    return folder


def configured(folder: Path | str, *overrides: str) -> DataConfig:
    columns = ["data.image_column=photo", "data.mask_column=truth", "data.input_size=[32,32]"]
    crops = [f"{part}.fit.crop=[32,32]" for part in ("teacher", "student")]
    return parsed("data=huggingface", f"data.name={folder}", *columns, *crops, *overrides).data


def check(index: DatasetIndex, void: int = 255) -> None:
    for split, theirs in (("train", "train"), ("val", "validation")):
        assert len(index.splits[split]) == COUNTS[theirs]
        for place in range(COUNTS[theirs]):
            pixels, ids = index.read(split, place)
            expected = mask(theirs, place)
            np.testing.assert_array_equal(pixels, np.array(image(theirs, place)))
            np.testing.assert_array_equal(ids, np.where(expected == 255, void, expected))


@needs_datasets
@pytest.mark.parametrize("kind", ["image", "numbers"])
def test_rows_become_images_and_masks(kind: str, tmp_path: Path, cache_dir: Path) -> None:
    index = open_source(configured(saved(tmp_path / "town", kind), CLASSES), cache_dir)
    check(index)
    assert index.name == "town"
    assert index.labels.names == tuple(NAMES)


@needs_datasets
def test_class_labels_name_the_classes(tmp_path: Path, cache_dir: Path) -> None:
    data = configured(saved(tmp_path / "town", "labels"), "data.void=[]")
    assert labels_of(data).names == tuple(NAMES)
    check(open_source(data, cache_dir), void=0)
    void_first = configured(tmp_path / "town", "data.void=[0]")
    assert labels_of(void_first).names == ("car", "sky")
    assert open_source(void_first, cache_dir).read("val", 0)[1][0, 0] == 255


@needs_datasets
def test_another_column_may_name_the_classes(tmp_path: Path, cache_dir: Path) -> None:
    data = configured(saved(tmp_path / "town"), "data.class_column=kind", "+data.palette.car=[1,2,3]")
    labels = labels_of(data)
    assert labels.names == tuple(NAMES)
    assert labels.palette[1] == (1, 2, 3)
    check(open_source(data, cache_dir))


@needs_datasets
def test_rows_are_unpacked_once(tmp_path: Path, cache_dir: Path) -> None:
    data = configured(saved(tmp_path / "town"), CLASSES)
    first = open_source(data, cache_dir)
    written = {path: path.stat().st_mtime_ns for path in cache_dir.rglob("*.png")}
    assert len(written) == 2 * sum(COUNTS.values())
    again = open_source(data, cache_dir)
    assert again.fingerprint == first.fingerprint
    assert {path: path.stat().st_mtime_ns for path in cache_dir.rglob("*.png")} == written
    photos = [image("other", index) for index in range(5)]
    changed = open_source(configured(saved(tmp_path / "other", photo=photos), CLASSES), cache_dir)
    assert changed.fingerprint != first.fingerprint


@needs_datasets
def test_files_of_a_folder_stay_where_they_are(tmp_path: Path, cache_dir: Path) -> None:
    for theirs, count in COUNTS.items():
        folder = tmp_path / "town" / theirs
        (folder / "masks").mkdir(parents=True)
        for row in range(count):
            image(theirs, row).save(folder / f"{row}.png")
            Image.fromarray(mask(theirs, row)).save(folder / "masks" / f"{row}.png")
        rows = [f"{row}.png,masks/{row}.png" for row in range(count)]
        (folder / "metadata.csv").write_text("\n".join(["file_name,truth_file_name", *rows]))
    data = configured(tmp_path / "town", CLASSES, "data.image_column=image")
    index = open_source(data, cache_dir)
    check(index)
    assert index.splits["train"][2].image == tmp_path / "town" / "train" / "2.png"
    assert not list(cache_dir.rglob("*.png"))


@needs_datasets
def test_splits_may_be_slices(tmp_path: Path, cache_dir: Path) -> None:
    from datasets import load_from_disk

    (tmp_path / "parquet").mkdir()
    for split in COUNTS:
        load_from_disk(saved(tmp_path / "town"))[split].to_parquet(tmp_path / "parquet" / f"{split}.parquet")
    slices = ["data.splits.train='train[:60%]'", "data.splits.val='train[60%:]'", "+data.splits.test=validation"]
    index = open_source(configured(tmp_path / "parquet", CLASSES, *slices), cache_dir)
    assert {split: len(samples) for split, samples in index.splits.items()} == {"train": 3, "val": 2, "test": 3}
    np.testing.assert_array_equal(index.read("val", 1)[1], mask("train", 4))


@needs_datasets
def test_rows_without_a_mask_are_unlabelled_images_of_train(tmp_path: Path, cache_dir: Path) -> None:
    masks = [Image.fromarray(mask("train", index)) if index else None for index in range(5)]
    index = open_source(configured(saved(tmp_path / "town", truth=masks), CLASSES), cache_dir)
    assert index.unlabelled == 1
    swapped = ["data.splits.train=validation", "data.splits.val=train"]
    with pytest.raises(ConfigError, match=r"data\.splits\.val=train: has rows without a mask"):
        open_source(configured(tmp_path / "town", CLASSES, *swapped), cache_dir)


@needs_datasets
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.image_column=image"],
            r"data\.image_column=image: no such column in .*; there are photo, id, kind, truth",
        ),
        (["data.mask_column=mask"], r"data\.mask_column=mask: no such column"),
        (["data.image_column=id"], r"data\.image_column=id: must be a column of images, as opposed to Value"),
        (["data.mask_column=id"], r"row 0 of train: id must be an image, or rows of whole numbers"),
        (["data.splits.val=test"], r"data\.splits\.val=test: no such split; there are train, validation"),
        (["~data.classes"], r"data\.classes=\{\}: must name the classes: the set has no ClassLabel in truth"),
        (["data.class_column=id", "~data.classes"], r"must name the classes: the set has no ClassLabel in id"),
        (["data.class_column=no", "~data.classes"], r"data\.class_column=no: no such column"),
    ],
)
def test_what_a_set_does_not_have_is_told(overrides: list[str], message: str, tmp_path: Path, cache_dir: Path) -> None:
    named = [] if "~data.classes" in overrides else [CLASSES]
    given = [override for override in overrides if override != "~data.classes"]
    data = configured(saved(tmp_path / "town"), *named, *given)
    with pytest.raises(UserError, match=message) as raised:
        open_source(data, cache_dir)
    assert "\n" not in str(raised.value)


@needs_datasets
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"photo": [None] + [image("train", index) for index in range(1, 5)]}, r"row 0 of train: has no photo"),
        ({"truth": [[[0, 1], [2]]] * 5}, r"row 0 of train: truth must be an image, or rows of whole numbers"),
        ({"truth": [[[0, -1]]] * 5}, r"row 0 of train: truth holds values from -1 to 0"),
        ({"photo": [{"bytes": b"no image", "path": None}] * 5}, r"row 0 of train: photo cannot be read as an image"),
    ],
)
def test_a_faulty_row_is_named(changes: dict[str, Any], message: str, tmp_path: Path, cache_dir: Path) -> None:
    data = configured(saved(tmp_path / "town", "numbers", **changes), CLASSES)
    with pytest.raises(UserError, match=message):
        open_source(data, cache_dir)


@needs_datasets
def test_what_cannot_be_loaded_is_one_line(tmp_path: Path, cache_dir: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"data\.name=.*none: cannot be loaded \(.*\); must be a folder or the id"
    ) as e:
        open_source(configured(tmp_path / "none", CLASSES), cache_dir)
    assert "\n" not in str(e.value)


def test_the_package_that_is_needed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"^data\.name=town: needs a package: pip install datasets$"):
        configured("town", CLASSES)
