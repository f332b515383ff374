"""Public data sets by configuration alone, on miniatures in their published form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import miniatures
from helpers.composed import parsed
from helpers.miniatures import Truth
from helpers.settings import fit_config
from torchvision.datasets import Cityscapes
from torchvision.models.segmentation import FCN_ResNet50_Weights

from segdistill.config.data import FolderConfig
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.sources.base import DatasetIndex
from segdistill.data.sources.opening import labels_of, open_source
from segdistill.utils.errors import ConfigError
from segdistill.utils.preprocessing import Preprocessing

PUBLISHED_COUNTS = {
    "voc2012": {"train": 1464, "val": 1449},
    "pets": {"train": 3680, "test": 3669},
    "ade20k": {"train": 20210, "val": 2000},
    "cityscapes": {"train": 2975, "val": 500},
    "camvid": {"train": 367, "val": 101, "test": 233},
}
WRITERS: dict[str, Callable[[Path], Truth]] = {name: getattr(miniatures, name) for name in PUBLISHED_COUNTS}


def opened(name: str, root: Path, cache_dir: Path, *overrides: str) -> DatasetIndex:
    return open_source(parsed(f"data={name}", f"data.root={root}", *overrides).data, cache_dir)


def decoded(index: DatasetIndex, split: str) -> dict[str, list[list[int]]]:
    """The class ids of a split by the stem that an image has without the name of its kind."""
    samples = index.splits[split]
    stems = [sample.image.stem.removesuffix("_leftImg8bit") for sample in samples]
    return {stem: index.read(split, place)[1].tolist() for place, stem in enumerate(stems)}


@pytest.mark.parametrize("name", WRITERS)
def test_a_miniature_opens_by_configuration_alone(
    name: str, tmp_path: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truth = WRITERS[name](tmp_path / "set")
    index = opened(name, tmp_path / "set", cache_dir)
    found = {split: decoded(index, split) for split in index.splits}
    if name == "pets":  # a tenth of trainval is drawn as val
        assert len(found["val"]) == 2
        found["train"] |= found.pop("val")
    assert found == {split: {stem: ids.tolist() for stem, ids in masks.items()} for split, masks in truth.items()}
    for split, count in PUBLISHED_COUNTS[name].items():
        line = f"data.expected.{split}: {count} images are published, {len(truth[split])} are there"
        assert caplog.messages.count(line) == 1


@pytest.mark.parametrize("name", WRITERS)
def test_images_and_masks_of_a_miniature_have_the_same_size(name: str, tmp_path: Path, cache_dir: Path) -> None:
    WRITERS[name](tmp_path / "set")
    index = opened(name, tmp_path / "set", cache_dir)
    for split, samples in index.splits.items():
        for place in range(len(samples)):
            image, ids = index.read(split, place)
            assert image.shape[:2] == ids.shape
            # the pixels of one class have nearly one colour; turned against the mask, they have many
            assert np.std(image[ids == ids[ids < 255][0]].astype(float), axis=0).max() < 40


@pytest.mark.parametrize("name", WRITERS)
def test_batches_of_a_miniature_keep_the_contract(name: str, tmp_path: Path, cache_dir: Path) -> None:
    WRITERS[name](tmp_path / "set")
    index = opened(name, tmp_path / "set", cache_dir)
    fit = fit_config(max_epochs=1, batch_size=2, crop=[24, 32])
    data = SegmentationDataModule(index, fit, preprocessing=Preprocessing((40, 48)), eval_batch_size=2, num_workers=0)
    for loader, size in ((data.train_dataloader(), [24, 32]), (data.test_dataloader(), [40, 48])):
        batch = next(iter(loader))
        assert [*batch["image"].shape] == [2, 3, *size]
        assert [*batch["mask"].shape] == [2, *size]
        ids = set(batch["mask"].unique().tolist())
        assert len(ids) > 1
        assert ids <= {*range(len(index.labels)), 255}


def test_a_few_images_of_150_classes_are_few_warnings(
    tmp_path: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    miniatures.ade20k(tmp_path / "set")
    opened("ade20k", tmp_path / "set", cache_dir)
    assert len(caplog.messages) < 10
    assert max(map(len, caplog.messages)) < 500


def test_voc_has_the_names_and_colours_of_its_authors(tmp_path: Path) -> None:
    labels = labels_of(parsed("data=voc2012", f"data.root={tmp_path}").data)
    assert ["__background__", *labels.names[1:]] == FCN_ResNet50_Weights.DEFAULT.meta["categories"]
    assert np.ravel(labels.palette).tolist() == miniatures.voc_palette()[: 3 * 21]


def test_cityscapes_has_the_names_and_colours_of_its_authors(tmp_path: Path) -> None:
    labels = labels_of(parsed("data=cityscapes", f"data.root={tmp_path}").data)
    evaluated = sorted((each for each in Cityscapes.classes if not each.ignore_in_eval), key=lambda each: each.train_id)
    assert [*zip(labels.names, labels.palette, strict=True)] == [(c.name, c.color) for c in evaluated]


def test_ade20k_has_150_classes_of_which_none_is_void(tmp_path: Path) -> None:
    config = parsed("data=ade20k", f"data.root={tmp_path}").data
    assert isinstance(config, FolderConfig)
    assert list(config.classes.values()) == list(range(1, 151))
    assert list(config.palette) == list(config.classes)
    assert {name: config.classes[name] for name in ("wall", "person", "screen", "flag")} == {
        "wall": 1,
        "person": 13,
        "screen": 131,
        "flag": 150,
    }


def test_a_border_of_pets_may_be_a_class(tmp_path: Path, cache_dir: Path) -> None:
    truth = miniatures.pets(tmp_path / "set")["test"]
    index = opened("pets", tmp_path / "set", cache_dir, "+data.classes.border=3", "data.void=[]")
    assert index.labels.names == ("background", "pet", "border")
    expected = {stem: np.where(ids == 255, 2, ids).tolist() for stem, ids in truth.items()}
    assert decoded(index, "test") == expected


def test_a_holdout_makes_the_published_val_the_test(tmp_path: Path, cache_dir: Path) -> None:
    truth = miniatures.voc2012(tmp_path / "set", {"train": 20, "val": 3})
    first, again, other = (
        opened("voc2012", tmp_path / "set", cache_dir, "data.holdout=0.2", f"data.random_split.seed={seed}")
        for seed in (0, 0, 1)
    )
    assert first.eval_split == "test"
    assert set(decoded(first, "test")) == set(truth["val"])
    held_out = set(decoded(first, "val"))
    assert len(held_out) == 4
    assert held_out | set(decoded(first, "train")) == set(truth["train"])
    assert not held_out & set(decoded(first, "train"))
    assert held_out == set(decoded(again, "val"))
    assert held_out != set(decoded(other, "val"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=voc2012", "data.holdout=1"], r"data\.holdout=1\.0: must be null, or a share between 0 and 1"),
        (["data=pets", "data.holdout=0.1"], r"data\.holdout=0\.1: needs data\.splits\.val, which becomes test"),
        (["data=camvid", "data.holdout=0.1"], r"data\.holdout=0\.1: needs data\.splits\.val"),
        (["data=voc2012", "+data.expected.more=3"], r"data\.expected\.more=3: must be a number of images of train"),
        (["data=voc2012", "data.expected.val=0"], r"data\.expected\.val=0: must be a number of images of train"),
        (["data=ade20k", "data.download=true"], r"data\.download=True: must be false: only data=voc2012 and data=pets"),
        (["data=ade20k", "data.published=ade"], r"data\.published=ade: must be null, voc2012 or pets"),
    ],
)
def test_what_a_set_does_not_have_is_refused(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        parsed(*overrides, f"data.root={tmp_path}")
