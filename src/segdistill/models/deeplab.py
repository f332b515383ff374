"""DeepLabV3 (lite: no normalisation in the head) and DeepLabV3+, on any backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from torch import Tensor, nn

from segdistill.models.backbones import Backbone
from segdistill.models.heads import HEAD_CHANNELS, Classifier, DeepLabV3Head, DeepLabV3PlusHead, HeadNorm
from segdistill.utils.errors import UserError
from segdistill.utils.interpolate import enlarged


class _DeepLab(nn.Module):
    """A backbone and a head whose logits have the stride `head.stride`."""

    def __init__(self, backbone: Backbone, head: DeepLabV3Head | DeepLabV3PlusHead, output_stride: int) -> None:
        super().__init__()
        self.backbone, self.head, self.multiple_of = backbone, head, output_stride
        for module in head.modules():
            if isinstance(module, nn.Conv2d):
                # Without BatchNorm, only the initial scale keeps the signal alive through the head.
                # A depthwise convolution has a 1 x 1 one after it, and no ReLU.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if module.groups == 1 else "linear")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(head.get_parameter("classifier.weight"), std=0.01)  # starts undecided between the classes
        if isinstance(head, DeepLabV3Head) and head.detail is not None:
            nn.init.zeros_(head.detail.classifier.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits for every pixel.

        Args:
            image: Images float32 [B, 3, H, W] in [0, 1], with any H and W.

        Returns:
            Logits [B, C, H, W].
        """
        return enlarged(self.head(*self.backbone(image)), self.head.stride, image.shape[-2:])

    def lowres_logits(self, image: Tensor) -> Tensor:
        """Compute logits for every cell of the head's stride, or for every pixel of images that are not whole cells.

        Args:
            image: Images float32 [B, 3, H, W] in [0, 1].

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
        num_classes: Number of classes, the channels of the logits.
        backbone: Name of a timm network.
        head_norm: "batch", or None for no normalisation in the head.
        head_bias: Whether the head's convolutions have biases, which a head without normalisation needs to inherit from
            a teacher; the original's head has none.
        classifier: "linear" for logits at `output_stride`, "subpixel" for logits at stride 4.
        detail_channels: Channels of a branch that corrects the logits at stride 4; 0 for no branch, as in the original.
        head_width: Number of channels of the pyramid's branches and of everything in the head after them.
        separable: Whether the 3 x 3 convolutions of pyramid and refinement are depthwise separable.
        backbone_blocks: Number of blocks to keep of each stage of the backbone, as in `Backbone`; None for all.
        output_stride: Stride of the backbone's last features, 8 or 16.
        pretrained: Whether the backbone starts from ImageNet weights.
        bn_momentum: Momentum of the backbone's BatchNorm: small for long trainings, larger for a few hundred steps.
    """

    head: DeepLabV3Head

    def __init__(
        self,
        num_classes: int,
        backbone: str = "efficientnet_lite0",
        *,
        head_norm: HeadNorm = None,
        head_bias: bool = False,
        classifier: Classifier = "linear",
        detail_channels: int = 0,
        head_width: int = HEAD_CHANNELS,
        separable: bool = False,
        backbone_blocks: Sequence[int] | None = None,
        output_stride: int = 16,
        pretrained: bool = True,
        bn_momentum: float = 0.01,
    ) -> None:
        features = Backbone(
            backbone,
            output_stride=output_stride,
            blocks=backbone_blocks,
            pretrained=pretrained,
            bn_momentum=bn_momentum,
        )
        if classifier not in get_args(Classifier):
            raise UserError(f"classifier={classifier}: must be one of {get_args(Classifier)}")
        if head_bias and head_norm is not None:
            raise UserError("head_bias=True: must be false with head_norm, whose shift does the same")
        if detail_channels < 0:
            raise UserError(f"detail_channels={detail_channels}: must be at least 0")
        if head_width < 1:
            raise UserError(f"head_width={head_width}: must be at least 1")
        head = DeepLabV3Head(
            features.low_channels,
            features.high_channels,
            num_classes,
            output_stride,
            norm=head_norm,
            classifier=classifier,
            bias=head_bias,
            detail_channels=detail_channels,
            width=head_width,
            separable=separable,
        )
        super().__init__(features, head, output_stride)


class DeepLabV3Plus(_DeepLab):
    """DeepLabV3+ with BatchNorm in its head, used as the teacher.

    Args:
        num_classes: Number of classes, the channels of the logits.
        backbone: Name of a timm network.
        output_stride: Stride of the backbone's last features, 8 or 16.
        pretrained: Whether the backbone starts from ImageNet weights.
        bn_momentum: Momentum of the backbone's BatchNorm: small for long trainings, larger for a few hundred steps.
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
