"""Evaluation of images of which only a tile at a time fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from segdistill.config.data import IGNORE_INDEX
from segdistill.data.datamodule import Batch
from segdistill.utils.tiles import Tiling


def eval_parts(batch: Batch, tiling: Tiling | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images and masks of a batch, tile by tile if there is a tiling.

    What another tile is kept for is void in a tile's mask, so that every pixel is counted once; a tile in which nothing
    is counted is left out.

    Args:
        batch: Batch with `image` [B, 3, H, W] and `mask` [B, H, W].
        tiling: Tiles, or None for whole images.
    """
    images, masks = batch["image"], batch["mask"]
    if tiling is None:
        yield images, masks
        return
    for tile in tiling.tiles(masks.shape[-2:]):
        target = torch.full_like(masks[:, *tile.seen], IGNORE_INDEX)
        target[:, *tile.inner] = masks[:, *tile.kept]
        if bool((target != IGNORE_INDEX).any()):
            yield images[..., *tile.seen], target


def predict_ids(network: Callable[[Tensor], Tensor], images: Tensor, tiling: Tiling | None) -> Tensor:
    """Return a network's class ids, uint8 [B, H, W], of images [B, 3, H, W], tile by tile if there is a tiling."""
    if tiling is None:
        return network(images).argmax(dim=1).to(torch.uint8)
    ids = torch.empty(images.shape[0], *images.shape[-2:], dtype=torch.uint8, device=images.device)
    for tile in tiling.tiles(images.shape[-2:]):
        logits = network(images[..., *tile.seen])
        ids[:, *tile.kept] = logits.argmax(dim=1)[:, *tile.inner].to(torch.uint8)
    return ids
