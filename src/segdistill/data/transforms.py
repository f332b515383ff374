"""Train and eval pipelines, on tv_tensors: an image and its mask go through the same geometry.

Images leave as float32 in [0, 1]; each network normalises for its own weights. Masks are resized to the nearest
pixel and padded with void, so that no class is invented.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from segdistill.config.data import IGNORE_INDEX, UNLABELLED


class Resized(v2.Transform):  # type: ignore[misc] # torchvision ships no type information
    """Resizes to one size: bilinear for images, the pixel at the same place for masks.

    torchvision's own resize of a mask takes the corner of that place, and shifts it against its image.

    Args:
        size: [H, W].
    """

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = list(size)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """One size for the image and its mask."""
        return {"size": self.size}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resizes an image [..., H, W] or a mask [H, W]."""
        if isinstance(inpt, tv_tensors.Mask):
            ids = inpt.as_subclass(torch.Tensor)[None]
            resized = F.resize_image(ids, params["size"], InterpolationMode.NEAREST_EXACT)
            return tv_tensors.wrap(resized[0], like=inpt)
        return F.resize(inpt, params["size"], antialias=True)


class RandomScale(Resized):
    """Resizes to `size` times a factor drawn uniformly from `scale`.

    Args:
        size: [H, W] at factor 1.
        scale: Lowest and highest factor.
    """

    def __init__(self, size: Sequence[int], scale: Sequence[float]) -> None:
        super().__init__(size)
        self.scale = tuple(scale)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws one factor for both."""
        low, high = self.scale
        factor = low + (high - low) * float(torch.rand(()))
        return {"size": [max(1, round(side * factor)) for side in self.size]}


class ClassCrop(v2.RandomCrop):  # type: ignore[misc] # torchvision ships no type information
    """A random crop that shows rare classes more often.

    With a probability, a class is drawn uniformly from those of the mask, a pixel from those of the class, and the
    crop from those that show the pixel; else the crop is drawn from all.

    Args:
        size: [H, W] of what comes out; smaller images are padded, with grey and void.
        probability: That a class is drawn.
    """

    def __init__(self, size: Sequence[int], probability: float) -> None:
        super().__init__(size, pad_if_needed=True, fill={tv_tensors.Image: 127, tv_tensors.Mask: IGNORE_INDEX})
        self.probability = probability

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw one place for the image and its mask."""
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
    input_size: Sequence[int],
    crop: Sequence[int],
    scale: Sequence[float],
    hflip: float,
    jitter: float,
    class_crop: float = 0.0,
) -> v2.Compose:
    """Random scale, crop, flip and photometric jitter.

    Args:
        input_size: [H, W] that `scale` refers to.
        crop: [H, W] of what comes out; smaller pictures are padded, with grey and void.
        scale: Lowest and highest resize factor.
        hflip: Probability of a horizontal flip.
        jitter: Brightness, contrast and saturation change by up to this share, hue by a tenth of it.
        class_crop: Probability that the crop shows a class that is drawn uniformly: `ClassCrop`.
    """
    return v2.Compose(
        [
            RandomScale(input_size, scale),
            ClassCrop(crop, class_crop),
            v2.RandomHorizontalFlip(hflip),
            v2.ColorJitter(jitter, jitter, jitter, jitter / 10),
            to_tensors(),
        ]
    )


def eval_geometry(input_size: Sequence[int]) -> Resized:
    """The part of the eval pipeline that stays outside of an exported file: uint8 in, uint8 out."""
    return Resized(input_size)


def to_tensors() -> v2.ToDtype:
    """The image to float32 in [0, 1], the mask to int64, anything else as it is."""
    return v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True)
