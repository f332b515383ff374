"""`segdistill benchmark loader`: what it times, prints and saves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import ROOT
from PIL import Image

from segdistill.benchmarks import __main__ as command
from segdistill.benchmarks import loader

TINY = ["data.num_workers=0", "student.fit.batch_size=2", "student.fit.crop=[64,64]", "teacher.fit.crop=[64,64]"]
SCENES = ["data.input_size=[67,98]", "data.train=4", "data.val=1", "data.test=1"]
PLACES = ["decoded every time", "kept in memory", "kept on disk"]


def run_loader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> None:
    paths = ["--conf", str(ROOT / "conf"), "--cache", str(tmp_path), "--output", str(tmp_path / "loader.json")]
    monkeypatch.setattr(sys, "argv", ["benchmark", "loader", "--rounds", "1", *paths, *arguments])
    command.main()


@pytest.mark.slow
def test_the_loader_is_compared_with_the_configured_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_loader(monkeypatch, tmp_path, "--count", "3", *TINY, *SCENES)
    written, printed = json.loads((tmp_path / "loader.json").read_text()), capsys.readouterr().out
    assert (written["images"], written["workers"]) == (3, 0)
    assert list(written["loader"]) == PLACES
    taken = written["student"]["images_per_second"]
    for name, figures in written["loader"].items():
        assert figures["of_student"] == pytest.approx(figures["images_per_second"] / taken)
        assert name in printed
    assert f"The student takes {taken:.1f} images/s on {written['student']['device']}" in printed
    assert f"Processor: {written['device']}" in printed


@pytest.mark.slow
def test_large_images_are_rendered_once_and_read_with_and_without_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "LARGE", (192, 256))
    monkeypatch.setattr(loader, "SMALL", (48, 64))
    monkeypatch.setattr(loader, "LARGE_INPUT", (64, 64))
    times = set()
    for _ in range(2):
        run_loader(monkeypatch, tmp_path, "--large", "--count", "8", *TINY)
        (image, mask) = (next(tmp_path.glob(f"large-*/train/{part}/000.*")) for part in ("images", "masks"))
        times.add(image.stat().st_mtime_ns)
        with Image.open(image) as shown, Image.open(mask) as labels:
            assert shown.format == "JPEG"
            assert shown.size == labels.size == (256, 192)
            assert len(np.unique(np.asarray(labels))) > 2
        written = json.loads((tmp_path / "loader.json").read_text())
        assert list(written["loader"]) == [*PLACES, *(f"draft, {place}" for place in PLACES)]
        assert written["images"] == 2
    assert len(times) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conf", "absent"], "absent: holds no config.yaml"),
        (["data=absent"], "data/absent"),
        (["data.absent=1"], "absent"),
        (["data=folder", "data.root=absent", "data.input_size=[32,32]"], "data"),
    ],
)
def test_a_faulty_configuration_ends_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_loader(monkeypatch, tmp_path, *arguments)
    assert str(ended.value.code).startswith("error: ")
    assert message in str(ended.value.code)
    assert "\n" not in str(ended.value.code)
