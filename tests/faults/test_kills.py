"""SIGKILL at any moment: the same run, started again, ends as one that nobody killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from helpers.runs import DEADLINE_S, command, finished, launched, temporaries, train, until
from PIL import Image

MOMENTS = 20
WHOLE = ["logger=csv", "callbacks.quantize.images=2", "distill.teacher_cache=disk"]
QUICK = ["logger=csv", "distill=none", *(f"~callbacks.{name}" for name in ("quantize", "predictions", "dashboard"))]
ACCURACIES = ("model", "engine", "images", "overall_acc", "mean_acc", "freqw_acc", "miou", "class_iou", "agreement")
Moment = Callable[[], bool]


def started(folder: Path, overrides: list[str]) -> list[str]:
    return command(folder / "run", *overrides)


def start_or_resume(folder: Path, overrides: list[str]) -> list[str]:
    """The command that the README names: `resume=` once the run has noted its settings."""
    run_dir = folder / "run"
    noted = (run_dir / ".hydra" / "overrides.yaml").is_file()
    return train(f"resume={run_dir}") if noted else started(folder, overrides)


def scores(run_dir: Path) -> list[dict[str, Any]]:
    rows = json.loads((run_dir / "results.json").read_text())
    return [{key: row[key] for key in ACCURACIES} for row in rows]


def uninterrupted(folder: Path, overrides: list[str]) -> tuple[Path, float]:
    """The directory of a run that nobody killed, and the seconds it took."""
    begin = time.monotonic()
    finished(started(folder, overrides), folder)
    return folder / "run", time.monotonic() - begin


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    return uninterrupted(tmp_path_factory.mktemp("whole"), WHOLE)


def kill(arguments: list[str], folder: Path, moment: Moment) -> bool:
    """Start a run and kill all of its processes at a moment; tells whether it was still running."""
    process = launched(arguments, folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(moment, process, DEADLINE_S)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running


def require_whole(folder: Path) -> None:
    """Every file that has its final name can be read to its end."""
    for path in folder.rglob("*"):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".onnx":
            onnx.checker.check_model(onnx.load(path))
        elif path.suffix == ".ckpt":
            torch.load(path, weights_only=True)
        elif path.suffix == ".png":
            with Image.open(path) as image:
                image.load()


def require_same_end(folder: Path, overrides: list[str], whole: Path) -> None:
    """Let it go on, and compare with the run that nobody killed."""
    run_dir = folder / "run"
    finished(start_or_resume(folder, overrides), folder)
    assert scores(run_dir) == scores(whole)
    assert not temporaries(run_dir)
    require_whole(folder)


STAGES: dict[str, Callable[[Path], bool]] = {
    "rendering": lambda folder: any((folder / "cache" / "scenes").glob(".*")),
    "training": lambda folder: (folder / "run" / "checkpoints" / "last.ckpt").is_file(),
    "timing": lambda folder: (folder / "run" / "onnx" / "student.onnx").is_file(),
}


@pytest.mark.slow
@pytest.mark.long
def test_a_run_that_is_killed_three_times_ends_like_an_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    whole, _ = uninterrupted(tmp_path_factory.mktemp("quick"), QUICK)
    for there in STAGES.values():
        assert kill(start_or_resume(tmp_path, QUICK), tmp_path, partial(there, tmp_path))
        require_whole(tmp_path)
    require_same_end(tmp_path, QUICK, whole)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(MOMENTS))
def test_a_run_killed_at_a_random_moment_ends_like_an_uninterrupted_one(
    number: int, whole: tuple[Path, float], tmp_path: Path
) -> None:
    at = time.monotonic() + whole[1] * random.Random(number).random()
    kill(started(tmp_path, WHOLE), tmp_path, lambda: time.monotonic() >= at)
    require_whole(tmp_path)
    require_same_end(tmp_path, WHOLE, whole[0])
