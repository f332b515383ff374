"""Quantize: writes an INT8 version of every exported file at the end of a fit, for which the fit may prepare."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from segdistill.callbacks.fit_end import FitEndCallback
from segdistill.callbacks.inputs import evenly_spaced, network_input, task_and_data
from segdistill.config.ranges import is_number, require_count
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.export.quantize import METHODS, WEIGHT_BITS, Target, quantize_int8
from segdistill.inference.scoring import count
from segdistill.inference.segmenter import Segmenter
from segdistill.metrics import scores
from segdistill.models.fake_quantization import FakeQuantization
from segdistill.tasks.segmentation import SegmentationTask
from segdistill.utils.errors import ConfigError
from segdistill.utils.tiles import Tiling

log = logging.getLogger(__name__)


class Quantize(FitEndCallback):
    """Writes `<run dir>/onnx/<role>.int8.onnx` beside each `<role>.onnx`.

    Calibrates on training images; validation images determine which layers must stay in float32. For a network that
    cannot be quantised, no file is written and a warning is logged.

    With `aware_epochs`, the network learns to be rounded: in the last epochs of the fit, weights and activations are
    rounded as they will be in the file, whatever losses it is trained with. Every validation of such a fit scores the
    rounded network, so that the best checkpoint is the best to quantise; a resumed fit therefore keeps `aware_epochs`.

    Args:
        method: Calibration method: "minmax", "entropy" or "percentile".
        images: Number of training images for calibration, evenly spaced.
        limit: Maximum tolerated mIoU drop, a fraction of 1.
        target: "portable": the same masks on every x86-64 processor; "vnni": 8-bit weights, for processors with VNNI.
        per_channel: Whether each output channel of a layer has its own scale; False for accelerators that want one.
        aware_epochs: Number of last epochs that train the rounded network; 0 quantises after training alone.

    Raises:
        ConfigError: If a value is out of its range.
    """

    precisions = ("int8",)

    def __init__(
        self,
        method: str = "minmax",
        images: int = 64,
        limit: float = 0.005,
        target: Target = "portable",
        per_channel: bool = True,
        aware_epochs: int = 0,
    ) -> None:
        super().__init__()
        if method not in METHODS:
            raise ConfigError("callbacks.quantize.method", method, f"must be one of {tuple(METHODS)}")
        require_count("callbacks.quantize.images", images, 1)
        if not is_number(limit) or limit < 0:
            raise ConfigError("callbacks.quantize.limit", limit, "must be at least 0, a fraction of mean IoU")
        if target not in WEIGHT_BITS:
            raise ConfigError("callbacks.quantize.target", target, f"must be one of {tuple(WEIGHT_BITS)}")
        require_count("callbacks.quantize.aware_epochs", aware_epochs, 0)
        if aware_epochs and method != "minmax":
            allowed = "must be 0 with another method than minmax, whose ranges the training rounds to"
            raise ConfigError("callbacks.quantize.aware_epochs", aware_epochs, allowed)
        self.method, self.images, self.limit, self.target = method, images, limit, target
        self.per_channel, self.aware_epochs = per_channel, aware_epochs
        self._rounding: FakeQuantization | None = None
        self._written: set[Path] = set()

    def state_dict(self) -> dict[str, int]:
        """Return what a resumed fit must not change."""
        return {"aware_epochs": self.aware_epochs}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Compare with the fit that is resumed.

        Raises:
            ConfigError: If its best checkpoint was selected with other validations.
        """
        if state_dict["aware_epochs"] != self.aware_epochs:
            allowed = f"must stay {state_dict['aware_epochs']} in a run that is resumed"
            raise ConfigError("callbacks.quantize.aware_epochs", self.aware_epochs, allowed)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prepare the trained network for rounding; a fit that has nothing left to train does not come here."""
        if self.aware_epochs:
            task, _ = task_and_data(trainer, pl_module)
            bits = WEIGHT_BITS[self.target]
            self._rounding = FakeQuantization(task.network, weight_bits=bits, per_channel=self.per_channel)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Round in the last epochs, with the ranges that the network has by then."""
        self._round(trainer, pl_module, self._is_aware(trainer))

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Round for the validation, with the ranges of averaged weights, if those are validated."""
        self._round(trainer, pl_module, enabled=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the epoch as it began."""
        if self._rounding:
            self._rounding.enabled = self._is_aware(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the network as it is without rounding, for the export and the test."""
        if self._rounding:
            self._rounding.remove()
            self._rounding = None

    def _is_aware(self, trainer: pl.Trainer) -> bool:
        return trainer.current_epoch >= (trainer.max_epochs or 0) - self.aware_epochs

    def _round(self, trainer: pl.Trainer, pl_module: pl.LightningModule, enabled: bool) -> None:
        if self._rounding:
            task, data = task_and_data(trainer, pl_module)
            self._rounding.enabled = enabled
            if enabled:
                self._rounding.calibrate(
                    task.to_memory_format(network_input(image).to(task.device)) for image in self._calibration(data)
                )

    def _calibration(self, data: SegmentationDataModule) -> list[NDArray[np.uint8]]:
        """Read the training images that ranges are measured on, uint8 [H, W, 3]."""
        return [data.raw_sample("train", i)[0] for i in evenly_spaced(len(data.source.splits["train"]), self.images)]

    def finish(self, trainer: pl.Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
        """Quantise every exported file."""
        self._written.clear()
        calibration = self._calibration(data)
        sources = [_folder(trainer) / f"{role}.onnx" for role in task.networks]
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
                    per_channel=self.per_channel,
                    score=lambda candidate: validation_miou(candidate, data, task.tiling),
                )
                self._written.add(path)
                kept = f"; in float32 stay {', '.join(result.float32_layers)}" if result.float32_layers else ""
                log.info(
                    "%s (%s): %.2f points of mean IoU lost on the classes of the validation split%s",
                    path,
                    result.target,
                    100 * result.drop,
                    kept,
                )

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log `test/int8_miou`, the mean IoU of the trained network's file, if this fit has written it."""
        task, data = task_and_data(trainer, pl_module)
        path = _folder(trainer) / f"{task.role}.int8.onnx"
        if path in self._written:
            with self.tolerated("test/int8_miou"):
                miou = scores(counted(path, data, data.source.eval_split, task.tiling))["miou"]
                task.log("test/int8_miou", miou.float(), rank_zero_only=True)


def _folder(trainer: pl.Trainer) -> Path:
    return Path(trainer.default_root_dir) / "onnx"


def validation_miou(path: Path, data: SegmentationDataModule, tiling: Tiling | None = None) -> float:
    """Return the mean IoU of an exported file on the validation split, over the classes that occur in the truth.

    Unlike the reported mean, it leaves out classes that occur only in predictions: one stray pixel of such a class
    would add an IoU of 0 to the mean, and two files that differ in that pixel would seem far apart.

    Args:
        path: Exported file.
        data: Data with the validation split.
        tiling: Tiles in which evaluation cuts images; None for whole images.

    Returns:
        A fraction of 1, measured with the file itself; 0 if every pixel is void.
    """
    confusion = counted(path, data, "val", tiling)
    shown = confusion.sum(dim=1) > 0
    return float(scores(confusion)["class_iou"][shown].mean().nan_to_num())


def counted(path: Path, data: SegmentationDataModule, split: str, tiling: Tiling | None) -> Tensor:
    """Return the confusion matrix of an exported file on a split, int64 [C, C], rows are the truth."""
    segmenter, classes = Segmenter(path), len(data.source.labels)
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    for index in range(len(data.source.splits[split])):
        image, truth = data.raw_sample(split, index)
        masks = segmenter.masks(image[None]) if tiling is None else tiling.segment(segmenter.masks, image[None])
        confusion += torch.from_numpy(count(masks[0], truth, classes))
    return confusion
