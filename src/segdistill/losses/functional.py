"""The losses as pure tensor functions. Each averages over valid pixels, and is 0 where there is none.

Logits are [B, C, H, W] in any floating dtype (half precision is computed in float32), targets int64 [B, H, W].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_RESIDUE = 1e-12  # keeps the focal weight's gradient finite where a pixel is already certain
MIN_VARIATION = 1e-16  # a sum of squares below it has no direction in float32


def pixelwise_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float,
    ignore_index: int = 255,
) -> Tensor:
    """KL divergence from the teacher's to the student's class distribution, at every pixel.

    T^2 / |V| * sum_{i in V} sum_c p_ic log(p_ic / q_ic), p = softmax(teacher / T), q = softmax(student / T): Hinton
    et al., 2015 (arXiv:1503.02531), applied per pixel as in Liu et al., 2019 (arXiv:1903.04197), equation 2.
    T^2 keeps the gradient's size independent of T.

    Args:
        student_logits: [B, C, H, W].
        teacher_logits: [B, C, H, W]; gets no gradient.
        target: Labels, used for their void pixels only; None counts every pixel.
        temperature: T > 0.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats times T^2.

    Raises:
        ValueError: If the shapes do not fit or the temperature is not above 0.
    """
    divergence = _pixel_kl(student_logits, teacher_logits, target, temperature)
    return temperature**2 * _mean_over_valid(divergence, target, ignore_index)


def channelwise_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float,
    ignore_index: int = 255,
) -> Tensor:
    """CWD: KL divergence between the places where each channel is active.

    T^2 / (B C) * sum_b sum_c sum_{i in V_b} p_bci log(p_bci / q_bci), where p and q are the softmax of a channel's
    logits / T over the valid pixels of a picture: Shu et al., 2021 (arXiv:2011.13256). Pictures without valid pixels
    are not counted in B.

    Args:
        student_logits: [B, C, H, W].
        teacher_logits: [B, C, H, W]; gets no gradient.
        target: Labels, used for their void pixels only; None counts every pixel.
        temperature: T > 0.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats times T^2.

    Raises:
        ValueError: If the shapes do not fit or the temperature is not above 0.
    """
    student_logits, teacher_logits = _checked(student_logits, teacher_logits, target, temperature)
    valid = _valid(student_logits, target, ignore_index).flatten(1)[:, None]
    seen = valid.any(dim=2, keepdim=True)
    hidden = ~valid & seen  # a picture that is all void keeps its logits, for a softmax of nothing has no gradient
    student, teacher = (
        F.log_softmax((logits.flatten(2) / temperature).masked_fill(hidden, -torch.inf), dim=2)
        for logits in (student_logits, teacher_logits)
    )
    divergence = torch.where(valid, teacher.exp() * (teacher - student), 0).sum(dim=(1, 2))
    return temperature**2 * divergence.sum() / (seen.sum().clamp_min(1) * student_logits.shape[1])


def dist(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float,
    beta: float = 1.0,
    gamma: float = 1.0,
    ignore_index: int = 255,
) -> Tensor:
    """DIST: what is correlated in the teacher's predictions is to be correlated in the student's.

    T^2 * (beta * (1 - mean_i r(p_i, q_i)) + gamma * (1 - mean_c r(p^c, q^c))), r Pearson's correlation, p and q the
    softmax of logits / T; a row p_i holds the classes of a valid pixel, a column p^c a class at all valid pixels of
    the batch: Huang et al., 2022 (arXiv:2205.10536). What does not vary counts as not correlated.

    Args:
        student_logits: [B, C, H, W].
        teacher_logits: [B, C, H, W]; gets no gradient.
        target: Labels, used for their void pixels only; None counts every pixel.
        temperature: T > 0.
        beta: Weight of the relation between classes.
        gamma: Weight of the relation within a class.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, from 0 to 2 T^2 (beta + gamma).

    Raises:
        ValueError: If the shapes do not fit or the temperature is not above 0.
    """
    student_logits, teacher_logits = _checked(student_logits, teacher_logits, target, temperature)
    valid = _valid(student_logits, target, ignore_index)
    student, teacher = (
        F.softmax(logits / temperature, dim=1).movedim(1, -1)[valid] for logits in (student_logits, teacher_logits)
    )
    between = (1 - _correlation(student, teacher, dim=1)).sum() / valid.sum().clamp_min(1)
    within = (1 - _correlation(student, teacher, dim=0)).mean() * valid.any()
    return temperature**2 * (beta * between + gamma * within)


def boundary_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    temperature: float,
    reach: int = 3,
    ignore_index: int = 255,
) -> Tensor:
    """KL divergence at the borders between labels, where students are least certain.

    T^2 / sum_i w_i * sum_i w_i KL(p_i || q_i), w_i = max(0, 1 - d_i / (reach + 1)), d_i the Chebyshev distance in
    pixels to the nearest border. After the edge loss of BPKD, Liu et al., 2023 (arXiv:2306.08075), whose borders have
    one weight for all their pixels.

    Args:
        student_logits: [B, C, H, W].
        teacher_logits: [B, C, H, W]; gets no gradient.
        target: int64 [B, H, W]; void is no label, and has no border.
        temperature: T > 0.
        reach: Pixels of this grid on each side of a border that count.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats times T^2; 0 where there is no border.

    Raises:
        ValueError: If the shapes do not fit or the temperature is not above 0.
    """
    divergence = _pixel_kl(student_logits, teacher_logits, target, temperature)
    weight = border_weight(target, reach, ignore_index)
    total = torch.where(weight > 0, weight * divergence, 0).sum()
    return temperature**2 * total / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def border_weight(target: Tensor, reach: int, ignore_index: int = 255) -> Tensor:
    """Weight of every pixel by its distance to the nearest border between two labels.

    Args:
        target: int64 [B, H, W].
        reach: Pixels on each side that count.
        ignore_index: Label of void pixels, which weigh 0.

    Returns:
        float32 [B, H, W]: 1 at a border, falling linearly to 0 at `reach` + 1 pixels from it.
    """
    valid = target != ignore_index
    border = torch.zeros(target.shape, device=target.device)
    for dim in (1, 2):
        length = target.shape[dim] - 1
        before, after = (slice(None),) * dim + (slice(0, length),), (slice(None),) * dim + (slice(1, None),)
        differs = (target[before] != target[after]) & valid[before] & valid[after]
        border[before] = torch.maximum(border[before], differs.float())
        border[after] = torch.maximum(border[after], differs.float())
    weight, near = border.clone(), border
    for _ in range(reach):
        near = F.max_pool2d(near, kernel_size=3, stride=1, padding=1)
        weight += near
    return weight * valid / (reach + 1)


def hint_loss(
    student_features: Tensor, teacher_features: Tensor, target: Tensor | None = None, *, ignore_index: int = 255
) -> Tensor:
    """Half the mean squared difference of two feature maps.

    1 / (2 |V| C) * sum_{i in V} ||t_i - s_i||^2: the hint loss of FitNets, Romero et al., 2015 (arXiv:1412.6550),
    as a mean. The student's features have been through its adapter.

    Args:
        student_features: [B, C, H, W].
        teacher_features: [B, C, H, W]; gets no gradient.
        target: int64 [B, H, W], used for its void pixels only; None counts every pixel.
        ignore_index: Label of void pixels.

    Returns:
        Scalar.

    Raises:
        ValueError: If the shapes do not fit.
    """
    student_features, teacher_features = _checked(student_features, teacher_features, target)
    valid = _valid(student_features, target, ignore_index)[:, None]
    # Masked before it is squared: at void pixels a square may overflow, and has no gradient then.
    difference = torch.where(valid, student_features - teacher_features, 0)
    return 0.5 * _mean_over_valid(difference.square().mean(dim=1), target, ignore_index)


def attention_transfer(
    student_features: Tensor, teacher_features: Tensor, target: Tensor | None = None, *, ignore_index: int = 255
) -> Tensor:
    """Squared distance between the attention maps of two feature maps.

    1 / (2 B) * sum_b ||a_s / ||a_s|| - a_t / ||a_t||||^2, a_i = sum_c f_ci^2 at the valid pixels of a picture:
    Zagoruyko and Komodakis, 2017 (arXiv:1612.03928), the activation-based map with p = 2.

    Args:
        student_features: [B, C, H, W].
        teacher_features: [B, C', H, W]; gets no gradient.
        target: int64 [B, H, W], used for its void pixels only; None counts every pixel.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, from 0 to 1.

    Raises:
        ValueError: If the shapes do not fit.
    """
    _require_grid(student_features, teacher_features, target)
    valid = _valid(student_features, target, ignore_index)
    student, teacher = (
        F.normalize(torch.where(valid[:, None], features, 0).square().sum(dim=1).flatten(1), dim=1)
        for features in (_full_precision(student_features), _full_precision(teacher_features.detach()))
    )
    seen = valid.flatten(1).any(dim=1).sum().clamp_min(1)
    return 0.5 * (student - teacher).square().sum() / seen


def focal(logits: Tensor, target: Tensor, *, gamma: float, ignore_index: int = 255) -> Tensor:
    """Cross-entropy that fades for pixels already right: (1 - p_t)^gamma * -log p_t.

    Lin et al., 2017 (arXiv:1708.02002), equation 4. A gamma of 0 is plain cross-entropy.

    Args:
        logits: [B, C, H, W].
        target: int64 [B, H, W].
        gamma: At least 0.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats.
    """
    nats = _pixel_cross_entropy(logits, target, ignore_index)
    residue = (-torch.expm1(-nats)).clamp_min(MIN_RESIDUE)
    return _mean_over_valid(residue**gamma * nats, target, ignore_index)


def cross_entropy(logits: Tensor, target: Tensor, *, ignore_index: int = 255) -> Tensor:
    """-log p_t, averaged over valid pixels.

    Args:
        logits: [B, C, H, W].
        target: int64 [B, H, W].
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats.
    """
    return _mean_over_valid(_pixel_cross_entropy(logits, target, ignore_index), target, ignore_index)


def _pixel_cross_entropy(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    return F.cross_entropy(_full_precision(logits), target, ignore_index=ignore_index, reduction="none")


def _pixel_kl(student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None, temperature: float) -> Tensor:
    """KL(p || q) at every pixel, [B, H, W], without T^2."""
    student_logits, teacher_logits = _checked(student_logits, teacher_logits, target, temperature)
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return (teacher.exp() * (teacher - student)).sum(dim=1)


def _correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Pearson's, along `dim`; 0, with a gradient of 0, where one of them does not vary."""
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    # Two roots, not the root of a product: its gradient would overflow long before theirs.
    of_a, of_b = (x.square().sum(dim).clamp_min(MIN_VARIATION).rsqrt() for x in (a, b))
    return (a * b).sum(dim) * of_a * of_b


def _checked(
    student: Tensor, teacher: Tensor, target: Tensor | None, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Both in float32 or better, the teacher's without gradient."""
    if student.shape != teacher.shape:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"student and teacher must have one shape, got {shapes}")
    _require_grid(student, teacher, target)
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    return _full_precision(student), _full_precision(teacher.detach())


def _require_grid(student: Tensor, teacher: Tensor, target: Tensor | None) -> None:
    """Student and teacher may differ in their channels, and in nothing else."""
    grid = student[:, 0].shape
    if teacher[:, 0].shape != grid:
        raise ValueError(f"student and teacher must have one grid, got {tuple(grid)} and {tuple(teacher[:, 0].shape)}")
    if target is not None and target.shape != grid:
        raise ValueError(f"target must be {tuple(grid)}, got {tuple(target.shape)}")


def _valid(logits: Tensor, target: Tensor | None, ignore_index: int) -> Tensor:
    """Marks, bool [B, H, W], the pixels that count."""
    if target is None:
        return torch.ones_like(logits[:, 0], dtype=torch.bool)
    return target != ignore_index


def _full_precision(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _mean_over_valid(values: Tensor, target: Tensor | None, ignore_index: int) -> Tensor:
    """Mean of [B, H, W] over the pixels that are not void; 0, with a gradient of 0, where all are."""
    if target is None:
        return values.mean()
    valid = target != ignore_index
    return torch.where(valid, values, 0).sum() / valid.sum().clamp_min(1)
