"""Command line of the renderer: `python -m roadscenes OUT --count 480` writes images and masks as PNG files."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from rich.progress import track

from roadscenes.dataset import SceneFile, write_scene


def main() -> None:
    """Render a split, on every CPU core."""
    parser = argparse.ArgumentParser(prog="python -m roadscenes", description="Render dashcam scenes with masks.")
    parser.add_argument("out", type=Path, help="folder; gets images/ and masks/")
    parser.add_argument("--count", type=int, default=480)
    parser.add_argument("--split", default="train", help="scenes of one split occur in no other")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, nargs=2, default=(269, 484), metavar=("H", "W"))
    arguments = parser.parse_args()
    if arguments.count < 1 or min(arguments.size) < 16 or arguments.seed < 0:
        parser.error("--count must be at least 1, both sides of --size at least 16, --seed at least 0")
    if arguments.out.is_dir() and any(arguments.out.iterdir()):
        sys.exit(f"error: {arguments.out}: is not empty; give another folder")
    size = (arguments.size[0], arguments.size[1])
    scenes = [
        SceneFile(arguments.out, arguments.seed, arguments.split, index, size) for index in range(arguments.count)
    ]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for _ in track(pool.map(write_scene, scenes, chunksize=4), "Rendering scenes", total=len(scenes)):
            pass


if __name__ == "__main__":
    main()
