"""DeepLabV3 (lite: no normalisation in the head) and DeepLabV3+, on any backbone."""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.backbones import LOW_STRIDE, Backbone
from segdistill.utils.errors import UserError
from segdistill.utils.interpolate import enlarged

ASPP_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
HEAD_CHANNELS = 256
LOW_LEVEL_CHANNELS = 48
DROPOUT = 0.1
HeadNorm = Literal["batch"] | None
Classifier = Literal["linear", "subpixel"]
SUBPIXEL_STRIDE = LOW_STRIDE


class PooledBatchNorm(nn.BatchNorm2d):
    """BatchNorm for features pooled to 1 x 1: a batch of one has no variance, and takes the running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises [B, C, 1, 1]."""
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
) -> nn.Sequential:
    """Convolution, BatchNorm where `norm` asks for it, ReLU; keeps the spatial size."""
    padding = dilation * (kernel // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=bias)
    ]
    if norm == "batch":
        layers.append(PooledBatchNorm(out_channels) if pooled else nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., 2017, arXiv:1706.05587, figure 5).

    Args:
        in_channels: Of the features.
        rates: Dilations of the 3 x 3 branches.
        norm: "batch", or None for no normalisation.
        bias: Whether its convolutions have one; with BatchNorm it would be redundant.
    """

    def __init__(self, in_channels: int, rates: tuple[int, ...], norm: HeadNorm, *, bias: bool = False) -> None:
        super().__init__()
        width, unit = HEAD_CHANNELS, partial(conv_unit, norm=norm, bias=bias)
        self.point = unit(in_channels, width)
        self.atrous = nn.ModuleList(unit(in_channels, width, kernel=3, dilation=rate) for rate in rates)
        self.pooled = unit(in_channels, width, pooled=True)
        self.project = nn.Sequential(unit((2 + len(rates)) * width, width), nn.Dropout(DROPOUT))

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, 256, h, w]."""
        pooled = self.pooled(features.mean((2, 3), keepdim=True)).expand(-1, -1, *features.shape[-2:])
        branches = [self.point(features), *(branch(features) for branch in self.atrous), pooled]
        projected: Tensor = self.project(torch.cat(branches, dim=1))
        return projected


class SubpixelClassifier(nn.Conv2d):
    """A 1 x 1 classifier that gives each pixel `factor` x `factor` labels (Shi et al., 2016, arXiv:1609.05158).

    Detail of a finer stride becomes expressible without features of that stride.

    Args:
        in_channels: Of the features.
        num_classes: C.
        factor: Subpixels along each side.
    """

    def __init__(self, in_channels: int, num_classes: int, factor: int) -> None:
        super().__init__(in_channels, num_classes * factor**2, 1)
        self.factor = factor

    def forward(self, input: Tensor) -> Tensor:
        """[B, 256, h, w] -> [B, C, factor h, factor w]."""
        return F.pixel_shuffle(super().forward(input), self.factor)


class DetailBranch(nn.Module):
    """Corrects logits by the backbone's stride-4 features: a decoder that works on classes.

    The decoder of DeepLabV3+ (Chen et al., 2018, arXiv:1802.02611) refines 256 channels at stride 4; this one refines
    the C logits beside a few channels, for a thirtieth of the multiplications. The idea of a skip that adds logits is
    LR-ASPP's (Howard et al., 2019, arXiv:1905.02244). It begins as no correction.

    Args:
        low_channels: Of the stride-4 features.
        num_classes: C.
        channels: Of its two hidden layers.
        norm: As in `conv_unit`.
        bias: As in `conv_unit`.
    """

    def __init__(self, low_channels: int, num_classes: int, channels: int, norm: HeadNorm, bias: bool) -> None:
        super().__init__()
        self.low_level = conv_unit(low_channels, channels, norm, bias=bias)
        self.refine = conv_unit(channels + num_classes, channels, norm, kernel=3, bias=bias)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, low: Tensor, logits: Tensor) -> Tensor:
        """[B, C', h, w] and logits [B, C, h, w] -> logits [B, C, h, w]."""
        correction: Tensor = self.classifier(self.refine(torch.cat([logits, self.low_level(low)], dim=1)))
        return logits + correction


