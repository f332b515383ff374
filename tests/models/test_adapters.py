"""Networks written elsewhere: whatever they return and whatever they call things, they become teachers and students."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.foreign_networks import Returning
from helpers.settings import schedule_config
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn
from torchvision.models import segmentation

from segdistill.config.locate import trusting
from segdistill.engine.networks import build_network
from segdistill.losses import cross_entropy
from segdistill.models import SegmentationModelAdapter
from segdistill.models.frozen_teacher import load_network
from segdistill.models.output import lowres_logits, validate_output_shape
from segdistill.tasks import SegmentationTask
from segdistill.utils.errors import UserError

CLASSES = 4
SIZES = [(75, 98), (64, 33)]


@pytest.fixture(autouse=True)
def these_networks_are_trusted() -> Iterator[None]:
    with trusting(["helpers.foreign_networks"]):
        yield


def test_a_network_that_cannot_be_pickled_is_built_anew_with_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    network = SegmentationModelAdapter(
        CLASSES, "helpers.foreign_networks.hooked", classes_argument="classes", multiple_of=2, weights=None
    ).eval()
    network.options["weights"] = "DEFAULT"  # as if they had been fetched when it was built
    nn.init.normal_(network.get_parameter("network.top.weight"))
    image = torch.rand(1, 3, 20, 31)
    expected = network(image)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(network.network)
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert not any(module.training for module in other.modules())
        torch.testing.assert_close(other(image), expected)
        with torch.no_grad():
            other.get_parameter("network.top.weight").add_(1)
    torch.testing.assert_close(network(image), expected)


def test_the_weights_of_the_adapted_network_itself_are_loaded(tmp_path: Path) -> None:
    def built(weights: Path | None = None, classes: int = CLASSES) -> SegmentationModelAdapter:
        factory = "torchvision.models.segmentation.lraspp_mobilenet_v3_large"
        network = SegmentationModelAdapter(classes, factory, weights=None, weights_backbone=None)
        if weights is not None:
            load_network(network, weights, None)
        return network

    saved, path = built(), tmp_path / "lraspp.pth"
    torch.save(saved.network.state_dict(), path)
    for name, value in built(path).state_dict().items():
        assert torch.equal(value, saved.state_dict()[name]), name
    with pytest.raises(UserError, match=r"network.classifier.\w+.weight has shape \[4, .*this network needs \[5, "):
        built(path, classes=CLASSES + 1)


def test_lists_of_the_configuration_arrive_as_lists() -> None:
    network = {
        "_target_": "segdistill.models.SegmentationModelAdapter",
        "factory": "helpers.foreign_networks.needs_lists",
        "classes_argument": "classes",
        "multiple_of": 2,
        "depths": [1, 2],
    }
    built = build_network(network, CLASSES)
    assert isinstance(built, SegmentationModelAdapter)


def test_a_network_that_fails_on_odd_sizes_is_told_what_helps() -> None:
    with pytest.raises(UserError, match=r"some.Network: fails .* 75 x 98 \(even sizes only\).*multiple_of"):
        validate_output_shape(returning(multiple_of=1), CLASSES, "some.Network")


def test_a_plain_state_dict_is_loaded_under_its_own_names(tmp_path: Path) -> None:
    network = returning()
    torch.save(network.state_dict(), tmp_path / "plain.pt")
    other = SegmentationModelAdapter(
        CLASSES, "helpers.foreign_networks.Returning", classes_argument="classes", multiple_of=2
    )
    load_network(other, tmp_path / "plain.pt", None)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in other.state_dict().items())


def returning(form: str = "tensor", multiple_of: int = 2) -> SegmentationModelAdapter:
    torch.manual_seed(0)
    return SegmentationModelAdapter(
        CLASSES, "helpers.foreign_networks.Returning", classes_argument="classes", multiple_of=multiple_of, form=form
    ).eval()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
@torch.no_grad()
def test_a_network_of_torchvision_gives_its_own_logits(name: str, size: tuple[int, int]) -> None:
    options: dict[str, Any] = {"weights": None, "weights_backbone": None}
    torch.manual_seed(0)
    network = SegmentationModelAdapter(CLASSES, f"torchvision.models.segmentation.{name}", **options).eval()
    torch.manual_seed(0)
    original = getattr(segmentation, name)(num_classes=CLASSES, **options).eval()
    image = torch.rand(2, 3, *size)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    torch.testing.assert_close(network(image), original((image - mean) / std)["out"])


@pytest.mark.parametrize("form", ["tensor", "out", "object"])
@torch.no_grad()
def test_logits_are_found_in_what_a_network_returns(form: str) -> None:
    image = torch.rand(1, 3, 8, 6)
    torch.testing.assert_close(returning(form)(image), returning("tensor")(image))
    assert lowres_logits(returning(form, multiple_of=1), image).shape == (1, CLASSES, 4, 3)


@torch.no_grad()
def test_logits_that_cannot_be_found_are_an_error() -> None:
    with pytest.raises(UserError, match="returns tuple"):
        returning("tuple")(torch.rand(1, 3, 8, 6))


@torch.no_grad()
def test_padding_makes_room_and_is_cut_off_again() -> None:
    network, image = returning(), torch.rand(1, 3, 7, 9)
    assert network(image).shape == (1, CLASSES, 7, 9)
    with pytest.raises(RuntimeError, match="even sizes only"):
        returning(multiple_of=1)(image)
    padded = torch.cat([image, network.mean.expand(1, 3, 7, 1)], dim=3)
    padded = torch.cat([padded, network.mean.expand(1, 3, 1, 10)], dim=2)
    torch.testing.assert_close(network(image), network(padded)[..., :7, :9])


def test_the_encoder_has_the_backbones_learning_rate() -> None:
    network = returning()
    task = SegmentationTask(
        network,
        class_names=[str(index) for index in range(CLASSES)],
        loss=cross_entropy,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1.0),
        schedule=schedule_config(backbone_lr_scale=0.1),
        role="student",
    )
    task._trainer = SimpleNamespace(estimated_stepping_batches=10)  # type: ignore[assignment]
    groups = task.configure_optimizers()["optimizer"].param_groups
    rates = {id(parameter): group["initial_lr"] for group in groups for parameter in group["params"]}
    assert isinstance(network.network, Returning)
    assert {rates[id(p)] for p in network.network.encoder.parameters()} == {0.1}
    assert {rates[id(p)] for p in network.network.top.parameters()} == {1.0}


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        ("torchvision.models.segmentation.unet", {}, "cannot be imported .*unet"),
        ("no_such_package.Network", {}, "may not be called as network: .*trusted_packages does not list no_such"),
        ("Network", {}, "must be the dotted path of a class or function"),
        ("helpers.foreign_networks.Returning", {"depth": 3}, "cannot be built: .*depth"),
        ("helpers.foreign_networks.needs_lists", {"depths": (1, 2)}, "cannot be built: depths must be a list"),
    ],
)
def test_a_factory_that_cannot_be_used_is_named(factory: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"factory={factory}: {message}"):
        SegmentationModelAdapter(CLASSES, factory, classes_argument="classes", **options)


@pytest.mark.parametrize(
    ("network", "found"),
    [
        (nn.Conv2d(3, CLASSES + 1, 1), r"\[1, 5, 75, 98\]"),
        (nn.Conv2d(3, CLASSES, 1, stride=2), r"\[1, 4, 38, 49\]"),
        (segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4), "OrderedDict"),
    ],
)
def test_a_network_that_gives_something_else_is_refused_by_name(network: nn.Module, found: str) -> None:
    with pytest.raises(UserError, match=rf"some.Network: .* gives {found}, not logits \[1, 4, 75, 98\]"):
        validate_output_shape(network, CLASSES, "some.Network")
