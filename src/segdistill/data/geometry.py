"""Records which part of an image a transform shows, so that maps of the whole image can be transformed alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import register_kernel


class GeometryRecord(tv_tensors.TVTensor):  # type: ignore[misc] # torchvision ships no type information
    """Record of resize, crop, padding and flip that passes through a pipeline together with an image.

    float64 [left, right, top, bottom, width, height], in pixels of the transformed image: the positions of the whole
    image's edges, and the size of the transformed image. After a horizontal flip `left` is greater than `right`.
    """

    @classmethod
    def whole(cls, height: int, width: int) -> GeometryRecord:
        """Return the record of an image before any transform."""
        view: GeometryRecord = cls(torch.tensor([0, width, 0, height, width, height], dtype=torch.float64))
        return view

    def of_larger(self, across: float, down: float) -> GeometryRecord:
        """Return the record for a whole image `across` times as wide and `down` times as high, with the same origin."""
        left, right, top, bottom, *shown = self.tolist()
        return GeometryRecord([left, left + (right - left) * across, top, top + (bottom - top) * down, *shown])

    def extended(self, height: int, width: int) -> GeometryRecord:
        """Return the record with the transformed image extended to the right and below, to [height, width]."""
        return GeometryRecord([*self.tolist()[:4], width, height])


@register_kernel("resize", GeometryRecord)  # type: ignore[untyped-decorator]
def _resized(view: GeometryRecord, size: Sequence[int], *_: Any, **__: Any) -> GeometryRecord:
    left, right, top, bottom, width, height = view.tolist()
    across, down = size[1] / width, size[0] / height
    return GeometryRecord([left * across, right * across, top * down, bottom * down, size[1], size[0]])


@register_kernel("crop", GeometryRecord)  # type: ignore[untyped-decorator]
def _cropped(view: GeometryRecord, top: int, left: int, height: int, width: int) -> GeometryRecord:
    edges = view.tolist()
    return GeometryRecord([edges[0] - left, edges[1] - left, edges[2] - top, edges[3] - top, width, height])


@register_kernel("pad", GeometryRecord)  # type: ignore[untyped-decorator]
def _padded(view: GeometryRecord, padding: Sequence[int], *_: Any, **__: Any) -> GeometryRecord:
    edges, (left, top, right, bottom) = view.tolist(), padding
    size = edges[4] + left + right, edges[5] + top + bottom
    return GeometryRecord([edges[0] + left, edges[1] + left, edges[2] + top, edges[3] + top, *size])


@register_kernel("horizontal_flip", GeometryRecord)  # type: ignore[untyped-decorator]
def _flipped(view: GeometryRecord) -> GeometryRecord:
    left, right, top, bottom, width, height = view.tolist()
    return GeometryRecord([width - left, width - right, top, bottom, width, height])


def apply_geometry(maps: Tensor, view: GeometryRecord, size: Sequence[int]) -> Tensor:
    """Apply a recorded transform to maps of the whole image, by bilinear sampling.

    Args:
        maps: Maps of the whole image, [C, h, w], of any floating dtype.
        view: Record of the image's transform.
        size: [h, w] of the result; each cell is sampled at its centre.

    Returns:
        [C, *size] in the dtype of `maps`; beyond the image's edges the border values are repeated.
    """
    left, right, top, bottom, width, height = view.tolist()
    across = [width / (right - left), 0.0, (width - left - right) / (right - left)]
    down = [0.0, height / (bottom - top), (height - top - bottom) / (bottom - top)]
    places = F.affine_grid(torch.tensor([[across, down]]), [1, 1, *size], align_corners=False)
    sampled = F.grid_sample(maps[None].float(), places, padding_mode="border", align_corners=False)
    return sampled[0].to(maps.dtype)
