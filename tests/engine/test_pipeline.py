"""The main job, end to end, as a user starts it: what a run leaves, what the next one reuses, what a kill spares."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.runs import NO_REPORT, ROOT, command, finished, temporaries
from helpers.wandb_file import records
from PIL import Image

from segdistill.inference.segmenter import Segmenter
from segdistill.reporting.results import read_results

pytestmark = pytest.mark.slow

ENGINES = [
    "pytorch",
    "onnxruntime-fp32",
    "openvino-fp32",
    "onnxruntime-int8",
    "openvino-int8",
    "onnxruntime-int8+decode",
]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("main_job")
    output = finished(command(folder / "first"), folder)
    assert "onnxruntime-fp32" in output  # the table
    assert "results.json" in output
    return folder / "first"


def test_every_row_is_filled_from_measurements(run_dir: Path) -> None:
    rows = read_results(run_dir / "results.json")
    assert [(row.model, row.engine) for row in rows] == [(m, e) for m in ("teacher", "student") for e in ENGINES]
    for row in rows:
        assert (row.split, row.images, row.input_size) == ("test", 5, [67, 98])
        assert 0 < row.latency_ms_p50 <= row.latency_ms_p95 <= row.total_ms
        assert row.images_per_s == pytest.approx(5000 / row.total_ms)
        assert (row.batch_size is None) == row.engine.endswith("+decode")
        assert row.overall_acc is not None
        assert 0 < row.overall_acc <= 1
        assert set(row.class_iou) == {"background", "car", "signal", "pedestrian", "lane"}
        assert (5 < row.file_mb < 8) if "int8" in row.engine else (20 < row.file_mb < 30)
        assert row.agreement is not None
        assert row.agreement >= (0.9 if "int8" in row.engine else 0.999)
    teacher, student = rows[0], rows[len(ENGINES)]
    assert student.params < teacher.params
    assert student.gmacs < teacher.gmacs
    for role in ("teacher", "student"):
        scores = {row.engine: row.overall_acc for row in rows if row.model == role}
        assert scores["onnxruntime-fp32"] == pytest.approx(scores["pytorch"], abs=1e-3)
        assert scores["openvino-fp32"] == pytest.approx(scores["pytorch"], abs=1e-3)
        assert scores["onnxruntime-int8+decode"] == pytest.approx(scores["onnxruntime-int8"], abs=1e-9)


def test_the_report_is_there_and_shows_every_engine(run_dir: Path) -> None:
    page = (run_dir / "report.html").read_text()
    for engine in ENGINES:
        assert page.count(f"<td>{engine}</td>") == 2
    assert "python train.py experiment=smoke" in page
    assert len(list((run_dir / "figures").glob("*.png"))) == 5


def test_the_offline_wandb_run_holds_every_panel(run_dir: Path) -> None:
    (path,) = (run_dir / "wandb").glob("offline-run-*/*.wandb")
    logged: dict[tuple[str, ...], str] = {}
    config: dict[str, str] = {}
    for record in records(path):
        logged |= {tuple(item.nested_key) or (item.key,): item.value_json for item in record.history.item}
        config |= {item.key or ".".join(item.nested_key): item.value_json for item in record.config.update}
    scalars = {"train/loss", "train/loss_kl", "val/miou", "test/miou", "test/teacher_miou"}
    assert scalars <= {key[0] for key in logged}
    tables = {key[0]: json.loads(logged[key[0], "path"]) for key in logged if key[1:] == ("ncols",)}
    charts = {"speed_accuracy_table", "confusion_teacher_table", "confusion_student_table"}
    assert set(tables) == {"engines", "class_iou"} | charts
    files = path.parent / "files"
    engines = json.loads((files / tables["engines"]).read_text())
    assert [row[:2] for row in engines["data"]] == [[m, e] for m in ("teacher", "student") for e in ENGINES]
    assert len(json.loads((files / tables["class_iou"]).read_text())["data"]) == 2 * len(ENGINES) * 5
    confusion = json.loads((files / tables["confusion_student_table"]).read_text())["data"]
    assert sum(pixels for *_, pixels in confusion) <= 5 * 67 * 98
    for chart, preset in (("speed_accuracy", "scatter/v0"), ("confusion_student", "confusion_matrix/v1")):
        assert preset in config[f"_wandb.visualize.{chart}"]
    assert json.loads(config["distill"])["temperature"] == 2.0

    images = json.loads(logged["predictions", "filenames"])
    masks = json.loads(logged["predictions", "all_masks"])
    assert len(images) == len(masks) == 4
    assert {"truth", "teacher", "student"} == set(masks[0])
    image = np.asarray(Image.open(files / images[0]))
    student = np.asarray(Image.open(files / masks[0]["student"]["path"]))
    exported = Segmenter(run_dir / "onnx" / "student.onnx")(image)
    assert (student == exported).mean() >= 0.999
    assert set(np.unique(np.asarray(Image.open(files / masks[0]["truth"]["path"])))) <= {0, 1, 2, 3, 4, 255}


def test_the_exported_files_explain_themselves(run_dir: Path) -> None:
    for role in ("teacher", "student"):
        segmenter = Segmenter(run_dir / "onnx" / f"{role}.onnx")
        assert json.loads(segmenter.metadata["classes"])[1] == "car"
        assert len(json.loads(segmenter.metadata["palette"])) == 5
        assert json.loads(segmenter.metadata["preprocessing"])["resize"] == [67, 98]
        assert segmenter.metadata["model"] == role
        assert segmenter.metadata["run"] == "first"
        assert segmenter.metadata["training_data"].startswith("RoadScenes ")
        assert segmenter(np.zeros((31, 45, 3), np.uint8)).shape == (31, 45)
        onnx.checker.check_model(onnx.load(run_dir / "onnx" / f"{role}.onnx"), full_check=True)


def test_images_checkpoints_and_logs_are_left(run_dir: Path) -> None:
    assert len(list((run_dir / "predictions" / "differing").glob("*.png"))) == 2
    images = sorted((run_dir / "predictions").glob("*.png"))
    assert len(images) == 4
    with Image.open(images[0]) as image:
        assert image.width == 3 * 98 + 2 * 4  # image above truth, and two predictions above their errors
        assert image.height >= 2 * 67
    student = torch.load(run_dir / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(name.startswith("network.") for name in student)
    header = (run_dir / "csv" / "version_0" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "train/loss_kl", "train/loss_supervised", "val/miou", "test/miou"} <= set(header)
    assert "onnxruntime-int8+decode" in (run_dir / "train.log").read_text()  # the table
    assert not temporaries(run_dir)


def test_the_next_run_reuses_teacher_and_scenes(run_dir: Path) -> None:
    cache = run_dir.parent / "cache"
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.suffix in (".png", ".ckpt")}
    output = finished(command(run_dir.parent / "second", "distill.teacher_cache=disk", *NO_REPORT), run_dir.parent)
    assert "teacher: reused from" in output
    assert "teacher's logits: 8 images of [5, 20, 28] in float16" in output  # 67 x 98 in whole cells
    assert len(list((cache / "logits").glob("*/*.npy"))) == 8
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "Rendering" not in output


def test_a_teacher_of_other_classes_is_refused(run_dir: Path, tmp_path: Path) -> None:
    (teacher,) = (run_dir.parent / "cache" / "teachers").glob("*/teacher.ckpt")
    checkpoint = torch.load(teacher, weights_only=True)
    foreign = tmp_path / "foreign.ckpt"
    torch.save(checkpoint | {"class_names": ["sky", "road"]}, foreign)
    whole = command(run_dir.parent / "third", f"teacher.checkpoint={foreign}", *NO_REPORT)
    arguments = [each for each in whole if not each.startswith("teacher.fit")]
    ended = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode != 0
    assert f"error: {foreign}: predicts 2 classes, this data has 5" in ended.stderr


@pytest.mark.long
def test_a_training_killed_in_mid_epoch_resumes_and_finishes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    budget = [
        "distill=none",
        "student.fit.max_epochs=3",
        "student.fit.batch_size=2",
        "data.train=48",
        "data.limit=null",
        *NO_REPORT,
    ]
    process = subprocess.Popen(command(run, *budget), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    last = run / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 200
    while not last.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    interrupted = torch.load(last, weights_only=True)
    epoch, step = interrupted["epoch"], interrupted["global_step"]
    assert epoch < 2
    output = finished([sys.executable, str(ROOT / "train.py"), f"resume={run}"], tmp_path)
    assert f"student epoch {epoch + 1}/3" not in output
    assert "student epoch 3/3" in output
    resumed = torch.load(last, weights_only=True)
    assert resumed["global_step"] == step * 3 // (epoch + 1)
    assert resumed["lr_schedulers"][0]["last_epoch"] == resumed["global_step"]
    assert next(iter(resumed["optimizer_states"][0]["state"].values()))["step"] == resumed["global_step"]


@pytest.mark.long
def test_two_processes_train_teacher_and_student_together(tmp_path: Path) -> None:
    output = finished(command(tmp_path / "run", "trainer=ddp", *NO_REPORT), tmp_path)
    assert output.count("training one for 1 epochs") == 1
    assert output.count("student epoch 1/1") == 1
    student = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert student["global_step"] == 1  # eight images, two processes, batches of four
    (metrics,) = (tmp_path / "run" / "csv").glob("*/metrics.csv")
    assert "test/teacher_miou" in metrics.read_text()
