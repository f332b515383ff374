"""The distillation methods against float64 references that share no code with them, and the traps of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.references import IGNORE_INDEX, Array, as_float64, gradient, random_logits, random_target, reaches_nothing
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_cdt
from scipy.special import log_softmax, softmax
from torch import Tensor

from segdistill.losses import (
    attention_transfer,
    boundary_kl,
    channelwise_kl,
    dist_loss,
    hint_loss,
    jaccard_metric_loss,
)
from segdistill.losses.boundary_kl import border_weight
from segdistill.metrics import SegmentationMetrics

Ids = NDArray[np.int64]
SHAPES = [(1, 2, 7, 13), (1, 11, 7, 13), (3, 2, 5, 1), (4, 11, 6, 9)]


def pair(shape: tuple[int, ...], spread: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    return (
        random_logits(*shape, seed=1, spread=spread),
        random_logits(*shape, seed=2, spread=spread),
        random_target(shape),
    )


def blocks(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Labels in regions of 3 x 4 pixels, some of them void."""
    batch, classes, height, width = shape
    coarse = np.random.default_rng(seed).integers(0, classes + 1, (batch, height // 3 + 1, width // 4 + 1))
    ids = coarse.repeat(3, axis=1).repeat(4, axis=2)[:, :height, :width]
    return torch.from_numpy(np.where(ids == classes, IGNORE_INDEX, ids))


def cwd_reference(student: Array, teacher: Array, target: Ids, temperature: float) -> float:
    """Image by image and channel by channel, over the valid pixels alone."""
    divergences = []
    for s, t, ids in zip(student, teacher, target, strict=True):
        valid = ids != IGNORE_INDEX
        for channel_s, channel_t in zip(s, t, strict=True):
            log_q, log_p = log_softmax(channel_s[valid] / temperature), log_softmax(channel_t[valid] / temperature)
            divergences.append((np.exp(log_p) * (log_p - log_q)).sum())
    return float(temperature**2 * np.mean(divergences))


def dist_reference(student: Array, teacher: Array, target: Ids, temperature: float) -> float:
    """NumPy's corrcoef of every row and every column."""
    valid = target != IGNORE_INDEX
    q, p = (np.moveaxis(softmax(x / temperature, axis=1), 1, -1)[valid] for x in (student, teacher))
    between = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)])
    within = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)])
    return float(temperature**2 * (2 - between - within))


def border_reference(target: Ids, reach: int) -> Array:
    """SciPy's chessboard distance to pixels that have a neighbour of another label."""
    weights = []
    for ids in target:
        border = np.zeros(ids.shape, bool)
        for row, column in np.ndindex(ids.shape):
            for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                other = row + down, column + right
                inside = 0 <= other[0] < ids.shape[0] and 0 <= other[1] < ids.shape[1]
                if inside and IGNORE_INDEX not in (ids[row, column], ids[other]) and ids[other] != ids[row, column]:
                    border[row, column] = True
        distance = distance_transform_cdt(~border, "chessboard") if border.any() else np.full(ids.shape, reach + 1)
        weights.append(np.maximum(0, 1 - distance / (reach + 1)) * (ids != IGNORE_INDEX))
    return np.stack(weights)


