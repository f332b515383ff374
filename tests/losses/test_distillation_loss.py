"""The weighted sum: its parts, its weights, the grids it is computed on."""

from __future__ import annotations

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

from segdistill.config import schema as config
from segdistill.config.schema import SUPERVISED_LOSSES, DistillConfig, TermConfig
from segdistill.losses import DistillationLoss, supervised_loss
from segdistill.losses.distillation import ALPHA_SCHEDULES, FEATURE_TERMS, LOGIT_TERMS, ModelOutput
from segdistill.losses.functional import cross_entropy
from segdistill.utils.interpolate import interpolate_labels, resized


def weighted(alpha: float = 0.5, schedule: str = "constant", **terms: TermConfig) -> DistillationLoss:
    """Cross-entropy beside the terms, at temperature 2."""
    return DistillationLoss(cross_entropy, DistillConfig(2.0, alpha, schedule, terms))


def test_terms_and_losses_are_those_the_configuration_allows() -> None:
    logits, target = random_logits(2, 5, 7, 3), random_target((2, 5, 7, 3))
    expected = {
        "focal": focal_reference(as_float64(logits), target.numpy(), 1.5),
        "cross_entropy": focal_reference(as_float64(logits), target.numpy(), 0.0),
    }
    assert tuple(LOGIT_TERMS) == config.LOGIT_TERMS
    assert tuple(FEATURE_TERMS) == config.FEATURE_TERMS
    assert tuple(ALPHA_SCHEDULES) == config.ALPHA_SCHEDULES
    assert set(expected) == set(SUPERVISED_LOSSES)
    for name, value in expected.items():
        assert supervised_loss(name, gamma=1.5)(logits, target).item() == pytest.approx(value, rel=1e-6)


def test_total_weighs_labels_against_the_teacher() -> None:
    shape = (2, 5, 7, 3)
    student, teacher, target = random_logits(*shape, seed=1), random_logits(*shape, seed=2), random_target(shape)
    loss = weighted(0.25, kl=TermConfig(3.0))
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
    values = weighted(alpha, kl=TermConfig(3.0))(ModelOutput(student), ModelOutput(teacher), target)
    assert values["loss"].item() == pytest.approx(weight * values[part].item())
    torch.testing.assert_close(gradient(values["loss"], student), weight * gradient(values[part], student))


@pytest.mark.parametrize("name", [*LOGIT_TERMS, *FEATURE_TERMS])
def test_every_term_reaches_the_student_and_not_the_teacher(name: str) -> None:
    shape = (2, 5, 8, 8)
    student = random_logits(*shape, seed=1).requires_grad_()
    teacher = random_logits(*shape, seed=2).requires_grad_()
    # Regions rather than noise, so that terms which look at borders or classes find some.
    target = (torch.arange(8) // 4).expand(2, 8, 8).contiguous()
    term = TermConfig(student="tap", teacher="tap") if name in FEATURE_TERMS else TermConfig()
    loss = DistillationLoss(cross_entropy, DistillConfig(terms={name: term}))
    values = loss(ModelOutput(student, {"tap": student}), ModelOutput(teacher, {"tap": teacher}), target)
    assert set(values) == {"loss", "loss_supervised", f"loss_{name}"}
    for value in values.values():
        assert gradient(value, student).isfinite().all()
        assert gradient(value, student).any()
        assert reaches_nothing(value, teacher)


def test_terms_add_up_each_with_its_own_weight_and_temperature() -> None:
    student, teacher = random_logits(2, 4, 6, 5, seed=1), random_logits(2, 4, 6, 5, seed=2)
    target = random_target((2, 4, 6, 5))
    answers = ModelOutput(student), ModelOutput(teacher)
    both = weighted(kl=TermConfig(0.5), cwd=TermConfig(2.0, temperature=4.0))(*answers, target)
    kl = LOGIT_TERMS["kl"](student, teacher, target, temperature=2.0)
    cwd = LOGIT_TERMS["cwd"](student, teacher, target, temperature=4.0)
    expected = 0.5 * both["loss_supervised"] + 0.5 * (0.5 * kl + 2.0 * cwd)
    torch.testing.assert_close(both["loss"], expected)
    assert [both["loss_kl"].item(), both["loss_cwd"].item()] == [kl.item(), cwd.item()]


@pytest.mark.parametrize(
    ("schedule", "alphas"), [("constant", [0.8, 0.8, 0.8]), ("linear", [0, 0.4, 0.8]), ("cosine", [0.8, 0.4, 0])]
)
def test_alpha_follows_its_schedule(schedule: str, alphas: list[float]) -> None:
    loss = weighted(0.8, schedule, kl=TermConfig())
    answers = ModelOutput(random_logits(1, 3, 4, 4, seed=1)), ModelOutput(random_logits(1, 3, 4, 4, seed=2))
    for progress, alpha in zip((0.0, 0.5, 1.0), alphas, strict=True):
        values = loss(*answers, random_target((1, 3, 4, 4)), progress=progress)
        expected = (1 - alpha) * values["loss_supervised"] + alpha * values["loss_kl"]
        assert loss.alpha(progress) == pytest.approx(alpha)
        torch.testing.assert_close(values["loss"], expected)


def test_features_of_other_channels_and_strides_meet_through_the_adapter() -> None:
    config = DistillConfig(terms={"features": TermConfig(student="a", teacher="b")})
    loss = DistillationLoss(cross_entropy, config, channels=(6, 4))
    learnt, known = random_logits(2, 6, 3, 5, seed=1), random_logits(2, 4, 6, 9, seed=2)
    logits = random_logits(2, 3, 3, 5)
    target = random_target((2, 3, 12, 18))
    value = loss(ModelOutput(logits, {"a": learnt}), ModelOutput(logits, {"b": known}), target)["loss_features"]
    assert loss.adapter is not None
    adapted = torch.einsum("bchw,oc->bohw", learnt, loss.adapter.weight[:, :, 0, 0])
    rows, columns = ((np.arange(n) + 0.5) * size / n for n, size in ((6, 12), (9, 18)))
    valid = target[:, rows.astype(int)][..., columns.astype(int)] != IGNORE_INDEX
    squares = (bilinear(adapted.detach(), (6, 9)) - known).square().movedim(1, -1)[valid]
    assert value.item() == pytest.approx(0.5 * squares.mean().item(), rel=1e-5)
    assert gradient(value, loss.adapter.weight).any()


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
    values = weighted(kl=TermConfig())(ModelOutput(student), ModelOutput(teacher), target)
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
    total = weighted(kl=TermConfig())(ModelOutput(student), ModelOutput(random_logits(1, 3, 8, 8)), target)["loss"]
    assert total.item() == 0
    assert not gradient(total, student).any()


def test_logits_and_labels_of_the_asked_size_stay_as_they_are() -> None:
    logits, target = random_logits(1, 3, 7, 5), random_target((1, 3, 7, 5))
    assert torch.equal(resized(logits, (7, 5)), logits)
    assert torch.equal(interpolate_labels(target, (7, 5)), target)
