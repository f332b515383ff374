"""Latency: times and scores every network in every backend at the end of a fit; writes results.json."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segdistill.callbacks.fit_end import FitEndCallback
from segdistill.callbacks.onnx_export import OnnxExport
from segdistill.config.ranges import require, require_count
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.export.onnx import export_wrapper
from segdistill.inference.backends import installed_runtimes
from segdistill.inference.benchmark import Backend, Measurement, measure
from segdistill.inference.exported import PRECISIONS
from segdistill.inference.round_buffer import Images
from segdistill.inference.scoring import MaskScores
from segdistill.metrics import collapsed_to, never_predicted, scores
from segdistill.reporting.findings import selected_on
from segdistill.reporting.results import FailedRow, Row, write_results
from segdistill.tasks.segmentation import SegmentationTask
from segdistill.utils.errors import first_line
from segdistill.utils.hardware import cpu_count, cpu_name
from segdistill.utils.io import write_json
from segdistill.utils.tiles import Tiling

PYTORCH = "pytorch"
DECODING = "+decode"
RESULTS, CONFUSION, DIFFERENCES = "results.json", "confusion.json", "differences.json"
log = logging.getLogger(__name__)


class Latency(FitEndCallback):
    """Measures latency and accuracy on the CPU, on every image of the evaluation split.

    A file that could not be exported or a backend that fails gets a row with the reason; all others are measured.

    Args:
        threads: Number of cores each backend may use; None uses all available ones.
        batch_size: Number of images per batch, timed in addition to single images; 1 times no batches.

    Raises:
        ConfigError: If a value is out of its range.
    """

    def __init__(self, threads: int | None = None, batch_size: int = 8) -> None:
        super().__init__()
        valid = threads is None or (type(threads) is int and threads >= 1)
        require(valid, "callbacks.latency.threads", threads, "must be null, for all cores, or at least 1")
        require_count("callbacks.latency.batch_size", batch_size, 1)
        self.threads, self.batch_size = threads or cpu_count(), batch_size

    def finish(self, trainer: pl.Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
        """Write `results.json`, `confusion.json` and `differences.json` into the run directory."""
        run_dir, split = Path(trainer.default_root_dir), data.source.eval_split
        for name in (RESULTS, CONFUSION, DIFFERENCES):
            (run_dir / name).unlink(missing_ok=True)  # results of earlier weights
        failed = [FailedRow(role, name, split, error) for role, name, error in _not_exported(trainer, task.networks)]
        with tempfile.TemporaryDirectory() as scratch:
            saved = self._saved(task.networks, Path(scratch))
            for role in task.networks.keys() - saved:
                failed.append(FailedRow(role, PYTORCH, split, self.errors[f"{role} {PYTORCH}"]))
            exports = any(isinstance(callback, OnnxExport) for callback in trainer.callbacks)  # type: ignore[attr-defined]
            folder = run_dir / "onnx" if exports else None  # without it, existing files are from other weights
            engines = [engine for role in task.networks for engine in _engines(role, saved, folder)]
            try:
                costs = {role: cost(network, data.input_size) for role, network in task.networks.items()}
                measured, totals = self._measured(engines, data, task.tiling)
                rows = [
                    self._row(each, totals.confusions[place], totals.agreement(place), costs[each.engine.model], data)
                    for place, each in enumerate(measured)
                    if each.error is None
                ]
            except Exception as error:
                failed += [FailedRow(engine.model, engine.name, split, first_line(error)) for engine in engines]
                write_results(run_dir / RESULTS, [], failed)
                raise
        for each in measured:
            if each.error is not None:
                log.warning("%s %s failed, the others go on: %s", each.engine.model, each.engine.name, each.error)
                failed.append(FailedRow(each.engine.model, each.engine.name, split, each.error))
        write_results(run_dir / RESULTS, rows, failed)
        confusions = zip(measured, totals.confusions, strict=True)
        named = {f"{m.engine.model} {m.engine.name}": c.tolist() for m, c in confusions if m.error is None}
        write_json(run_dir / CONFUSION, named)
        if len(totals.differences) == len(data.source.splits[split]):
            write_json(run_dir / DIFFERENCES, totals.differences)

    def _saved(self, networks: Mapping[str, nn.Module], folder: Path) -> dict[str, Path]:
        """Save each network so that another process can load it; return the files of those that could be saved."""
        saved = {}
        for role, network in networks.items():
            with self.tolerated(f"{role} {PYTORCH}"):
                torch.save(export_wrapper(network), folder / f"{role}.pt")
                saved[role] = folder / f"{role}.pt"
        return saved

    def _measured(
        self, engines: Sequence[Backend], data: SegmentationDataModule, tiling: Tiling | None
    ) -> tuple[list[Measurement], MaskScores]:
        places = {engine.model: place for place, engine in enumerate(engines) if engine.name == PYTORCH}
        totals = MaskScores([places.get(engine.model) for engine in engines], len(data.source.labels))
        files = [sample.image for sample in data.source.splits[data.source.eval_split]]
        images = Images(files, data.eval_image, data.preprocessing)
        options = {"threads": self.threads, "batch_size": self.batch_size}
        return measure(engines, images, totals, tiling=tiling, **options), totals

    def _row(
        self,
        measured: Measurement,
        confusion: NDArray[np.int64],
        agreement: float | None,
        costs: tuple[int, float],
        data: SegmentationDataModule,
    ) -> Row:
        accuracies = scores(torch.from_numpy(confusion))
        class_iou, names = accuracies.pop("class_iou"), data.source.labels.names
        counts = torch.from_numpy(confusion)
        single = collapsed_to(counts)
        images, batch_ms = len(measured.latencies_ms), measured.batch_ms
        batch_size = min(self.batch_size, images) if batch_ms else None
        return Row(
            model=measured.engine.model,
            engine=measured.engine.name,
            split=data.source.eval_split,
            selected_on=selected_on(data.source.eval_split),
            images=images,
            **{name: _number(value) for name, value in accuracies.items()},
            classes_scored=int((~class_iou.isnan()).sum()),
            class_iou=dict(zip(names, map(_number, class_iou), strict=True)),
            never_predicted=[names[index] for index in never_predicted(counts)],
            collapsed_to=None if single is None else names[single],
            params=costs[0],
            gmacs=costs[1],
            file_mb=measured.engine.path.stat().st_size / 1e6,
            latency_ms_p50=measured.percentile_ms(50),
            latency_ms_p95=measured.percentile_ms(95),
            total_ms=sum(measured.latencies_ms),
            images_per_s=measured.images_per_s,
            batch_size=batch_size,
            batch_ms_p50=batch_ms,
            batch_images_per_s=1000 * batch_size / batch_ms if batch_size and batch_ms else None,
            agreement=agreement,
            threads=self.threads,
            device=cpu_name(),
            input_size=list(data.input_size),
            skipped=len(data.source.skipped.get(data.source.eval_split, ())),
            fingerprint=data.source.split_fingerprint(data.source.eval_split, data.preprocessing),
        )


def _not_exported(trainer: pl.Trainer, roles: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Yield role, backend name and error for every backend whose file an earlier callback failed to write."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for precision in callback.precisions if isinstance(callback, FitEndCallback) else ():
            for role in roles:
                error = callback.error(f"{role}{PRECISIONS[precision]}")
                if error is not None:
                    yield from ((role, f"{runtime}-{precision}", error) for runtime in installed_runtimes())


def _engines(role: str, saved: Mapping[str, Path], exported: Path | None) -> list[Backend]:
    """List the network, each of its exported files in each runtime, and the smallest file again with decoding."""
    engines = [Backend(role, PYTORCH, saved[role])] if role in saved else []
    places = {} if exported is None else {p: exported / f"{role}{end}" for p, end in PRECISIONS.items()}
    files = {precision: path for precision, path in places.items() if path.is_file()}
    for precision, path in files.items():
        engines += [Backend(role, f"{runtime}-{precision}", path) for runtime in installed_runtimes()]
    if files:
        precision, path = list(files.items())[-1]
        engines.append(Backend(role, f"onnxruntime-{precision}{DECODING}", path, decodes=True))
    return engines


def cost(network: nn.Module, input_size: tuple[int, ...]) -> tuple[int, float]:
    """Return a network's number of parameters and its `gmacs` at an input size [H, W]."""
    return sum(parameter.numel() for parameter in network.parameters()), gmacs(network, input_size)


def gmacs(network: nn.Module, input_size: tuple[int, ...]) -> float:
    """Return the billions of multiply-accumulates, of two floating-point operations each, for one image of [H, W]."""
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, *input_size, device=device))
    return float(counter.get_total_flops()) / 2 / 1e9


def _number(value: Tensor) -> float | None:
    """Convert NaN, which JSON lacks, to None: the value of a class that neither occurs nor is predicted."""
    number = float(value)
    return None if math.isnan(number) else number
