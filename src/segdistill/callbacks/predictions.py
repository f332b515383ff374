"""Predictions: draws images, their truth, what each network predicts, and its errors at the end of a fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytorch_lightning as pl
from rich.progress import track

from segdistill.callbacks.fit_end import FitEndCallback
from segdistill.callbacks.inputs import evenly_spaced, predict_masks
from segdistill.config.ranges import require_count
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.reporting.panels import prediction_sheet
from segdistill.tasks.segmentation import SegmentationTask
from segdistill.utils.io import atomic_write


class Predictions(FitEndCallback):
    """Writes `<run dir>/predictions/*.png`, and `differing/*.png` where teacher and student differ most.

    Args:
        count: Number of images of the evaluation split, evenly spaced; 0 draws none.
        differing: Number of images with the largest shares of differing pixels, as measured by `Latency`; 0 draws none.

    Raises:
        ConfigError: If a number is negative, or not whole.
    """

    def __init__(self, count: int = 12, differing: int = 6) -> None:
        super().__init__()
        require_count("callbacks.predictions.count", count, 0)
        require_count("callbacks.predictions.differing", differing, 0)
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
            with atomic_write(path) as temporary:
                prediction_sheet(image, truth, predict_masks(task, image), labels).save(temporary, "PNG")


def _most_different(path: Path, count: int) -> list[int]:
    shares = json.loads(path.read_text()) if path.is_file() else []
    return sorted(range(len(shares)), key=lambda index: -shares[index])[:count]
