"""A run in which a part fails: what cannot be exported is known before the data, and what fails later costs no test."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

import segdistill.engine.pipeline as run_module
from segdistill.config.parse import parse, register
from segdistill.config.schema import Config
from segdistill.engine import networks
from segdistill.engine.builders import Builder
from segdistill.engine.networks import check_export
from segdistill.engine.objectives import build_supervised_loss
from segdistill.losses import BalancedLoss
from segdistill.reporting.results import read_failures, read_results
from segdistill.utils.errors import ConfigError, UserError

ROOT = Path(__file__).parents[2]
REASON = r"torch\.onnx\.export fails: Could not guard on data-dependent expression [^\n]*"


class Pixelwise(nn.Module):
    """Five classes from one 1 x 1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.norm(self.conv(image))
        return logits


class Branching(Pixelwise):
    """A branch on the image's values, which the exporter cannot follow."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image if image.mean() > 0.5 else 1 - image)


class Uncopyable(Pixelwise):
    """Refuses to be copied, as networks with hooks or handles do."""

    def __deepcopy__(self, memo: object) -> Uncopyable:
        raise TypeError("cannot pickle a handle")


def composed(*overrides: str) -> Config:
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return parse(compose("config", ["experiment=smoke", "logger=csv", *overrides]))


def test_a_trial_of_the_export_leaves_the_network_as_it_was() -> None:
    network = Pixelwise().train()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    check_export("student", network, [24, 36])
    assert network.training
    assert network.norm.training
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_a_network_is_tried_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[type[nn.Module], Sequence[int]]] = []
    monkeypatch.setattr(networks, "try_export", lambda network, size: tried.append((type(network), size)))
    for network, size in (
        (nn.Conv2d(3, 7, 1), [8, 8]),
        (nn.Conv2d(3, 7, 1), [8, 8]),
        (nn.Conv2d(3, 7, 1), [8, 16]),
        (nn.Conv2d(3, 9, 1), [8, 8]),
        (Branching(), [8, 8]),
    ):
        check_export("student", network, size)
    assert tried == [(nn.Conv2d, [8, 8]), (nn.Conv2d, [8, 16]), (nn.Conv2d, [8, 8]), (Branching, [8, 8])]


def test_a_network_that_cannot_be_exported_is_one_line() -> None:
    with pytest.raises(UserError, match=rf"^teacher: Branching cannot be exported to ONNX \({REASON}\); change the n"):
        check_export("teacher", Branching(), [24, 36])
    with pytest.raises(UserError, match=r"^student: Uncopyable cannot be exported to ONNX \(cannot pickle a handle\)"):
        check_export("student", Uncopyable(), [24, 36])


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_the_export_is_tried_before_the_data_is_opened(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = {"student": Pixelwise(), "teacher": Pixelwise()} | {role: Branching()}
    monkeypatch.setattr(Builder, "network", lambda *_: built["student"])
    monkeypatch.setattr(Builder, "probe_teacher", lambda _: built["teacher"])
    monkeypatch.setattr(Builder, "source", lambda _: pytest.fail("the data was opened"))
    with pytest.raises(UserError, match=rf"^{role}: Branching cannot be exported .*'~callbacks\.onnx_export'"):
        run_module.run(composed(), tmp_path)


TORCHS = ["{group}=cross_entropy", "{key}._target_=torch.nn.CrossEntropyLoss"]


@pytest.mark.parametrize("key", ["loss", "teacher.training.loss"])
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (["{key}.class_weights=[1,2]"], r"\.class_weights=\[1\.0, 2\.0\]: must be 5, one for each class"),
        (TORCHS, r"=\{.*\}: fails on .* \(Target 255 is out of bounds.\); .* need \+{key}\.ignore_index=255"),
        (
            [*TORCHS, "+{key}.ignore_index=255", "+{key}.reduction=none"],
            r"=\{.*\}: fails on logits of 5 classes \(grad can be implicitly created only for scalar outputs\); ",
        ),
    ],
    ids=["weights", "void", "not a scalar"],
)
def test_losses_are_tried_before_the_data_is_opened_and_a_teacher_trained(
    key: str, changes: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Builder, "network", lambda *_: Pixelwise())
    monkeypatch.setattr(Builder, "probe_teacher", lambda _: Pixelwise())
    monkeypatch.setattr(Builder, "source", lambda _: pytest.fail("the data was opened"))
    group = "loss" if key == "loss" else f"loss@{key}"
    overrides = [change.replace("{group}", group).replace("{key}", key) for change in changes]
    expected = re.escape(key) + complaint.replace("{key}", re.escape(key))
    with pytest.raises(ConfigError, match=f"^{expected}"):
        run_module.run(composed("teacher.source=train", "callbacks=none", *overrides), tmp_path)


def test_a_trial_leaves_the_loss_and_the_random_state_as_they_were() -> None:
    builder = Builder(composed("loss=balanced"))
    before = torch.random.get_rng_state()
    loss = builder.supervised_loss("student")
    assert isinstance(loss, BalancedLoss)
    assert loss.weight is None  # still to be measured
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", ["balanced", "cross_entropy", "focal", "ohem"])
@pytest.mark.parametrize("classes", [1, 254])
def test_every_loss_of_conf_passes_its_trial(name: str, classes: int) -> None:
    build_supervised_loss("loss", composed(f"loss={name}").loss, classes)


def test_without_the_callback_no_export_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(_: Builder) -> None:
        raise UserError("the data was opened")

    monkeypatch.setattr(Builder, "network", lambda *_: Branching())
    monkeypatch.setattr(Builder, "probe_teacher", lambda _: Branching())
    monkeypatch.setattr(Builder, "source", opened)
    for overrides in (["callbacks=none"], ["~callbacks.onnx_export"]):
        with pytest.raises(UserError, match="the data was opened"):
            run_module.run(composed(*overrides), tmp_path)


def workers_of(process: int) -> list[int]:
    """Processes that were spawned, not forked, by `process` to run Python code."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (folder / "status").read_text(), (folder / "cmdline").read_text()
        except OSError:  # it has ended
            continue
        if f"\nPPid:\t{process}\n" in status and "spawn_main" in command:
            found.append(int(folder.name))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.long
