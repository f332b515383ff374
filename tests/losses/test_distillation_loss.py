"""The weighted sum: its parts, its weights, the grids it is computed on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.references import (
    IGNORE_INDEX,
    as_float64,
    focal_reference,
    gradient,
    kl_reference,
    random_logits,
    random_target,
    reaches_nothing,
)
from PIL import Image

from segdistill.config import model
from segdistill.losses import (
    DIST,
    AttentionTransfer,
    BoundaryKL,
    ChannelwiseKL,
    CrossEntropyLoss,
    DistillationLoss,
    FeatureLoss,
    FocalLoss,
    HintLoss,
    JaccardMetricLoss,
    LogitLoss,
    ModelOutput,
    PixelwiseKL,
    channelwise_kl,
    cross_entropy,
    pixelwise_kl,
)
from segdistill.losses.distillation import ALPHA_SCHEDULES
from segdistill.utils.errors import ConfigError
from segdistill.utils.interpolate import interpolate_labels, resized

LOSSES: list[LogitLoss | FeatureLoss] = [
    PixelwiseKL(),
    ChannelwiseKL(),
    DIST(),
    BoundaryKL(),
    JaccardMetricLoss(),
    HintLoss("layer", "layer"),
    AttentionTransfer("layer", "layer"),
]


def weighted(alpha: float = 0.5, schedule: str = "constant", **losses: LogitLoss) -> DistillationLoss:
    """Cross-entropy beside distillation losses."""
    return DistillationLoss(cross_entropy, losses, alpha=alpha, alpha_schedule=schedule)


def test_supervised_losses_are_their_formulas() -> None:
    logits, target = random_logits(2, 5, 7, 3), random_target((2, 5, 7, 3))
    for loss, gamma in ((FocalLoss(1.5), 1.5), (CrossEntropyLoss(), 0.0)):
        expected = focal_reference(as_float64(logits), target.numpy(), gamma)
        assert loss(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_schedules_are_those_that_the_configuration_allows() -> None:
    assert tuple(ALPHA_SCHEDULES) == model.ALPHA_SCHEDULES


def test_total_weighs_labels_against_the_teacher() -> None:
    shape = (2, 5, 7, 3)
    student, teacher, target = random_logits(*shape, seed=1), random_logits(*shape, seed=2), random_target(shape)
    loss = weighted(0.25, kl=PixelwiseKL(weight=3.0, temperature=2.0))
    supervised = focal_reference(as_float64(student), target.numpy(), 0.0)
    kl = kl_reference(as_float64(student), as_float64(teacher), (target != IGNORE_INDEX).numpy(), 2.0)
    values = {name: value.item() for name, value in loss(ModelOutput(student), ModelOutput(teacher), target).items()}
    assert values == pytest.approx(
        {"loss": 0.75 * supervised + 0.25 * 3.0 * kl, "loss_supervised": supervised, "loss_kl": kl}, rel=1e-6
    )


@pytest.mark.parametrize(("alpha", "part", "weight"), [(0.0, "loss_supervised", 1.0), (1.0, "loss_kl", 3.0)])
def test_alpha_at_its_ends_leaves_one_side(alpha: float, part: str, weight: float) -> None:
    shape = (2, 5, 7, 3)
    student, teacher, target = random_logits(*shape, seed=1), random_logits(*shape, seed=2), random_target(shape)
    student.requires_grad_()
    values = weighted(alpha, kl=PixelwiseKL(weight=3.0, temperature=2.0))(
        ModelOutput(student), ModelOutput(teacher), target
    )
    assert values["loss"].item() == pytest.approx(weight * values[part].item())
    torch.testing.assert_close(gradient(values["loss"], student), weight * gradient(values[part], student))


@pytest.mark.parametrize("method", LOSSES, ids=lambda loss: type(loss).__name__)
def test_every_loss_reaches_the_student_and_not_the_teacher(method: LogitLoss | FeatureLoss) -> None:
    shape = (2, 5, 8, 8)
    student = random_logits(*shape, seed=1).requires_grad_()
    teacher = random_logits(*shape, seed=2).requires_grad_()
    # Regions rather than noise, so that terms which look at borders or classes find some.
    target = (torch.arange(8) // 4).expand(2, 8, 8).contiguous()
    loss = DistillationLoss(cross_entropy, {"it": method})
    values = loss(ModelOutput(student, {"layer": student}), ModelOutput(teacher, {"layer": teacher}), target)
    assert set(values) == {"loss", "loss_supervised", "loss_it"}
    for value in values.values():
        assert gradient(value, student).isfinite().all()
        assert gradient(value, student).any()
        assert reaches_nothing(value, teacher)


def test_terms_add_up_each_with_its_own_weight_and_temperature() -> None:
    student, teacher = random_logits(2, 4, 6, 5, seed=1), random_logits(2, 4, 6, 5, seed=2)
    target = random_target((2, 4, 6, 5))
    answers = ModelOutput(student), ModelOutput(teacher)
    both = weighted(kl=PixelwiseKL(weight=0.5, temperature=2.0), cwd=ChannelwiseKL(weight=2.0, temperature=4.0))(
        *answers, target
    )
    kl = pixelwise_kl(student, teacher, target, temperature=2.0)
    cwd = channelwise_kl(student, teacher, target, temperature=4.0)
    expected = 0.5 * both["loss_supervised"] + 0.5 * (0.5 * kl + 2.0 * cwd)
    torch.testing.assert_close(both["loss"], expected)
    assert [both["loss_kl"].item(), both["loss_cwd"].item()] == [kl.item(), cwd.item()]


@pytest.mark.parametrize(
    ("schedule", "alphas"), [("constant", [0.8, 0.8, 0.8]), ("linear", [0, 0.4, 0.8]), ("cosine", [0.8, 0.4, 0])]
)
def test_alpha_follows_its_schedule(schedule: str, alphas: list[float]) -> None:
    loss = weighted(0.8, schedule, kl=PixelwiseKL(temperature=2.0))
    answers = ModelOutput(random_logits(1, 3, 4, 4, seed=1)), ModelOutput(random_logits(1, 3, 4, 4, seed=2))
    for progress, alpha in zip((0.0, 0.5, 1.0), alphas, strict=True):
        values = loss(*answers, random_target((1, 3, 4, 4)), progress=progress)
        expected = (1 - alpha) * values["loss_supervised"] + alpha * values["loss_kl"]
        assert loss.alpha(progress) == pytest.approx(alpha)
        torch.testing.assert_close(values["loss"], expected)


def test_features_of_other_channels_and_strides_meet_through_the_projector() -> None:
    hint = HintLoss("a", "b")
    hint.build_projector(6, 4)
    loss = DistillationLoss(cross_entropy, {"hint": hint})
    learnt, known = random_logits(2, 6, 3, 5, seed=1), random_logits(2, 4, 6, 9, seed=2)
    logits = random_logits(2, 3, 3, 5)
    target = random_target((2, 3, 12, 18))
    value = loss(ModelOutput(logits, {"a": learnt}), ModelOutput(logits, {"b": known}), target)["loss_hint"]
    adapted = torch.einsum("bchw,oc->bohw", learnt, hint.projector.get_parameter("weight")[:, :, 0, 0])
    rows, columns = ((np.arange(n) + 0.5) * size / n for n, size in ((6, 12), (9, 18)))
    valid = target[:, rows.astype(int)][..., columns.astype(int)] != IGNORE_INDEX
    squares = (bilinear(adapted.detach(), (6, 9)) - known).square().movedim(1, -1)[valid]
    assert value.item() == pytest.approx(0.5 * squares.mean().item(), rel=1e-5)
    assert gradient(value, hint.projector.get_parameter("weight")).any()


def bilinear(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pillow's, of an image that grows: a second opinion on where pixels lie."""
    planes = [
        np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR))
        for plane in logits.flatten(0, 1).numpy()
    ]
    return torch.from_numpy(np.stack(planes)).reshape(*logits.shape[:2], *size)


