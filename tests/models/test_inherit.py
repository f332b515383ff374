"""A student that begins as its teacher: what is copied is the same function, what is resampled the same kernel."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Tiny
from torch import nn

from segdistill.models import DeepLabV3, DeepLabV3Plus
from segdistill.models.class_remap import ClassRemap
from segdistill.models.inherit import COARSER, inherit
from segdistill.utils.errors import UserError
from segdistill.utils.interpolate import enlarged

CLASSES = 3


@pytest.fixture(scope="module")
def teacher() -> DeepLabV3Plus:
    """With statistics that are not those of a new network."""
    torch.manual_seed(0)
    network = DeepLabV3Plus(CLASSES, pretrained=False).train()
    with torch.no_grad():
        for _ in range(2):
            network(torch.rand(2, 3, 64, 80))
    return network.eval()


def student_of(**options: object) -> DeepLabV3:
    torch.manual_seed(1)
    return DeepLabV3(CLASSES, pretrained=False, **options).eval()  # type: ignore[arg-type] # each test gives valid ones


@pytest.mark.parametrize("options", [{"head_norm": "batch"}, {"head_bias": True}])
@torch.no_grad()
def test_backbone_and_pyramid_are_the_teachers(teacher: DeepLabV3Plus, options: dict[str, object]) -> None:
    student, image = student_of(**options), torch.rand(2, 3, 64, 80)
    inherit(student, teacher, image)
    _, ours = student.backbone(image)
    _, theirs = teacher.backbone(image)
    torch.testing.assert_close(ours, theirs)
    pyramids = [network.head.get_submodule("aspp")(theirs) for network in (student, teacher)]
    torch.testing.assert_close(*pyramids, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_resampled_kernel_sees_interpolated_features_as_the_fine_one_does() -> None:
    torch.manual_seed(0)
    coarse, kernel = torch.rand(1, 2, 6, 7), torch.rand(3, 2, 3, 3)
    fine = F.interpolate(coarse, size=(4 * 5 + 1, 4 * 6 + 1), mode="bilinear", align_corners=True)
    expected = F.conv2d(fine, kernel, padding=1)[:, :, ::4, ::4]
    found = F.conv2d(coarse, torch.einsum("ia,jb,ocab->ocij", COARSER, COARSER, kernel), padding=1)
    torch.testing.assert_close(found[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1])


@pytest.mark.parametrize("options", [{"head_norm": "batch"}, {"head_bias": True}])
@torch.no_grad()
def test_refine_has_the_teachers_statistics_on_the_images(teacher: DeepLabV3Plus, options: dict[str, object]) -> None:
    student, images = student_of(**options), torch.rand(4, 3, 64, 80)
    inherit(student, teacher, images)
    norm = teacher.head.get_submodule("refine.1")
    refine = student.head.get_submodule("refine")
    features = [student.head.get_submodule("aspp")(student.backbone(image[None])[1]) for image in images]
    shown = torch.cat([refine[:-1](each) for each in features])  # type: ignore[index] # before its ReLU
    channels = shown.movedim(1, 0).flatten(1)
    torch.testing.assert_close(channels.mean(1), norm.get_parameter("bias"), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(channels.std(1), norm.get_parameter("weight").abs(), rtol=1e-2, atol=1e-3)


@torch.no_grad()
def test_every_subpixel_begins_with_the_teachers_classifier(teacher: DeepLabV3Plus) -> None:
    image = torch.rand(1, 3, 64, 80)
    networks = [student_of(head_bias=True, classifier=kind) for kind in ("linear", "subpixel")]
    for network in networks:
        inherit(network, teacher, image)
    linear, subpixel = (network.lowres_logits(image) for network in networks)
    torch.testing.assert_close(subpixel, F.interpolate(linear, scale_factor=4), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"head_norm": "batch"}, {"head_bias": True}])
@torch.no_grad()
def test_detail_begins_with_the_low_level_features_of_the_decoder(
    teacher: DeepLabV3Plus, options: dict[str, object]
) -> None:
    image = torch.rand(1, 3, 64, 80)
    plain, student = student_of(**options), student_of(**options, detail_channels=48)
    inherit(plain, teacher, image)
    result = inherit(student, teacher, image)
    assert {name.rpartition(".")[0] for name in result.own} >= {"head.detail.refine.0", "head.detail.classifier"}
    assert all(name.startswith(("head.detail.refine.", "head.detail.classifier.")) for name in result.own)
    low, _ = teacher.backbone(image)
    ours, theirs = student.head.get_submodule("detail.low_level"), teacher.head.get_submodule("low_level")
    torch.testing.assert_close(ours(low), theirs(low), rtol=1e-4, atol=1e-4)
    finer = enlarged(plain.head(*plain.backbone(image)), 4, (16, 20))
    torch.testing.assert_close(student.lowres_logits(image), finer, rtol=1e-4, atol=1e-4)


def test_detail_of_another_width_is_the_students_own(teacher: DeepLabV3Plus) -> None:
    student = student_of(head_bias=True, detail_channels=8)
    result = inherit(student, teacher, torch.rand(1, 3, 64, 80))
    assert set(result.own) == {f"head.{name}" for name in student.head.state_dict() if name.startswith("detail.")}


@pytest.mark.parametrize(
    "options",
    [
        {"head_width": 16},
        {"separable": True},
        {"backbone_blocks": [1, 2, 1, 2, 3], "head_width": 16, "separable": True},
    ],
    ids=["narrow", "separable", "cut"],
)
@torch.no_grad()
def test_another_head_leaves_backbone_and_low_level_features_to_be_inherited(
    teacher: DeepLabV3Plus, options: dict[str, object]
) -> None:
    student, image = student_of(**options, head_bias=True, detail_channels=48), torch.rand(1, 3, 64, 80)
    before = copy.deepcopy(student.state_dict())
    result = inherit(student, teacher, image)
    given = teacher.state_dict()
    backbone = [name for name in before if name.startswith("backbone.")]
    assert result.copied == backbone
    assert all(torch.equal(value, given[name]) for name, value in student.state_dict().items() if name in backbone)
    assert result.adapted == ["head.detail.low_level.0.weight", "head.detail.low_level.0.bias"]
    assert set(result.own) == set(before) - set(result.copied) - set(result.adapted)
    assert all(torch.equal(student.state_dict()[name], before[name]) for name in result.own)
    low, _ = teacher.backbone(image)
    ours, theirs = student.head.get_submodule("detail.low_level"), teacher.head.get_submodule("low_level")
    torch.testing.assert_close(ours(low), theirs(low), rtol=1e-4, atol=1e-4)


def test_one_architecture_is_copied_whole_and_the_teacher_is_left_alone(teacher: DeepLabV3Plus) -> None:
    before = copy.deepcopy(teacher.state_dict())
    other = DeepLabV3Plus(CLASSES, pretrained=False).eval()
    result = inherit(other, teacher, torch.rand(1, 3, 64, 80))
    assert (result.adapted, result.own) == ([], [])
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_teacher_of_other_classes_leaves_the_classifier_to_the_student(teacher: DeepLabV3Plus) -> None:
    torch.manual_seed(1)
    student = DeepLabV3(2, pretrained=False, head_bias=True).eval()
    before = student.head.get_parameter("classifier.weight").clone()
    result = inherit(student, ClassRemap(teacher, [[0, 1], [2]]), torch.rand(1, 3, 64, 80))
    assert result.own == ["head.classifier.weight", "head.classifier.bias"]
    assert not set(result.own) & set(result.adapted)
    assert torch.equal(student.head.get_parameter("classifier.weight"), before)


def test_a_backbone_of_another_architecture_gives_nothing_although_names_and_shapes_coincide(
    teacher: DeepLabV3Plus,
) -> None:
    student = DeepLabV3(CLASSES, "mobilenetv2_100", pretrained=False, head_bias=True)
    before, given = copy.deepcopy(student.state_dict()), teacher.state_dict()
    assert [name for name, value in before.items() if name in given and given[name].shape == value.shape]
    with pytest.raises(UserError, match="share no part"):
        inherit(student, teacher, torch.rand(1, 3, 64, 80))
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize(
    ("student", "complaint"),
    [
        (lambda: DeepLabV3(CLASSES, pretrained=False), "head_bias=true"),
        (lambda: Tiny(), "share no part"),
        (lambda: DeepLabV3(CLASSES, "resnet18", pretrained=False, head_bias=True), "give both the same backbone"),
    ],
)
def test_what_does_not_fit_is_named(student: object, complaint: str, teacher: DeepLabV3Plus) -> None:
    assert callable(student)
    network: nn.Module = student()
    with pytest.raises(UserError, match=complaint):
        inherit(network, teacher, torch.rand(1, 3, 64, 80))
