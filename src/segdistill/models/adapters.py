"""Any other segmentation network as teacher or student: of torchvision, segmentation-models-pytorch, transformers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from segdistill.config.locate import locate
from segdistill.utils.errors import UserError, first_line
from segdistill.utils.interpolate import padding_to_cells, resized

ENCODERS = ("backbone", "encoder", "segformer")
"""What networks call the part that was trained before: torchvision, segmentation-models-pytorch, transformers."""
NO_PRETRAINED = {"pretrained": False, "weights": None, "weights_backbone": None, "encoder_weights": None}
"""What timm, torchvision and segmentation-models-pytorch call the weights that others are about to replace."""


def without_pretrained(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a network's options that spare the weights which a checkpoint is about to replace."""
    return {key: off for key, off in NO_PRETRAINED.items() if key in options}


class SegmentationModelAdapter(nn.Module):
    """A network that was written elsewhere, in the form that teachers and students have here.

    It normalises the image, takes the logits out of whatever the network returns (a tensor, torchvision's dictionary
    with `out`, transformers' object with `.logits`) and resizes them to the image.

    Args:
        num_classes: C.
        factory: Dotted path of a class or function that builds the network; `segdistill.config.locate` says which may.
        classes_argument: What the factory calls the number of classes.
        mean: Of the images that the network was trained on, in [0, 1]; one number a channel.
        std: Of the same.
        multiple_of: Pads the image at the right and bottom, with its mean, for networks that take no other sizes.
        options: Everything else that the factory takes.

    Raises:
        UserError: If there is no such factory, it may not be called, or it refuses its options.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_classes: int,
        factory: str,
        *,
        classes_argument: str = "num_classes",
        mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
        std: Sequence[float] = IMAGENET_DEFAULT_STD,
        multiple_of: int = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        if multiple_of < 1:
            raise UserError(f"multiple_of={multiple_of}: must be at least 1")
        self.factory, self.options = factory, {classes_argument: num_classes, **options}
        self._located = locate("factory", factory, "network")  # a pickle of it is trusted, and holds this by reference
        self.network = _built(self._located, factory, self.options)
        self.multiple_of = multiple_of
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(1, 3, 1, 1), persistent=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> SegmentationModelAdapter:
        """An ordinary copy; only a pickle has the network built anew."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__ = copy.deepcopy(self.__dict__, memo)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """How to build the network anew, and its weights: transformers hangs functions into it that no pickle takes."""
        modules = {name: module for name, module in self._modules.items() if name != "network"}
        return {**self.__dict__, "_modules": modules, "weights": self.network.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Builds the network anew, without fetching the weights that are about to be replaced."""
        weights = state.pop("weights")
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        options = {key: NO_PRETRAINED.get(key, value) for key, value in self.options.items()}
        self.network = _built(self._located, self.factory, options).train(self.training)
        missing = self.network.load_state_dict(weights, strict=False, assign=True).missing_keys
        if missing:  # what is left over belongs to heads that only pretrained networks have
            raise RuntimeError(f"{self.factory}: built anew, it has no weights for {missing[0]}")

    @property
    def backbone(self) -> nn.Module | None:
        """The pretrained part, which gets the backbone's learning rate; None where it is not known."""
        found: nn.Module | None = next((getattr(self.network, n) for n in ENCODERS if hasattr(self.network, n)), None)
        return found

    def forward(self, image: Tensor) -> Tensor:
        """Returns logits [B, C, H, W] of float32 [B, 3, H, W] in [0, 1]."""
        height, width = image.shape[-2:]
        normalised = (image - self.mean) / self.std
        if self.multiple_of > 1:
            normalised = F.pad(normalised, padding_to_cells(image, self.multiple_of))
        return resized(_logits(self.network(normalised)), normalised.shape[-2:])[..., :height, :width]

    def lowres_logits(self, image: Tensor) -> Tensor:
        """Return logits [B, C, h, w] as the network gives them; those of an image that is padded, at its size."""
        if any(side % self.multiple_of for side in image.shape[-2:]):
            whole: Tensor = self(image)
            return whole
        return _logits(self.network((image - self.mean) / self.std))


def _built(located: Callable[..., Any], factory: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        network: nn.Module = located(**options)
    except UserError:
        raise
    except Exception as error:  # each package has its own ways to refuse an option
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
    """Builds transformers' SegFormer (Xie et al., 2021, arXiv:2105.15203); its logits have a quarter of the size.

    Args:
        num_classes: Of its head; where the weights have another number, the classifier starts anew.
        pretrained: Name or folder of weights; without one it starts from random ones.
        options: Keys of `SegformerConfig`.

    Raises:
        UserError: If transformers is not installed.
    """
    try:
        from transformers import SegformerConfig, SegformerForSemanticSegmentation
    except ImportError as error:
        raise UserError("SegFormer needs transformers: pip install transformers") from error
    config = SegformerConfig(num_labels=num_classes, **options)  # also beside weights, which then have to fit it
    if not pretrained:
        network: nn.Module = SegformerForSemanticSegmentation(config)
    else:
        network = SegformerForSemanticSegmentation.from_pretrained(
            pretrained, config=config, ignore_mismatched_sizes=True
        )
    return network
