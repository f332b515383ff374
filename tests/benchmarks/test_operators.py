"""`segdistill benchmark operators`: what it counts, times, prints and saves."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.benchmarks import __main__ as command
from segdistill.benchmarks.operators import OperatorClock
from segdistill.benchmarks.steps import HELD
from segdistill.models.cpu_depthwise import replace_depthwise_convs


def clocked(image: Tensor, weight: Tensor, *, dilation: int = 1, groups: int = 1) -> OperatorClock:
    clock = OperatorClock()
    with clock:
        F.conv2d(image, weight, dilation=dilation, groups=groups).sum().backward()  # type: ignore[no-untyped-call]
    return clock


def test_products_of_convolutions_and_their_gradients_by_hand() -> None:
    image, kernel = torch.rand(2, 4, 10, 12, requires_grad=True), torch.rand(6, 4, 3, 5, requires_grad=True)
    clock = clocked(image, kernel)  # 2 x 6 x 8 x 8 results of 4 x 3 x 5 products each
    forward, backward = "convolution 3 x 5", "convolution 3 x 5, backward"
    assert clock.flops[forward] == 2 * (2 * 6 * 8 * 8) * (4 * 3 * 5)
    assert clock.flops[backward] == 2 * clock.flops[forward]
    assert clock.calls[forward] == clock.calls[backward] == 1
    fixed = clocked(image.detach(), kernel)  # one gradient alone
    assert fixed.flops[backward] == clock.flops[forward]


def test_kinds_of_convolutions_are_told_apart() -> None:
    image = torch.rand(1, 4, 11, 11, requires_grad=True)
    depthwise = clocked(image, torch.rand(4, 1, 3, 3), groups=4, dilation=2)
    name = "convolution depthwise 3 x 3, dilated"
    assert depthwise.flops[name] == depthwise.flops[f"{name}, backward"] == 2 * (4 * 7 * 7) * 9
    grouped = clocked(image, torch.rand(4, 2, 3, 3), groups=2)
    assert grouped.flops["convolution 3 x 3"] == 2 * (4 * 9 * 9) * (2 * 3 * 3)
    with OperatorClock() as clock:
        F.conv_transpose2d(image, torch.rand(4, 3, 2, 2), stride=2)
        torch.rand(5, 7) @ torch.rand(7, 3)
        image + 1
    assert clock.flops["convolution 2 x 2"] == 2 * (4 * 11 * 11) * (3 * 2 * 2)
    assert clock.flops["mm"] == 2 * 5 * 7 * 3
    assert clock.flops["add"] == 0
    assert clock.calls["add"] == 1
    assert clock.seconds["add"] > 0


def test_the_convolutions_of_a_quick_backward_pass_count_as_backward() -> None:
    layer = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False))
    replace_depthwise_convs(layer)
    clock = OperatorClock()
    with clock:
        layer(torch.rand(1, 4, 9, 9, requires_grad=True)).sum().backward()
    name, once = "convolution depthwise 3 x 3", 2 * (4 * 9 * 9) * 9
    assert {each: clock.flops[each] for each in clock.flops if "convolution" in each} == {
        name: once,
        f"{name}, backward": 2 * once,
    }


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
    assert all(0 <= row["share"] < 1 for row in written["operators"])
    assert sum(row["share"] for row in written["operators"]) == pytest.approx(1)
    assert list(written["product_gflop_per_s"]) == ["float32"]  # held instructions multiply no bf16
    assert written["capability"] in ("AVX2", "DEFAULT")  # the latter on a processor that has not even these
    assert written["device"].endswith("held to AVX2")
    assert "convolution 1 x 1, backward" in printed
    assert "between operators" in printed
    assert "GFLOP/s" in printed
