"""Latency: at the end of a fit, times and scores every network in every engine; writes results.json."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from rich.progress import track
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segdistill.callbacks.inputs import task_and_data
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.deploy.export import deployable
from segdistill.deploy.latency import Engine, Measurement, Pictures, measure
from segdistill.machine import cpu_count, cpu_name
from segdistill.metrics import scores
from segdistill.report.results import Row, write_results


class Latency(pl.Callback):
    """Measures on the CPU, over every picture of the report split.

    Args:
        threads: Cores each engine may use; None takes one for each core of the machine.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or cpu_count()

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes `<run dir>/results.json`."""
        task, data = task_and_data(trainer, pl_module)
        run_dir = Path(trainer.default_root_dir)
        with tempfile.TemporaryDirectory() as scratch:
            pictures = decode(data, Path(scratch))
            engines = []
            for role, network in task.networks.items():
                engines.append(Engine(role, "pytorch", _save(network, Path(scratch) / f"{role}.pt")))
                exported = run_dir / "onnx" / f"{role}.onnx"
                if exported.is_file():
                    engines.append(Engine(role, "onnxruntime-fp32", exported))
            measurements = measure(engines, pictures, threads=self.threads)
            sizes = [engine.path.stat().st_size / 1e6 for engine in engines]
        rows = [
            self._row(measurement, size, task.networks[measurement.engine.model], data)
            for measurement, size in zip(measurements, sizes, strict=True)
        ]
        write_results(run_dir / "results.json", rows)

    def _row(self, measured: Measurement, file_mb: float, network: nn.Module, data: SegmentationDataModule) -> Row:
        accuracies = scores(torch.from_numpy(measured.confusion))
        class_iou = accuracies.pop("class_iou")
        return Row(
            model=measured.engine.model,
            engine=measured.engine.name,
            split=data.source.report_split,
            images=len(measured.latencies_ms),
            **{name: _number(value) for name, value in accuracies.items()},
            class_iou=dict(zip(data.source.labels.names, map(_number, class_iou), strict=True)),
            params=sum(parameter.numel() for parameter in network.parameters()),
            gmacs=gmacs(network, data.input_size),
            file_mb=file_mb,
            latency_ms_p50=measured.percentile_ms(50),
            latency_ms_p95=measured.percentile_ms(95),
            total_ms=sum(measured.latencies_ms),
            threads=self.threads,
            device=cpu_name(),
            input_size=list(data.input_size),
        )


def decode(data: SegmentationDataModule, folder: Path) -> Pictures:
    """Writes the report split, decoded and at the input size, into two `.npy` files in `folder`."""
    total, size = len(data.source.splits[data.source.report_split]), data.input_size
    pictures = Pictures(folder / "images.npy", folder / "masks.npy", len(data.source.labels))
    images = np.lib.format.open_memmap(pictures.images, "w+", np.uint8, (total, *size, 3))
    masks = np.lib.format.open_memmap(pictures.masks, "w+", np.uint8, (total, *size))
    for index in track(range(total), "Decoding pictures", transient=True):
        images[index], masks[index] = data.report_picture(index)
    images.flush()
    masks.flush()
    return pictures


def gmacs(network: nn.Module, input_size: tuple[int, ...]) -> float:
    """Returns billions of multiply-accumulates for one picture of [H, W], two floating-point operations each."""
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, *input_size, device=device))
    return float(counter.get_total_flops()) / 2 / 1e9


def _save(network: nn.Module, path: Path) -> Path:
    torch.save(deployable(network), path)
    return path


def _number(value: Tensor) -> float | None:
    """JSON has no NaN: None stands for a class that neither occurs nor is predicted."""
    number = float(value)
    return None if math.isnan(number) else number
