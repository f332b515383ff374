"""OnnxExport: at the end of a fit, every network as a self-explaining ONNX file."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only
from rich.progress import track

from segdistill import __version__
from segdistill.callbacks.inputs import spread, task_and_data
from segdistill.deploy.export import export_onnx, write_half
from segdistill.errors import UserError

AGREEMENT_PICTURES = 4
log = logging.getLogger(__name__)


class OnnxExport(pl.Callback):
    """Writes `<run dir>/onnx/<role>.onnx` for teacher and student.

    Args:
        fp16: Also write `<role>.fp16.onnx`, for GPUs.
    """

    def __init__(self, *, fp16: bool = False) -> None:
        self.fp16 = fp16

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exports, and keeps each file only if it agrees with its network on real pictures."""
        task, data = task_and_data(trainer, pl_module)
        indices = spread(len(data.source.splits[data.source.report_split]), AGREEMENT_PICTURES)
        pictures = np.stack([data.report_picture(index)[0] for index in indices])
        run_dir = Path(trainer.default_root_dir)
        shared = {
            "classes": json.dumps(data.source.labels.names),
            "palette": json.dumps(data.source.labels.palette),
            "preprocessing": json.dumps({"resize": data.input_size, "interpolation": "bilinear, antialiased"}),
            "training_data": f"{data.source.name} {data.source.fingerprint[:16]}",
            "run": run_dir.resolve().name,
            "segdistill_version": __version__,
        }
        for role, network in track(list(task.networks.items()), "Exporting to ONNX", transient=True):
            path = run_dir / "onnx" / f"{role}.onnx"
            metadata = {**shared, "model": role, "network": type(network).__name__}
            agreement = export_onnx(network, path, pictures, metadata)
            for earlier in path.parent.glob(f"{role}.*.onnx"):  # made from the file that was here before
                earlier.unlink()
            log.info(
                "%s: agrees with PyTorch on %.4f %% of pixels, logits within %.1e",
                path,
                100 * agreement.pixels,
                agreement.logit_error,
            )
            if self.fp16:
                half = path.with_suffix(".fp16.onnx")
                try:
                    log.info("%s: in float16, %.4f %% of pixels the same", half, 100 * write_half(path, half, pictures))
                except UserError as error:  # the float32 file is there
                    log.warning("no float16 file: %s", error)
