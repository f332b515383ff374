from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
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
from scipy.special import log_softmax
from torch import Tensor

from segdistill.losses import (
    attention_transfer,
    boundary_kl,
    channelwise_kl,
    cross_entropy,
    dist_loss,
    focal_loss,
    hint_loss,
    jaccard_metric_loss,
    pixelwise_kl,
)

SHAPES = [(1, 2, 7, 13), (1, 11, 7, 13), (3, 2, 5, 1), (4, 11, 6, 9)]

KL_OF_UNIFORM_FROM_3_TO_1 = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
"""KL((3/4, 1/4) || (1/2, 1/2)) = 0.1308 nats: teacher logits (ln 3, 0), student logits (0, 0)."""


def against_another(method: Callable[..., Tensor], **options: float) -> Callable[[Tensor, Tensor], Tensor]:
    """A distillation loss as a function of the student alone: its teacher says something else at every pixel."""

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        known = logits.detach()
        return method(logits, known.flip(1) + 0.3 * known.clamp(-9, 9).square(), target, **options)

    return loss


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "pixelwise_kl": against_another(pixelwise_kl, temperature=2.0),
    "balanced_kl": against_another(pixelwise_kl, temperature=2.0, class_balance=0.5),
    "channelwise_kl": against_another(channelwise_kl, temperature=2.0),
    "dist": against_another(dist_loss, temperature=2.0),
    "boundary_kl": against_another(boundary_kl, temperature=2.0),
    "jaccard_metric": against_another(jaccard_metric_loss, temperature=2.0),
    "hint_loss": against_another(hint_loss),
    "attention_transfer": against_another(attention_transfer),
    "focal": partial(focal_loss, gamma=2.0),
    "cross_entropy": cross_entropy,
}


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_kl_is_the_papers_formula_over_valid_pixels(shape: tuple[int, ...], temperature: float) -> None:
    student, teacher = random_logits(*shape, seed=1), random_logits(*shape, seed=2)
    target = random_target(shape)
    expected = kl_reference(
        as_float64(student), as_float64(teacher), (target != IGNORE_INDEX).numpy(), temperature=temperature
    )
    assert pixelwise_kl(student, teacher, target, temperature=temperature).item() == pytest.approx(
        expected, rel=1e-6, abs=1e-6
    )
    in_double = pixelwise_kl(student.double(), teacher.double(), target, temperature=temperature)
    assert in_double.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("class_balance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("only_correct", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_balanced_kl_weighs_each_pixel_by_how_rare_its_class_is(
    shape: tuple[int, ...], only_correct: bool, class_balance: float
) -> None:
    student, teacher, target = random_logits(*shape, seed=1), random_logits(*shape, seed=2), random_target(shape)
    log_q, log_p = (log_softmax(as_float64(logits) / 3.0, axis=1) for logits in (student, teacher))
    divergence = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    labels, right = target.numpy(), as_float64(teacher).argmax(axis=1) == target.numpy()
    counted = (labels != IGNORE_INDEX) & (right | (not only_correct))
    weight = np.zeros(labels.shape)
    for label in np.unique(labels[counted]):
        ours = counted & (labels == label)
        weight[ours] = ours.sum() ** -class_balance
    expected = 9.0 * (weight * divergence).sum() / weight.sum()
    loss = pixelwise_kl(
        student, teacher, target, temperature=3.0, class_balance=class_balance, only_correct=only_correct
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("option", [{"class_balance": 0.5}, {"only_correct": True}])
def test_kl_by_class_needs_labels(option: dict[str, float]) -> None:
    logits = random_logits(1, 2, 3, 3)
    with pytest.raises(ValueError, match="need labels, got target=None"):
        pixelwise_kl(logits, logits, temperature=1.0, **option)  # type: ignore[arg-type] # one of them is a bool


def test_kl_only_correct_is_zero_where_the_teacher_is_never_right() -> None:
    student, teacher = random_logits(1, 2, 3, 3, seed=1).requires_grad_(), random_logits(1, 2, 3, 3, seed=2)
    loss = pixelwise_kl(student, teacher, 1 - teacher.argmax(dim=1), temperature=1.0, only_correct=True)
    assert loss.item() == 0
    assert not gradient(loss, student).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_kl_without_a_target_counts_every_pixel(shape: tuple[int, ...]) -> None:
    student, teacher = random_logits(*shape, seed=1), random_logits(*shape, seed=2)
    everywhere = np.ones((shape[0], *shape[2:]), bool)
    expected = kl_reference(as_float64(student), as_float64(teacher), everywhere, temperature=2.0)
    assert pixelwise_kl(student, teacher, temperature=2.0).item() == pytest.approx(expected, rel=1e-6)


def test_kl_of_another_ignore_index_leaves_those_pixels_out() -> None:
    shape = (2, 3, 4, 5)
    student, teacher = random_logits(*shape, seed=1), random_logits(*shape, seed=2)
    target = random_target(shape)
    expected = kl_reference(as_float64(student), as_float64(teacher), (target != 1).numpy(), temperature=2.0)
    actual = pixelwise_kl(student, teacher, target, temperature=2.0, ignore_index=1)
    assert actual.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_kl_carries_the_squared_temperature(temperature: float) -> None:
    # Logits of T * (ln 3, 0) leave the softmax at (3/4, 1/4) whatever T is.
    teacher = temperature * torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)
    value = pixelwise_kl(torch.zeros(1, 2, 1, 1), teacher, temperature=temperature)
    assert value.item() == pytest.approx(temperature**2 * KL_OF_UNIFORM_FROM_3_TO_1, rel=1e-6)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # torch warns of the very trap shown here
