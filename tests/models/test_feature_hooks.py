"""Taps: what inner modules return, and a student that learns from it through an projector that stays behind."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.settings import schedule_config
from torch import Tensor, nn

from segdistill.losses import DistillationLoss, HintLoss, cross_entropy
from segdistill.models import FrozenTeacher
from segdistill.models.feature_hooks import capture_features, feature_channels
from segdistill.models.frozen_teacher import load_network
from segdistill.tasks import DistillationTask
from segdistill.utils.errors import UserError

NAMES = ["off", "on"]
KEY = "distill.losses.hint.student_layer"


class Small(nn.Module):
    """A stem whose BatchNorm can be folded, a pair of branches, a head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.branches = Branches(width)
        self.head = nn.Conv2d(2 * width, len(NAMES), 1)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.cat(self.branches(self.backbone(image)), dim=1))
        return logits


class Branches(nn.Module):
    """Gives two feature maps at once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(features), self.right(features)


def distillation_task() -> DistillationTask:
    torch.manual_seed(0)
    hint = HintLoss("branches.left", "backbone.0")
    hint.build_projector(4, 6)
    loss = DistillationLoss(cross_entropy, {"hint": hint})
    return DistillationTask(
        Small(4),
        FrozenTeacher(Small(6), taps=["backbone.0"]),
        loss,
        class_names=NAMES,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        schedule=schedule_config(),
    )


def test_a_tap_sees_what_a_module_returns_while_it_is_open() -> None:
    network, image = Small(4), torch.rand(1, 3, 8, 6)
    with capture_features(network, ["backbone", "head"]) as seen:
        logits = network(image)
    assert torch.equal(seen["head"], logits)
    assert torch.equal(seen["backbone"], network.backbone(image))
    assert set(seen) == {"backbone", "head"}
    network(2 * image)
    assert torch.equal(seen["head"], logits)


def test_a_tap_is_not_changed_by_what_follows_in_place() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True))
    image = torch.randn(1, 3, 5, 5)
    with capture_features(network, ["0"]) as seen:
        network(image)
    assert seen["0"].min() < 0
    assert torch.equal(seen["0"], network[0](image))


def test_channels_are_found_without_touching_the_network() -> None:
    network = Small(5).train()
    network.backbone.eval()  # by the user's will
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert feature_channels(network, "backbone.0", KEY) == 5
    assert feature_channels(network, "head", KEY) == 2
    assert network.training
    assert not network.backbone.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_tap_that_names_no_module_is_told_near_names() -> None:
    with pytest.raises(UserError, match=rf"{KEY}=branches.rigth: Small has no such module; near: branches.right"):
        feature_channels(Small(4), "branches.rigth", KEY)


def test_a_tap_that_gives_no_feature_map_is_refused() -> None:
    with pytest.raises(UserError, match=rf"{KEY}=branches: gives no feature map"):
        feature_channels(Small(4), "branches", KEY)


def test_a_teachers_tap_gives_what_its_module_gives_also_where_batchnorm_is_folded() -> None:
    teacher, image = FrozenTeacher(Small(6), taps=["backbone.0", "backbone.1"]), torch.rand(2, 3, 8, 6)
    norm = teacher.network.get_submodule("backbone.1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    norm.running_mean.fill_(0.3)
    _, features = teacher(image)
    with capture_features(teacher.network, teacher.taps) as expected:
        teacher.network(image)
    for name in teacher.taps:
        torch.testing.assert_close(features[name], expected[name])


def test_a_layer_before_which_nothing_learns_is_refused_for_the_student_alone() -> None:
    network = Small(4)
    network.backbone.requires_grad_(False)
    assert feature_channels(network, "backbone.1", KEY) == 4
    with pytest.raises(UserError, match=rf"^{KEY}=backbone\.1: lies in frozen stages"):
        feature_channels(network, "backbone.1", KEY, trained=True)
    network.backbone[0].requires_grad_()
    assert feature_channels(network, "backbone.1", KEY, trained=True) == 4


def test_a_projector_is_trained_and_saved_but_is_no_part_of_the_student(tmp_path: Path) -> None:
    task = distillation_task()
    projector = task.distillation.get_parameter("losses.hint.projector.weight")
    before = projector.detach().clone()
    optimizer = task.optimizer_factory([{"params": task.parameters()}])
    task.compute_losses({"image": torch.rand(2, 3, 9, 7), "mask": torch.randint(0, 2, (2, 9, 7))})["loss"].backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert not torch.equal(projector, before)
    weights = task.state_dict()
    assert [name for name in weights if not name.startswith("network.")] == [
        "distillation.losses.hint.projector.weight"
    ]
    torch.save({"state_dict": weights, "class_names": NAMES}, tmp_path / "best.ckpt")
    student = Small(4)
    load_network(student, tmp_path / "best.ckpt", NAMES)
    assert all(torch.equal(tensor, weights[f"network.{name}"]) for name, tensor in student.state_dict().items())
