"""Scenes as files: an image and a mask each."""

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
        folder: Holds `images/` and `masks/`.
        seed: Of the data set.
        split: "train", "val", "test" or any other name; splits share no scene.
        index: Of the scene within its split.
        size: [H, W] in pixels.
    """

    folder: Path
    seed: int
    split: str
    index: int
    size: tuple[int, int]

    @property
    def paths(self) -> tuple[Path, Path]:
        """Image and mask."""
        return scene_paths(self.folder, self.index)


def scene_paths(folder: Path, index: int) -> tuple[Path, Path]:
    """Return where the image and the mask of a scene lie."""
    return folder / "images" / f"{index:05d}.png", folder / "masks" / f"{index:05d}.png"


def write_scene(scene: SceneFile) -> list[tuple[str, int]]:
    """Render a scene into its two files.

    Returns:
        Each file's name within the folder, and its CRC-32.
    """
    entries = []
    for path, pixels in zip(scene.paths, render_scene(scene.seed, scene.split, scene.index, scene.size), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, compress_level=1)
        entries.append((path.relative_to(scene.folder).as_posix(), zlib.crc32(path.read_bytes())))
    return entries
