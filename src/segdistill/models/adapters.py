"""Adapter for segmentation networks of torchvision, segmentation-models-pytorch, transformers and other packages."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from segdistill.config.locate import locate
from segdistill.models.pretrained import Published, published
from segdistill.utils.errors import UserError, first_line
from segdistill.utils.interpolate import padding_to_cells, resized

ENCODERS = ("backbone", "encoder", "segformer")
"""Attribute names of the pretrained part in torchvision, segmentation-models-pytorch and transformers."""
NO_PRETRAINED = {"pretrained": False, "weights": None, "weights_backbone": None, "encoder_weights": None}
"""Values that turn off pretrained weights in timm, torchvision and segmentation-models-pytorch."""


def without_pretrained(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for those options that would load pretrained weights, which a checkpoint is about to replace."""
    return {key: off for key, off in NO_PRETRAINED.items() if key in options}


class SegmentationModelAdapter(nn.Module):
    """Adapter through which a network of another package can serve as teacher or student.

    It normalises the image, extracts the logits from the network's output (a tensor, torchvision's dictionary with
    `out`, transformers' object with `.logits`) and resizes them to the image.

    Args:
        num_classes: Number of classes C; None keeps the head that comes with the factory's pretrained weights.
        factory: Dotted path of a class or function that builds the network and that `segdistill.config.locate` allows.
        classes_argument: Name of the factory's argument for the number of classes.
        mean: Mean of the images that the network was trained on, in [0, 1], one number per channel; None for what comes
            with its weights, or else ImageNet's.
        std: Standard deviation of the same images, one number per channel; None likewise.
        multiple_of: Multiple to which the image is padded at the right and bottom with `mean`, for networks that take
            no other sizes.
        class_names: Names of the network's classes in the order of their ids; None for those of its weights.
        options: Further arguments of the factory.

    Attributes:
        class_names: Names of the network's classes; empty if they are not known.

    Raises:
        UserError: If the factory does not exist, may not be called, or rejects its options.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_classes: int | None,
        factory: str,
        *,
        classes_argument: str = "num_classes",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        multiple_of: int = 1,
        class_names: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if multiple_of < 1:
            raise UserError(f"multiple_of={multiple_of}: must be at least 1")
        self.factory = factory
        self.options = options if num_classes is None else {classes_argument: num_classes, **options}
        self._located = locate("factory", factory, "network")  # a pickle of it is trusted, and stores this by reference
        self.network = _built(self._located, factory, self.options)
        told = published(factory, self.options, self.network) if num_classes is None else Published()
        self.options |= told.rebuild
        self.class_names = tuple(class_names or told.class_names)
        self.multiple_of = multiple_of
        statistics = {
            "mean": mean or told.mean or IMAGENET_DEFAULT_MEAN,
            "std": std or told.std or IMAGENET_DEFAULT_STD,
        }
        for name, values in statistics.items():
            self.register_buffer(name, torch.tensor(list(values)).view(1, 3, 1, 1), persistent=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> SegmentationModelAdapter:
        """Copy as usual; only unpickling rebuilds the network."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__ = copy.deepcopy(self.__dict__, memo)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """Return weights instead of the network, to which transformers attaches functions that cannot be pickled."""
        modules = {name: module for name, module in self._modules.items() if name != "network"}
        return {**self.__dict__, "_modules": modules, "weights": self.network.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the network without fetching pretrained weights, and load the saved ones."""
        weights = state.pop("weights")
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        options = {key: NO_PRETRAINED.get(key, value) for key, value in self.options.items()}
        self.network = _built(self._located, self.factory, options).train(self.training)
        missing = self.network.load_state_dict(weights, strict=False, assign=True).missing_keys
        if missing:  # leftover weights belong to heads that only pretrained networks have
            raise RuntimeError(f"{self.factory}: built anew, it has no weights for {missing[0]}")

    @property
    def backbone(self) -> nn.Module | None:
        """Pretrained part, which gets the backbone's learning rate; None if it is not known."""
        found: nn.Module | None = next((getattr(self.network, n) for n in ENCODERS if hasattr(self.network, n)), None)
        return found

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits [B, C, H, W] of images float32 [B, 3, H, W] in [0, 1]."""
        height, width = image.shape[-2:]
        normalised = (image - self.mean) / self.std
        if self.multiple_of > 1:
            normalised = F.pad(normalised, padding_to_cells(image, self.multiple_of))
        return resized(_logits(self.network(normalised)), normalised.shape[-2:])[..., :height, :width]

    def lowres_logits(self, image: Tensor) -> Tensor:
        """Compute the network's own logits [B, C, h, w]; for images that need padding, logits at the image's size."""
        if any(side % self.multiple_of for side in image.shape[-2:]):
            whole: Tensor = self(image)
            return whole
        return _logits(self.network((image - self.mean) / self.std))


def _built(located: Callable[..., Any], factory: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        network: nn.Module = located(**options)
    except UserError:
        raise
    except Exception as error:  # each package rejects options in its own way
        raise UserError(f"factory={factory}: cannot be built: {first_line(error)}") from error
    return network


def _logits(output: Any) -> Tensor:
    if isinstance(output, Mapping):
        output = output.get("out", output.get("logits"))
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise UserError(f"factory: its network returns {type(output).__name__}; a tensor, `out` or `logits` is needed")
    return logits


def segformer(num_classes: int, pretrained: str | None = None, **options: Any) -> nn.Module:
    """Build transformers' SegFormer (Xie et al., 2021, arXiv:2105.15203); its logits have a quarter of the size.

    Args:
        num_classes: Number of classes of the head; if the weights have another number, the classifier starts anew.
        pretrained: Name or folder of weights; None starts from random ones.
        options: Fields of `SegformerConfig`.

    Raises:
        UserError: If transformers is not installed.
    """
    try:
        from transformers import SegformerConfig, SegformerForSemanticSegmentation
    except ImportError as error:
        raise UserError("SegFormer needs transformers: pip install transformers") from error
    config = SegformerConfig(num_labels=num_classes, **options)  # pretrained weights, if any, have to fit it
    if not pretrained:
        network: nn.Module = SegformerForSemanticSegmentation(config)
    else:
        network = SegformerForSemanticSegmentation.from_pretrained(
            pretrained, config=config, ignore_mismatched_sizes=True
        )
    return network
