from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from roadscenes import dataset
from roadscenes.render import render_scene
from segdistill.config.data import RoadScenesConfig
from segdistill.data.labels import ROAD_SCENES
from segdistill.data.sources import roadscenes as scenes
from segdistill.data.sources.roadscenes import open_scenes

SIZE = (97, 131)
COUNTS = {"train": 3, "val": 2, "test": 1}
CONFIG = RoadScenesConfig(input_size=[48, 64], seed=5, train=3, val=2, test=1)
SHARE_BOUNDS = {
    "background": (0.8, 0.97),
    "car": (0.02, 0.16),
    "signal": (0.0005, 0.01),
    "pedestrian": (0.004, 0.05),
    "lane": (0.004, 0.04),
}

Scene = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Job = TypeVar("Job")
Result = TypeVar("Result")


def digest(scene: Scene) -> str:
    return hashlib.sha256(b"".join(layer.tobytes() for layer in scene)).hexdigest()


@pytest.fixture(scope="module")
def masks() -> NDArray[np.uint8]:
    return np.stack([render_scene(0, "train", index, SIZE)[1] for index in range(24)])


def test_a_fresh_process_renders_the_same_bytes() -> None:
    script = (
        "import hashlib; from roadscenes.render import render_scene\n"
        f"for i in range(3): print(hashlib.sha256(b''.join(x.tobytes() for x in render_scene(0, 'val', i, {SIZE})))"
        ".hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "77"}
    fresh = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert fresh.stdout.split() == [digest(render_scene(0, "val", index, SIZE)) for index in range(3)]


def test_scenes_rendered_in_between_change_nothing() -> None:
    in_order = [digest(render_scene(3, "train", index, SIZE)) for index in range(4)]
    backwards = []
    for index in reversed(range(4)):
        render_scene(9, "val", index, (33, 47))
        backwards.append(digest(render_scene(3, "train", index, SIZE)))
    assert backwards[::-1] == in_order


def test_seed_split_and_index_each_change_the_scene() -> None:
    keys = [(0, "train", 0), (1, "train", 0), (0, "val", 0), (0, "test", 0), (0, "train", 1), (1, "train", 1)]
    rendered = [render_scene(*key, SIZE) for key in keys]
    assert len({image.tobytes() for image, _ in rendered}) == len(keys)
    assert len({mask.tobytes() for _, mask in rendered}) == len(keys)


@pytest.mark.parametrize("size", [(16, 16), (97, 131), (101, 64), (40, 201)])
def test_shapes_types_and_ids_at_any_size(size: tuple[int, int]) -> None:
    for index in range(4):
        image, mask = render_scene(2, "test", index, size)
        assert (image.shape, mask.shape) == ((*size, 3), size)
        assert image.dtype == mask.dtype == np.uint8
        assert mask.max() < len(ROAD_SCENES)
        assert image.std() > 1


def test_the_default_size_is_that_of_the_report() -> None:
    image, mask = render_scene(0, "train", 0)
    assert (image.shape, mask.shape) == ((269, 484, 3), (269, 484))


def test_a_scene_keeps_its_content_at_another_size() -> None:
    for index in range(4):
        _, small = render_scene(0, "val", index, SIZE)
        _, large = render_scene(0, "val", index, (2 * SIZE[0], 2 * SIZE[1]))
        assert np.mean(large[::2, ::2] == small) > 0.95


def test_every_class_occurs(masks: NDArray[np.uint8]) -> None:
    assert np.unique(masks[:20]).tolist() == list(range(len(ROAD_SCENES)))
    for index in range(1, len(ROAD_SCENES)):
        assert np.sum((masks == index).any(axis=(1, 2))) >= 8, ROAD_SCENES.names[index]


def test_class_shares_are_those_of_a_street(masks: NDArray[np.uint8]) -> None:
    shares = np.bincount(masks.ravel(), minlength=len(ROAD_SCENES)) / masks.size
    for name, share in zip(ROAD_SCENES.names, shares, strict=True):
        low, high = SHARE_BOUNDS[name]
        assert low < share < high, (name, share)


class InProcess:
    """Stands in for a process pool, so that tests may replace what its workers call."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job], chunksize: int) -> Iterator[Result]:
        return map(function, jobs)

    def shutdown(self, **_: object) -> None:
        pass


class Renders:
    """Renders scenes and counts them; from the scene `broken_from` on it fails."""

    def __init__(self) -> None:
        self.count = 0
        self.broken_from: int | None = None

    def __call__(self, seed: int, split: str, index: int, size: tuple[int, int]) -> Scene:
        if self.broken_from is not None and self.count >= self.broken_from:
            raise RuntimeError("out of paint")
        self.count += 1
        return render_scene(seed, split, index, size)


@pytest.fixture
def renders(monkeypatch: pytest.MonkeyPatch) -> Renders:
    counter = Renders()
    monkeypatch.setattr(scenes, "ProcessPoolExecutor", InProcess)
    monkeypatch.setattr(dataset, "render_scene", counter)
    return counter


def leftovers(cache_dir: Path) -> list[str]:
    """Names in the cache that are neither a finished split nor its lock."""
    return [path.name for path in (cache_dir / "scenes").iterdir() if path.name.startswith(".")]


def first_split(cache_dir: Path) -> Path:
    return next(path for path in (cache_dir / "scenes").iterdir() if path.is_dir() and "-train" in path.name)


def test_splits_are_rendered_on_worker_processes(cache_dir: Path) -> None:
    source = open_scenes(CONFIG, cache_dir)
    assert source.name == "RoadScenes"
    assert source.labels is ROAD_SCENES
    assert {split: len(samples) for split, samples in source.splits.items()} == COUNTS
    for split, count in COUNTS.items():
        for index in range(count):
            image, ids = source.read(split, index)
            expected_image, expected_ids = render_scene(5, split, index, (48, 64))
            np.testing.assert_array_equal(image, expected_image)
            np.testing.assert_array_equal(ids, expected_ids)
    assert leftovers(cache_dir) == []


def test_scenes_are_rendered_once(cache_dir: Path, renders: Renders) -> None:
    first = open_scenes(CONFIG, cache_dir)
    assert renders.count == sum(COUNTS.values())
    again = open_scenes(CONFIG, cache_dir)
    assert renders.count == sum(COUNTS.values())
    assert (again.splits, again.fingerprint) == (first.splits, first.fingerprint)


def test_a_split_of_another_length_shares_no_folder(cache_dir: Path, renders: Renders) -> None:
    open_scenes(CONFIG, cache_dir)
    longer = open_scenes(replace(CONFIG, val=4), cache_dir)
    assert renders.count == sum(COUNTS.values()) + 4
    assert len(longer.splits["val"]) == 4


def cut_image(folder: Path) -> None:
    path = folder / "images" / "00001.png"
    path.write_bytes(path.read_bytes()[:-20])


def flip_mask_bit(folder: Path) -> None:
    path = folder / "masks" / "00000.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove_mask(folder: Path) -> None:
    (folder / "masks" / "00002.png").unlink()


def remove_manifest(folder: Path) -> None:
    (folder / scenes.MANIFEST).unlink()


def cut_manifest(folder: Path) -> None:
    (folder / scenes.MANIFEST).write_text('{"images/00000.png": ')


@pytest.mark.parametrize("damage", [cut_image, flip_mask_bit, remove_mask, remove_manifest, cut_manifest])
def test_a_damaged_split_is_rendered_again(damage: Callable[[Path], None], cache_dir: Path, renders: Renders) -> None:
    first = open_scenes(CONFIG, cache_dir)
    damage(first_split(cache_dir))
    renders.count = 0
    again = open_scenes(CONFIG, cache_dir)
    assert renders.count == COUNTS["train"]
    assert again.fingerprint == first.fingerprint
    assert digest(again.read("train", 1)) == digest(render_scene(5, "train", 1, (48, 64)))


def test_a_failure_leaves_nothing_that_passes_for_scenes(cache_dir: Path, renders: Renders) -> None:
    renders.broken_from = 1
    with pytest.raises(RuntimeError, match="out of paint"):
        open_scenes(CONFIG, cache_dir)
    assert not any(path.is_dir() for path in (cache_dir / "scenes").iterdir())
    assert leftovers(cache_dir) == []
    renders.broken_from = None
    assert len(open_scenes(CONFIG, cache_dir).splits["train"]) == COUNTS["train"]


def test_the_fingerprint_tells_data_sets_apart(cache_dir: Path, renders: Renders) -> None:
    variants = [CONFIG, replace(CONFIG, seed=6), replace(CONFIG, input_size=[48, 65]), replace(CONFIG, test=2)]
    assert len({open_scenes(config, cache_dir).fingerprint for config in variants}) == len(variants)
    assert open_scenes(CONFIG, cache_dir / "elsewhere").fingerprint == open_scenes(CONFIG, cache_dir).fingerprint
