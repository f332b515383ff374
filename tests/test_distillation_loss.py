"""The weighted sum: its parts, its weights, the grids it is computed on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from references import (
    VOID,
    as_float64,
    focal_reference,
    gradient,
    kl_reference,
    random_logits,
    random_target,
    reaches_nothing,
)

from segdistill.config import DISTILLATION_TERMS, SUPERVISED_LOSSES
from segdistill.losses import DistillationLoss, supervised_loss
from segdistill.losses.distillation import TERMS
from segdistill.losses.functional import cross_entropy
from segdistill.resize import nearest, resized


def test_terms_and_losses_are_those_the_configuration_allows() -> None:
    logits, target = random_logits(2, 5, 7, 3), random_target((2, 5, 7, 3))
    expected = {
        "focal": focal_reference(as_float64(logits), target.numpy(), 1.5),
        "cross_entropy": focal_reference(as_float64(logits), target.numpy(), 0.0),
    }
    assert set(TERMS) == set(DISTILLATION_TERMS)
    assert set(expected) == set(SUPERVISED_LOSSES)
    for name, value in expected.items():
        assert supervised_loss(name, gamma=1.5)(logits, target).item() == pytest.approx(value, rel=1e-6)


def test_total_weighs_labels_against_the_teacher() -> None:
    shape = (2, 5, 7, 3)
    student, teacher, target = random_logits(*shape, seed=1), random_logits(*shape, seed=2), random_target(shape)
    loss = DistillationLoss(cross_entropy, {"kl": 3.0}, temperature=2.0, alpha=0.25)
    supervised = focal_reference(as_float64(student), target.numpy(), 0.0)
    kl = kl_reference(as_float64(student), as_float64(teacher), (target != VOID).numpy(), 2.0)
    values = {name: value.item() for name, value in loss(student, teacher, target).items()}
    assert values == pytest.approx(
        {"loss": 0.75 * supervised + 0.25 * 3.0 * kl, "loss_supervised": supervised, "loss_kl": kl}, rel=1e-6
    )


@pytest.mark.parametrize(("alpha", "part", "weight"), [(0.0, "loss_supervised", 1.0), (1.0, "loss_kl", 3.0)])
def test_alpha_at_its_ends_leaves_one_side(alpha: float, part: str, weight: float) -> None:
    shape = (2, 5, 7, 3)
    student, teacher, target = random_logits(*shape, seed=1), random_logits(*shape, seed=2), random_target(shape)
    student.requires_grad_()
    values = DistillationLoss(cross_entropy, {"kl": 3.0}, temperature=2.0, alpha=alpha)(student, teacher, target)
    assert values["loss"].item() == pytest.approx(weight * values[part].item())
    torch.testing.assert_close(gradient(values["loss"], student), weight * gradient(values[part], student))


@pytest.mark.parametrize("name", sorted(TERMS))
def test_every_term_reaches_the_student_and_not_the_teacher(name: str) -> None:
    shape = (2, 5, 8, 8)
    student = random_logits(*shape, seed=1).requires_grad_()
    teacher = random_logits(*shape, seed=2).requires_grad_()
    # Regions rather than noise, so that terms which look at borders or classes find some.
    target = (torch.arange(8) // 4).expand(2, 8, 8).contiguous()
    loss = DistillationLoss(cross_entropy, {name: 1.0}, temperature=2.0, alpha=0.5)
    values = loss(student, teacher, target)
    assert set(values) == {"loss", "loss_supervised", f"loss_{name}"}
    for value in values.values():
        assert gradient(value, student).isfinite().all()
        assert gradient(value, student).any()
        assert reaches_nothing(value, teacher)


def bilinear(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pillow's, of a picture that grows: a second opinion on where pixels lie."""
    planes = [
        np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR))
        for plane in logits.flatten(0, 1).numpy()
    ]
    return torch.from_numpy(np.stack(planes)).reshape(*logits.shape[:2], *size)


def test_supervised_loss_is_taken_at_the_labels_size_and_terms_at_the_teachers() -> None:
    student, teacher = random_logits(2, 4, 3, 5, seed=1), random_logits(2, 4, 6, 9, seed=2)
    target = random_target((2, 4, 23, 34))
    values = DistillationLoss(cross_entropy, {"kl": 1.0}, temperature=2.0, alpha=0.5)(student, teacher, target)
    at_labels, at_teacher = bilinear(student, (23, 34)), bilinear(student, (6, 9))
    rows, columns = ((np.arange(n) + 0.5) * size / n for n, size in ((6, 23), (9, 34)))
    labels = target[:, rows.astype(int)][..., columns.astype(int)]
    assert values["loss_supervised"].item() == pytest.approx(
        focal_reference(as_float64(at_labels), target.numpy(), 0.0), rel=1e-5
    )
    assert values["loss_kl"].item() == pytest.approx(
        kl_reference(as_float64(at_teacher), as_float64(teacher), (labels != VOID).numpy(), 2.0), rel=1e-5
    )


def test_void_labels_count_nowhere_on_either_grid() -> None:
    student = random_logits(1, 3, 4, 4, seed=1).requires_grad_()
    target = torch.full((1, 16, 16), VOID)
    loss = DistillationLoss(cross_entropy, {"kl": 1.0}, temperature=2.0, alpha=0.5)
    total = loss(student, random_logits(1, 3, 8, 8), target)["loss"]
    assert total.item() == 0
    assert not gradient(total, student).any()


def test_logits_and_labels_of_the_asked_size_stay_as_they_are() -> None:
    logits, target = random_logits(1, 3, 7, 5), random_target((1, 3, 7, 5))
    assert torch.equal(resized(logits, (7, 5)), logits)
    assert torch.equal(nearest(target, (7, 5)), target)
