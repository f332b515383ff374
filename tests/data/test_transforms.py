from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from segdistill.data.transforms import ClassCrop, RandomScale, to_tensors, train_pipeline
from segdistill.utils.preprocessing import Preprocessing

IGNORE_INDEX, GREY = 255, 127
BLOCK = 12
SEEDS = range(8)
FLIP, JITTER = v2.RandomHorizontalFlip(0.5), v2.ColorJitter(0.3, 0.3, 0.3, 0.03)
DEFAULT = [FLIP, JITTER]


def blocks(rows: int, columns: int) -> Tensor:
    """Ids 0 to 24 in blocks of 12 x 12 pixels, all of them different from their neighbours."""
    ids = torch.arange(rows * columns).mul(7).remainder(25).view(rows, columns)
    return ids.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1).to(torch.uint8)


def image_of(ids: Tensor) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """An image whose red is ten times its mask."""
    red = ids * 10
    image = torch.stack([red, torch.full_like(red, 90), 250 - red])
    return tv_tensors.Image(image), tv_tensors.Mask(ids)


def inside(mask: Tensor, margin: int = 3) -> Tensor:
    """True where a pixel and all within `margin` of it are in view and have one id that is not void."""
    values, window = mask.double()[None], 2 * margin + 1
    highest = F.max_pool2d(values, window, stride=1, padding=margin)[0]
    lowest = -F.max_pool2d(-values, window, stride=1, padding=margin)[0]
    in_view = F.pad(torch.ones_like(mask)[margin:-margin, margin:-margin], (margin,) * 4).bool()
    return (highest == lowest) & (mask != IGNORE_INDEX) & in_view


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("crop", [(60, 72), (33, 47), (100, 150)])
def test_image_and_mask_go_through_one_geometry(crop: tuple[int, int], seed: int) -> None:
    torch.manual_seed(seed)
    pipeline = train_pipeline(Preprocessing((60, 72)), crop, scale=(0.75, 2.0), augment=[FLIP])
    image, mask = pipeline(*image_of(blocks(5, 6)))
    assert image.shape == (3, *crop)
    assert mask.shape == crop
    certain = inside(mask)
    assert certain.sum() > 50
    torch.testing.assert_close(image[0][certain] * 25.5, mask[certain].float(), rtol=0, atol=0.05)


