"""Quantize: writes an INT8 version of every exported file at the end of a fit."""

from __future__ import annotations

import logging
from pathlib import Path

import pytorch_lightning as pl
import torch
from rich.progress import track

from segdistill.callbacks.fit_end import FitEndCallback
from segdistill.callbacks.inputs import evenly_spaced
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.export.quantize import METHODS, WEIGHT_BITS, Target, quantize_int8
from segdistill.inference.scoring import count
from segdistill.inference.segmenter import Segmenter
from segdistill.metrics import scores
from segdistill.tasks.segmentation import SegmentationTask
from segdistill.utils.errors import ConfigError

log = logging.getLogger(__name__)


class Quantize(FitEndCallback):
    """Writes `<run dir>/onnx/<role>.int8.onnx` beside each `<role>.onnx`.

    Calibrates on training images; validation images determine which layers must stay in float32. For a network that
    cannot be quantised, no file is written and a warning is logged.

    Args:
        method: Calibration method: "minmax", "entropy" or "percentile".
        images: Number of training images for calibration, evenly spaced.
        limit: Maximum tolerated mIoU drop, a fraction of 1.
        target: "portable": the same masks on every x86-64 processor; "vnni": 8-bit weights, for processors with VNNI.

    Raises:
        ConfigError: If a value is out of its range.
    """

    precisions = ("int8",)

    def __init__(
        self, method: str = "minmax", images: int = 64, limit: float = 0.005, target: Target = "portable"
    ) -> None:
        super().__init__()
        if method not in METHODS:
            raise ConfigError("callbacks.quantize.method", method, f"must be one of {tuple(METHODS)}")
        if images < 1:
            raise ConfigError("callbacks.quantize.images", images, "must be at least 1")
        if limit < 0:
            raise ConfigError("callbacks.quantize.limit", limit, "must be at least 0, a fraction of mean IoU")
        if target not in WEIGHT_BITS:
            raise ConfigError("callbacks.quantize.target", target, f"must be one of {tuple(WEIGHT_BITS)}")
        self.method, self.images, self.limit, self.target = method, images, limit, target

    def finish(self, trainer: pl.Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
        """Quantise every exported file."""
        indices = evenly_spaced(len(data.source.splits["train"]), self.images)
        calibration = [data.raw_sample("train", index)[0] for index in indices]
        sources = [Path(trainer.default_root_dir) / "onnx" / f"{role}.onnx" for role in task.networks]
        for source in track([path for path in sources if path.is_file()], "Quantising to INT8", transient=True):
            path = source.with_suffix(".int8.onnx")
            with self.tolerated(path.name):  # onnxruntime cannot quantise every graph
                result = quantize_int8(
                    source,
                    path,
                    calibration,
                    method=self.method,
                    limit=self.limit,
                    target=self.target,
                    score=lambda candidate: validation_miou(candidate, data),
                )
                kept = f"; in float32 stay {', '.join(result.float32_layers)}" if result.float32_layers else ""
                log.info(
                    "%s (%s): %.2f points of mean IoU lost on the classes of the validation split%s",
                    path,
                    result.target,
                    100 * result.drop,
                    kept,
                )


def validation_miou(path: Path, data: SegmentationDataModule) -> float:
    """Return the mean IoU of an exported file on the validation split, over the classes that occur in the truth.

    Unlike the reported mean, it leaves out classes that occur only in predictions: one stray pixel of such a class
    would add an IoU of 0 to the mean, and two files that differ in that pixel would seem far apart.

    Returns:
        A fraction of 1, measured with the file itself; 0 if every pixel is void.
    """
    segmenter, classes = Segmenter(path), len(data.source.labels)
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    for index in range(len(data.source.splits["val"])):
        image, truth = data.raw_sample("val", index)
        confusion += torch.from_numpy(count(segmenter.masks(image[None])[0], truth, classes))
    shown = confusion.sum(dim=1) > 0
    return float(scores(confusion)["class_iou"][shown].mean().nan_to_num())
