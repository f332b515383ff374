"""What a configuration may call, and what it is told of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.composed import parsed
from helpers.runs import ROOT
from torch import nn

from segdistill.config import known_names
from segdistill.config.locate import Role, build, check_targets, locate, targets, trusting
from segdistill.utils.errors import ConfigError

PACKAGE = """
import os
from os import system
from torch import nn

class Net(nn.Module):
    pass

class Reader:
    pass

def make(num_classes):
    return nn.Conv2d(3, num_classes, 1)
"""
OPTIONS = [
    f"{path.parent.name}={path.stem}"
    for group in ("student", "teacher", "optimizer", "augment", "logger", "callbacks")
    for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
]
TORCHVISION = "student=torchvision student.network.factory="


@pytest.fixture
def my_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of the user's own, on the path."""
    (tmp_path / "my_networks.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_conf_may_be_called(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_names, "is_installed", lambda package: True)  # some need an optional package
    parsed(option)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (f"{TORCHVISION}subprocess.Popen", "student.network.factory=subprocess.Popen"),
        (f"{TORCHVISION}os.system", "student.network.factory=os.system"),
        (f"{TORCHVISION}torch.hub.load", "student.network.factory=torch.hub.load"),
        (f"{TORCHVISION}torch.nn._Evil", "student.network.factory=torch.nn._Evil"),
        ("student.network._target_=torch.load", "student.network._target_=torch.load"),
        (
            "student.network._target_=segdistill.inference.benchmark.measure",
            "student.network._target_=segdistill.inference",
        ),
        ("teacher.network._target_=builtins.exec", "teacher.network._target_=builtins.exec"),
        ("+student.network.inner={_target_: subprocess.run}", "student.network.inner._target_=subprocess.run"),
        ("+student.network.x=[{y: {_target_: os.system}}]", "student.network.x.0.y._target_=os.system"),
        (
            "+student.network.x={_target_: segdistill.models.SegmentationModelAdapter, factory: os.system}",
            "student.network.x.factory=os.system",
        ),
        ("optimizer._target_=subprocess.run", "optimizer._target_=subprocess.run"),
        ("optimizer._target_=torch.hub.load", "optimizer._target_=torch.hub.load"),
        ("+optimizer.x={_target_: os.system, _args_: [ls]}", "optimizer.x._target_=os.system"),
        ("+logger.x={_target_: subprocess.run}", "logger.x._target_=subprocess.run"),
        ("+callbacks.x={_target_: os.system, _partial_: true}", "callbacks.x._target_=os.system"),
        ("+callbacks.x={_target_: torch.optim.SGD}", "callbacks.x._target_=torch.optim.SGD"),
        ("student.network._target_=${distill.alpha}", "student.network._target_=0.5"),
        (
            "+augment.x={_target_: torchvision.transforms.v2.RandomApply, transforms: [{_target_: os.system}]}",
            "augment.x.transforms.0._target_=os.system",
        ),
        ("+callbacks.x={_target_: [os.system]}", "callbacks.x._target_=['os.system']"),
    ],
)
def test_a_foreign_callable_is_refused_before_its_import(overrides: str, key: str) -> None:
    name, *rest = overrides.split(" ") if overrides.startswith(TORCHVISION) else [overrides]
    with pytest.raises(ConfigError) as caught:
        parsed(name, *rest)
    assert str(caught.value).startswith(key)


def test_a_target_where_nothing_is_called_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is called here, only under network"):
        check_targets({"distill": {"_target_": "torch.nn.Identity"}}, trusted=["torch"])


