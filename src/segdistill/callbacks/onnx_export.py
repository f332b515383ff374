"""OnnxExport: writes every network as a self-describing ONNX file at the end of a fit."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from rich.progress import track

from segdistill import __version__
from segdistill.callbacks.fit_end import FitEndCallback
from segdistill.callbacks.inputs import evenly_spaced
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.export.onnx import export_fp16, export_onnx
from segdistill.inference.metadata import write_preprocessing
from segdistill.models.fusion import deployed
from segdistill.tasks.segmentation import SegmentationTask

AGREEMENT_IMAGES = 4
log = logging.getLogger(__name__)


class OnnxExport(FitEndCallback):
    """Writes `<run dir>/onnx/<role>.onnx` for teacher and student.

    Args:
        fp16: Whether to also write `<role>.fp16.onnx`, for GPUs.
    """

    def __init__(self, *, fp16: bool = False) -> None:
        super().__init__()
        self.fp16 = fp16
        self.precisions = ("fp32", "fp16") if fp16 else ("fp32",)

    def finish(self, trainer: pl.Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
        """Export every network; keep each file only if it agrees with its network on real images."""
        run_dir = Path(trainer.default_root_dir)
        for role in task.networks:
            for earlier in (run_dir / "onnx").glob(f"{role}.*onnx"):  # files of earlier weights
                earlier.unlink()
        indices = evenly_spaced(len(data.source.splits[data.source.eval_split]), AGREEMENT_IMAGES)
        images = np.stack([data.eval_image(index)[0] for index in indices])
        shared = {
            "classes": json.dumps(data.source.labels.names),
            "palette": json.dumps(data.source.labels.palette),
            "preprocessing": write_preprocessing(data.preprocessing),
            "training_data": f"{data.source.name} {data.source.fingerprint[:16]}",
            "run": run_dir.resolve().name,
            "segdistill_version": __version__,
        }
        for role, network in track(list(task.networks.items()), "Exporting to ONNX", transient=True):
            path = run_dir / "onnx" / f"{role}.onnx"
            metadata = {**shared, "model": role, "network": type(network).__name__}
            with self.tolerated(path.name):
                agreement = export_onnx(network, path, images, metadata, traced=deployed(network))
                log.info(
                    "%s: agrees with PyTorch on %.4f %% of pixels, logits within %.1e",
                    path,
                    100 * agreement.pixels,
                    agreement.logit_error,
                )
            half = path.with_suffix(".fp16.onnx")
            if self.fp16 and path.is_file():
                with self.tolerated(half.name):
                    log.info("%s: in float16, %.4f %% of pixels the same", half, 100 * export_fp16(path, half, images))
