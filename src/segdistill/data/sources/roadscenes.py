"""RoadScenes, the embedded default dataset: seeded procedural dashcam scenes, rendered once into a cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from filelock import FileLock
from rich.progress import track

from roadscenes.dataset import SceneFile, scene_paths, write_scene
from segdistill.config.data import RoadScenesConfig
from segdistill.data.check import check_splits
from segdistill.data.labels import ROAD_SCENES, mask_coding
from segdistill.data.sources.base import DatasetIndex, Sample
from segdistill.utils.code import code_digest
from segdistill.utils.hardware import cpu_count
from segdistill.utils.interruption import in_one_piece
from segdistill.utils.io import atomic_write, write_json

MANIFEST = "manifest.json"
log = logging.getLogger(__name__)


def open_scenes(config: RoadScenesConfig, cache_dir: Path) -> DatasetIndex:
    """Render every split into `cache_dir`, or reuse what an earlier run rendered there if it is intact."""
    counts = {"train": config.train, "val": config.val, "test": config.test}
    folders = {
        split: _rendered(config.seed, split, count, (config.input_size[0], config.input_size[1]), cache_dir)
        for split, count in counts.items()
    }
    manifests = [(folder / MANIFEST).read_bytes() for folder in folders.values()]
    splits = {split: _samples(folder, counts[split]) for split, folder in folders.items()}
    coding = mask_coding({name: index for index, name in enumerate(ROAD_SCENES.names)}, void=())
    return DatasetIndex(
        name="RoadScenes",
        labels=ROAD_SCENES,
        splits=splits,
        coding=coding,
        fingerprint=hashlib.sha256(b"".join(manifests)).hexdigest(),
        measures=check_splits(splits, coding, ROAD_SCENES.names, cache_dir).measures,
    )


def _samples(folder: Path, count: int) -> list[Sample]:
    return [Sample(*scene_paths(folder, index)) for index in range(count)]


def _rendered(seed: int, split: str, count: int, size: tuple[int, int], cache_dir: Path) -> Path:
    """Return the folder of one split, rendered if needed; parallel runs wait for the first of them to render it."""
    name = f"{code_digest('roadscenes')}-seed{seed}-{split}{count}-{size[0]}x{size[1]}"
    folder = cache_dir / "scenes" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if folder.is_dir():
            if _intact(folder):
                return folder
            log.warning("%s is damaged and is rendered again", folder)
        _render(folder, seed, split, count, size)
    return folder


def _intact(folder: Path) -> bool:
    try:
        recorded = json.loads((folder / MANIFEST).read_text())
        return bool(recorded) and all(zlib.crc32((folder / name).read_bytes()) == recorded[name] for name in recorded)
    except (OSError, ValueError, TypeError):
        return False


def _render(folder: Path, seed: int, split: str, count: int, size: tuple[int, int]) -> None:
    """Render on all cores, in spawned processes, because forking a process with threads may hang."""
    with atomic_write(folder) as temporary:
        scenes = [SceneFile(temporary, seed, split, index, size) for index in range(count)]
        with ProcessPoolExecutor(min(cpu_count(), count), mp_context=get_context("spawn")) as pool:
            with in_one_piece():
                results = pool.map(write_scene, scenes, chunksize=4)
            description = f"Rendering {count} {split} scenes"
            try:
                crcs = dict(entry for pairs in track(results, description, total=count) for entry in pairs)
            finally:
                pool.shutdown(cancel_futures=True)  # if interrupted, do not render the remaining scenes
        write_json(temporary / MANIFEST, crcs)
