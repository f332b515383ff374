"""DeepLabV3 (lite: no normalisation in the head) and DeepLabV3+, on any backbone."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.backbones import Backbone
from segdistill.utils.interpolate import resized

ASPP_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
HEAD_CHANNELS = 256
LOW_LEVEL_CHANNELS = 48
DROPOUT = 0.1
HeadNorm = Literal["batch"] | None


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
) -> nn.Sequential:
    """Convolution without bias, BatchNorm where `norm` asks for it, ReLU; keeps the spatial size."""
    padding = dilation * (kernel // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False)
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
    """

    def __init__(self, in_channels: int, rates: tuple[int, ...], norm: HeadNorm) -> None:
        super().__init__()
        width = HEAD_CHANNELS
        self.point = conv_unit(in_channels, width, norm)
        self.atrous = nn.ModuleList(conv_unit(in_channels, width, norm, kernel=3, dilation=r) for r in rates)
        self.pooled = conv_unit(in_channels, width, norm, pooled=True)
        self.project = nn.Sequential(conv_unit((2 + len(rates)) * width, width, norm), nn.Dropout(DROPOUT))

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, 256, h, w]."""
        pooled = self.pooled(features.mean((2, 3), keepdim=True)).expand(-1, -1, *features.shape[-2:])
        branches = [self.point(features), *(branch(features) for branch in self.atrous), pooled]
        projected: Tensor = self.project(torch.cat(branches, dim=1))
        return projected


class DeepLabV3Head(nn.Module):
    """ASPP, one 3 x 3 convolution, the classifier."""

    def __init__(self, in_channels: int, num_classes: int, rates: tuple[int, ...], norm: HeadNorm) -> None:
        super().__init__()
        self.aspp = ASPP(in_channels, rates, norm)
        self.refine = conv_unit(HEAD_CHANNELS, HEAD_CHANNELS, norm, kernel=3)
        self.classifier = nn.Conv2d(HEAD_CHANNELS, num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Returns logits at the stride of `high`; `low` is not used."""
        logits: Tensor = self.classifier(self.refine(self.aspp(high)))
        return logits


class DeepLabV3PlusHead(nn.Module):
    """ASPP, and a decoder that adds stride-4 features (Chen et al., 2018, arXiv:1802.02611, figure 2)."""

    def __init__(self, low_channels: int, high_channels: int, num_classes: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.aspp = ASPP(high_channels, rates, "batch")
        self.low_level = conv_unit(low_channels, LOW_LEVEL_CHANNELS, "batch")
        self.refine = conv_unit(HEAD_CHANNELS + LOW_LEVEL_CHANNELS, HEAD_CHANNELS, "batch", kernel=3)
        self.classifier = nn.Conv2d(HEAD_CHANNELS, num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Returns logits at stride 4."""
        context = resized(self.aspp(high), low.shape[-2:])
        logits: Tensor = self.classifier(self.refine(torch.cat([context, self.low_level(low)], dim=1)))
        return logits


class _DeepLab(nn.Module):
    """A backbone and a head."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        for module in head.modules():
            if isinstance(module, nn.Conv2d):
                # Without BatchNorm only the initial scale keeps the signal alive through the head.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(head.get_parameter("classifier.weight"), std=0.01)  # starts undecided between the classes

    def forward(self, image: Tensor) -> Tensor:
        """Classifies every pixel.

        Args:
            image: float32 [B, 3, H, W] in [0, 1], any H and W.

        Returns:
            Logits [B, C, H, W].
        """
        return resized(self.lowres_logits(image), image.shape[-2:])

    def lowres_logits(self, image: Tensor) -> Tensor:
        """Returns logits [B, C, h, w] at the head's stride, of float32 [B, 3, H, W] in [0, 1]."""
        logits: Tensor = self.head(*self.backbone(image))
        return logits


class DeepLabV3(_DeepLab):
    """DeepLabV3; without `head_norm` the lite student, whose head has no normalisation.

    Args:
        num_classes: Channels of the logits.
        backbone: Name of a timm network.
        head_norm: "batch", or None for no normalisation in the head.
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
        output_stride: int = 16,
        pretrained: bool = True,
        bn_momentum: float = 0.01,
    ) -> None:
        features = Backbone(backbone, output_stride=output_stride, pretrained=pretrained, bn_momentum=bn_momentum)
        rates = ASPP_RATES[output_stride]
        super().__init__(features, DeepLabV3Head(features.high_channels, num_classes, rates, head_norm))


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
        super().__init__(features, DeepLabV3PlusHead(*channels, num_classes, ASPP_RATES[output_stride]))
