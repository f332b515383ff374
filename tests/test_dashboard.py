"""What TensorBoard and an online W&B run are given; the offline one is read back in test_run.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import wandb
from result_rows import ROW
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from segdistill.callbacks.dashboard import Panels, Picture, show_in_tensorboard, show_in_wandb
from segdistill.data.labels import label_set

LABELS = label_set(tuple(ROW.class_iou), {})


def panels(files: list[Path]) -> Panels:
    rng = np.random.default_rng(0)
    mask = rng.integers(0, len(LABELS), (24, 36)).astype(np.uint8)
    mask[0] = 255
    picture = Picture("frame", rng.integers(0, 256, (24, 36, 3)).astype(np.uint8), {"truth": mask, "student": mask})
    rows = [ROW, replace(ROW, engine="onnxruntime-fp32", miou=None, class_iou=dict.fromkeys(ROW.class_iou))]
    confusion = rng.integers(0, 9, (len(LABELS), len(LABELS)))
    return Panels(LABELS, "val (selected on)", [picture], rows, {"student": confusion}, files)


def test_tensorboard_gets_pictures_and_figures(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        show_in_tensorboard(writer, panels([]))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["images"]) == {"predictions/frame", "speed_accuracy", "class_iou", "confusion_student"}


def test_an_online_run_uploads_what_ships_and_an_offline_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "student.onnx").write_bytes(b"onnx")
    (tmp_path / "best.ckpt").write_bytes(b"ckpt")
    online, offline = MagicMock(spec=wandb.Run, offline=False, id="abc"), MagicMock(spec=wandb.Run, offline=True)
    shown = panels([tmp_path / "student.onnx", tmp_path / "best.ckpt"])
    show_in_wandb(online, shown)
    show_in_wandb(offline, shown)
    (artifact,) = online.log_artifact.call_args.args
    assert (artifact.name, artifact.type) == ("segdistill-abc", "model")
    assert set(artifact.manifest.entries) == {"student.onnx", "best.ckpt"}
    offline.log_artifact.assert_not_called()
    assert {key for call in online.log.call_args_list for key in call.args[0]} == {
        "predictions",
        "engines",
        "class_iou",
        "speed_accuracy",
        "speed_accuracy_by_engine",
        "confusion_student",
    }


def test_panels_name_the_split() -> None:
    run = MagicMock(spec=wandb.Run, offline=True)
    show_in_wandb(run, panels([]))
    logged = {key: value for call in run.log.call_args_list for key, value in call.args[0].items()}
    assert logged["predictions"][0]._caption == "frame, val (selected on)"
    assert logged["speed_accuracy"].spec.string_fields["title"].endswith("mean IoU on val (selected on)")
    assert logged["confusion_student"].spec.string_fields["title"] == "student on val (selected on), pixels"
    assert "split" in logged["engines"].columns
    assert "split" in logged["class_iou"].columns
