from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import map_coordinates
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from segdistill.config.data import IGNORE_INDEX, FolderConfig
from segdistill.data.datamodule import CachedLogitsDataset, SegmentationDataset
from segdistill.data.geometry import GeometryRecord, apply_geometry
from segdistill.data.sources.folder import open_folder
from segdistill.data.split_reader import SplitReader
from segdistill.data.transforms import train_pipeline
from segdistill.utils.interpolate import interpolate_labels, whole_cells
from segdistill.utils.preprocessing import Preprocessing

INPUT_SIZE = (96, 144)


def smooth(height: int, width: int) -> Tensor:
    """An image of slow waves, different along both axes and in every corner."""
    down, across = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 4, width), indexing="ij")
    waves = torch.stack([torch.sin(down + across), torch.cos(down * across / 2), torch.sin(2 * across - down)])
    return (127 + 120 * waves).round().to(torch.uint8)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("file_size", [INPUT_SIZE, (193, 251)])
@pytest.mark.parametrize("crop", [(64, 80), (120, 160)])
def test_replayed_maps_show_what_the_transformed_image_shows(
    seed: int, file_size: tuple[int, int], crop: tuple[int, int]
) -> None:
    original = smooth(*file_size)
    pipeline = train_pipeline(Preprocessing(INPUT_SIZE), crop, scale=(0.6, 1.6), augment=[v2.RandomHorizontalFlip(0.5)])
    torch.manual_seed(seed)
    image, mask, view = pipeline(
        tv_tensors.Image(original),
        tv_tensors.Mask(torch.zeros(file_size, dtype=torch.uint8)),
        GeometryRecord.whole(*file_size),
    )
    maps = F.resize(original.float() / 255, [INPUT_SIZE[0] // 4, INPUT_SIZE[1] // 4], antialias=True)
    size = crop[0] // 4, crop[1] // 4
    shown = F.resize(image.as_subclass(Tensor), list(size), antialias=True)
    labelled = interpolate_labels(mask.as_subclass(Tensor)[None], size)[0] != IGNORE_INDEX
    labelled[1:-1, 1:-1] &= labelled[:-2, 1:-1] & labelled[2:, 1:-1] & labelled[1:-1, :-2] & labelled[1:-1, 2:]
    difference = (apply_geometry(maps, view, size) - shown).abs()[:, 1:-1, 1:-1][:, labelled[1:-1, 1:-1]]
    assert difference.numel() > 100
    assert difference.max() < 0.06
    assert difference.mean() < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_cached_maps_follow_an_image_whose_bottom_is_cut(
    seed: int, folder_config: FolderConfig, cache_dir: Path
) -> None:
    steps, original = Preprocessing((96, 144), cut_bottom=23), smooth(193, 251)
    paths = [path for part in ("images", "masks") for path in Path(folder_config.root).glob(f"train/{part}/*.png")]
    for path in paths:
        pixels = original.permute(1, 2, 0) if path.parent.name == "images" else torch.zeros(193, 251, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
    source = open_folder(folder_config, cache_dir)
    pipeline = train_pipeline(steps, (64, 80), (0.6, 1.6), [v2.RandomHorizontalFlip(0.5)])
    prepared = torch.tensor(steps.image(original.permute(1, 2, 0).numpy())).permute(2, 0, 1).float() / 255
    rows, columns = whole_cells(steps.size, 16)
    padded = F.pad(prepared, [0, 0, columns - steps.size[1], rows - steps.size[0]], padding_mode="edge")
    maps = F.resize(padded, [rows // 4, columns // 4], antialias=True)[None].expand(5, -1, -1, -1)
    torch.manual_seed(seed)
    images = SegmentationDataset(SplitReader(source, "train"), pipeline)
    sample = CachedLogitsDataset(images, maps, steps, 16)[0]
    shown = F.resize(sample["image"], [16, 20], antialias=True)
    labelled = interpolate_labels(sample["mask"][None], [16, 20])[0] != IGNORE_INDEX
    labelled[1:-1, 1:-1] &= labelled[:-2, 1:-1] & labelled[2:, 1:-1] & labelled[1:-1, :-2] & labelled[1:-1, 2:]
    difference = (sample["teacher_logits"] - shown).abs()[:, 1:-1, 1:-1][:, labelled[1:-1, 1:-1]]
    assert difference.numel() > 100
    assert difference.max() < 0.06
    assert difference.mean() < 0.01


def test_the_recorded_geometry_of_a_scaled_cropped_flipped_image_by_hand() -> None:
    view = F.resize(GeometryRecord.whole(10, 20), [20, 30])  # 2 down, 1.5 across
    view = F.crop(F.pad(view, [1, 2, 3, 4]), 5, 6, 7, 8)
    assert view.tolist() == [1 - 6, 31 - 6, 2 - 5, 22 - 5, 8, 7]
    assert F.horizontal_flip(view).tolist() == [8 + 5, 8 - 25, -3, 17, 8, 7]


@pytest.mark.parametrize("flip", [False, True])
def test_sampling_agrees_with_scipy(flip: bool) -> None:
    maps = torch.rand(2, 9, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, right, top, bottom, width, height = 30.0, -70.0, -20.0, 60.0, 24.0, 18.0
    if not flip:
        left, right = width - left, width - right
    result = apply_geometry(maps, GeometryRecord([left, right, top, bottom, width, height]), (5, 7))
    y = ((np.arange(5) + 0.5) / 5 * height - top) / (bottom - top) * 9 - 0.5
    x = ((np.arange(7) + 0.5) / 7 * width - left) / (right - left) * 13 - 0.5
    places = np.meshgrid(y, x, indexing="ij")
    expected = [map_coordinates(channel, places, order=1, mode="nearest") for channel in maps.numpy()]
    assert result.dtype == torch.float64
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_colour_jitter_leaves_the_geometry_alone() -> None:
    image = tv_tensors.Image(smooth(*INPUT_SIZE)), tv_tensors.Mask(torch.zeros(INPUT_SIZE, dtype=torch.uint8))
    views = []
    for jitter in (0.0, 0.5):
        torch.manual_seed(0)
        steps = [v2.RandomHorizontalFlip(0.5), v2.ColorJitter(jitter, jitter)]
        _, _, view = train_pipeline(Preprocessing(INPUT_SIZE), (64, 80), (0.6, 1.6), steps)(
            *image, GeometryRecord.whole(*INPUT_SIZE)
        )
        assert isinstance(view, GeometryRecord)
        views.append(view.tolist())
    assert views[0] == views[1]


def test_maps_keep_half_precision() -> None:
    maps = torch.rand(3, 6, 8).half()
    result = apply_geometry(maps, GeometryRecord.whole(24, 32), (6, 8))
    assert result.dtype == torch.float16
    torch.testing.assert_close(result, maps)


@pytest.mark.parametrize("flipped", [False, True])
def test_maps_of_whole_cells_follow_an_image_that_has_none(flipped: bool) -> None:
    covered = whole_cells((75, 98), 32)
    assert covered == [96, 128]
    rows, columns = (4 * torch.arange(side // 4) + 1.5 for side in covered)  # of a cell's centre, in pixels
    maps = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    view = F.crop(F.resize(GeometryRecord.whole(75, 98), [150, 196]), top=30, left=40, height=64, width=96)
    shown = (F.horizontal_flip(view) if flipped else view).of_larger(covered[1] / 98, covered[0] / 75)
    sampled = apply_geometry(maps, shown, [16, 24])
    below, right = (30 + 4 * torch.arange(16) + 2) / 2 - 0.5, (40 + 4 * torch.arange(24) + 2) / 2 - 0.5
    expected = torch.stack(torch.meshgrid(below, right.flip(0) if flipped else right, indexing="ij"))
    torch.testing.assert_close(sampled, expected, rtol=0, atol=1e-3)
