"""Heads of DeepLab: the pyramid, the lite head of DeepLabV3, the decoder of DeepLabV3+."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.backbones import LOW_STRIDE
from segdistill.utils.interpolate import enlarged

ASPP_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
HEAD_CHANNELS = 256
LOW_LEVEL_CHANNELS = 48
DROPOUT = 0.1
HeadNorm = Literal["batch"] | None
Classifier = Literal["linear", "subpixel"]
SUBPIXEL_STRIDE = LOW_STRIDE
CHANNEL_MULTIPLE = 8


class PooledBatchNorm(nn.BatchNorm2d):
    """BatchNorm for features pooled to 1 x 1; a batch of one has no variance, and uses the running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [B, C, 1, 1]."""
        if self.training and input.shape[0] == 1:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(input, mean, var, self.weight, self.bias, training=False, eps=self.eps)
        return super().forward(input)


def conv_unit(
    in_channels: int,
    out_channels: int,
    norm: HeadNorm,
    *,
    kernel: int = 1,
    dilation: int = 1,
    pooled: bool = False,
    bias: bool = False,
    separable: bool = False,
) -> nn.Sequential:
    """Build a convolution, a BatchNorm if `norm` is "batch", and a ReLU; the spatial size is kept.

    A separable one is depthwise and then 1 x 1 (Chen et al., 2018, arXiv:1802.02611, figure 3), unless `kernel` is 1.
    """
    splits = separable and kernel > 1
    first, groups = (in_channels, in_channels) if splits else (out_channels, 1)
    padding, biased = dilation * (kernel // 2), bias and not splits
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, first, kernel, padding=padding, dilation=dilation, groups=groups, bias=biased)
    ]
    if splits:
        layers.append(nn.Conv2d(in_channels, out_channels, 1, bias=bias))
    if norm == "batch":
        layers.append(PooledBatchNorm(out_channels) if pooled else nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., 2017, arXiv:1706.05587, figure 5).

    Args:
        in_channels: Number of input channels.
        rates: Dilations of the 3 x 3 branches.
        norm: "batch", or None for no normalisation.
        bias: Whether the convolutions have a bias, which is redundant with BatchNorm.
        width: Number of channels of every branch and of the output.
        separable: Whether the 3 x 3 convolutions are depthwise separable.
    """

    def __init__(
        self,
        in_channels: int,
        rates: tuple[int, ...],
        norm: HeadNorm,
        *,
        bias: bool = False,
        width: int = HEAD_CHANNELS,
        separable: bool = False,
    ) -> None:
        super().__init__()
        unit = partial(conv_unit, norm=norm, bias=bias, separable=separable)
        self.point = unit(in_channels, width)
        self.atrous = nn.ModuleList(unit(in_channels, width, kernel=3, dilation=rate) for rate in rates)
        self.pooled = unit(in_channels, width, pooled=True)
        self.project = nn.Sequential(unit((2 + len(rates)) * width, width), nn.Dropout(DROPOUT))

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, C, h, w] to [B, width, h, w]."""
        pooled = self.pooled(features.mean((2, 3), keepdim=True)).expand(-1, -1, *features.shape[-2:])
        branches = [self.point(features), *(branch(features) for branch in self.atrous), pooled]
        projected: Tensor = self.project(torch.cat(branches, dim=1))
        return projected


class SubpixelClassifier(nn.Conv2d):
    """A 1 x 1 classifier that predicts `factor` x `factor` labels per pixel (Shi et al., 2016, arXiv:1609.05158).

    It can express detail of a finer stride without features of that stride.

    Args:
        in_channels: Number of input channels.
        num_classes: Number of classes C.
        factor: Number of subpixels along each side.
    """

    def __init__(self, in_channels: int, num_classes: int, factor: int) -> None:
        super().__init__(in_channels, num_classes * factor**2, 1)
        self.factor = factor

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, in_channels, h, w] to [B, C, factor h, factor w]."""
        return F.pixel_shuffle(super().forward(input), self.factor)


