"""TiledSegmenter: an exported file on images of which only a tile at a time fits into memory."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segdistill.inference.segmenter import Segmenter
from segdistill.utils.errors import UserError
from segdistill.utils.preprocessing import Preprocessing
from segdistill.utils.tiles import OVERLAP, Tiling


class TiledSegmenter(Segmenter):
    """Segments images at their own size, tile by tile, instead of resizing them to `input_size`.

    This is for networks that were trained at the images' own resolution. In a tile, a network with global pooling sees
    the average of that tile, not of the image.

    Args:
        path: ONNX file written by `segdistill.export`, or a folder of such files, as for `Segmenter`.
        tiling: Size and overlap of the tiles.
        threads: Number of cores it may use; 0 uses all of them.

    Raises:
        UserError: If the tiles cannot overlap so, or the file cannot be used.
    """

    def __init__(self, path: Path | str, tiling: Tiling, *, threads: int = 0) -> None:
        if fault := tiling.fault:
            raise UserError(f"--tile {'x'.join(map(str, tiling.size))}: {fault}")
        super().__init__(path, threads=threads)
        self.tiling = tiling

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segment an image of any size, uint8 [H, W, 3] RGB, into class ids [H, W].

        Gamma, and the share of the rows that is cut, are those of `preprocessing`.
        """
        own = image.shape[0], image.shape[1]
        steps = (self.preprocessing or Preprocessing(own)).at(own)

        def masks(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return self.masks(steps.corrected(tiles))

        return steps.restored(self.tiling.segment(masks, image[None, : steps.size[0]])[0], own)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `open_segmenter`."""
    parser.add_argument("model", type=Path, help="an exported .onnx file, or a folder that `segdistill pack` wrote")
    parser.add_argument("--threads", type=int, default=0, help="cores to use; 0: all")
    parser.add_argument(
        "--tile",
        type=_size,
        metavar="H[xW]",
        help="segment large images at their own size, in tiles of so many pixels, instead of resizing them",
    )
    parser.add_argument("--overlap", type=int, default=OVERLAP, help="pixels that tiles share; default: %(default)s")


def open_segmenter(arguments: argparse.Namespace) -> Segmenter:
    """Open the exported file that the command line names.

    Raises:
        UserError: If the file or its tiles cannot be used.
    """
    if arguments.tile is None:
        return Segmenter(arguments.model, threads=arguments.threads)
    Image.MAX_IMAGE_PIXELS = None  # whoever asks for tiles expects images beyond Pillow's limit
    return TiledSegmenter(arguments.model, Tiling(arguments.tile, arguments.overlap), threads=arguments.threads)


def _size(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"[0-9]+(x[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"{text}: must be a number of pixels, such as 1024 or 1024x2048")
    height, _, width = text.partition("x")
    return int(height), int(width or height)