def test_supervised_loss_is_taken_at_the_labels_size_and_terms_at_the_teachers() -> None:
    student, teacher = random_logits(2, 4, 3, 5, seed=1), random_logits(2, 4, 6, 9, seed=2)
    target = random_target((2, 4, 23, 34))
    values = weighted(kl=PixelwiseKL(temperature=2.0))(ModelOutput(student), ModelOutput(teacher), target)
    at_labels, at_teacher = bilinear(student, (23, 34)), bilinear(student, (6, 9))
    rows, columns = ((np.arange(n) + 0.5) * size / n for n, size in ((6, 23), (9, 34)))
    labels = target[:, rows.astype(int)][..., columns.astype(int)]
    assert values["loss_supervised"].item() == pytest.approx(
        focal_reference(as_float64(at_labels), target.numpy(), 0.0), rel=1e-5
    )
    assert values["loss_kl"].item() == pytest.approx(
        kl_reference(as_float64(at_teacher), as_float64(teacher), (labels != IGNORE_INDEX).numpy(), 2.0), rel=1e-5
    )


def test_void_labels_count_nowhere_on_either_grid() -> None:
    student = random_logits(1, 3, 4, 4, seed=1).requires_grad_()
    target = torch.full((1, 16, 16), IGNORE_INDEX)
    total = weighted(kl=PixelwiseKL(temperature=2.0))(
        ModelOutput(student), ModelOutput(random_logits(1, 3, 8, 8)), target
    )["loss"]
    assert total.item() == 0
    assert not gradient(total, student).any()


def test_logits_and_labels_of_the_asked_size_stay_as_they_are() -> None:
    logits, target = random_logits(1, 3, 7, 5), random_target((1, 3, 7, 5))
    assert torch.equal(resized(logits, (7, 5)), logits)
    assert torch.equal(interpolate_labels(target, (7, 5)), target)


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: PixelwiseKL(weight=0), "weight=0: must be above 0"),
        (lambda: PixelwiseKL(temperature=0.01), "temperature=0.01: must be a number from 0.1 to 100"),
        (lambda: FocalLoss(-1), "gamma=-1: must be a number from 0 to 10"),
    ],
)
def test_a_value_out_of_its_range_is_refused(build: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build()
