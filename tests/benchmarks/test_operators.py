"""`segdistill benchmark operators`: what it counts, times, prints and saves."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segdistill.benchmarks import __main__ as command
from segdistill.benchmarks.operators import OperatorClock
from segdistill.benchmarks.steps import HELD


def clocked(image: Tensor, weight: Tensor, *, dilation: int = 1, groups: int = 1) -> OperatorClock:
    clock = OperatorClock()
    with clock:
        F.conv2d(image, weight, dilation=dilation, groups=groups).sum().backward()  # type: ignore[no-untyped-call]
    return clock


def test_products_of_convolutions_and_their_gradients_by_hand() -> None:
    image, kernel = torch.rand(2, 4, 10, 12, requires_grad=True), torch.rand(6, 4, 3, 5, requires_grad=True)
    clock = clocked(image, kernel)  # 2 x 6 x 8 x 8 results of 4 x 3 x 5 products each
    assert clock.flops["convolution, 3 x 5"] == 2 * (2 * 6 * 8 * 8) * (4 * 3 * 5)
    assert clock.flops["its gradients, 3 x 5"] == 2 * clock.flops["convolution, 3 x 5"]
    assert clock.calls["convolution, 3 x 5"] == clock.calls["its gradients, 3 x 5"] == 1
    fixed = clocked(image.detach(), kernel)  # one gradient alone
    assert fixed.flops["its gradients, 3 x 5"] == clock.flops["convolution, 3 x 5"]


def test_kinds_of_convolutions_are_told_apart() -> None:
    image = torch.rand(1, 4, 11, 11, requires_grad=True)
    depthwise = clocked(image, torch.rand(4, 1, 3, 3), groups=4, dilation=2)
    name = "depthwise 3 x 3, dilated"
    assert depthwise.flops[f"convolution, {name}"] == 2 * (4 * 7 * 7) * 9
    assert depthwise.flops[f"its gradients, {name}"] == depthwise.flops[f"convolution, {name}"]
    with OperatorClock() as clock:
        F.conv_transpose2d(image, torch.rand(4, 3, 2, 2), stride=2)
        torch.rand(5, 7) @ torch.rand(7, 3)
        image + 1
    assert clock.flops["convolution, 2 x 2"] == 2 * (4 * 11 * 11) * (3 * 2 * 2)
    assert clock.flops["mm"] == 2 * 5 * 7 * 3
    assert clock.flops["add"] == 0
    assert clock.calls["add"] == 1
    assert clock.seconds["add"] > 0


@pytest.mark.slow
def test_the_command_prints_and_saves_every_operators_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variables in HELD.values():  # set by the command, and taken back by the fixture
        for name in variables:
            monkeypatch.setenv(name, os.environ.get(name, ""))
    output = tmp_path / "operators.json"
    options = ["--batch-size", "2", "--size", "33", "49", "--rounds", "1", "--instructions", "avx2"]
    monkeypatch.setattr(sys, "argv", ["benchmark", "operators", *options, "--output", str(output)])
    command.main()
    written, printed = json.loads(output.read_text()), capsys.readouterr().out
    assert (written["step"], written["batch"]) == ("distillation, cached logits", [2, 33, 49])
    assert sum(row["share"] for row in written["operators"]) == pytest.approx(1)
    assert sum(row["gflop"] for row in written["operators"]) == pytest.approx(written["gflop"])
    assert written["gflop_per_s"] == pytest.approx(written["gflop"] / written["seconds"])
    assert list(written["product_gflop_per_s"]) == ["float32"]  # held instructions multiply no bf16
    assert "held to AVX2" in written["device"]
    assert "convolution, 1 x 1" in printed
    assert "GFLOP/s" in printed
