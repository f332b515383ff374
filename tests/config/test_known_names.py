"""Misspelt names are told from the source of their package, without importing it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import timm.optim
import torch
import torchvision
from helpers.composed import parsed

from segdistill.config import known_names
from segdistill.config.known_names import backbone_objection, objection
from segdistill.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer._target_=torch.optim.AdamWW"], "optimizer._target_=torch.optim.AdamWW: torch.optim has no AdamWW"),
        (["optimizer._target_=timm.optim.AdaBelif"], "timm.optim has no AdaBelif; did you mean AdaBelief"),
        (["student.network._target_=segdistill.models.DeepLab3"], "no DeepLab3; did you mean DeepLabV3"),
        (["student.network.backbone=mobilenetv2_10"], "student.network.backbone=mobilenetv2_10: timm has no such"),
        (
            ["student=torchvision", "student.network.factory=torchvision.models.segmentation.fcn_resnet5"],
            "student.network.factory=torchvision.models.segmentation.fcn_resnet5: .*did you mean fcn_resnet50",
        ),
        (["+logger.x={_target_: pytorch_lightning.loggers.CSVLoger}"], "logger.x._target_=.*did you mean CSVLogger"),
        (["+callbacks.x={_target_: segdistill.callbacks.Dashbord}"], "has no Dashbord; did you mean Dashboard"),
        (["callbacks.dashboard._target_=segdistill.dashbord"], "may not be called as callback"),
        (
            ["+callbacks.x={_target_: segdistill.callbacks.FitEndCallback}"],
            "segdistill.callbacks has no FitEndCallback; did you mean segdistill.callbacks.fit_end.FitEndCallback",
        ),
    ],
)
def test_a_misspelt_name_is_told_with_what_is_near(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parsed(*overrides)


@pytest.mark.parametrize(
    ("option", "package"),
    [
        ("student=segformer", "transformers"),
        ("student=smp", "segmentation-models-pytorch"),
        ("logger=tensorboard", "tensorboard"),
    ],
)
def test_a_missing_optional_package_is_named(option: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = package.replace("-", "_")
    monkeypatch.setattr(known_names, "is_installed", lambda name: name != absent)
    with pytest.raises(ConfigError, match=f"needs a package: pip install {package}$"):
        parsed(option)


def test_packages_that_a_run_does_not_use_may_be_missing() -> None:
    parsed("experiment=student_baseline", "teacher.network.backbone=no_such_network")
    parsed("experiment=teacher", "student.network.backbone=no_such_network")
    with pytest.raises(ConfigError, match=r"teacher\.network\.backbone"):
        parsed("teacher.network.backbone=no_such_network")


@pytest.mark.slow
def test_no_model_of_timm_is_refused() -> None:
    for name in [*timm.list_models(), "resnet50.a1_in1k", "tf_efficientnet_b0_ns"]:  # the last one is deprecated
        options = {"_target_": "segdistill.models.DeepLabV3", "backbone": name}
        assert timm.is_model(name)
        assert backbone_objection(options) is None, name


@pytest.mark.parametrize("module", [torch.optim, timm.optim, torch.nn, torchvision.models.segmentation])
def test_no_name_that_a_module_has_is_refused(module: object) -> None:
    prefix = module.__name__  # type: ignore[attr-defined] # a module has one
    refused = {name: objection(f"{prefix}.{name}") for name in dir(module) if name[0].isalpha()}
    assert {name: why for name, why in refused.items() if why is not None} == {}


def test_a_module_with_getattr_is_left_to_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in {
        "making_up": "def __getattr__(name):\n    return name\n",
        "by_table": "globals()['Net'] = 1\n",
        "starred": "from making_up import *\n",
        "plain": "try:\n    import os\nexcept ImportError:\n    fallback = 1\nfor index in range(3):\n    pass\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert [objection(f"{name}.Net") for name in ("making_up", "by_table", "starred")] == [None] * 3
    assert objection("plain.Net") == "plain has no Net"
    assert [objection(f"plain.{name}") for name in ("os", "fallback", "index")] == [None] * 3


def test_names_are_checked_without_importing_torch() -> None:
    code = (
        "import sys; from segdistill.config.known_names import *\n"
        "print(objection('torch.optim.Nope'), objection('timm.optim.AdaBelief'),"
        " 'torch' in sys.modules, 'timm' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "torch.optim has no Nope None False False"