def test_an_engine_that_is_killed_costs_its_row_alone(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    places = [f"hydra.run.dir={run_dir}", f"cache_dir={tmp_path / 'cache'}"]
    data = ["data.input_size=[67,98]", "data.train=4", "data.val=2", "data.test=5", "teacher.fit.crop=[64,64]"]
    less = ["stage=teacher", "logger=csv", "~callbacks.quantize", "~callbacks.dashboard", "~callbacks.predictions"]
    command = [sys.executable, str(ROOT / "train.py"), "experiment=smoke", *data, *less, *places]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 300
    while not (engines := workers_of(process.pid) if (run_dir / "onnx" / "teacher.onnx").is_file() else []):
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(engines[0], signal.SIGKILL)  # PyTorch's, which is started first
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    rows, (failure,) = read_results(run_dir / "results.json"), read_failures(run_dir / "results.json")
    engines_left = ["onnxruntime-fp32", "openvino-fp32", "onnxruntime-fp32+decode"]
    assert [(row.model, row.engine) for row in rows] == [("teacher", engine) for engine in engines_left]
    assert {row.agreement for row in rows} == {None}  # there was nothing to compare with
    assert (failure.model, failure.engine) == ("teacher", "pytorch")
    assert failure.error == "its process was killed by SIGKILL"
    assert "teacher pytorch failed, the others go on: its process was killed by SIGKILL" in output
    assert "onnxruntime-fp32+decode" in (run_dir / "report.html").read_text()
    with next((run_dir / "csv").glob("*/metrics.csv")).open(newline="") as file:
        assert any(record["test/miou"] for record in csv.DictReader(file))
