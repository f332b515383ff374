"""The balanced loss against NumPy and scikit-style formulas by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.references import IGNORE_INDEX, as_float64, gradient, random_logits, random_target
from scipy.special import softmax

from segdistill.losses import BalancedLoss, dice_loss, weighted_cross_entropy
from segdistill.losses.balanced import class_weights
from segdistill.utils.errors import ConfigError

SHAPES = [(1, 2, 7, 13), (3, 4, 5, 1), (2, 5, 6, 9)]


@pytest.mark.parametrize("shape", SHAPES)
def test_weighted_cross_entropy_is_torchs_weighted_mean(shape: tuple[int, ...]) -> None:
    logits, target = random_logits(*shape), random_target(shape)
    weight = torch.arange(1.0, shape[1] + 1)
    expected = F.cross_entropy(logits, target, weight=weight, ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(weighted_cross_entropy(logits, target, weight), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_dice_is_the_formula_over_the_classes_present(shape: tuple[int, ...]) -> None:
    logits, target = random_logits(*shape), random_target(shape)
    target[target == shape[1] - 1] = 0  # the last class is absent
    probabilities, labels = softmax(as_float64(logits), axis=1), target.numpy()
    valid, dice = labels != IGNORE_INDEX, []
    for index in np.unique(labels[valid]):
        predicted, truth = probabilities[:, index][valid], labels[valid] == index
        dice.append(2 * (predicted * truth).sum() / (predicted.sum() + truth.sum()))
    assert dice_loss(logits, target).item() == pytest.approx(1 - np.mean(dice), rel=1e-5)


def test_all_void_has_zero_loss_and_zero_gradient() -> None:
    logits = random_logits(2, 3, 4, 5).requires_grad_()
    value = BalancedLoss([1.0, 2.0, 3.0])(logits, torch.full((2, 4, 5), IGNORE_INDEX))
    assert value.item() == 0
    assert not gradient(value, logits).any()


def test_void_pixels_change_nothing_whatever_is_predicted_there() -> None:
    logits, target = random_logits(1, 3, 4, 5), random_target((1, 3, 4, 5))
    changed = torch.where((target == IGNORE_INDEX)[:, None], logits + 50 * random_logits(1, 3, 4, 5, seed=3), logits)
    loss = BalancedLoss([1.0, 2.0, 3.0])
    torch.testing.assert_close(loss(changed, target), loss(logits, target))


def test_half_precision_is_computed_in_float32() -> None:
    logits, target = random_logits(1, 3, 16, 16).bfloat16(), random_target((1, 3, 16, 16))
    loss = BalancedLoss([1.0, 2.0, 3.0])
    assert loss(logits, target).item() == loss(logits.float(), target).item()


def test_weights_are_measured_unless_they_are_given() -> None:
    pixels = torch.tensor([890, 78, 2, 13, 13])
    measured, given = BalancedLoss(), BalancedLoss([1, 2, 3, 4, 5])
    for loss in (measured, given):
        loss.set_class_pixels(pixels)
    expected = np.minimum((890 / pixels.numpy()) ** 0.25, 10).tolist()
    assert measured.weight is not None
    assert measured.weight.tolist() == pytest.approx(expected)
    assert given.weight is not None
    assert given.weight.tolist() == [1, 2, 3, 4, 5]
    assert class_weights(torch.tensor([5, 0]), power=1.0, max_weight=4.0).tolist() == [1.0, 4.0]
    assert not measured.state_dict()  # a checkpoint holds the network alone


def test_weights_that_are_missing_or_too_few_are_refused() -> None:
    with pytest.raises(RuntimeError, match="set_class_pixels"):
        BalancedLoss()(random_logits(1, 2, 3, 3), random_target((1, 2, 3, 3)))
    with pytest.raises(ConfigError, match="must be 3, one for each class"):
        BalancedLoss([1.0, 2.0]).set_class_pixels(torch.tensor([1, 2, 3]))
    with pytest.raises(ConfigError, match=r"max_weight=0\.5: must be at least 1"):
        BalancedLoss(max_weight=0.5)
