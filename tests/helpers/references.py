"""What the losses are tested with: random logits and labels, and the formulas in float64 NumPy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor

IGNORE_INDEX = 255
Array = NDArray[np.float64]


def random_logits(*shape: int, seed: int = 0, spread: float = 3.0) -> Tensor:
    return spread * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_target(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Class ids for logits of `shape`, a quarter of them void."""
    batch, classes, height, width = shape
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, classes, (batch, height, width))
    ids[rng.random(ids.shape) < 0.25] = IGNORE_INDEX
    return torch.from_numpy(ids)


def as_float64(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits, retain_graph=True)[0]


def reaches_nothing(loss: Tensor, leaf: Tensor) -> bool:
    found: tuple[Tensor | None, ...] = torch.autograd.grad(loss, leaf, retain_graph=True, allow_unused=True)
    return found == (None,)


def kl_reference(student: Array, teacher: Array, valid: NDArray[np.bool_], temperature: float) -> float:
    """T^2 / |V| * sum over valid pixels and classes of p log(p / q)."""
    log_q, log_p = log_softmax(student / temperature, axis=1), log_softmax(teacher / temperature, axis=1)
    divergence = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return float(temperature**2 * divergence[valid].sum() / valid.sum())


def focal_reference(logits: Array, target: NDArray[np.int64], gamma: float) -> float:
    """Mean over valid pixels of (1 - p_t)^gamma * -log p_t."""
    batch, row, column = np.nonzero(target != IGNORE_INDEX)
    log_p = log_softmax(logits, axis=1)[batch, target[batch, row, column], row, column]
    return float(np.mean((1 - np.exp(log_p)) ** gamma * -log_p))
