"""Depthwise convolutions that train fast on a CPU.

oneDNN's backward passes of depthwise kernels are much slower than its forward pass: many times slower if the kernel is
dilated, larger than 3 x 3, or bf16 with a stride. They took most of a training step of an EfficientNet or MobileNet;
here each is expressed by passes that are fast.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NARROW = 3
"""Width of the largest kernel whose weight gradient oneDNN computes fast."""


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution with a fast backward pass on a CPU; elsewhere an ordinary one."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve [B, C, H, W]; if gradients are enabled, the output has the input's dtype."""
        if input.device.type != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_exporting():
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            output: Tensor = _DepthwiseFunction.apply(input, self.weight, *self._geometry())
        return output

    def _geometry(self) -> tuple[int, int, int]:
        return self.stride[0], int(self.padding[0]), self.dilation[0]


def replace_depthwise_convs(network: nn.Module) -> None:
    """Turn depthwise convolutions into DepthwiseConv2d, in place; weights and results do not change.

    Args:
        network: Network whose square, odd, unbiased kernels with zero padding are replaced.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_turned(module):
            module.__class__ = DepthwiseConv2d


def _is_turned(module: nn.Conv2d) -> bool:
    square = all(len(set(pair)) == 1 for pair in (module.kernel_size, module.stride, module.padding, module.dilation))
    depthwise = 1 < module.groups == module.in_channels == module.out_channels
    plain = module.bias is None and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if not (depthwise and square and plain) or module.kernel_size[0] % 2 == 0 or module.kernel_size[0] < NARROW:
        return False
    return int(module.padding[0]) <= module.dilation[0] * (module.kernel_size[0] - 1)


class _DepthwiseFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.geometry = stride, padding, dilation
        return _convolve(input, weight, stride, padding, dilation)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        input, weight = ctx.saved_tensors
        wants_input, wants_weight = ctx.needs_input_grad[:2]
        of_input = _input_gradient(gradient, input.shape, weight, *ctx.geometry) if wants_input else None
        of_weight = weight_gradient(gradient, input, weight, *ctx.geometry) if wants_weight else None
        return of_input, of_weight, None, None, None


def _convolve(input: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    """Convolve in the input's dtype for small kernels; bf16 of large ones costs more than casts to float32 and back."""
    dtype = input.dtype if weight.shape[-1] <= NARROW else weight.dtype
    output = F.conv2d(input.to(dtype), weight.to(dtype), None, stride, padding, dilation, len(weight))
    return output.to(input.dtype)


def _input_gradient(
    gradient: Tensor, size: torch.Size, weight: Tensor, stride: int, padding: int, dilation: int
) -> Tensor:
    reach = dilation * (weight.shape[-1] - 1)
    if stride == 1:  # a convolution with the mirrored kernel
        return _convolve(gradient, weight.flip(2, 3), 1, reach - padding, dilation)
    unreached = [(length + 2 * padding - reach - 1) % stride for length in size[-2:]]
    whole = gradient.to(weight.dtype)
    spread = F.conv_transpose2d(whole, weight, None, stride, padding, unreached, len(weight), dilation)
    return spread.to(gradient.dtype)


def weight_gradient(
    gradient: Tensor, input: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> Tensor:
    """Compute the gradient of a depthwise kernel.

    Args:
        gradient: Gradient of the output, [B, C, H', W'].
        input: Input of the convolution, [B, C, H, W].
        weight: Kernel [C, 1, K, K]; its dtype is used for the computation and the result.
        stride: Stride of the convolution.
        padding: Number of zeros on every side.
        dilation: Distance between the kernel's taps.

    Returns:
        Gradient of the kernel, [C, 1, K, K].
    """
    half = weight.shape[-1] // 2
    if dilation > 1 and stride == 1 and padding == dilation * half:
        # Pixels that a dilated kernel sees together form small images, on which the kernel is not dilated.
        return weight_gradient(_phases(gradient, dilation), _phases(input, dilation), weight, 1, half, 1)
    gradient, input = _laid_out(gradient, weight.dtype), _laid_out(input, weight.dtype)
    if dilation == 1 and weight.shape[-1] > NARROW:
        return _by_columns(gradient, input, weight, stride, padding)
    return _by_library(gradient, input, weight, stride, (padding, padding), dilation)


def _phases(maps: Tensor, step: int) -> Tensor:
    """Split maps [B, C, H, W], padded with zeros, into those of each `step`-th row and column: [B step^2, C, h, w].

    The result is channels-last, as `_by_library` takes it: channels stay together in the one copy that is made.
    """
    padded = F.pad(maps, (0, -maps.shape[-1] % step, 0, -maps.shape[-2] % step))
    batch, channels, height, width = padded.shape
    grid = padded.permute(0, 2, 3, 1).reshape(batch, height // step, step, width // step, step, channels)
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)


def _by_columns(gradient: Tensor, input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Compute three columns of the kernel at a time, on the input shifted so that they are its first three."""
    result, kernel = torch.empty_like(weight), weight.shape[-1]
    width = (gradient.shape[-1] - 1) * stride + NARROW
    for start in (min(start, kernel - NARROW) for start in range(0, kernel, NARROW)):
        columns = (..., slice(start, start + NARROW))
        moved = F.pad(input, (padding - start, width - input.shape[-1] - padding + start))
        result[columns] = _by_library(gradient, moved, weight[columns], stride, (padding, 0), 1)
    return result


def _laid_out(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).contiguous(memory_format=torch.channels_last)


def _by_library(
    gradient: Tensor, input: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], dilation: int
) -> Tensor:
    geometry = [stride] * 2, padding, [dilation] * 2
    results = torch.ops.aten.convolution_backward(
        gradient, input, weight, None, *geometry, False, [0, 0], len(weight), [False, True, False]
    )
    result: Tensor = results[1]
    return result
