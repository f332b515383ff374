"""Quantize: at the end of a fit, every exported file once more in INT8."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from rich.progress import track

from segdistill.callbacks.fit_end import FitEndCallback
from segdistill.callbacks.inputs import spread
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.deploy.quantize import METHODS, quantize_int8
from segdistill.deploy.scoring import count
from segdistill.deploy.segmenter import Segmenter
from segdistill.errors import ConfigError
from segdistill.metrics import scores
from segdistill.tasks.segmentation import SegmentationTask

log = logging.getLogger(__name__)


class Quantize(FitEndCallback):
    """Writes `<run dir>/onnx/<role>.int8.onnx` beside each `<role>.onnx`.

    Calibrated on training pictures; layers that must stay in float32 are found on validation pictures. A network that
    cannot be quantised is left without such a file, with a warning.

    Args:
        method: Of the calibration: "minmax", "entropy" or "percentile".
        pictures: How many training pictures it is calibrated on, evenly spaced.
        limit: Largest drop of mean IoU that is borne, a fraction of 1.

    Raises:
        ConfigError: If a value is out of its range.
    """

    precisions = ("int8",)

    def __init__(self, method: str = "minmax", pictures: int = 64, limit: float = 0.005) -> None:
        super().__init__()
        if method not in METHODS:
            raise ConfigError("callbacks.quantize.method", method, f"must be one of {tuple(METHODS)}")
        if pictures < 1:
            raise ConfigError("callbacks.quantize.pictures", pictures, "must be at least 1")
        if limit < 0:
            raise ConfigError("callbacks.quantize.limit", limit, "must be at least 0, a fraction of mean IoU")
        self.method, self.pictures, self.limit = method, pictures, limit

    def finish(self, trainer: pl.Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
        """Quantises what is there."""
        indices = spread(len(data.source.splits["train"]), self.pictures)
        calibration = [data.picture("train", index)[0] for index in indices]
        sources = [Path(trainer.default_root_dir) / "onnx" / f"{role}.onnx" for role in task.networks]
        for source in track([path for path in sources if path.is_file()], "Quantising to INT8", transient=True):
            path = source.with_suffix(".int8.onnx")
            with self.tolerated(path.name):  # onnxruntime does not quantise every graph
                result = quantize_int8(
                    source,
                    path,
                    calibration,
                    method=self.method,
                    limit=self.limit,
                    score=lambda candidate: _miou(candidate, data),
                )
                kept = f"; in float32 stay {', '.join(result.float32_layers)}" if result.float32_layers else ""
                log.info("%s: %.2f points of mean IoU lost on the validation split%s", path, 100 * result.drop, kept)


def _miou(path: Path, data: SegmentationDataModule) -> float:
    """Mean IoU of an exported file on the validation split, through that very file; 0 where every pixel is void."""
    segmenter, classes = Segmenter(path), len(data.source.labels)
    confusion = np.zeros((classes, classes), np.int64)
    for index in range(len(data.source.splits["val"])):
        picture, truth = data.picture("val", index)
        confusion += count(segmenter.masks(picture[None])[0], truth, classes)
    return float(scores(torch.from_numpy(confusion))["miou"].nan_to_num())
