"""The benchmark command: every kind of step runs, and its table and file say the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from segdistill import benchmark


def test_training_times_every_kind_of_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "steps.json"
    options = ["--batch-size", "1", "--size", "33", "49", "--rounds", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["benchmark", "training", *options])
    benchmark.main()
    written = json.loads(output.read_text())
    assert set(written["steps"]) == set(benchmark.STEPS)
    reference = written["steps"][benchmark.REFERENCE]["seconds"]
    printed = capsys.readouterr().out
    for name, figures in written["steps"].items():
        assert figures["times_faster"] == pytest.approx(reference / figures["seconds"])
        assert name in printed


@pytest.mark.parametrize("name", sorted(benchmark.STEPS))
def test_a_step_moves_the_student_and_never_the_teacher(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = benchmark._pair()
    before = [[parameter.detach().clone() for parameter in network.parameters()] for network in (teacher, student)]
    monkeypatch.setattr(benchmark, "_pair", lambda: (teacher, student))
    benchmark.STEPS[name](torch.rand(2, 3, 33, 49), torch.randint(0, 5, (2, 33, 49)))()
    stayed, moved = (
        all(torch.equal(old, new) for old, new in zip(olds, network.parameters(), strict=True))
        for olds, network in zip(before, (teacher, student), strict=True)
    )
    assert stayed
    assert not moved
    reached = any(parameter.grad is not None and parameter.grad.any() for parameter in teacher.parameters())
    assert reached == (name == benchmark.REFERENCE)