def test_kl_is_neither_batchmean_nor_mean_of_kldivloss() -> None:
    batch, classes, height, width = 2, 2, 3, 4
    student = torch.zeros(batch, classes, height, width)
    teacher = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1).expand_as(student)
    ours = pixelwise_kl(student, teacher, temperature=1.0).item()
    assert ours == pytest.approx(KL_OF_UNIFORM_FROM_3_TO_1, rel=1e-6)
    log_q, p = student.log_softmax(1), teacher.softmax(1)
    assert F.kl_div(log_q, p, reduction="batchmean").item() == pytest.approx(height * width * ours, rel=1e-6)
    assert F.kl_div(log_q, p, reduction="mean").item() == pytest.approx(ours / classes, rel=1e-6)


def test_kl_is_not_a_softmax_over_the_flattened_image() -> None:
    # The second pixel's teacher logits are the first's plus ln 9: the same distribution over the classes.
    student = torch.zeros(1, 2, 1, 2)
    teacher = torch.tensor([[math.log(3), math.log(27)], [0.0, math.log(9)]]).view(1, 2, 1, 2)
    log_q, p = student.flatten(1).log_softmax(1), teacher.flatten(1).softmax(1)
    by_hand = sum(share / 40 * math.log(share / 40 / 0.25) for share in (3, 1, 27, 9))
    assert F.kl_div(log_q, p, reduction="batchmean").item() == pytest.approx(by_hand, rel=1e-6)
    ours = pixelwise_kl(student, teacher, temperature=1.0).item()
    assert ours == pytest.approx(KL_OF_UNIFORM_FROM_3_TO_1, rel=1e-6)
    assert abs(by_hand - ours) > 0.3


def test_kl_takes_raw_logits_without_a_sigmoid() -> None:
    student, teacher = torch.zeros(1, 2, 1, 1), torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)
    log_q, p = student.sigmoid().log_softmax(1), teacher.sigmoid().softmax(1)
    # sigmoid(ln 3) = 3/4 and sigmoid(0) = 1/2: the softmax of those is nearly flat.
    ours = pixelwise_kl(student, teacher, temperature=1.0).item()
    assert ours > 10 * F.kl_div(log_q, p, reduction="batchmean").item()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_kl_gradient_is_the_analytic_one_for_the_student_and_none_for_the_teacher(temperature: float) -> None:
    shape = (2, 5, 7, 13)
    student = random_logits(*shape, seed=1).double().requires_grad_()
    teacher = random_logits(*shape, seed=2).double().requires_grad_()
    target = random_target(shape)
    loss = pixelwise_kl(student, teacher, target, temperature=temperature)
    valid = (target != IGNORE_INDEX).numpy()
    q = np.exp(log_softmax(as_float64(student) / temperature, axis=1))
    p = np.exp(log_softmax(as_float64(teacher) / temperature, axis=1))
    expected = temperature * (q - p) / valid.sum() * valid[:, None]
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(gradient(loss, student).numpy(), expected, rtol=0, atol=1e-12)
    assert reaches_nothing(loss, teacher)


def test_kl_of_equal_logits_is_zero() -> None:
    logits = random_logits(2, 5, 4, 6)
    assert pixelwise_kl(logits, logits.clone(), temperature=2.0).item() == 0.0


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("repeats", [(1, 2, 3), (4, 1, 1)], ids=["tiled image", "repeated batch"])
def test_value_does_not_depend_on_how_many_equal_pixels_there_are(name: str, repeats: tuple[int, int, int]) -> None:
    logits = random_logits(1, 5, 7, 3)
    target = random_target((1, 5, 7, 3))
    batch, rows, columns = repeats
    if name == "boundary_kl" and batch == 1:
        pytest.skip("the seams between tiles are borders of their own")
    once = LOSSES[name](logits, target).item()
    often = LOSSES[name](logits.repeat(batch, 1, rows, columns), target.repeat(batch, rows, columns)).item()
    assert once > 0.01
    assert often == pytest.approx(once, rel=1e-5)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_all_void_gives_exactly_zero_with_a_zero_gradient(name: str) -> None:
    logits = random_logits(2, 5, 7, 3).requires_grad_()
    loss = LOSSES[name](logits, torch.full((2, 7, 3), IGNORE_INDEX))
    assert loss.item() == 0.0
    assert torch.equal(gradient(loss, logits), torch.zeros_like(logits))


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("huge", [1e4, 1e30, torch.finfo(torch.float32).max])
def test_void_pixels_logits_do_not_matter_even_when_huge(name: str, huge: float) -> None:
    shape = (2, 5, 7, 3)
    logits, target = random_logits(*shape), random_target(shape)
    disturbed = logits.clone()
    disturbed[:, 0][target == IGNORE_INDEX] = huge
    disturbed[:, 1][target == IGNORE_INDEX] = -huge
    quiet = LOSSES[name](logits.requires_grad_(), target)
    loud = LOSSES[name](disturbed.requires_grad_(), target)
    assert loud.item() == quiet.item()
    assert torch.equal(gradient(loud, disturbed), gradient(quiet, logits))