class DetailBranch(nn.Module):
    """Branch that corrects logits with the backbone's stride-4 features.

    The decoder of DeepLabV3+ (Chen et al., 2018, arXiv:1802.02611) refines 256 channels at stride 4; this one refines
    the C logits together with a few channels, for a thirtieth of the multiplications. A skip connection that adds
    logits is the idea of LR-ASPP (Howard et al., 2019, arXiv:1905.02244). The initial correction is zero.

    Args:
        low_channels: Number of channels of the stride-4 features.
        num_classes: Number of classes C.
        channels: Number of channels of the two hidden layers.
        norm: Normalisation, as in `conv_unit`.
        bias: Whether the convolutions have a bias, as in `conv_unit`.
    """

    def __init__(self, low_channels: int, num_classes: int, channels: int, norm: HeadNorm, bias: bool) -> None:
        super().__init__()
        self.low_level = conv_unit(low_channels, channels, norm, bias=bias)
        self.refine = conv_unit(channels + num_classes, channels, norm, kernel=3, bias=bias)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, low: Tensor, logits: Tensor) -> Tensor:
        """Correct logits [B, C, h, w] with features [B, C', h, w]."""
        correction: Tensor = self.classifier(self.refine(torch.cat([logits, self.low_level(low)], dim=1)))
        return logits + correction

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Add channels of zeros until `refine` reads a multiple of CHANNEL_MULTIPLE; the logits stay the same.

        A 3 x 3 convolution of 53 channels takes longer than one of 56. `models.fusion.deployed` calls this.
        """
        weight = self.refine.get_parameter("0.weight")
        extra = -weight.shape[1] % CHANNEL_MULTIPLE
        weight.data = F.pad(weight, (0, 0, 0, 0, 0, extra))
        for tensor in [*self.low_level.parameters(), *self.low_level.buffers()]:
            if tensor.dim():
                tensor.data = torch.cat([tensor, tensor.new_zeros(extra, *tensor.shape[1:])])


class DeepLabV3Head(nn.Module):
    """ASPP, one 3 x 3 convolution, the classifier, and optionally a detail branch."""

    def __init__(
        self,
        low_channels: int,
        high_channels: int,
        num_classes: int,
        output_stride: int,
        *,
        norm: HeadNorm,
        classifier: Classifier,
        bias: bool,
        detail_channels: int,
        width: int,
        separable: bool,
    ) -> None:
        super().__init__()
        self.stride = SUBPIXEL_STRIDE if classifier == "subpixel" else output_stride
        rates, layout = ASPP_RATES[output_stride], {"bias": bias, "separable": separable}
        self.aspp = ASPP(high_channels, rates, norm, width=width, **layout)
        self.refine = conv_unit(width, width, norm, kernel=3, **layout)
        self.classifier: nn.Conv2d = (
            SubpixelClassifier(width, num_classes, output_stride // SUBPIXEL_STRIDE)
            if classifier == "subpixel"
            else nn.Conv2d(width, num_classes, 1)
        )
        self.detail: DetailBranch | None = None
        self.to_detail = self.stride // LOW_STRIDE
        if detail_channels:
            self.stride = LOW_STRIDE
            self.detail = DetailBranch(low_channels, num_classes, detail_channels, norm, bias)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Compute logits at `stride`: that of `high`, or 4 with the sub-pixel classifier or the detail branch."""
        logits: Tensor = self.classifier(self.refine(self.aspp(high)))
        if self.detail is None:
            return logits
        corrected: Tensor = self.detail(low, enlarged(logits, self.to_detail, low.shape[-2:]))
        return corrected


class DeepLabV3PlusHead(nn.Module):
    """ASPP and a decoder that adds stride-4 features (Chen et al., 2018, arXiv:1802.02611, figure 2)."""

    def __init__(self, low_channels: int, high_channels: int, num_classes: int, output_stride: int) -> None:
        super().__init__()
        self.stride, self.context_factor = LOW_STRIDE, output_stride // LOW_STRIDE
        self.aspp = ASPP(high_channels, ASPP_RATES[output_stride], "batch")
        self.low_level = conv_unit(low_channels, LOW_LEVEL_CHANNELS, "batch")
        self.refine = conv_unit(HEAD_CHANNELS + LOW_LEVEL_CHANNELS, HEAD_CHANNELS, "batch", kernel=3)
        self.classifier = nn.Conv2d(HEAD_CHANNELS, num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Compute logits at stride 4."""
        context = enlarged(self.aspp(high), self.context_factor, low.shape[-2:])
        logits: Tensor = self.classifier(self.refine(torch.cat([context, self.low_level(low)], dim=1)))
        return logits
