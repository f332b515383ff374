"""How the tests share a machine, and a tiny folder data set, made from a seed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from segdistill.config.data import FolderConfig, SplitFolders
from segdistill.data.sources.base import Sample

HEIGHT, WIDTH = 24, 36
SAMPLES = {"train": 5, "val": 3, "test": 2}
CLASSES: dict[str, int | list[int]] = {"background": 0, "car": [1, 2], "lane": 7}
MASK_VALUES = (0, 1, 2, 7, 255)

if "PYTEST_XDIST_WORKER" in os.environ:  # tests on every core: threads of one would wait for those of the others
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow files first, so that no process works on one while the others have nothing left."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def folder_config(tmp_path: Path) -> FolderConfig:
    """Three splits of 24 x 36 PNG files: `<root>/<split>/{images,masks}/000.png` and on."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for split, count in SAMPLES.items():
        for index in range(count):
            _save(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), root / split / "images" / f"{index:03}.png")
            _save(
                rng.choice(np.array(MASK_VALUES, np.uint8), (HEIGHT, WIDTH)),
                root / split / "masks" / f"{index:03}.png",
            )
    return FolderConfig(
        input_size=[HEIGHT, WIDTH],
        root=str(root),
        splits={split: SplitFolders(f"{split}/images", f"{split}/masks") for split in SAMPLES},
        classes=dict(CLASSES),
        void=[255],
    )


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    """Where passed checks are remembered; does not exist yet."""
    return tmp_path / "cache"


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images that were read since the test began."""
    read, original = [], Sample.read_image

    def counted(sample: Sample, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        read.append(sample.image)
        return original(sample, at_least)

    monkeypatch.setattr(Sample, "read_image", counted)
    return read


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
