"""Quantisation-aware training: round a network as its INT8 file will, while gradients pass straight through.

After Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference".
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from segdistill.models.fusion import normalised_convolutions
from segdistill.models.output import PROBE_SIZE, evaluated

WEIGHT_LEVELS = {7: 64, 8: 127}
"""Largest integer of a weight by the number of its bits, as onnxruntime chooses it."""

ACTIVATION_LEVELS = 255


class FakeQuantization:
    """Rounds a network's weights and activations to the grids of the INT8 file that is made of it.

    Rounded are each convolution's weights, merged with the BatchNorm that follows it, and its input; and what one of
    timm's BatchNorms without an activation writes, for that is added to other features. Linear layers are not, nor are
    sums and logits, nor a convolution that evaluation does not reach. The network's parameters, buffers and state_dict
    stay what they are.

    Args:
        network: Network whose modules get hooks until `remove` is called.
        weight_bits: 7 or 8, with the sign.
        per_channel: Whether each output channel of a kernel has its own scale; otherwise one scale serves the kernel.

    Attributes:
        enabled: Whether anything is rounded; False at first.
    """

    def __init__(self, network: nn.Module, *, weight_bits: int, per_channel: bool) -> None:
        self.network, self.enabled = network, False
        self._levels, self._per_channel = WEIGHT_LEVELS[weight_bits], per_channel
        self._ranges: dict[nn.Module, tuple[float, float]] = {}
        self._seen: dict[nn.Module, list[Tensor]] = {}
        self._means: dict[nn.Module, Tensor] = {}
        self._shifts: dict[nn.Module, Tensor] = {}
        self._calibrating = False
        device = next(network.parameters()).device
        with evaluated(network), torch.no_grad():
            pairs = normalised_convolutions(network, torch.zeros(1, 3, *PROBE_SIZE, device=device))
        norms = {convolution: norm for norm, convolution in pairs.items()}
        self._hooks = []
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                enter = partial(self._enter, norm=norms.get(module))
                self._hooks.append(module.register_forward_pre_hook(enter))
                self._hooks.append(module.register_forward_hook(self._leave, always_call=True))
            elif isinstance(module, nn.BatchNorm2d) and isinstance(getattr(module, "act", None), nn.Identity):
                self._hooks.append(module.register_forward_hook(lambda norm, _, output: self._activation(norm, output)))

    def remove(self) -> None:
        """Take the hooks off the network."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Measure the ranges of all activations anew, without rounding.

        Args:
            images: Batches float32 [B, 3, H, W] in [0, 1], on the network's device.
        """
        self._ranges.clear()
        self._seen.clear()
        self._calibrating = True
        try:
            with evaluated(self.network):
                for image in images:
                    self.network(image)
        finally:
            self._calibrating = False
        self._means = {convolution: torch.stack(means).mean(0) for convolution, means in self._seen.items()}

    def _enter(self, convolution: nn.Conv2d, inputs: tuple[Tensor], norm: nn.BatchNorm2d | None) -> tuple[Tensor]:
        values = self._activation(convolution, inputs[0])
        if self._calibrating:
            self._seen.setdefault(convolution, []).append(values.mean((0, 2, 3)))
        elif self.enabled and convolution in self._means:
            weight, bias = convolution.weight, convolution.bias
            rounded = self._rounded(weight, norm)
            shift = _mean_shift(rounded.detach() - weight.detach(), self._means[convolution])
            hidden = convolution.__dict__  # what stands there hides the parameter of its name, until this call ends
            hidden["weight"] = rounded
            if bias is not None:
                hidden["bias"] = bias - shift
            elif norm:
                self._shifts[convolution] = shift
        return (values,)

    def _leave(self, convolution: nn.Conv2d, _: tuple[Tensor], output: Tensor) -> Tensor:
        for name in ("weight", "bias"):
            convolution.__dict__.pop(name, None)
        shift = self._shifts.pop(convolution, None)
        return output if shift is None else output - shift.to(output.dtype).reshape(-1, 1, 1)

    def _activation(self, module: nn.Module, values: Tensor) -> Tensor:
        low, high = self._ranges.get(module, (0.0, 0.0))
        if self._calibrating:
            self._ranges[module] = min(low, float(values.min())), max(high, float(values.max()))
        elif self.enabled and high > low:
            step = (high - low) / ACTIVATION_LEVELS
            bottom = round(low / step) * step
            values = _Rounding.apply(values, step, bottom, bottom + ACTIVATION_LEVELS * step)
        return values

    def _rounded(self, weight: Tensor, norm: nn.BatchNorm2d | None) -> Tensor:
        """Round a kernel [O, I, K, K] on the grid that it has once its BatchNorm is merged into it."""
        with torch.no_grad():
            factor = _merged_factor(norm) if norm else weight.new_ones(1, 1, 1, 1)
            size = (weight * factor).abs().amax((1, 2, 3), keepdim=True)
            step = (size if self._per_channel else size.max()) / self._levels / factor.where(factor > 0, 1.0)
            step = step.clamp_min(torch.finfo(step.dtype).tiny)
            bound = (self._levels + 0.5) * step  # the largest weight lies within, and gets its gradient
        rounded: Tensor = _Rounding.apply(weight, step, -bound, bound)
        return rounded


def _mean_shift(error: Tensor, means: Tensor) -> Tensor:
    """Return how far the errors of a kernel [O, C / groups, K, K] move its mean outputs [O], for mean inputs [C].

    The file's biases are corrected by it (`export/bias_correction.py`); without it here, a BatchNorm would learn it,
    and it would be corrected twice.
    """
    per_group = means.reshape(-1, error.shape[1])
    per_output = per_group.repeat_interleave(len(error) // len(per_group), 0)
    return (error.sum((2, 3)) * per_output).sum(1)


def _merged_factor(norm: nn.BatchNorm2d) -> Tensor:
    """Return the size of what a BatchNorm multiplies each channel's kernel with, [C, 1, 1, 1]."""
    assert norm.running_var is not None
    factor = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        factor = factor * norm.weight.abs()
    return factor.reshape(-1, 1, 1, 1)


class _Rounding(torch.autograd.Function):
    """Round to multiples of a step within bounds; the gradient is 1 within them and 0 beyond.

    One function for maps and, with a step for each channel, kernels, for which torch has two; about as fast as those.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, step: Any, low: Any, high: Any) -> Tensor:
        ctx.save_for_backward(values)
        ctx.bounds = low, high
        rounded: Tensor = (values / step).round_().mul_(step).clamp_(low, high)
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (values,) = ctx.saved_tensors
        low, high = ctx.bounds
        return gradient.masked_fill((values < low) | (values > high), 0), None, None, None
