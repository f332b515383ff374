"""The benchmark command: every kind of step runs, and its table and file say the same."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from segdistill.benchmarks import __main__ as command
from segdistill.benchmarks import inference, steps, training
from segdistill.export.onnx import export_onnx
from segdistill.utils.worker import SubprocessError


@pytest.mark.slow
@pytest.mark.long
def test_training_times_steps_in_processes_of_their_own_and_the_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "steps.json"
    options = ["--batch-size", "1", "--size", "33", "49", "--rounds", "1", "--compile", "--output", str(output)]
    options += ["--teachers", "efficientnet_lite0"]
    few = {name: training.STEPS[name] for name in (training.REFERENCE, training.CONSUMER)}
    compiled = {"the same, compiled": training.student_step}  # compiling takes minutes: it is tried below
    monkeypatch.setattr(training, "COMPILED", compiled)
    monkeypatch.setattr(training, "STEPS", few)  # each takes a process that imports torch; the others run below
    monkeypatch.setattr(sys, "argv", ["benchmark", "training", *options, "--cache", str(tmp_path)])
    command.main()
    pairs = json.loads(output.read_text())["pairs"]
    printed = capsys.readouterr().out
    assert [pair["teacher"] for pair in pairs] == ["efficientnet_lite0"]
    for pair in pairs:
        seconds = {name: figures["seconds"] for name, figures in pair["steps"].items()}
        assert set(seconds) == set(few | compiled)
        for name, figures in pair["steps"].items():
            assert figures["times_faster"] == pytest.approx(seconds["the original's way"] / figures["seconds"])
            assert figures["of_student_alone"] == pytest.approx(figures["seconds"] / seconds["student alone"])
            assert figures["first_seconds"] > 0
            assert name in printed
    loader = pairs[0]["loader"]
    assert loader["student_images_per_second"] == pytest.approx(1 / pairs[0]["steps"]["student alone"]["seconds"])
    assert f"The loader gives {loader['images_per_second']:.1f} images/s" in printed


@pytest.mark.parametrize("name", sorted(training.STEPS))
def test_a_step_moves_the_student_and_never_the_teacher(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = training.build_teacher("efficientnet_lite0"), training.build_student()
    before = [[parameter.detach().clone() for parameter in network.parameters()] for network in (teacher, student)]
    monkeypatch.setattr(training, "build_teacher", lambda _: teacher)
    monkeypatch.setattr(training, "build_student", lambda: student)
    training.STEPS[name]("any", torch.rand(2, 3, 33, 49), torch.randint(0, 5, (2, 33, 49)))()
    stayed, moved = (
        all(torch.equal(old, new) for old, new in zip(olds, network.parameters(), strict=True))
        for olds, network in zip(before, (teacher, student), strict=True)
    )
    assert stayed
    assert not moved
    reached = any(parameter.grad is not None and parameter.grad.any() for parameter in teacher.parameters())
    assert reached == (name == training.REFERENCE)


def test_a_compiled_step_is_a_step_of_the_student_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    image, target = torch.rand(2, 3, 33, 49), torch.randint(0, 5, (2, 33, 49))
    graphs: list[torch.fx.GraphModule] = []
    results = []

    def traced(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=traced))
    monkeypatch.setattr(steps, "choose_precision", lambda _: "32-true")
    students = [training.build_student() for _ in range(2)]
    builds = (training.STEPS[training.CONSUMER], *training.COMPILED.values())
    for student, build in zip(students, builds, strict=True):
        monkeypatch.setattr(training, "build_student", lambda student=student: student)
        before = len(graphs)
        step = build("any", image, target)
        torch.manual_seed(0)
        step()
        results.append((len(graphs) > before, [parameter.grad for parameter in student.parameters()]))
    (eager, expected), (compiled, found) = results
    assert (eager, compiled) == (False, True)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_a_step_that_fails_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise SubprocessError("the same, compiled", "InvalidCxxCompiler: no compiler")

    monkeypatch.setattr(training, "training", missing)
    monkeypatch.setattr(sys, "argv", ["benchmark", "training", "--compile"])
    with pytest.raises(SystemExit, match=r"^error: the same, compiled: InvalidCxxCompiler: no compiler$"):
        command.main()


class Brightest(nn.Module):
    """Classifies a pixel by its brightest channel."""

    def forward(self, image: Tensor) -> Tensor:
        return image * 2


@pytest.mark.slow
def test_inference_times_every_file_in_every_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 36, 3), np.uint8)
    for name in ("one", "two"):
        export_onnx(Brightest(), tmp_path / f"{name}.onnx", pixels, {"preprocessing": '{"resize": [24, 36]}'})
    Image.fromarray(pixels[0].repeat(2, axis=0)).save(tmp_path / "image.png")
    output = tmp_path / "times.json"
    files = [str(tmp_path / name) for name in ("one.onnx", "two.onnx")]
    options = ["--count", "3", "--batch-size", "2", "--threads", "1", "--output", str(output)]
    for images, count in ([], 3), (["--images", str(tmp_path / "*.png")], 1):
        monkeypatch.setattr(sys, "argv", ["benchmark", "inference", *files, *options, *images])
        command.main()
        written = json.loads(output.read_text())
        assert written["size"] == [24, 36]
        runtimes = ("onnxruntime", "openvino")
        assert [(r["file"], r["runtime"]) for r in written["rows"]] == [
            (Path(f).name, r) for f in files for r in runtimes
        ]
        first = written["rows"][0]["latency_ms_p50"]
        for row in written["rows"]:
            assert row["times_faster"] == pytest.approx(first / row["latency_ms_p50"])
            assert row["agreement"] == 1.0
            assert (row["batch_ms_p50"] is None) == (count == 1)
        assert f"{count} images of 24 x 36" in capsys.readouterr().out


def test_inference_goes_on_where_a_runtime_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 36, 3), np.uint8)
    model, output = tmp_path / "m.onnx", tmp_path / "times.json"
    export_onnx(Brightest(), model, pixels, {})
    options = ["--size", "24", "36", "--count", "3", "--batch-size", "1", "--threads", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["benchmark", "inference", str(model), *options])
    monkeypatch.setattr(inference, "installed_runtimes", lambda: ["absent", "onnxruntime"])
    command.main()
    written = json.loads(output.read_text())
    (row,) = written["rows"]
    assert (row["runtime"], row["times_faster"], row["agreement"]) == ("onnxruntime", None, None)
    assert written["failed"] == [{"file": "m.onnx", "runtime": "absent", "error": "KeyError: 'absent'"}]
    assert "m.onnx in absent failed: KeyError: 'absent'" in capsys.readouterr().out
    monkeypatch.setattr(inference, "installed_runtimes", lambda: ["absent"])
    with pytest.raises(SystemExit, match=r"error: m\.onnx in absent: KeyError: 'absent'"):
        command.main()


def test_inference_without_a_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "inference", str(tmp_path / "absent.onnx")])
    with pytest.raises(SystemExit, match=r"error: .*absent\.onnx: no such file"):
        command.main()
