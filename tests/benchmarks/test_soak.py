"""The soak benchmark: what it reads of a process, and what it calls growth."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.networks import Tiny

from segdistill.benchmarks import __main__ as command
from segdistill.benchmarks.soak import Reading, growth
from segdistill.export.onnx import export_onnx


def test_a_reading_counts_the_open_files_of_a_process(tmp_path: Path) -> None:
    before = Reading.of("self")
    with (tmp_path / "one").open("w"), (tmp_path / "other").open("w"):
        assert Reading.of(os.getpid()).files == before.files + 2
    assert before.memory_mb > 1


def test_growth_compares_the_last_third_with_the_second() -> None:
    readings = [Reading(memory, 10) for memory in (1, 1, 1, 100, 100, 100, 105, 105, 105)]
    assert growth(readings, lambda r: r.memory_mb) == pytest.approx(1.05)
    assert growth(readings, lambda r: r.files) == 1.0


def test_predictions_are_read_at_even_distances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 36, 3), np.uint8)
    export_onnx(Tiny(), tmp_path / "tiny.onnx", images, {"classes": '["off", "on"]', "palette": "[[0,0,0],[1,1,1]]"})
    arguments = ["soak", "--model", str(tmp_path / "tiny.onnx"), "--predictions", "100"]
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, "--output", str(tmp_path / "soak.json")])
    command.main()
    assert len(json.loads((tmp_path / "soak.json").read_text())["files"]) == 50
    assert capsys.readouterr().out.startswith("100 predictions: ")
