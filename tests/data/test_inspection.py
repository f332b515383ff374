"""What an inspection measures, remembers and finds: against arrays of our own, on odd sizes."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from segdistill.config.data import FolderConfig
from segdistill.data import inspection as inspecting
from segdistill.data.check import DataError, check_splits, summary
from segdistill.data.findings import findings
from segdistill.data.inspection import Inspection, inspect
from segdistill.data.labels import MaskCoding, mask_coding
from segdistill.data.measures import perceptual_hash
from segdistill.data.near_duplicates import MAX_DISTANCE, nearest
from segdistill.data.sources.base import Sample
from segdistill.data.sources.folder import find_samples, open_folder

NAMES = ("background", "car", "lane")


def samples(config: FolderConfig) -> dict[str, list[Sample]]:
    splits, faults = find_samples(config)
    assert not any(faults.values())
    return splits


def inspected(config: FolderConfig, cache_dir: Path) -> Inspection:
    return inspect(samples(config), mask_coding(config.classes, config.void), NAMES, cache_dir)


def stored(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image)


def scene(seed: int, size: tuple[int, int] = (97, 61)) -> Image.Image:
    """Coarse coloured patches, smoothly enlarged to (width, height)."""
    patches = np.random.default_rng(seed).integers(0, 200, (7, 9, 3), np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def test_pixels_and_images_of_each_class_are_counted_by_split(folder_config: FolderConfig, cache_dir: Path) -> None:
    splits = inspected(folder_config, cache_dir).splits
    for split in ("train", "val", "test"):
        masks = [stored(path) for path in (Path(folder_config.root) / split / "masks").iterdir()]
        of_class = [[np.isin(mask, values).sum() for mask in masks] for values in ([0], [1, 2], [7])]
        assert splits[split].pixels.tolist() == np.sum(of_class, axis=1).tolist()
        assert splits[split].holding.tolist() == np.count_nonzero(of_class, axis=1).tolist()
        assert splits[split].void == sum((mask == 255).sum() for mask in masks)
        assert (splits[split].images, splits[split].labelled) == (len(masks), len(masks))
        assert splits[split].sizes == {(24, 36): len(masks)}


def test_only_a_file_that_changed_is_read_again(
    folder_config: FolderConfig, cache_dir: Path, readings: list[Path]
) -> None:
    before = inspected(folder_config, cache_dir)
    changed = Path(folder_config.root) / "val/masks/001.png"
    os.utime(changed, (1, 1))
    assert inspected(folder_config, cache_dir).measures == before.measures
    assert [path.name for path in readings[10:]] == ["001.png"]
    (Path(folder_config.root) / "train/images/000.png").unlink()
    (Path(folder_config.root) / "train/masks/000.png").unlink()
    assert inspected(folder_config, cache_dir).splits["train"].images == 4
    assert len(readings) == 11


def test_what_passed_is_remembered_beside_a_faulty_file(
    folder_config: FolderConfig, cache_dir: Path, readings: list[Path]
) -> None:
    broken = Path(folder_config.root) / "train/images/002.png"
    broken.write_text("no image")
    for _ in range(2):
        (fault,) = inspected(folder_config, cache_dir).faults
        assert fault.startswith(f"{broken}: cannot be read")
    assert readings[10:] == [broken]


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"samples": 3}', '{"samples": [[1, 2]]}', '{"samples": [["a","",[],[1]]]}']
)
def test_a_damaged_record_is_made_anew(
    content: str, folder_config: FolderConfig, cache_dir: Path, readings: list[Path]
) -> None:
    before = inspected(folder_config, cache_dir)
    (record,) = (cache_dir / "checked").glob("*.json")
    record.write_text(content)
    assert inspected(folder_config, cache_dir).measures == before.measures
    assert len(readings) == 20
    assert len(json.loads(record.read_text())["samples"]) == 10


def test_an_interrupted_inspection_keeps_what_it_has_measured(
    folder_config: FolderConfig, cache_dir: Path, readings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Sample) -> NDArray[np.uint8]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        splits = samples(folder_config)
        last = splits["test"][-1].image
        reading = Sample.read_image
        patch.setattr(Sample, "read_image", lambda self: interrupted(self) if self.image == last else reading(self))
        with pytest.raises(KeyboardInterrupt):
            inspected(folder_config, cache_dir)
    count = len(readings)
    inspected(folder_config, cache_dir)
    assert readings[count:] == [last]


def test_a_file_that_is_missing_is_a_fault_of_its_own(folder_config: FolderConfig, cache_dir: Path) -> None:
    splits = samples(folder_config)
    splits["val"].append(Sample(Path("absent.png"), None))
    inspection = inspect(splits, mask_coding(folder_config.classes, folder_config.void), NAMES, cache_dir)
    assert inspection.faults == ["absent.png: No such file or directory"]
    assert inspection.splits["val"].faulty == 1


@pytest.mark.slow
def test_processes_measure_what_threads_do(
    folder_config: FolderConfig, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = inspected(folder_config, cache_dir / "threads")
    monkeypatch.setattr(inspecting, "PROCESSES_FROM", 1)
    assert inspected(folder_config, cache_dir / "processes") == threads


def test_a_training_counts_class_pixels_without_decoding_a_mask_again(
    folder_config: FolderConfig, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_folder(folder_config, cache_dir)
    decoded = {split: replace(source, measures={}).class_pixels(split).tolist() for split in source.splits}
    monkeypatch.delattr(MaskCoding, "read")
    assert {split: source.class_pixels(split).tolist() for split in source.splits} == decoded
    assert sum(decoded["train"]) > source.limited(2).class_pixels("train").sum() > 0


def test_a_hash_survives_what_copies_go_through_and_tells_images_apart(tmp_path: Path) -> None:
    hashes = [perceptual_hash(np.asarray(scene(seed))) for seed in range(40)]
    assert all(hash is not None for hash in hashes)
    original = scene(0, (194, 122))
    original.save(tmp_path / "saved.jpg", quality=40)
    copies = [original.resize((67, 43)), ImageEnhance.Brightness(original).enhance(1.2)]
    copies += [Image.fromarray(stored(tmp_path / "saved.jpg")), original.convert("L").convert("RGB")]
    for copy in copies:
        look = perceptual_hash(np.asarray(copy))
        assert look is not None
        assert [index for index, other in enumerate(hashes) if (look ^ (other or 0)).bit_count() <= MAX_DISTANCE] == [0]


@pytest.mark.parametrize("noise", [0, 1])
def test_plain_images_and_gradients_look_like_nothing(noise: int) -> None:
    rng = np.random.default_rng(0)
    for plain in (np.full((50, 70), 128.0), np.zeros((1, 1)), np.linspace(0, 255, 70)[None].repeat(31, axis=0)):
        pixels = np.clip(plain + rng.integers(-noise, noise + 1, plain.shape), 0, 255).astype(np.uint8)
        assert perceptual_hash(np.repeat(pixels[..., None], 3, axis=2)) is None


def test_the_nearest_hash_is_the_one_that_a_loop_finds() -> None:
    rng = np.random.default_rng(0)
    others = [int(value) for value in rng.integers(0, 1 << 63, 300)]
    hashes = [
        others[place] ^ int(flips)
        for place, flips in zip(rng.permutation(300)[:50], rng.integers(0, 255, 50), strict=True)
    ]
    expected = [
        (index, distances.index(min(distances)))
        for index, value in enumerate(hashes)
        if min(distances := [(value ^ other).bit_count() for other in others]) <= MAX_DISTANCE
    ]
    assert 0 < len(expected) < 50
    assert list(nearest(hashes, others)) == expected
    assert not list(nearest([], others))
    assert not list(nearest(hashes, []))


def test_copies_in_other_splits_are_a_note_that_names_both_files(
    folder_config: FolderConfig, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = Path(folder_config.root)
    first, second = root / "train/images/001.png", root / "val/images/002.png"
    scene(3, (36, 24)).save(first)
    ImageEnhance.Brightness(scene(3, (36, 24))).enhance(1.1).save(second)
    open_folder(folder_config, cache_dir)
    assert caplog.messages == [
        f"{second}: val holds nearly the image of train, {first}; "
        "if they are copies, or neighbours in a video, leave them in one split"
    ]


def test_masks_saved_as_jpeg_are_told(folder_config: FolderConfig, cache_dir: Path) -> None:
    path = Path(folder_config.root) / "train/masks/001.png"
    Image.fromarray(np.full((24, 36), 1, np.uint8)).save(path, "JPEG")
    (finding,) = findings(inspected(folder_config, cache_dir))
    assert (finding.level, finding.cases) == ("spoils", [f"{path}: is a JPEG file, which blurs class ids around edges"])


def test_stray_values_are_told_from_a_forgotten_class(folder_config: FolderConfig, cache_dir: Path) -> None:
    path = Path(folder_config.root) / "train/masks/001.png"
    mask = np.zeros((24, 36), np.uint8)
    mask[0, :20] = np.arange(40, 60)
    Image.fromarray(mask).save(path)
    (fault,) = inspected(folder_config, cache_dir).faults
    assert fault.startswith(f"{path}: 20 mask values (40, 41, 42, ...) belong to no class, in 2.3% of its pixels")
    assert "as PNG" in fault


def test_stray_values_of_a_jpeg_are_told_however_few(folder_config: FolderConfig, cache_dir: Path) -> None:
    path = Path(folder_config.root) / "train/masks/001.png"
    Image.fromarray(np.full((24, 36), 9, np.uint8)).save(path, "JPEG")
    (fault,) = inspected(folder_config, cache_dir).faults
    assert fault.startswith(f"{path}: 1 mask values (9) belong to no class, in 100.0% of its pixels, for it is a JPEG")


def test_a_training_split_of_one_class_spoils(folder_config: FolderConfig, cache_dir: Path) -> None:
    for path in (Path(folder_config.root) / "train/masks").iterdir():
        Image.fromarray(np.full((24, 36), 7, np.uint8)).save(path)
    found = findings(inspected(folder_config, cache_dir))
    assert [finding.line for finding in found if finding.level != "note"] == [
        "data.splits.train: every labelled pixel is lane; there is nothing to tell apart; see data.classes"
    ]


def test_every_fault_travels_with_the_error(folder_config: FolderConfig, cache_dir: Path) -> None:
    masks = sorted((Path(folder_config.root) / "train/masks").iterdir())
    for path in masks:
        path.write_text("no mask")
    with pytest.raises(DataError) as raised:
        open_folder(folder_config, cache_dir)
    assert [fault.partition(":")[0] for fault in raised.value.faults] == list(map(str, masks))
    assert raised.value.inspection is not None
    assert raised.value.inspection.splits["val"].images == 3


def test_each_run_says_in_one_line_a_split_what_it_holds(
    folder_config: FolderConfig, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (Path(folder_config.root) / "val/masks").iterdir():
        Image.fromarray(np.repeat(np.array([0, 1, 7, 255], np.uint8), [400, 200, 200, 64]).reshape(24, 36)).save(path)
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(Path(folder_config.root) / "val/images/000.png")
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(Path(folder_config.root) / "val/masks/000.png")
    with caplog.at_level(logging.INFO):
        check_splits(samples(folder_config), mask_coding(folder_config.classes, folder_config.void), NAMES, cache_dir)
    line = "val: 3 images of 36 x 24, 20 x 10; background 55.6%, car 22.2%, lane 22.2%, void 6.6%"
    assert [message for message in caplog.messages if message.startswith("val:")] == [line]
    assert summary(inspected(folder_config, cache_dir))[1] == line
