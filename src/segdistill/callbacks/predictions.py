"""Predictions: draws image | truth | teacher | student side by side at the end of a fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from segdistill.callbacks.fit_end import FitEndCallback
from segdistill.callbacks.inputs import evenly_spaced, predict_masks
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.labels import LabelSet
from segdistill.tasks.segmentation import SegmentationTask
from segdistill.utils.io import atomic_write

GAP, BAR, FONT_SIZE, SWATCH = 4, 22, 14, 12
PAPER, INK = (255, 255, 255), (0, 0, 0)


class Predictions(FitEndCallback):
    """Writes `<run dir>/predictions/*.png`, and `differing/*.png` where teacher and student differ most.

    Args:
        count: Number of images of the evaluation split, evenly spaced.
        differing: Number of images with the largest shares of differing pixels, as measured by `Latency`.
    """

    def __init__(self, count: int = 12, differing: int = 6) -> None:
        super().__init__()
        self.count, self.differing = count, differing

    def finish(self, trainer: pl.Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
        """Draw the predictions of every network of the task for the same images."""
        labels, samples = data.source.labels, data.source.splits[data.source.eval_split]
        folder = Path(trainer.default_root_dir) / "predictions"
        shutil.rmtree(folder, ignore_errors=True)  # drawings of an earlier student
        chosen = [
            (index, folder / f"{samples[index].image.stem}.png") for index in evenly_spaced(len(samples), self.count)
        ]
        for rank, index in enumerate(_most_different(folder.parent / "differences.json", self.differing), 1):
            chosen.append((index, folder / "differing" / f"{rank:02d}_{samples[index].image.stem}.png"))
        for index, path in track(chosen, "Drawing predictions", transient=True):
            image, truth = data.eval_image(index)
            masks = {"truth": truth} | predict_masks(task, image)
            panels = {"image": image} | {name: labels.colourise(mask) for name, mask in masks.items()}
            with atomic_write(path) as temporary:
                side_by_side(panels, labels).save(temporary, "PNG")


def _most_different(path: Path, count: int) -> list[int]:
    shares = json.loads(path.read_text()) if path.is_file() else []
    return sorted(range(len(shares)), key=lambda index: -shares[index])[:count]


def side_by_side(panels: Mapping[str, NDArray[np.uint8]], labels: LabelSet) -> Image.Image:
    """Return the panels, uint8 [H, W, 3] each, in a row, with their names above and a legend of the classes below."""
    height, width, _ = next(iter(panels.values())).shape
    total = len(panels) * (width + GAP) - GAP
    font = ImageFont.load_default(FONT_SIZE)
    legend = [(name, colour, int(font.getlength(name)) + SWATCH + 16) for name, colour in _legend(labels)]
    lines: list[list[tuple[str, tuple[int, int, int], int]]] = [[]]
    for entry in legend:
        if lines[-1] and sum(used for *_, used in lines[-1]) + entry[2] > total:
            lines.append([])
        lines[-1].append(entry)
    sheet = Image.new("RGB", (total, BAR + height + BAR * len(lines)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, (name, pixels) in enumerate(panels.items()):
        left = column * (width + GAP)
        draw.text((left + 2, 2), name, INK, font)
        sheet.paste(Image.fromarray(pixels), (left, BAR))
    for row, line in enumerate(lines):
        left, top = 2, BAR + height + BAR * row + (BAR - SWATCH) // 2
        for name, colour, used in line:
            draw.rectangle((left, top, left + SWATCH, top + SWATCH), colour, INK)
            draw.text((left + SWATCH + 4, top - 3), name, INK, font)
            left += used
    return sheet


def _legend(labels: LabelSet) -> list[tuple[str, tuple[int, int, int]]]:
    return list(zip(labels.names, labels.palette, strict=True))
