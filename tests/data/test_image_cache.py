"""Decoded images that are kept: the same batches, nothing decoded twice, and no stale or partial image."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.settings import fit_config
from PIL import Image

from segdistill.config.data import FolderConfig
from segdistill.data import image_cache
from segdistill.data.datamodule import Batch, SegmentationDataModule
from segdistill.data.image_cache import ImageCache, MemoryStore
from segdistill.data.sources.base import DatasetIndex
from segdistill.data.sources.folder import open_folder
from segdistill.utils.errors import ConfigError
from segdistill.utils.preprocessing import Preprocessing

INPUT_SIZE, CROP = (17, 31), [16, 20]
PLACES = ["auto", "memory", "disk"]
TRAIN, VAL, TEST = 5, 3, 2


@pytest.fixture
def source(folder_config: FolderConfig, cache_dir: Path) -> DatasetIndex:
    return open_folder(folder_config, cache_dir)


def data_module(
    source: DatasetIndex, place: str, cache_dir: Path, *, workers: int = 0, draft: bool = False
) -> SegmentationDataModule:
    fit = fit_config(max_epochs=3, batch_size=2, crop=CROP, full_frame_epochs=1)
    kept = ImageCache(place, cache_dir)
    steps = Preprocessing(INPUT_SIZE)
    return SegmentationDataModule(source, fit, preprocessing=steps, num_workers=workers, images=kept, draft=draft)


def batches(data: SegmentationDataModule, epochs: int = 3) -> list[Batch]:
    """What `epochs` epochs load, and the evaluation of both splits after each."""
    train, others = data.train_dataloader(), [data.val_dataloader(), data.test_dataloader()]
    seen = []
    for epoch in range(epochs):
        train.sampler.set_epoch(epoch)  # type: ignore[attr-defined] # as Lightning does
        seen += [batch for loader in (train, *others) for batch in loader]
    return seen


def assert_equal(seen: list[Batch], expected: list[Batch]) -> None:
    assert len(seen) == len(expected)
    for one, other in zip(seen, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", PLACES)
def test_batches_do_not_depend_on_the_cache(source: DatasetIndex, cache_dir: Path, place: str, workers: int) -> None:
    expected = batches(data_module(source, "none", cache_dir))
    for _ in range(2):
        assert_equal(batches(data_module(source, place, cache_dir, workers=workers)), expected)


@pytest.mark.parametrize(("place", "decoded"), [("none", 3 * 10), ("memory", 8 + 3 * TEST), ("disk", 10)])
def test_an_image_is_decoded_once(
    source: DatasetIndex, cache_dir: Path, readings: list[Path], place: str, decoded: int
) -> None:
    data = data_module(source, place, cache_dir)
    data.fit.batch_size = TRAIN  # no image is left out
    batches(data)
    assert len(readings) == decoded
    again = data_module(source, place, cache_dir)
    again.fit.batch_size = TRAIN
    batches(again)
    assert len(readings) == (decoded if place == "disk" else 2 * decoded)


def test_what_one_loader_worker_decodes_is_there_for_all(
    source: DatasetIndex, cache_dir: Path, readings: list[Path]
) -> None:
    data = data_module(source, "memory", cache_dir, workers=2)
    list(data.val_dataloader())
    expected = [data_module(source, "none", cache_dir).raw_sample("val", index) for index in range(VAL)]
    readings.clear()  # in this process; the workers count their own
    for index, (image, ids) in enumerate(expected):
        kept = data.raw_sample("val", index)
        np.testing.assert_array_equal(kept[0], image)
        np.testing.assert_array_equal(kept[1], ids)
        with pytest.raises(ValueError, match="read-only"):
            kept[1][:] = 0
    assert not readings


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", "half", "no array"])
def test_a_damaged_file_is_decoded_and_written_again(
    source: DatasetIndex, cache_dir: Path, readings: list[Path], damage: bytes | str
) -> None:
    expected = batches(data_module(source, "disk", cache_dir), 1)
    for path in (files := sorted(cache_dir.glob("images/*/*.npy"))):
        whole = path.read_bytes()
        changes = {"half": whole[: len(whole) * 7 // 8], "no array": b"not a file of numpy"}
        path.write_bytes(changes[damage] if isinstance(damage, str) else damage)
    assert len(files) == len(readings)
    for decoded in (len(files), 0):
        readings.clear()
        assert_equal(batches(data_module(source, "disk", cache_dir), 1), expected)
        assert len(readings) == decoded


def test_leftovers_of_a_killed_process_disappear(source: DatasetIndex, cache_dir: Path) -> None:
    batches(data_module(source, "disk", cache_dir), 1)
    path = next(cache_dir.glob("images/*/*.npy"))
    host = os.uname().nodename.replace(".", "-")
    left = path.with_name(f".{host}.{2**22 + 1}.{path.name}")  # beyond the largest process id
    left.write_bytes(path.read_bytes()[:9])
    path.unlink()
    batches(data_module(source, "disk", cache_dir), 1)
    assert path.is_file()
    assert not left.exists()


@pytest.mark.parametrize("part", ["image", "mask"])
def test_a_changed_file_is_decoded_again(source: DatasetIndex, cache_dir: Path, part: str) -> None:
    batches(data_module(source, "disk", cache_dir), 1)
    path = getattr(source.splits["val"][1], part)
    pixels = np.asarray(Image.open(path))
    Image.fromarray(pixels[::-1]).save(path)
    changed = data_module(source, "disk", cache_dir).raw_sample("val", 1)
    expected = data_module(source, "none", cache_dir).raw_sample("val", 1)
    for kept, fresh in zip(changed, expected, strict=True):
        np.testing.assert_array_equal(kept, fresh)


def test_other_settings_have_files_of_their_own(source: DatasetIndex, cache_dir: Path) -> None:
    first = data_module(source, "disk", cache_dir).raw_sample("val", 0)
    coding = replace(source.coding, values=np.where(source.coding.values == 1, 255, source.coding.values))
    other = data_module(replace(source, coding=coding), "disk", cache_dir).raw_sample("val", 0)
    assert 1 in first[1]
    assert 1 not in other[1]


def test_a_full_disk_ends_the_cache_and_not_the_training(
    source: DatasetIndex, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    expected = batches(data_module(source, "none", cache_dir), 1)
    monkeypatch.setattr(np, "save", full)
    assert_equal(batches(data_module(source, "disk", cache_dir), 1), expected)
    assert caplog.text.count("are no longer kept") == 1
    assert "No space left" in caplog.text


def test_too_little_room_on_the_disk_is_told_before_the_training(
    source: DatasetIndex, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = shutil.disk_usage(cache_dir.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: small)
    with pytest.raises(ConfigError, match=r"data\.image_cache=disk: decoded, the images take 0\.0 MB more"):
        data_module(source, "disk", cache_dir).val_dataloader()


@pytest.mark.parametrize(("place", "kept", "said"), [("auto", 0, "not kept"), ("memory", 3, "the first")])
def test_memory_that_is_scarce_bounds_the_cache(
    source: DatasetIndex,
    cache_dir: Path,
    readings: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
    kept: int,
    said: str,
) -> None:
    images = 4 * (TRAIN * 24 * 36 + VAL * INPUT_SIZE[0] * INPUT_SIZE[1])
    monkeypatch.setattr(image_cache, "available_memory", lambda: int(images * 2 * 0.7))  # 3 of 5, 2 of 3
    expected = batches(data_module(source, "none", cache_dir))
    readings.clear()
    with caplog.at_level(logging.INFO):
        data = data_module(source, place, cache_dir)
        data.fit.batch_size = TRAIN
        list(data.train_dataloader())
        list(data.train_dataloader())
    assert said in caplog.text
    assert len(readings) == 2 * TRAIN - kept
    assert_equal(batches(data_module(source, place, cache_dir)), expected)


def test_processes_share_the_memory(
    source: DatasetIndex, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    images = 4 * (TRAIN * 24 * 36 + VAL * INPUT_SIZE[0] * INPUT_SIZE[1])
    monkeypatch.setattr(image_cache, "available_memory", lambda: images * 9)  # a quarter holds them twice
    for processes, told in ((2, False), (3, True)):
        caplog.clear()
        data = data_module(source, "auto", cache_dir)
        data.images = ImageCache("auto", cache_dir, processes)
        with caplog.at_level(logging.INFO):
            data.val_dataloader()
        assert ("not kept" in caplog.text) == told


def test_images_of_any_size_lie_side_by_side() -> None:
    rng = np.random.default_rng(0)
    sizes = [(3, 5), (1, 1), (7, 2)]
    decoded = [(rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(0, 256, (2, 3), np.uint8)) for size in sizes]
    store = MemoryStore(4, 3 * (15 + 1 + 14) + 3 * 6)
    for index in (2, 0, 1):
        assert store.get(index) is None
        store.keep(index, decoded[index])
    store.keep(3, decoded[1])  # has no room
    assert store.get(3) is None
    for index, pair in enumerate(decoded):
        kept = store.get(index)
        assert kept is not None
        for one, other in zip(kept, pair, strict=True):
            np.testing.assert_array_equal(one, other)
