"""data.on_bad: faulty files stop a training, or are left out by choice, counted and named."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.composed import parsed
from helpers.result_rows import ROW
from PIL import Image

from segdistill.config.data import FolderConfig
from segdistill.config.random_split import RandomSplit
from segdistill.data.sources.folder import open_folder
from segdistill.reporting.findings import run_warnings
from segdistill.reporting.page import write_report
from segdistill.reporting.results import SKIPPED, write_results
from segdistill.utils.errors import ConfigError, UserError


def path_of(config: FolderConfig, name: str) -> Path:
    return Path(config.root) / name


def save(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path)


SPOILS = {
    "unreadable": lambda root: (root / "train/images/001.png").write_text("no image"),
    "size": lambda root: save(np.zeros((5, 7), np.uint8), root / "train/masks/001.png"),
    "value": lambda root: save(np.full((24, 36), 99, np.uint8), root / "train/masks/001.png"),
    "no mask": lambda root: (root / "train/masks/001.png").unlink(),
    "no image": lambda root: (root / "train/images/001.png").unlink(),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_faulty_sample_is_left_out_and_named(
    folder_config: FolderConfig, cache_dir: Path, spoil: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    spoil(Path(folder_config.root))
    with pytest.raises(UserError, match=r"train/(images|masks)/001\.png"):
        open_folder(folder_config, cache_dir)
    source = open_folder(replace(folder_config, on_bad="skip"), cache_dir)
    assert [sample.image.stem for sample in source.splits["train"]] == ["000", "002", "003", "004"]
    assert {split: len(source.splits[split]) for split in ("val", "test")} == {"val": 3, "test": 2}
    ((split, (fault,)),) = source.skipped.items()
    assert split == "train"
    assert "001.png" in fault
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning == f"1 left out of train by data.on_bad=skip: {fault}"


def test_the_rest_is_the_same_data_as_a_folder_without_the_faulty_sample(
    folder_config: FolderConfig, cache_dir: Path, readings: list[Path]
) -> None:
    skipping = replace(folder_config, on_bad="skip")
    path_of(folder_config, "train/images/001.png").write_text("no image")
    first = open_folder(skipping, cache_dir)
    count = len(readings)
    assert open_folder(skipping, cache_dir).fingerprint == first.fingerprint
    assert len(readings) == count + 1  # only the faulty one is tried again
    for kind in ("images", "masks"):
        path_of(folder_config, f"train/{kind}/001.png").unlink()
    whole = open_folder(folder_config, cache_dir)
    assert (whole.fingerprint, whole.skipped) == (first.fingerprint, {})
    assert whole.class_pixels("train").tolist() == first.class_pixels("train").tolist()


def test_a_split_of_which_nothing_is_left_stops(folder_config: FolderConfig, cache_dir: Path) -> None:
    for path in path_of(folder_config, "test/images").iterdir():
        path.write_text("no image")
    with pytest.raises(UserError, match=r"test/images/000\.png: cannot be read.*; .*test/images/001\.png: cannot be"):
        open_folder(replace(folder_config, on_bad="skip"), cache_dir)
    for path in path_of(folder_config, "test/images").iterdir():
        path.rename(path.with_stem(f"other{path.stem}"))
    with pytest.raises(UserError, match=r"test/images/other000\.png has no mask in"):
        open_folder(replace(folder_config, on_bad="skip"), cache_dir)


def test_what_is_wrong_with_a_split_stops_all_the_same(folder_config: FolderConfig, cache_dir: Path) -> None:
    shutil.copy(path_of(folder_config, "train/images/000.png"), path_of(folder_config, "val/images/000.png"))
    with pytest.raises(UserError, match="val holds the same image as train"):
        open_folder(replace(folder_config, on_bad="skip"), cache_dir)
    for path in path_of(folder_config, "test/masks").iterdir():
        save(np.full((24, 36), 255, np.uint8), path)
    path_of(folder_config, "test/images/000.png").write_text("no image")
    with pytest.raises(UserError, match=r"data\.splits\.test: every pixel of every mask is void"):
        open_folder(replace(folder_config, on_bad="skip"), cache_dir)


def test_entries_of_a_list_and_samples_that_are_drawn_are_left_out(
    folder_config: FolderConfig, cache_dir: Path
) -> None:
    train = replace(folder_config.splits["train"], list="train.txt")
    (Path(folder_config.root) / "train.txt").write_text("004\nabsent\n000\n002\n003\n")
    path_of(folder_config, "train/images/002.png").write_text("no image")
    splits = {"train": train, "test": folder_config.splits["test"]}
    config = replace(folder_config, splits=splits, random_split=RandomSplit(val=0.5), on_bad="skip")
    source = open_folder(config, cache_dir)
    assert {s.image.stem for split in ("train", "val") for s in source.splits[split]} == {"000", "003", "004"}
    assert sorted(len(faults) for faults in source.skipped.values()) in ([2], [1, 1])
    assert any("train.txt line 2: absent" in fault for fault in source.skipped["train"])


def test_one_broken_file_among_many_says_how_to_leave_it_out(folder_config: FolderConfig, cache_dir: Path) -> None:
    rng = np.random.default_rng(5)
    for index in range(5, 15):
        save(rng.integers(0, 256, (24, 36, 3), np.uint8), path_of(folder_config, f"train/images/{index:03}.png"))
        save(np.ones((24, 36), np.uint8), path_of(folder_config, f"train/masks/{index:03}.png"))
    path_of(folder_config, "train/images/007.png").write_text("no image")
    with pytest.raises(UserError, match=r"007\.png: cannot be read.*; .*leave it out by data\.on_bad=skip$"):
        open_folder(folder_config, cache_dir)


def test_report_and_rows_say_what_was_left_out(tmp_path: Path) -> None:
    row = replace(ROW, images=8, skipped=2, miou=0.5)
    assert run_warnings([row, row]) == ["2 more of test could not be used: scores are of 8 images"]
    write_results(tmp_path / "results.json", [row])
    (tmp_path / SKIPPED).write_text(json.dumps({"test": ["a.png: cannot be read", "b.png has no mask in masks"]}))
    page = write_report(tmp_path).read_text("utf-8")
    assert "2 left out of test by data.on_bad=skip: a.png: cannot be read; b.png has no mask in masks" in page
    assert "2 more of test could not be used" in page


def test_on_bad_is_one_of_two_words() -> None:
    with pytest.raises(ConfigError, match=r"data\.on_bad=ignore: must be one of \('error', 'skip'\)"):
        parsed("data=cityscapes", "data.root=.", "data.on_bad=ignore")