def test_a_logit_gap_of_120_stays_finite() -> None:
    student = torch.tensor([60.0, -60.0]).view(1, 2, 1, 1).requires_grad_()
    teacher = torch.tensor([-60.0, 60.0]).view(1, 2, 1, 1)
    loss = pixelwise_kl(student, teacher, temperature=1.0)
    # p = (e^-120, 1): all of it falls on log(1 / e^-120), and q - p = (1, -1).
    assert loss.item() == pytest.approx(120.0, rel=1e-6)
    assert gradient(loss, student).flatten().tolist() == pytest.approx([1.0, -1.0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    shape = (2, 11, 7, 13)
    student, teacher = random_logits(*shape, seed=1).to(dtype), random_logits(*shape, seed=2).to(dtype)
    target = random_target(shape)
    valid = (target != IGNORE_INDEX).numpy()
    # Dividing by 3 before the conversion would round every logit again.
    kl = pixelwise_kl(student, teacher, target, temperature=3.0)
    assert kl.item() == pytest.approx(kl_reference(as_float64(student), as_float64(teacher), valid, 3.0), rel=2e-6)
    weighted = focal_loss(student, target, gamma=2.0)
    assert weighted.item() == pytest.approx(focal_reference(as_float64(student), target.numpy(), 2.0), rel=2e-6)
    plain = cross_entropy(student, target)
    assert plain.item() == pytest.approx(focal_reference(as_float64(student), target.numpy(), 0.0), rel=2e-6)
    assert {kl.dtype, weighted.dtype, plain.dtype} == {torch.float32}


def test_kl_of_differing_shapes_names_both() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 4\) and \(1, 3, 3, 4\)"):
        pixelwise_kl(torch.zeros(1, 2, 3, 4), torch.zeros(1, 3, 3, 4), temperature=1.0)


@pytest.mark.parametrize("shape", [(2, 1, 3, 4), (1, 3, 4), (2, 1, 1)])
def test_kl_refuses_a_target_that_would_only_broadcast(shape: tuple[int, ...]) -> None:
    logits = torch.zeros(2, 5, 3, 4)
    with pytest.raises(ValueError, match="target"):
        pixelwise_kl(logits, logits, torch.zeros(shape, dtype=torch.int64), temperature=1.0)


@pytest.mark.parametrize("temperature", [0.0, -1.5])
def test_kl_refuses_a_temperature_that_is_not_above_zero(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature must be above 0, got {temperature}"):
        pixelwise_kl(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), temperature=temperature)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_focal_is_the_papers_formula_over_valid_pixels(shape: tuple[int, ...], gamma: float) -> None:
    logits, target = random_logits(*shape), random_target(shape)
    expected = focal_reference(as_float64(logits), target.numpy(), gamma)
    assert focal_loss(logits, target, gamma=gamma).item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert focal_loss(logits.double(), target, gamma=gamma).item() == pytest.approx(expected, rel=1e-9)


def test_focal_of_gamma_2_by_hand() -> None:
    # p_t = 3/4, so the weight is (1/4)^2.
    logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)
    loss = focal_loss(logits, torch.zeros(1, 1, 1, dtype=torch.int64), gamma=2.0)
    assert loss.item() == pytest.approx(math.log(4 / 3) / 16, rel=1e-6)


def test_focal_of_gamma_0_is_cross_entropy() -> None:
    logits, target = random_logits(2, 5, 7, 13), random_target((2, 5, 7, 13))
    assert focal_loss(logits, target, gamma=0.0).item() == cross_entropy(logits, target).item()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_gradient_is_finite_where_a_pixel_is_already_certain(gamma: float) -> None:
    # x^0.5 has an infinite slope at 0, where the first pixel's 1 - p_t is.
    logits = torch.tensor([[200.0, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2).requires_grad_()
    certain, undecided = gradient(
        focal_loss(logits, torch.zeros(1, 1, 2, dtype=torch.int64), gamma=gamma), logits
    ).unbind(-1)
    assert torch.equal(certain, torch.zeros(1, 2, 1))
    assert undecided.isfinite().all()
    assert undecided.ne(0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_is_the_mean_surprise_over_valid_pixels(shape: tuple[int, ...]) -> None:
    logits, target = random_logits(*shape), random_target(shape)
    ids, log_p = target.numpy(), log_softmax(as_float64(logits), axis=1)
    surprises = [-log_p[b, ids[b, y, x], y, x] for b, y, x in np.argwhere(ids != IGNORE_INDEX)]
    expected = math.fsum(surprises) / len(surprises)
    assert cross_entropy(logits, target).item() == pytest.approx(expected, rel=1e-6)