@pytest.mark.parametrize("spread", [3.0, 40.0], ids=["usual", "gaps of 120 and more"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_cwd_is_the_papers_formula(shape: tuple[int, ...], temperature: float, spread: float) -> None:
    student, teacher, target = pair(shape, spread)
    expected = cwd_reference(as_float64(student), as_float64(teacher), target.numpy(), temperature)
    assert channelwise_kl(student, teacher, target, temperature=temperature).item() == pytest.approx(expected, rel=1e-5)


def test_cwd_is_finite_at_a_gap_of_120_where_a_logarithm_of_a_softmax_is_not() -> None:
    student = torch.tensor([60.0, -60.0]).view(1, 1, 1, 2).requires_grad_()
    teacher = -student.detach()
    assert not F.softmax(student, dim=3).log().isfinite().all()
    loss = channelwise_kl(student, teacher, temperature=1.0)
    assert loss.item() == pytest.approx(120.0, rel=1e-6)
    assert gradient(loss, student).flatten().tolist() == pytest.approx([1.0, -1.0])


def test_cwd_leaves_void_out_before_the_softmax() -> None:
    student, teacher, target = pair((1, 3, 4, 6))
    target[0, :, 3:] = IGNORE_INDEX
    cropped = channelwise_kl(student[..., :3], teacher[..., :3], target[..., :3], temperature=2.0)
    assert channelwise_kl(student, teacher, target, temperature=2.0).item() == pytest.approx(cropped.item(), rel=1e-6)


def test_cwd_does_not_count_an_image_that_is_all_void() -> None:
    student, teacher, target = pair((2, 3, 4, 6))
    target[1] = IGNORE_INDEX
    alone = channelwise_kl(student[:1], teacher[:1], target[:1], temperature=2.0)
    assert channelwise_kl(student, teacher, target, temperature=2.0).item() == pytest.approx(alone.item(), rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("shape", [(1, 3, 7, 13), (1, 11, 7, 13), (3, 4, 5, 1), (4, 11, 6, 9)])
def test_dist_is_the_papers_formula(shape: tuple[int, ...], temperature: float) -> None:
    student, teacher, target = pair(shape)
    expected = dist_reference(as_float64(student), as_float64(teacher), target.numpy(), temperature)
    assert dist_loss(student, teacher, target, temperature=temperature).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_dist_correlates_pixels_and_not_the_images_of_a_batch(batch: int) -> None:
    student, teacher, target = pair((batch, 4, 6, 5))
    value = dist_loss(student, teacher, target, temperature=1.0).item()
    # Along a batch of one nothing varies, along one of two everything is correlated by +1 or -1.
    expected = dist_reference(as_float64(student), as_float64(teacher), target.numpy(), 1.0)
    assert value == pytest.approx(expected, rel=1e-5)
    assert 0.1 < value < 3.9


def test_dist_sees_relations_and_not_sizes() -> None:
    probabilities = random_logits(1, 4, 6, 5).softmax(dim=1)
    flatter = 0.5 * probabilities + 0.125  # other probabilities, the same relations
    assert dist_loss(flatter.log(), probabilities.log(), temperature=1.0).item() == pytest.approx(0, abs=1e-5)


def test_dist_is_finite_where_predictions_do_not_vary() -> None:
    student = torch.zeros(1, 4, 3, 3, requires_grad=True)
    loss = dist_loss(student, random_logits(1, 4, 3, 3), temperature=1.0)
    assert loss.item() == pytest.approx(2.0)
    assert gradient(loss, student).isfinite().all()


def test_dist_has_a_finite_gradient_where_both_are_sure_that_a_class_is_absent() -> None:
    student, teacher = random_logits(1, 3, 10, 10, seed=1, spread=0.4), random_logits(1, 3, 10, 10, seed=2, spread=0.4)
    student[:, 2] -= 17
    teacher[:, 2] -= 17
    student.requires_grad_()
    assert gradient(dist_loss(student, teacher, temperature=1.0), student).isfinite().all()


@pytest.mark.parametrize("reach", [0, 1, 3, 5])
@pytest.mark.parametrize("shape", [(1, 3, 7, 13), (2, 4, 17, 19), (1, 2, 1, 9)])
def test_border_weight_falls_with_the_distance_to_the_next_label(shape: tuple[int, ...], reach: int) -> None:
    target = blocks(shape)
    np.testing.assert_allclose(border_weight(target, reach).numpy(), border_reference(target.numpy(), reach), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 7, 13), (2, 4, 17, 19)])
def test_boundary_kl_is_the_weighted_mean(shape: tuple[int, ...]) -> None:
    student, teacher, _ = pair(shape)
    target = blocks(shape)
    weight = border_reference(target.numpy(), 3)
    log_q, log_p = (log_softmax(as_float64(x) / 2, axis=1) for x in (student, teacher))
    expected = 4 * ((np.exp(log_p) * (log_p - log_q)).sum(axis=1) * weight).sum() / weight.sum()
    assert boundary_kl(student, teacher, target, temperature=2.0).item() == pytest.approx(expected, rel=1e-5)


def test_boundary_kl_is_zero_where_there_is_one_label() -> None:
    student = random_logits(1, 3, 6, 6, seed=1).requires_grad_()
    loss = boundary_kl(student, random_logits(1, 3, 6, 6, seed=2), torch.ones(1, 6, 6).long(), temperature=1.0)
    assert loss.item() == 0
    assert not gradient(loss, student).any()


def test_void_is_no_border() -> None:
    target = torch.tensor([[[0, 0, IGNORE_INDEX, IGNORE_INDEX, 0, 0]]])
    assert not border_weight(target, 2).any()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_jaccard_metric_is_the_papers_formula(shape: tuple[int, ...], temperature: float) -> None:
    student, teacher, target = pair(shape)
    teacher[:, 1] -= 100  # a class that the teacher never predicts
    valid = target.numpy() != IGNORE_INDEX
    x, y = (np.moveaxis(softmax(as_float64(z) / temperature, axis=1), 1, -1)[valid] for z in (student, teacher))
    indices = []
    for number in np.unique(y.argmax(axis=1)):
        both, apart = np.abs(x + y)[:, number].sum(), np.abs(x - y)[:, number].sum()
        indices.append((both - apart) / (both + apart))
    value = jaccard_metric_loss(student, teacher, target, temperature=temperature).item()
    assert value == pytest.approx(1 - np.mean(indices), rel=1e-5)


def test_jaccard_metric_of_certain_networks_is_the_mean_iou_of_their_masks() -> None:
    _, _, target = pair((2, 4, 9, 7))
    masks = [random_logits(2, 4, 9, 7, seed=seed).argmax(dim=1) for seed in (1, 2)]
    student, teacher = (1000.0 * F.one_hot(mask, 4).movedim(-1, 1) for mask in masks)
    metrics = SegmentationMetrics(4)
    metrics.update(masks[0], torch.where(target == IGNORE_INDEX, IGNORE_INDEX, masks[1]))
    loss = jaccard_metric_loss(student, teacher, target, temperature=1.0)
    assert loss.item() == pytest.approx(1 - metrics.compute()["miou"].item(), rel=1e-6)


def test_jaccard_metric_weighs_rare_classes_like_frequent_ones() -> None:
    teacher = torch.tensor([20.0, -20.0]).view(1, 2, 1, 1).repeat(1, 1, 10, 10)
    teacher[..., 0, 0] *= -1  # one pixel in a hundred
    student = torch.tensor([20.0, -20.0]).view(1, 2, 1, 1).expand(1, 2, 10, 10)
    loss = jaccard_metric_loss(student, teacher, temperature=1.0)
    assert loss.item() == pytest.approx((1 / 100 + 1) / 2, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_feature_mimic_is_half_the_mean_square(shape: tuple[int, ...]) -> None:
    student, teacher, target = pair(shape)
    valid = target.numpy() != IGNORE_INDEX
    difference = np.moveaxis(as_float64(student) - as_float64(teacher), 1, -1)[valid]
    assert hint_loss(student, teacher, target).item() == pytest.approx(0.5 * np.mean(difference**2), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_attention_transfer_compares_unit_maps(shape: tuple[int, ...]) -> None:
    student, _, target = pair(shape)
    teacher = random_logits(shape[0], shape[1] + 3, *shape[2:], seed=5)
    distances = []
    for s, t, ids in zip(as_float64(student), as_float64(teacher), target.numpy(), strict=True):
        maps = [(x**2).sum(axis=0)[ids != IGNORE_INDEX] for x in (s, t)]
        a, b = (m / np.linalg.norm(m) for m in maps)
        distances.append(0.5 * np.sum((a - b) ** 2))
    assert attention_transfer(student, teacher, target).item() == pytest.approx(np.mean(distances), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    student, teacher, target = (x.to(dtype) if x.is_floating_point() else x for x in pair((2, 5, 7, 6)))
    wide = student.float(), teacher.float()
    for method in (channelwise_kl, dist_loss, boundary_kl, jaccard_metric_loss):
        assert torch.equal(method(student, teacher, target, temperature=3.0), method(*wide, target, temperature=3.0))
    for of_features in (hint_loss, attention_transfer):
        assert torch.equal(of_features(student, teacher, target), of_features(*wide, target))


def test_no_method_sends_a_gradient_to_the_teacher() -> None:
    student, teacher, _ = pair((2, 5, 9, 8))
    student.requires_grad_()
    teacher.requires_grad_()
    target = blocks((2, 5, 9, 8))
    losses = [
        method(student, teacher, target, temperature=2.0)
        for method in (channelwise_kl, dist_loss, boundary_kl, jaccard_metric_loss)
    ]
    losses += [method(student, teacher, target) for method in (hint_loss, attention_transfer)]
    for loss in losses:
        assert gradient(loss, student).isfinite().all()
        assert gradient(loss, student).any()
        assert reaches_nothing(loss, teacher)
