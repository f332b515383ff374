"""Scenes as files: one image and one mask each."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from roadscenes.render import render_scene


@dataclass(frozen=True)
class SceneFile:
    """One scene of a split, and the folder that it is written to.

    Attributes:
        folder: Folder that holds `images/` and `masks/`.
        seed: Seed of the dataset.
        split: "train", "val", "test" or any other name; no two splits share a scene.
        index: Index of the scene within its split.
        size: Height and width in pixels.
    """

    folder: Path
    seed: int
    split: str
    index: int
    size: tuple[int, int]

    @property
    def paths(self) -> tuple[Path, Path]:
        """Paths of the image and the mask."""
        return scene_paths(self.folder, self.index)


def scene_paths(folder: Path, index: int) -> tuple[Path, Path]:
    """Return the paths of the image and the mask of a scene."""
    return folder / "images" / f"{index:05d}.png", folder / "masks" / f"{index:05d}.png"


def write_scene(scene: SceneFile) -> list[tuple[str, int]]:
    """Render a scene and write its image and its mask.

    Returns:
        Path of each file relative to the folder, and its CRC-32.
    """
    entries = []
    for path, pixels in zip(scene.paths, render_scene(scene.seed, scene.split, scene.index, scene.size), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, compress_level=1)
        entries.append((path.relative_to(scene.folder).as_posix(), zlib.crc32(path.read_bytes())))
    return entries