class DeepLabV3Head(nn.Module):
    """ASPP, one 3 x 3 convolution, the classifier; then, if asked for, detail."""

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
    ) -> None:
        super().__init__()
        self.stride = SUBPIXEL_STRIDE if classifier == "subpixel" else output_stride
        self.aspp = ASPP(high_channels, ASPP_RATES[output_stride], norm, bias=bias)
        self.refine = conv_unit(HEAD_CHANNELS, HEAD_CHANNELS, norm, kernel=3, bias=bias)
        self.classifier: nn.Conv2d = (
            SubpixelClassifier(HEAD_CHANNELS, num_classes, output_stride // SUBPIXEL_STRIDE)
            if classifier == "subpixel"
            else nn.Conv2d(HEAD_CHANNELS, num_classes, 1)
        )
        self.detail, self.to_detail = None, self.stride // LOW_STRIDE
        if detail_channels:
            self.stride = LOW_STRIDE
            self.detail = DetailBranch(low_channels, num_classes, detail_channels, norm, bias)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Return logits at `stride`: that of `high`, or 4 by the sub-pixel classifier or the detail of `low`."""
        logits: Tensor = self.classifier(self.refine(self.aspp(high)))
        if self.detail is None:
            return logits
        corrected: Tensor = self.detail(low, enlarged(logits, self.to_detail, low.shape[-2:]))
        return corrected


class DeepLabV3PlusHead(nn.Module):
    """ASPP, and a decoder that adds stride-4 features (Chen et al., 2018, arXiv:1802.02611, figure 2)."""

    def __init__(self, low_channels: int, high_channels: int, num_classes: int, output_stride: int) -> None:
        super().__init__()
        self.stride, self.context_factor = LOW_STRIDE, output_stride // LOW_STRIDE
        self.aspp = ASPP(high_channels, ASPP_RATES[output_stride], "batch")
        self.low_level = conv_unit(low_channels, LOW_LEVEL_CHANNELS, "batch")
        self.refine = conv_unit(HEAD_CHANNELS + LOW_LEVEL_CHANNELS, HEAD_CHANNELS, "batch", kernel=3)
        self.classifier = nn.Conv2d(HEAD_CHANNELS, num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Returns logits at stride 4."""
        context = enlarged(self.aspp(high), self.context_factor, low.shape[-2:])
        logits: Tensor = self.classifier(self.refine(torch.cat([context, self.low_level(low)], dim=1)))
        return logits


class _DeepLab(nn.Module):
    """A backbone, and a head whose logits have the stride `head.stride`."""

    def __init__(self, backbone: Backbone, head: DeepLabV3Head | DeepLabV3PlusHead, output_stride: int) -> None:
        super().__init__()
        self.backbone, self.head, self.multiple_of = backbone, head, output_stride
        for module in head.modules():
            if isinstance(module, nn.Conv2d):
                # Without BatchNorm only the initial scale keeps the signal alive through the head.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(head.get_parameter("classifier.weight"), std=0.01)  # starts undecided between the classes
        if isinstance(head, DeepLabV3Head) and head.detail is not None:
            nn.init.zeros_(head.detail.classifier.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Classifies every pixel.

        Args:
            image: float32 [B, 3, H, W] in [0, 1], any H and W.

        Returns:
            Logits [B, C, H, W].
        """
        return enlarged(self.head(*self.backbone(image)), self.head.stride, image.shape[-2:])

    def lowres_logits(self, image: Tensor) -> Tensor:
        """Classify every cell of the head's stride; of an image that is no whole number of cells, every pixel.

        Args:
            image: float32 [B, 3, H, W] in [0, 1].

        Returns:
            Logits [B, C, h, w] that cover the image exactly.
        """
        if any(side % self.multiple_of for side in image.shape[-2:]):
            whole: Tensor = self(image)
            return whole
        logits: Tensor = self.head(*self.backbone(image))
        return logits


class DeepLabV3(_DeepLab):
    """DeepLabV3; without `head_norm` the lite student, whose head has no normalisation.

    Args:
        num_classes: Channels of the logits.
        backbone: Name of a timm network.
        head_norm: "batch", or None for no normalisation in the head.
        head_bias: Biases of the head's convolutions, which a head without normalisation needs to take over those of a
            teacher; the original's head has none.
        classifier: "linear": logits at `output_stride`; "subpixel": at stride 4.
        detail_channels: Of a branch that corrects the logits at stride 4; 0 for none, as the original has.
        output_stride: 8 or 16.
        pretrained: Start the backbone from ImageNet weights.
        bn_momentum: Of the backbone's BatchNorm: small for long trainings, larger where a few hundred steps are all.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "efficientnet_lite0",
        *,
        head_norm: HeadNorm = None,
        head_bias: bool = False,
        classifier: Classifier = "linear",
        detail_channels: int = 0,
        output_stride: int = 16,
        pretrained: bool = True,
        bn_momentum: float = 0.01,
    ) -> None:
        features = Backbone(backbone, output_stride=output_stride, pretrained=pretrained, bn_momentum=bn_momentum)
        if classifier not in get_args(Classifier):
            raise UserError(f"classifier={classifier}: must be one of {get_args(Classifier)}")
        if head_bias and head_norm is not None:
            raise UserError("head_bias=True: must be false with head_norm, whose shift does the same")
        if detail_channels < 0:
            raise UserError(f"detail_channels={detail_channels}: must be at least 0")
        head = DeepLabV3Head(
            features.low_channels,
            features.high_channels,
            num_classes,
            output_stride,
            norm=head_norm,
            classifier=classifier,
            bias=head_bias,
            detail_channels=detail_channels,
        )
        super().__init__(features, head, output_stride)


class DeepLabV3Plus(_DeepLab):
    """DeepLabV3+ with BatchNorm in its head, the teacher.

    Args:
        num_classes: Channels of the logits.
        backbone: Name of a timm network.
        output_stride: 8 or 16.
        pretrained: Start the backbone from ImageNet weights.
        bn_momentum: Of the backbone's BatchNorm: small for long trainings, larger where a few hundred steps are all.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "efficientnet_lite0",
        *,
        output_stride: int = 16,
        pretrained: bool = True,
        bn_momentum: float = 0.01,
    ) -> None:
        features = Backbone(backbone, output_stride=output_stride, pretrained=pretrained, bn_momentum=bn_momentum)
        channels = features.low_channels, features.high_channels
        super().__init__(features, DeepLabV3PlusHead(*channels, num_classes, output_stride), output_stride)
