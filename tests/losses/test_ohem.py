"""Online hard example mining against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.references import IGNORE_INDEX, as_float64, gradient, random_logits, random_target
from scipy.special import log_softmax

from segdistill.losses import OhemCrossEntropyLoss, cross_entropy, ohem_cross_entropy
from segdistill.utils.errors import ConfigError

SHAPES = [(1, 2, 7, 13), (3, 4, 5, 1), (2, 5, 6, 9)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("min_kept", [0.0, 0.3, 1.0])
def test_ohem_is_the_mean_over_the_hard_pixels(shape: tuple[int, ...], threshold: float, min_kept: float) -> None:
    logits, target = random_logits(*shape), random_target(shape)
    labels = target.numpy()
    batch, row, column = np.nonzero(labels != IGNORE_INDEX)
    nats = -log_softmax(as_float64(logits), axis=1)[batch, labels[batch, row, column], row, column]
    nats = np.sort(nats)[::-1]
    count = max(int((np.exp(-nats) < threshold).sum()), int(np.ceil(min_kept * len(nats))), 1)
    loss = ohem_cross_entropy(logits, target, threshold=threshold, min_kept=min_kept)
    assert loss.item() == pytest.approx(nats[:count].mean(), rel=1e-5)


def test_every_pixel_is_cross_entropy() -> None:
    logits, target = random_logits(2, 3, 4, 5), random_target((2, 3, 4, 5))
    loss = OhemCrossEntropyLoss(threshold=1.0, min_kept=1.0)
    torch.testing.assert_close(loss(logits, target), cross_entropy(logits, target))


def test_easy_pixels_get_no_gradient_and_void_neither() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 0.0, 0.0]])[None, :, None].requires_grad_()
    loss = ohem_cross_entropy(logits, torch.tensor([[[0, 0, 255]]]), threshold=0.7, min_kept=0.0)
    found = gradient(loss, logits)[0, :, 0]
    assert not found[:, [0, 2]].any()
    assert found[:, 1].all()


def test_all_void_has_zero_loss() -> None:
    logits = random_logits(2, 3, 4, 5).requires_grad_()
    value = OhemCrossEntropyLoss()(logits, torch.full((2, 4, 5), IGNORE_INDEX))
    assert value.item() == 0
    assert not gradient(value, logits).any()


def test_a_share_out_of_its_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_kept=2\.0: must be a share"):
        OhemCrossEntropyLoss(min_kept=2.0)