@pytest.mark.parametrize(
    ("path", "role", "found"),
    [
        ("segdistill.models.adapters.first_line", "network", "segdistill.utils.errors.first_line"),
        ("segdistill.models.adapters.copy.deepcopy", "network", "copy.deepcopy"),
        ("torch.nn.functional.torch.load", "network", "torch.serialization.load"),
        ("torchvision.models.WeightsEnum", "network", "torchvision.models._api.WeightsEnum"),
        ("torch.nn.init.normal_", "network", "torch.nn.init.normal_"),
        (
            "torchvision.transforms.v2.InterpolationMode",
            "augmentation",
            "torchvision.transforms.functional.InterpolationMode",
        ),
        ("torch.optim.lr_scheduler.LambdaLR", "optimizer", "torch.optim.lr_scheduler.LambdaLR"),
        ("segdistill.engine.loggers.start", "logger", "segdistill.engine.loggers.start"),
        ("segdistill.callbacks.inputs.evenly_spaced", "callback", "segdistill.callbacks.inputs.evenly_spaced"),
    ],
)
def test_the_located_object_is_checked_too(path: str, role: Role, found: str) -> None:
    with pytest.raises(ConfigError, match=f"{path}: is {found}; needed is a subclass of"):
        locate("key", path, role)


def test_networks_optimizers_loggers_and_callbacks_are_located() -> None:
    located = [
        locate("key", "torchvision.models.segmentation.lraspp_mobilenet_v3_large", "network"),
        locate("key", "torch.nn.Conv2d", "network"),
        locate("key", "timm.optim.AdaBelief", "optimizer"),
        locate("key", "segdistill.engine.loggers.wandb_logger", "logger"),
        locate("key", "pytorch_lightning.callbacks.LearningRateMonitor", "callback"),
        locate("key", "torchvision.transforms.v2.GaussianBlur", "augmentation"),
        locate("key", "segdistill.losses.pixelwise_kl.PixelwiseKL", "loss"),  # a file that no __init__.py need know
        locate("key", "segdistill.callbacks.predictions.Predictions", "callback"),
    ]
    assert [found.__name__ for found in located] == [
        "lraspp_mobilenet_v3_large",
        "Conv2d",
        "AdaBelief",
        "wandb_logger",
        "LearningRateMonitor",
        "GaussianBlur",
        "PixelwiseKL",
        "Predictions",
    ]


@pytest.mark.usefixtures("my_networks")
def test_a_package_of_ones_own_has_to_be_trusted() -> None:
    with pytest.raises(ConfigError, match="trusted_packages does not list my_networks"):
        parsed("student.network._target_=my_networks.Net")
    parsed("student.network._target_=my_networks.Net", "trusted_packages=[my_networks]")
    with pytest.raises(ConfigError, match="trusted_packages does not list my_networks"):
        locate("key", "my_networks.make", "network")
    with trusting(["my_networks"]):
        assert locate("key", "my_networks.make", "network").__name__ == "make"
        assert issubclass(locate("key", "my_networks.Net", "network"), nn.Module)  # type: ignore[arg-type] # a class
        for path in ("my_networks.os.system", "my_networks.system"):
            with pytest.raises(ConfigError, match=r"is posix.system; needed is a subclass of torch.nn.Module"):
                locate("key", path, "network")


def test_a_trusted_package_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match="there is no package no_such_package"):
        parsed("trusted_packages=[no_such_package]", "student.network._target_=no_such_package.Net")


def test_building_locates_what_is_nested_before_anything_is_called(tmp_path: Path) -> None:
    spec = {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.ReLU"}]}
    assert isinstance(build("network", spec), nn.Sequential)
    mark = tmp_path / "mark"
    spec["_args_"] = [{"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "_args_": [str(mark)]}}]
    with pytest.raises(ConfigError, match=r"network._args_.0._target_=pathlib.Path.touch"):
        build("network", spec)
    assert not mark.exists()


def test_every_dotted_path_is_found_at_any_depth() -> None:
    node = {
        "a": [{"_target_": "x.Y", "b": {"_target_": "segdistill.models.SegmentationModelAdapter", "factory": "p.q"}}]
    }
    assert [(t.key, t.path) for t in targets(node)] == [
        ("a.0._target_", "x.Y"),
        ("a.0.b._target_", "segdistill.models.SegmentationModelAdapter"),
        ("a.0.b.factory", "p.q"),
    ]


def test_an_optimizer_is_built_by_its_part() -> None:
    factory = build("optimizer", {"_target_": "torch.optim.SGD", "lr": 0.5}, _partial_=True)
    assert factory([nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"] == 0.5
