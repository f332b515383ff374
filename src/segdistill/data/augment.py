"""Augmentation steps that torchvision lacks, and which steps leave cached teacher logits valid.

A step is any `torchvision.transforms.v2.Transform`; it gets an image, uint8 [3, H, W], and its mask, uint8 [H, W],
after scale and crop. Steps draw from torch's generator alone, which every sample seeds; those of other packages draw
from numpy's or Python's, which a resumed run would not repeat.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from segdistill.config.ranges import require

SHADOW_CORNERS = 5


class PhotometricTransform(v2.Transform, ABC):  # type: ignore[misc] # torchvision ships no type information
    """Base of steps that change the colours of an image, and move nothing.

    Args:
        p: Probability of the step.

    Raises:
        ConfigError: If `p` is out of range.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        require(0 <= p <= 1, "p", p, "must be a probability from 0 to 1")
        self.p = p

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change an image, uint8 [3, H, W]; return everything else as it is."""
        if not isinstance(inpt, tv_tensors.Image) or float(torch.rand(())) >= self.p:
            return inpt
        changed = self.change(inpt.as_subclass(Tensor).float())
        return tv_tensors.wrap(changed.round().clamp(0, 255).to(torch.uint8), like=inpt)

    @abstractmethod
    def change(self, levels: Tensor) -> Tensor:
        """Return the changed image, of any range, for float32 [3, H, W] from 0 to 255."""


class MultiplicativeNoise(PhotometricTransform):
    """Multiply every value of an image by a factor of its own.

    Args:
        multiplier: Minimum and maximum of the factors, which are drawn uniformly.
        p: Probability of the step.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(self, multiplier: Sequence[float], p: float) -> None:
        super().__init__(p)
        _require_interval("multiplier", multiplier, 10)
        self.multiplier = multiplier

    def change(self, levels: Tensor) -> Tensor:
        """Return the image with noise."""
        return levels * _uniform(self.multiplier, levels.shape)


class RandomSnow(PhotometricTransform):
    """Bleach the dark parts of an image, as snow does, after Automold and albumentations' step of the same name.

    The lightness of HLS is multiplied where it is below a threshold; hue and saturation stay.

    Args:
        threshold: Minimum and maximum of the threshold, a lightness from 0 to 1, which is drawn uniformly.
        brightness: Factor of the lightness.
        p: Probability of the step.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(self, threshold: Sequence[float], brightness: float, p: float) -> None:
        super().__init__(p)
        _require_interval("threshold", threshold, 1)
        require(1 <= brightness <= 10, "brightness", brightness, "must be from 1 to 10")
        self.threshold, self.brightness = threshold, brightness

    def change(self, levels: Tensor) -> Tensor:
        """Return the image with snow."""
        rgb = levels / 255
        lightness = (rgb.amax(0) + rgb.amin(0)) / 2
        snowy = lightness < _uniform(self.threshold, ())
        lighter = torch.where(snowy, lightness * self.brightness, lightness).clamp_max(1)
        # a colour's distance from its lightness is its saturation times the chroma that the lightness leaves room for
        room, before = 1 - (2 * lighter - 1).abs(), 1 - (2 * lightness - 1).abs()
        return 255 * (lighter + (rgb - lightness) * room / before.clamp_min(1e-6))


class RandomShadow(PhotometricTransform):
    """Darken random polygons of five corners in the lower part of an image, after Automold and albumentations.

    Args:
        count: Minimum and maximum number of shadows, drawn uniformly.
        darkness: Minimum and maximum share of the light that a shadow takes, drawn uniformly for each.
        top: Upper edge of the part in which shadows fall, as a share of the height.
        p: Probability of the step.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(self, count: Sequence[int], darkness: Sequence[float], top: float, p: float) -> None:
        super().__init__(p)
        _require_interval("count", count, 100)
        _require_interval("darkness", darkness, 1)
        require(0 <= top < 1, "top", top, "must be a share of the height, from 0 to below 1")
        self.count, self.darkness, self.top = count, darkness, top

    def change(self, levels: Tensor) -> Tensor:
        """Return the image with shadows."""
        height, width = levels.shape[1:]
        for _ in range(int(torch.randint(self.count[0], self.count[1] + 1, ()))):
            across, down = torch.rand(2, SHADOW_CORNERS)
            rows = (self.top + (1 - self.top) * down) * height
            shape = Image.new("L", (width, height))
            ImageDraw.Draw(shape).polygon(list(zip((across * width).tolist(), rows.tolist(), strict=True)), fill=1)
            shaded = torch.from_numpy(np.array(shape))
            levels = levels * (1 - shaded * _uniform(self.darkness, ()))
        return levels


REPLAYED = (
    PhotometricTransform,
    v2.RandomHorizontalFlip,
    v2.ColorJitter,
    v2.GaussianBlur,
    v2.GaussianNoise,
    v2.Grayscale,
    v2.JPEG,
    v2.RandomAdjustSharpness,
    v2.RandomAutocontrast,
    v2.RandomChannelPermutation,
    v2.RandomEqualize,
    v2.RandomErasing,
    v2.RandomGrayscale,
    v2.RandomInvert,
    v2.RandomPhotometricDistort,
    v2.RandomPosterize,
    v2.RandomSolarize,
)
"""Steps that move nothing, or whose motion a `GeometryRecord` follows."""
CONTAINERS = (v2.Compose, v2.RandomApply, v2.RandomChoice, v2.RandomOrder)


def is_replayed(step: v2.Transform) -> bool:
    """Return whether cached logits can follow a step, or all steps inside it."""
    if isinstance(step, CONTAINERS):
        return all(is_replayed(inner) for inner in step.transforms)
    return isinstance(step, REPLAYED)


def _require_interval(key: str, interval: Sequence[float], largest: float) -> None:
    valid = len(interval) == 2 and 0 <= interval[0] <= interval[1] <= largest
    require(valid, key, interval, f"must be [low, high] with 0 <= low <= high <= {largest}")


def _uniform(interval: Sequence[float], shape: Sequence[int]) -> Tensor:
    low, high = interval
    return low + (high - low) * torch.rand(tuple(shape))
