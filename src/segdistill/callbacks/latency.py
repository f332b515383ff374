"""Latency: at the end of a fit, times and scores every network in every engine; writes results.json."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_only
from rich.progress import track
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segdistill.callbacks.inputs import task_and_data
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.deploy.export import deployable
from segdistill.deploy.latency import Engine, Measurement, Pictures, installed_runtimes, measure
from segdistill.files import write_json
from segdistill.machine import cpu_count, cpu_name
from segdistill.metrics import scores
from segdistill.report.results import Row, write_results

PRECISIONS = {"fp32": ".onnx", "fp16": ".fp16.onnx", "int8": ".int8.onnx"}
"""Precision -> how its files end."""
DECODING = "+decode"


class Latency(pl.Callback):
    """Measures on the CPU, over every picture of the report split.

    Args:
        threads: Cores each engine may use; None takes one for each core of the machine.
        batch_size: Pictures of the batches that are timed besides single pictures; 1 leaves them out.
    """

    def __init__(self, threads: int | None = None, batch_size: int = 8) -> None:
        self.threads, self.batch_size = threads or cpu_count(), batch_size

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes `results.json`, `confusion.json` and `differences.json` into the run's directory."""
        task, data = task_and_data(trainer, pl_module)
        run_dir = Path(trainer.default_root_dir)
        with tempfile.TemporaryDirectory() as scratch:
            pictures, truth = decode(data, Path(scratch))
            engines = [
                engine
                for role, network in task.networks.items()
                for engine in _engines(role, _save(network, Path(scratch) / f"{role}.pt"), run_dir / "onnx")
            ]
            measured = measure(engines, pictures, threads=self.threads, batch_size=self.batch_size)
            sizes = [engine.path.stat().st_size / 1e6 for engine in engines]
        confusions = [measurement.confusion(truth, len(data.source.labels)) for measurement in measured]
        originals = {m.engine.model: m for m in measured if m.engine.name == "pytorch"}
        costs = {
            role: (sum(parameter.numel() for parameter in network.parameters()), gmacs(network, data.input_size))
            for role, network in task.networks.items()
        }
        rows = [
            self._row(measurement, confusion, size, originals, costs[measurement.engine.model], data)
            for measurement, confusion, size in zip(measured, confusions, sizes, strict=True)
        ]
        write_results(run_dir / "results.json", rows)
        named = {f"{m.engine.model} {m.engine.name}": c.tolist() for m, c in zip(measured, confusions, strict=True)}
        write_json(run_dir / "confusion.json", named)
        if len(originals) > 1:
            write_json(run_dir / "differences.json", _differences(*originals.values()))

    def _row(
        self,
        measured: Measurement,
        confusion: NDArray[np.int64],
        file_mb: float,
        originals: dict[str, Measurement],
        cost: tuple[int, float],
        data: SegmentationDataModule,
    ) -> Row:
        accuracies = scores(torch.from_numpy(confusion))
        class_iou, names = accuracies.pop("class_iou"), data.source.labels.names
        truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        single = np.count_nonzero(predicted) == 1
        images, batch_ms = len(measured.latencies_ms), measured.batch_ms
        batch_size = min(self.batch_size, images) if batch_ms else None
        return Row(
            model=measured.engine.model,
            engine=measured.engine.name,
            split=data.source.report_split,
            selected_on=data.source.report_split == "val",
            images=images,
            **{name: _number(value) for name, value in accuracies.items()},
            classes_scored=int((~class_iou.isnan()).sum()),
            class_iou=dict(zip(names, map(_number, class_iou), strict=True)),
            never_predicted=[n for n, t, p in zip(names, truth, predicted, strict=True) if t and not p],
            collapsed_to=next((n for n, p in zip(names, predicted, strict=True) if p), None) if single else None,
            params=cost[0],
            gmacs=cost[1],
            file_mb=file_mb,
            latency_ms_p50=measured.percentile_ms(50),
            latency_ms_p95=measured.percentile_ms(95),
            total_ms=sum(measured.latencies_ms),
            images_per_s=measured.images_per_s,
            batch_size=batch_size,
            batch_ms_p50=batch_ms,
            batch_images_per_s=1000 * batch_size / batch_ms if batch_size and batch_ms else None,
            agreement=measured.agreement(originals[measured.engine.model]),
            threads=self.threads,
            device=cpu_name(),
            input_size=list(data.input_size),
        )


def _engines(role: str, saved: Path, exported: Path) -> list[Engine]:
    """The network itself, each of its exported files in each runtime, and the smallest file once more with decoding."""
    engines = [Engine(role, "pytorch", saved)]
    files = {p: exported / f"{role}{end}" for p, end in PRECISIONS.items() if (exported / f"{role}{end}").is_file()}
    for precision, path in files.items():
        engines += [Engine(role, f"{runtime}-{precision}", path) for runtime in installed_runtimes()]
    if files:
        precision, path = list(files.items())[-1]
        engines.append(Engine(role, f"onnxruntime-{precision}{DECODING}", path, decodes=True))
    return engines


def decode(data: SegmentationDataModule, folder: Path) -> tuple[Pictures, NDArray[np.uint8]]:
    """Writes the report split, decoded and at the input size, into `folder`; returns it with the true masks."""
    samples, size = data.source.splits[data.source.report_split], data.input_size
    pictures = Pictures(folder / "pictures.npy", [sample.image for sample in samples])
    decoded = np.lib.format.open_memmap(pictures.decoded, "w+", np.uint8, (len(samples), *size, 3))
    truth = np.zeros((len(samples), *size), np.uint8)
    for index in track(range(len(samples)), "Decoding pictures", transient=True):
        decoded[index], truth[index] = data.report_picture(index)
    decoded.flush()
    return pictures, truth


def _differences(one: Measurement, other: Measurement) -> list[float]:
    """The share of pixels, by picture, that two networks classify differently."""
    return [float(np.mean(mine != theirs)) for mine, theirs in zip(one.masks, other.masks, strict=True)]


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
