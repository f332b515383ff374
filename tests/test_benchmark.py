"""The benchmark command: every kind of step runs, and its table and file say the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from segdistill import benchmark


def test_training_times_every_kind_of_step_with_every_teacher_and_the_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "steps.json"
    options = ["--batch-size", "1", "--size", "33", "49", "--rounds", "1", "--output", str(output)]
    monkeypatch.setattr(benchmark, "TEACHERS", ("efficientnet_lite0", "resnet18"))
    monkeypatch.setattr(sys, "argv", ["benchmark", "training", *options, "--cache", str(tmp_path)])
    benchmark.main()
    pairs = json.loads(output.read_text())["pairs"]
    printed = capsys.readouterr().out
    assert [pair["teacher"] for pair in pairs] == ["efficientnet_lite0", "resnet18"]
    for pair in pairs:
        seconds = {name: figures["seconds"] for name, figures in pair["steps"].items()}
        assert set(seconds) == set(benchmark.STEPS)
        for name, figures in pair["steps"].items():
            assert figures["times_faster"] == pytest.approx(seconds["the original's way"] / figures["seconds"])
            assert figures["of_student_alone"] == pytest.approx(figures["seconds"] / seconds["student alone"])
            assert name in printed
    loader = pairs[0]["loader"]
    assert loader["student_images_per_second"] == pytest.approx(1 / pairs[0]["steps"]["student alone"]["seconds"])
    assert f"The loader gives {loader['images_per_second']:.1f} images/s" in printed


@pytest.mark.parametrize("name", sorted(benchmark.STEPS))
def test_a_step_moves_the_student_and_never_the_teacher(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = benchmark._teacher("efficientnet_lite0"), benchmark._student()
    before = [[parameter.detach().clone() for parameter in network.parameters()] for network in (teacher, student)]
    monkeypatch.setattr(benchmark, "_teacher", lambda _: teacher)
    monkeypatch.setattr(benchmark, "_student", lambda: student)
    benchmark.STEPS[name]("any", torch.rand(2, 3, 33, 49), torch.randint(0, 5, (2, 33, 49)))()
    stayed, moved = (
        all(torch.equal(old, new) for old, new in zip(olds, network.parameters(), strict=True))
        for olds, network in zip(before, (teacher, student), strict=True)
    )
    assert stayed
    assert not moved
    reached = any(parameter.grad is not None and parameter.grad.any() for parameter in teacher.parameters())
    assert reached == (name == benchmark.REFERENCE)
