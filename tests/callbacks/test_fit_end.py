"""The end of a fit: whatever fails there, everything else is still made, and results.json says what failed."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.networks import Branching, Pixelwise
from helpers.settings import fit_config, schedule_config
from torch import nn

from segdistill.callbacks import Latency, OnnxExport, Predictions, Quantize
from segdistill.callbacks.fit_end import FitEndCallback
from segdistill.config.data import FolderConfig
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.sources.folder import open_folder
from segdistill.inference.segmenter import Segmenter
from segdistill.losses import DistillationLoss, FocalLoss, PixelwiseKL
from segdistill.models import FrozenTeacher
from segdistill.reporting.results import read_failures, read_results
from segdistill.tasks import DistillationTask, SegmentationTask
from segdistill.utils.preprocessing import IGNORE_INDEX, Preprocessing
from segdistill.utils.tiles import Tiling

CLASSES = ("background", "car", "lane")


class Failing(FitEndCallback):
    """Raises."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.raised = error

    def finish(self, trainer: pl.Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
        raise self.raised


class Noting(FitEndCallback):
    """Notes that its turn came."""

    called = False

    def finish(self, trainer: pl.Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
        self.called = True


Fit = Callable[..., pl.Trainer]


@pytest.fixture
def fit(folder_config: FolderConfig, tmp_path: Path) -> Fit:
    """Fits a student beside a teacher for no step, and runs the callbacks that are given."""

    def run(*callbacks: pl.Callback, student: nn.Module | None = None, tiling: Tiling | None = None) -> pl.Trainer:
        data = SegmentationDataModule(
            open_folder(folder_config, tmp_path / "cache"),
            fit_config(max_epochs=1, batch_size=2, crop=[24, 36]),
            preprocessing=Preprocessing((24, 36)),
            num_workers=0,
        )
        losses = {"kl": PixelwiseKL(temperature=2.0)}
        task = DistillationTask(
            student or Pixelwise(),
            FrozenTeacher(Pixelwise()),
            DistillationLoss(FocalLoss(), losses),
            class_names=CLASSES,
            optimizer=partial(torch.optim.AdamW, lr=1e-3),
            schedule=schedule_config(),
            tiling=tiling,
        )
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=1,
            limit_val_batches=0,
            default_root_dir=tmp_path / "run",
            logger=False,
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(task, data)
        return trainer

    return run


def test_a_failing_callback_warns_and_the_next_ones_run(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    failing, after = Failing(ValueError("no such thing\nand a page of advice")), Noting()
    fit(failing, after)
    assert after.called
    assert failing.errors == {"Failing": "no such thing"}
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning == "Failing failed, everything else goes on: no such thing"


def test_a_full_disk_is_raised_from_any_wrapping_exception(fit: Fit) -> None:
    wrapped = RuntimeError("cannot save")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    after = Noting()
    with pytest.raises(OSError, match="No space left") as raised:
        fit(Failing(wrapped), after)
    assert raised.value.errno == errno.ENOSPC
    assert not after.called


def test_an_interruption_is_raised(fit: Fit) -> None:
    after = Noting()
    with pytest.raises(SystemExit):
        fit(Failing(SystemExit(143)), after)
    assert not after.called


@pytest.mark.slow
def test_a_student_that_cannot_be_exported_costs_its_own_files_alone(fit: Fit, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "onnx").mkdir(parents=True)
    for stale in ("student.onnx", "student.int8.onnx"):  # of an earlier fit in this directory: other weights
        (run_dir / "onnx" / stale).write_bytes(b"earlier weights")
    callbacks = OnnxExport(), Quantize(images=2, limit=1.0), Latency(threads=1, batch_size=2), Predictions(2, 1)
    trainer = fit(*callbacks, student=Branching())
    rows, failures = read_results(run_dir / "results.json"), read_failures(run_dir / "results.json")
    precisions = ("fp32", "int8")
    teacher = [f"{runtime}-{precision}" for precision in precisions for runtime in ("onnxruntime", "openvino")]
    assert [(row.model, row.engine) for row in rows] == [
        *(("teacher", engine) for engine in ("pytorch", *teacher, "onnxruntime-int8+decode")),
        ("student", "pytorch"),
    ]
    assert [(row.model, row.engine, row.split) for row in failures] == [
        ("student", "onnxruntime-fp32", "test"),
        ("student", "openvino-fp32", "test"),
    ]
    assert {row.error for row in failures} == {failures[0].error}
    assert failures[0].error.startswith("torch.onnx.export fails: Could not guard on data-dependent expression")
    assert sorted(path.name for path in (run_dir / "onnx").iterdir()) == ["teacher.int8.onnx", "teacher.onnx"]
    assert len(json.loads((run_dir / "differences.json").read_text())) == 2
    assert len(list((run_dir / "predictions").rglob("*.png"))) == 3
    (tested,) = trainer.test(trainer.lightning_module, trainer.datamodule, verbose=False)  # type: ignore[attr-defined]
    assert "test/miou" in tested


@pytest.mark.slow
def test_a_student_that_cannot_be_saved_whole_is_timed_in_its_exported_file(fit: Fit, tmp_path: Path) -> None:
    class Local(Pixelwise):
        """No other process can import it."""

    fit(OnnxExport(), Latency(threads=1, batch_size=1), student=Local())
    rows, (failure,) = read_results(tmp_path / "run" / "results.json"), read_failures(tmp_path / "run" / "results.json")
    exported = ["onnxruntime-fp32", "openvino-fp32", "onnxruntime-fp32+decode"]
    assert [(row.model, row.engine) for row in rows] == [
        *(("teacher", engine) for engine in ("pytorch", *exported)),
        *(("student", engine) for engine in exported),
    ]
    assert [row.agreement is None for row in rows] == [row.model == "student" for row in rows]
    assert (failure.model, failure.engine) == ("student", "pytorch")
    assert "Local" in failure.error
    assert "student onnxruntime-fp32" in json.loads((tmp_path / "run" / "confusion.json").read_text())
    assert not (tmp_path / "run" / "differences.json").exists()


def test_a_test_scores_the_int8_file_of_the_trained_network(fit: Fit, tmp_path: Path) -> None:
    trainer = fit(OnnxExport(), Quantize(images=2, limit=1.0))
    task, data = trainer.lightning_module, trainer.datamodule  # type: ignore[attr-defined]
    (tested,) = trainer.test(task, data, verbose=False)
    segmenter = Segmenter(tmp_path / "run" / "onnx" / "student.int8.onnx")
    pairs = [data.raw_sample("test", index) for index in range(2)]
    predicted = np.stack([segmenter(image) for image, _ in pairs])
    truth = np.stack([mask for _, mask in pairs])
    predicted[truth == IGNORE_INDEX] = IGNORE_INDEX
    ious = [((predicted == c) & (truth == c)).sum() / ((predicted == c) | (truth == c)).sum() for c in range(3)]
    assert tested["test/int8_miou"] == pytest.approx(np.mean(ious), abs=1e-6)


def test_int8_files_are_scored_in_the_tiles_of_the_evaluation(fit: Fit) -> None:
    with patch("segdistill.callbacks.quantize.Segmenter") as opened:
        masks = opened.return_value.masks
        masks.side_effect = lambda images: np.zeros(images.shape[:3], np.uint8)
        trainer = fit(OnnxExport(), Quantize(images=2, limit=1.0), tiling=Tiling((24, 32), 0))
        gated = masks.call_count
        trainer.test(trainer.lightning_module, trainer.datamodule, verbose=False)  # type: ignore[attr-defined]
    assert masks.call_count > gated > 0
    assert {call.args[0].shape[2] for call in masks.call_args_list} == {32, 4}


@pytest.mark.slow
def test_files_that_this_fit_did_not_export_are_not_timed_under_its_name(fit: Fit, tmp_path: Path) -> None:
    fit(OnnxExport())
    data = fit(Latency(threads=1, batch_size=1)).datamodule  # type: ignore[attr-defined]
    assert (tmp_path / "run" / "onnx" / "student.onnx").is_file()
    rows = read_results(tmp_path / "run" / "results.json")
    assert {row.engine for row in rows} == {"pytorch"}
    assert {row.fingerprint for row in rows} == {data.source.split_fingerprint("test", data.preprocessing)}


def test_where_nothing_can_be_timed_every_engine_has_a_failed_row(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    for stale in ("results.json", "confusion.json", "differences.json"):
        (run_dir / stale).write_text("[]")

    def unreadable(*_: object) -> None:
        raise OSError("image file is truncated")

    monkeypatch.setattr(SegmentationDataModule, "eval_image", unreadable)
    fit(Latency(threads=1))
    failures = read_failures(run_dir / "results.json")
    assert [(row.model, row.engine) for row in failures] == [("teacher", "pytorch"), ("student", "pytorch")]
    assert {row.error for row in failures} == {"image file is truncated"}
    assert read_results(run_dir / "results.json") == []
    assert not (run_dir / "confusion.json").exists()
    assert not (run_dir / "differences.json").exists()