@pytest.mark.parametrize("crop", [(20, 30), (60, 72), (70, 30), (100, 150)])
def test_a_class_crop_always_shows_the_class_that_it_drew(crop: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ids = torch.zeros(60, 72, dtype=torch.uint8)
    ids[0, 0], ids[59, 71], ids[30, 5], ids[:5, 40:60] = 1, 2, 3, IGNORE_INDEX  # one pixel each; void is no class
    image, mask = image_of(ids)
    shown = [ClassCrop(crop, 1.0)(image, mask)[1] for _ in range(400)]
    assert {tuple(each.shape) for each in shown} == {crop}
    shares = [sum(bool((each == label).any()) for each in shown) / 400 for label in range(4)]
    assert min(shares[1:]) > 0.19  # drawn in a quarter of 400 crops, and not by accident in fewer
    if crop == (20, 30):
        plain = [ClassCrop(crop, 0.0)(image, mask)[1] for _ in range(400)]
        assert sum(bool((each == 2).any()) for each in plain) < 10


def test_a_class_crop_of_void_alone_is_a_random_one() -> None:
    torch.manual_seed(0)
    image, mask = image_of(torch.full((60, 72), IGNORE_INDEX, dtype=torch.uint8))
    assert ClassCrop((20, 30), 1.0)(image, mask)[1].shape == (20, 30)


def test_a_class_crop_draws_its_place_from_all_that_show_the_pixel() -> None:
    torch.manual_seed(0)
    ids = torch.full((60, 72), IGNORE_INDEX, dtype=torch.uint8)
    ids[30, 36] = 1
    image, mask = image_of(ids)
    places = [(ClassCrop((20, 30), 1.0)(image, mask)[1] == 1).nonzero()[0].tolist() for _ in range(3000)]
    assert {row for row, _ in places} == set(range(20))
    assert {column for _, column in places} == set(range(30))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scale", [(0.5, 0.5), (0.3, 0.9), (1.1, 2.0)])
def test_a_scaled_mask_invents_no_class(scale: tuple[float, float], seed: int) -> None:
    torch.manual_seed(seed)
    # Bilinear resizing would put every value from 0 to 200 between these two.
    ids = torch.where(torch.rand(40, 56) < 0.5, 0, 200).to(torch.uint8)
    _, mask = train_pipeline(Preprocessing((40, 56)), (33, 47), scale, DEFAULT)(*image_of(ids))
    assert set(mask.unique().tolist()) <= {0, 200, IGNORE_INDEX}
    assert {0, 200} <= set(mask.unique().tolist())


@pytest.mark.parametrize("out", [12, 27, 54])
def test_a_resized_mask_is_not_shifted_against_its_image(out: int) -> None:
    # A ramp survives any centred filter, so red tells which source column a pixel of the image lies at. The nearest
    # column is up to half a column away, to either side alike.
    ramp = torch.arange(36, dtype=torch.uint8).mul(6).expand(36, 36)
    image, mask = RandomScale(Preprocessing((out, out)), (1, 1))(
        tv_tensors.Image(ramp.expand(3, 36, 36)), tv_tensors.Mask(ramp)
    )
    margin = max(2, out // 9)
    shifts = (mask.double() - image[0].double()).div(6)[0, margin:-margin].tolist()
    assert max(map(abs, shifts)) <= 0.5 + 1 / 6
    assert abs(sum(shifts) / len(shifts)) <= 0.2


def test_padding_is_void_in_the_mask_and_grey_in_the_image() -> None:
    torch.manual_seed(0)
    ids = torch.full((20, 30), 4, dtype=torch.uint8)
    image, mask = train_pipeline(Preprocessing((20, 30)), (40, 50), (1, 1), [FLIP])(*image_of(ids))
    padded = mask == IGNORE_INDEX
    assert (~padded).sum() == 20 * 30
    assert set(mask.unique().tolist()) == {4, IGNORE_INDEX}
    grey = torch.tensor(GREY / 255).expand(3, int(padded.sum()))
    torch.testing.assert_close(image[:, padded].as_subclass(Tensor), grey)
    # The image stays whole within the padding.
    rows, columns = torch.nonzero(~padded).amin(0), torch.nonzero(~padded).amax(0)
    assert (columns - rows + 1).tolist() == [20, 30]


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_images_leave_as_float32_in_0_to_1_and_masks_as_int64(jitter: float) -> None:
    torch.manual_seed(0)
    steps = [FLIP, v2.ColorJitter(jitter, jitter, jitter, jitter / 10)]
    image, mask = train_pipeline(Preprocessing((60, 72)), (48, 48), (0.5, 2), steps)(*image_of(blocks(5, 6)))
    assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
    assert 0 <= image.min() < image.max() <= 1


def test_to_tensors_divides_by_255_and_leaves_ids_alone() -> None:
    image, mask = to_tensors()(
        tv_tensors.Image(torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1)),
        tv_tensors.Mask(torch.tensor([[7, IGNORE_INDEX]], dtype=torch.uint8)),
    )
    torch.testing.assert_close(image.flatten().as_subclass(Tensor), torch.tensor([0.0, 0.2, 1.0]))
    assert mask.tolist() == [[7, IGNORE_INDEX]]


def test_random_scale_covers_its_range_with_the_aspect_of_the_size() -> None:
    torch.manual_seed(0)
    transform = RandomScale(Preprocessing((100, 200)), (0.5, 2.0))
    sizes = [transform.make_params([])["size"] for _ in range(400)]
    heights = torch.tensor([height for height, _ in sizes])
    assert 50 <= heights.min() < 55
    assert 195 < heights.max() <= 200
    # Uniform between 50 and 200: the mean of 400 draws has a standard error of 2.2.
    assert heights.double().mean() == pytest.approx(125, abs=9)
    assert all(abs(width - 2 * height) <= 1 for height, width in sizes)


@pytest.mark.parametrize("size", [(80, 96), (40, 48)])  # halves, for which torch and Pillow agree to the last bit
def test_at_scale_1_an_image_is_prepared_as_in_evaluation(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    image, mask = (
        torch.randint(0, high, (*n, *size), generator=generator, dtype=torch.uint8) for high, n in [(256, [3]), (5, [])]
    )
    steps = Preprocessing((40, 48), cut_bottom=9, gamma=1 / 3)
    shown, ids = RandomScale(steps, (1.0, 1.0))(tv_tensors.Image(image), tv_tensors.Mask(mask))
    assert (type(shown), type(ids)) == (tv_tensors.Image, tv_tensors.Mask)
    np.testing.assert_array_equal(shown.permute(1, 2, 0), steps.image(image.permute(1, 2, 0).numpy()))
    np.testing.assert_array_equal(ids, steps.mask(mask.numpy()))


def test_the_rows_that_are_cut_grow_with_the_image() -> None:
    torch.manual_seed(0)
    transform = RandomScale(Preprocessing((304, 484), cut_bottom=35), (0.5, 2.0))
    for _ in range(50):
        params = transform.make_params([])
        assert abs(params["rows"] - params["size"][0] * 269 / 304) <= 1
    assert RandomScale(Preprocessing((20, 20), cut_bottom=19), (0.1, 0.1)).make_params([])["rows"] == 1


def test_random_scale_never_rounds_a_side_to_nothing() -> None:
    assert RandomScale(Preprocessing((16, 160)), (0.01, 0.01)).make_params([])["size"] == [1, 2]


def test_one_seed_repeats_and_another_differs() -> None:
    pipeline = train_pipeline(Preprocessing((60, 72)), (48, 48), (0.5, 2), DEFAULT)
    images = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        images.append(pipeline(*image_of(blocks(5, 6)))[0])
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


@pytest.mark.parametrize(("probability", "flipped"), [(0.0, False), (1.0, True)])
def test_hflip_is_a_probability(probability: float, flipped: bool) -> None:
    image, mask = image_of(blocks(5, 6))
    _, out = train_pipeline(Preprocessing((60, 72)), (60, 72), (1, 1), [v2.RandomHorizontalFlip(probability)])(
        image, mask
    )
    assert torch.equal(out, (mask.flip(-1) if flipped else mask).long())
