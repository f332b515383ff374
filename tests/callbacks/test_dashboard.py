"""What TensorBoard and an online W&B run are given; the offline one is read back in test_run.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import wandb
from helpers.result_rows import ROW
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from segdistill.callbacks.dashboard import PanelImage, Panels, show_in_tensorboard, show_in_wandb
from segdistill.data.labels import label_set

LABELS = label_set(tuple(ROW.class_iou), {})


def panels(files: list[Path]) -> Panels:
    rng = np.random.default_rng(0)
    mask = rng.integers(0, len(LABELS), (24, 36)).astype(np.uint8)
    mask[0] = 255
    image = PanelImage("frame", rng.integers(0, 256, (24, 36, 3)).astype(np.uint8), {"truth": mask, "student": mask})
    rows = [ROW, replace(ROW, engine="onnxruntime-fp32", miou=None, class_iou=dict.fromkeys(ROW.class_iou))]
    confusion = rng.integers(0, 9, (len(LABELS), len(LABELS)))
    return Panels(LABELS, "val (selected on)", [image], rows, {"student": confusion}, files)


def test_tensorboard_gets_images_and_figures(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        show_in_tensorboard(writer, panels([]))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["images"]) == {"predictions/frame", "speed_accuracy", "class_iou", "confusion_student"}


NUMBERS = {"engines", "class_iou", "speed_accuracy", "confusion_student"}
IMAGES = {"predictions", "speed_accuracy_by_engine"}


@pytest.mark.parametrize(
    ("offline", "upload", "panels_shown", "files_sent"),
    [
        pytest.param(False, False, NUMBERS, set(), id="online"),
        pytest.param(False, True, NUMBERS | IMAGES, {"student.onnx", "best.ckpt"}, id="online, uploading"),
        pytest.param(True, False, NUMBERS | IMAGES, set(), id="offline"),
        pytest.param(True, True, NUMBERS | IMAGES, set(), id="offline, uploading"),
    ],
)
def test_images_and_files_leave_the_machine_only_where_upload_says_so(
    tmp_path: Path, offline: bool, upload: bool, panels_shown: set[str], files_sent: set[str]
) -> None:
    for name in ("student.onnx", "best.ckpt"):
        (tmp_path / name).write_bytes(b"weights")
    run = MagicMock(spec=wandb.Run, offline=offline, id="abc")
    show_in_wandb(run, panels([tmp_path / "student.onnx", tmp_path / "best.ckpt"]), upload=upload)
    assert {key for call in run.log.call_args_list for key in call.args[0]} == panels_shown
    artifacts = [call.args[0] for call in run.log_artifact.call_args_list]
    assert {name for artifact in artifacts for name in artifact.manifest.entries} == files_sent
    assert all((artifact.name, artifact.type) == ("segdistill-abc", "model") for artifact in artifacts)


def test_panels_name_the_split() -> None:
    run = MagicMock(spec=wandb.Run, offline=True)
    show_in_wandb(run, panels([]), upload=False)
    logged = {key: value for call in run.log.call_args_list for key, value in call.args[0].items()}
    assert logged["predictions"][0]._caption == "frame, val (selected on)"
    assert logged["speed_accuracy"].spec.string_fields["title"].endswith("mean IoU on val (selected on)")
    assert logged["confusion_student"].spec.string_fields["title"] == "student on val (selected on), pixels"
    assert "split" in logged["engines"].columns
    assert "split" in logged["class_iou"].columns
