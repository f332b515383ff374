"""The training pipeline on tv_tensors: an image and its mask go through the same geometry.

Images come out as float32 in [0, 1]; each network normalises them for its own weights. Masks are resized by nearest
neighbour and padded with void, so that no new class appears.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from segdistill.config.data import IGNORE_INDEX, UNLABELLED
from segdistill.utils.preprocessing import Preprocessing


class RandomScale(v2.Transform):  # type: ignore[misc] # torchvision ships no type information
    """Prepare an image for a network, and enlarge it by a factor drawn uniformly from `scale`.

    Images are resized bilinearly, masks to the nearest pixel centre: torchvision's own resize of a mask samples the
    pixel's corner instead, which shifts the mask against its image.

    Args:
        preprocessing: What is done at factor 1; the rows that it cuts grow with the image.
        scale: Minimum and maximum factor.
    """

    def __init__(self, preprocessing: Preprocessing, scale: Sequence[float]) -> None:
        super().__init__()
        self.preprocessing, self.scale = preprocessing, tuple(scale)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw one factor for the image and its mask; return the size of the whole, and the rows that are kept."""
        low, high = self.scale
        factor = low + (high - low) * float(torch.rand(()))
        size = [max(1, round(side * factor)) for side in self.preprocessing.resize]
        return {"size": size, "rows": max(1, size[0] - round(self.preprocessing.cut_bottom * factor))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize and cut an image [..., H, W], a mask [H, W] or a record, and apply gamma to an image."""
        size, rows = params["size"], params["rows"]
        if isinstance(inpt, tv_tensors.Mask):
            ids = inpt.as_subclass(torch.Tensor)[None]
            resized = F.resize_image(ids, size, InterpolationMode.NEAREST_EXACT)[0]
            return tv_tensors.wrap(resized[:rows], like=inpt)
        resized = F.resize(inpt, size, antialias=True)
        if rows < size[0]:
            resized = F.crop(resized, 0, 0, rows, size[1])
        if isinstance(inpt, tv_tensors.Image) and self.preprocessing.gamma != 1:
            levels = self.preprocessing.corrected(resized.numpy())
            return tv_tensors.wrap(torch.from_numpy(levels), like=inpt)
        return resized


class ClassCrop(v2.RandomCrop):  # type: ignore[misc] # torchvision ships no type information
    """A random crop that shows rare classes more often.

    With the given probability, a class is drawn uniformly from those of the mask, then one of its pixels, then a crop
    that contains the pixel; otherwise the crop is drawn from all possible ones.

    Args:
        size: [H, W] of the crop; smaller images are padded with grey and void.
        probability: Probability that a class is drawn.
    """

    def __init__(self, size: Sequence[int], probability: float) -> None:
        super().__init__(size, pad_if_needed=True, fill={tv_tensors.Image: 127, tv_tensors.Mask: IGNORE_INDEX})
        self.probability = probability

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw one crop position for the image and its mask."""
        params: dict[str, Any] = super().make_params(flat_inputs)
        if not self.probability or float(torch.rand(())) >= self.probability:
            return params
        mask = next(each for each in flat_inputs if isinstance(each, tv_tensors.Mask)).as_subclass(torch.Tensor)
        classes = mask.flatten().bincount(minlength=UNLABELLED)[:UNLABELLED].nonzero()[:, 0]
        if not len(classes):
            return params
        places = (mask == _drawn(classes)).nonzero()
        pixel, padding = _drawn(places).tolist(), params["padding"]
        for key, length, place, before, after, side in zip(
            ("top", "left"), self.size, pixel, padding[1::-1], padding[:1:-1], mask.shape, strict=True
        ):
            shown, last = place + before, side + before + after - length
            first = max(0, shown - length + 1)
            params[key] = int(torch.randint(first, min(shown, last) + 1, ()))
        return params


def _drawn(values: torch.Tensor) -> torch.Tensor:
    return values[int(torch.randint(len(values), ()))]


def train_pipeline(
    preprocessing: Preprocessing,
    crop: Sequence[int],
    scale: Sequence[float],
    augment: Sequence[v2.Transform] = (),
    class_crop: float = 0.0,
) -> v2.Compose:
    """Build the training pipeline: random scale, crop, and the steps of the augmentation.

    Args:
        preprocessing: What is done to images at scale 1.
        crop: [H, W] of the output; smaller images are padded with grey and void.
        scale: Minimum and maximum factor of the size.
        augment: Steps on image and mask, uint8, after the crop.
        class_crop: Probability that the crop shows a uniformly drawn class; see `ClassCrop`.
    """
    return v2.Compose([RandomScale(preprocessing, scale), ClassCrop(crop, class_crop), *augment, to_tensors()])


def to_tensors() -> v2.ToDtype:
    """Build the conversion of images to float32 in [0, 1] and of masks to int64; other inputs stay unchanged."""
    return v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True)
