"""Augmentation steps against independent references, and the presets of conf/augment."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.composed import parsed
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from segdistill.config.data import FolderConfig
from segdistill.data.augment import (
    MultiplicativeNoise,
    PhotometricTransform,
    RandomShadow,
    RandomSnow,
    is_replayed,
)
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.geometry import GeometryRecord
from segdistill.data.sources.folder import open_folder
from segdistill.data.transforms import ClassCrop, RandomScale, to_tensors, train_pipeline
from segdistill.engine.augmentation import build_augmentation, require_replayed, try_augmentation
from segdistill.engine.builders import Builder
from segdistill.utils.errors import ConfigError
from segdistill.utils.preprocessing import Preprocessing

SIZE = 31, 45
V2 = "torchvision.transforms.v2"


def noise(seed: int = 0) -> tv_tensors.Image:
    generator = torch.Generator().manual_seed(seed)
    return tv_tensors.Image(torch.randint(256, (3, *SIZE), dtype=torch.uint8, generator=generator))


def ids() -> tv_tensors.Mask:
    return tv_tensors.Mask(torch.arange(SIZE[0] * SIZE[1]).remainder(7).view(*SIZE).to(torch.uint8))


def steps(preset: str) -> list[v2.Transform]:
    return build_augmentation("augment", parsed(f"augment={preset}").augment)


def test_the_default_preset_is_the_pipeline_that_was_fixed_before() -> None:
    earlier = v2.Compose(
        [
            RandomScale(Preprocessing((40, 56)), (0.6, 1.6)),
            ClassCrop((33, 47), 0.5),
            v2.RandomHorizontalFlip(0.5),
            v2.ColorJitter(0.3, 0.3, 0.3, 0.3 / 10),
            to_tensors(),
        ]
    )
    present = train_pipeline(Preprocessing((40, 56)), (33, 47), (0.6, 1.6), steps("default"), class_crop=0.5)
    for seed in range(12):
        outputs = []
        for pipeline in (earlier, present):
            torch.manual_seed(seed)
            outputs.append(pipeline(noise(), ids()))
        assert torch.equal(outputs[0][0], outputs[1][0])
        assert torch.equal(outputs[0][1], outputs[1][1])


@pytest.mark.parametrize("preset", ["none", "weak", "default", "strong", "original"])
def test_every_preset_may_be_tried_and_replayed_for_teacher_and_student(preset: str) -> None:
    composed = parsed(f"augment={preset}", f"augment@teacher.training.augment={preset}")
    assert composed.augment == composed.teacher.training.augment
    assert (
        list(composed.augment)
        == {
            "none": [],
            "weak": ["flip", "jitter"],
            "default": ["flip", "jitter"],
            "strong": ["flip", "jitter", "noise", "snow", "shadow", "blur"],
            "original": ["flip", "noise", "snow", "shadow"],
        }[preset]
    )
    try_augmentation("augment", composed.augment, SIZE)
    assert require_replayed("augment", composed.augment, "memory")


@pytest.mark.parametrize("preset", ["strong", "original"])
def test_a_preset_repeats_with_its_seed_and_keeps_bytes(preset: str) -> None:
    pipeline = v2.Compose(steps(preset))
    images = []
    for seed in (3, 3, 4, 5, 6):
        torch.manual_seed(seed)
        image, mask = pipeline(noise(), ids())
        assert (image.dtype, image.shape, mask.dtype) == (torch.uint8, (3, *SIZE), torch.uint8)
        images.append(image)
    assert torch.equal(images[0], images[1])
    assert len({image.numpy().tobytes() for image in images}) > 2


def test_noise_multiplies_every_value_by_a_factor_of_its_own() -> None:
    torch.manual_seed(0)
    flat = tv_tensors.Image(torch.full((3, 90, 110), 100, dtype=torch.uint8))
    noisy = MultiplicativeNoise([0.8, 1.1], p=1.0)(flat).as_subclass(Tensor).double()
    assert (noisy.min(), noisy.max()) == (80, 110)
    # 29 700 values, uniform from 80 to 110: the standard error of their mean is 0.05, of their deviation 0.03
    assert float(noisy.mean()) == pytest.approx(95, abs=0.25)
    assert float(noisy.std()) == pytest.approx(30 / 12**0.5, abs=0.15)
    assert abs(float(torch.corrcoef(torch.stack([noisy[0].flatten(), noisy[1].flatten()]))[0, 1])) < 0.05


def test_snow_lightens_what_is_dark_as_hls_says() -> None:
    image = noise()
    snowy = RandomSnow([0.401, 0.401], brightness=1.5, p=1.0)(image)
    before, after = image.permute(1, 2, 0).reshape(-1, 3).tolist(), snowy.permute(1, 2, 0).reshape(-1, 3).tolist()
    changed = 0
    for pixel, result in zip(before, after, strict=True):
        hue, lightness, saturation = colorsys.rgb_to_hls(*(level / 255 for level in pixel))
        dark = lightness < 0.401  # between two levels
        changed += dark
        expected = colorsys.hls_to_rgb(hue, lightness * 1.5, saturation) if dark else [each / 255 for each in pixel]
        np.testing.assert_allclose(result, [255 * each for each in expected], atol=0.51)
    assert 200 < changed < len(before) - 200


def test_snow_survives_black_and_white() -> None:
    image = tv_tensors.Image(torch.tensor([[0, 255, 90]], dtype=torch.uint8).repeat(3, 1, 1))
    snowy = RandomSnow([0.5, 0.5], brightness=10.0, p=1.0)(image)
    assert snowy[:, 0].tolist() == [[0, 255, 255]] * 3


def test_shadows_darken_a_part_below_the_top() -> None:
    flat = tv_tensors.Image(torch.full((3, 60, 80), 200, dtype=torch.uint8))
    shares = []
    for seed in range(40):
        torch.manual_seed(seed)
        shaded = RandomShadow([1, 1], [0.5, 0.5], top=0.5, p=1.0)(flat)
        assert set(shaded.unique().tolist()) <= {100, 200}
        assert torch.equal(shaded[0], shaded[2])
        assert (shaded[:, :30] == 200).all()
        shares.append(float((shaded == 100).double().mean()))
    assert 0.03 < np.mean(shares) < 0.4
    torch.manual_seed(0)
    twice = [RandomShadow([2, 2], [0.5, 0.5], top=0.0, p=1.0)(flat) for _ in range(20)]
    assert any(50 in image.unique() for image in twice)  # where two overlap


@pytest.mark.parametrize(
    "step",
    [
        MultiplicativeNoise([0.5, 1.5], p=0.25),
        RandomSnow([0.4, 0.5], 2.5, p=0.25),
        RandomShadow([1, 2], [0.4, 0.6], 0.2, p=0.25),
    ],
)
def test_a_step_has_a_probability_and_leaves_mask_and_record_alone(step: PhotometricTransform) -> None:
    torch.manual_seed(0)
    image, mask, record = noise(), ids(), GeometryRecord.whole(*SIZE)
    changes = 0
    for _ in range(400):
        changed, same, view = step(image, mask, record)
        assert (type(changed), changed.dtype) == (tv_tensors.Image, torch.uint8)
        assert torch.equal(same, mask)
        assert torch.equal(view, record)
        changes += not torch.equal(changed, image)
    assert changes / 400 == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ("MultiplicativeNoise, multiplier: [1.2, 0.8], p: 1", "augment.x.multiplier=[1.2, 0.8]: must be [low, high]"),
        ("MultiplicativeNoise, multiplier: [0.8, 1.2], p: 2", "augment.x.p=2: must be a probability"),
        ("RandomSnow, threshold: [0.5, 2], brightness: 2, p: 1", "augment.x.threshold=[0.5, 2]: must be [low, high]"),
        ("RandomSnow, threshold: [0.5, 1], brightness: 0, p: 1", "augment.x.brightness=0: must be from 1 to 10"),
        ("RandomShadow, count: [1, 2], darkness: [0, 1], top: 1, p: 1", "augment.x.top=1: must be a share"),
        ("RandomShadow, count: [1, 2], darkness: [0, 1], top: 0", "augment.x="),
    ],
)
def test_a_step_that_refuses_its_settings_is_named(spec: str, key: str) -> None:
    composed = parsed(f"+augment.x={{_target_: segdistill.data.augment.{spec}}}")
    with pytest.raises(ConfigError) as caught:
        build_augmentation("augment", composed.augment)
    assert str(caught.value).startswith(key)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (f"{V2}.Normalize, mean: [0.5], std: [0.5]", "fails on an image of 8 bits"),
        (f"{V2}.CenterCrop, size: 16", "must keep size and type"),
        (f"{V2}.Resize, size: [16, 16]", "must keep size and type"),
        (f"{V2}.RandomRotation, degrees: 20", "fill: 255 makes them void"),
        (f"{V2}.RandomApply, p: 0.5, transforms: [{{_target_: {V2}.RandomRotation, degrees: 20}}]", "fill: 255"),
    ],
)
def test_a_step_that_would_spoil_batches_is_refused_before_the_data_is_opened(spec: str, complaint: str) -> None:
    composed = parsed(f"+augment.x={{_target_: {spec}}}", "distill=none", "data.train=16")
    state = torch.get_rng_state()
    with pytest.raises(ConfigError, match=r"^augment\.x=.*" + complaint):
        Builder(composed).try_augmentation()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_geometric_step_goes_with_a_live_teacher_alone(caplog: pytest.LogCaptureFixture) -> None:
    rotation = f"+augment.x={{_target_: {V2}.RandomRotation, degrees: 5, fill: 255}}"
    try_augmentation("augment", parsed(rotation).augment, SIZE)
    for place in ("memory", "disk"):
        with pytest.raises(ConfigError, match=r"^augment\.x=.*it needs distill\.teacher_cache=none"):
            Builder(parsed(rotation, f"distill.teacher_cache={place}")).logit_cache(reads_features=False)
    assert Builder(parsed(rotation, "distill.teacher_cache=none")).logit_cache(reads_features=False) is None
    with caplog.at_level("INFO"):
        assert Builder(parsed(rotation)).logit_cache(reads_features=False) is None
    assert "augment.x: may move what the image shows" in caplog.text
    assert Builder(parsed("augment=strong")).logit_cache(reads_features=False) is not None


def test_containers_are_looked_into() -> None:
    blur, rotation = v2.GaussianBlur(3), v2.RandomRotation(5)
    assert is_replayed(v2.RandomApply([blur]))
    assert is_replayed(v2.RandomChoice([blur, v2.Compose([v2.RandomHorizontalFlip(), v2.JPEG(50)])]))
    assert not is_replayed(v2.RandomChoice([blur, v2.Compose([rotation])]))
    assert not is_replayed(v2.RandomVerticalFlip())


def test_students_of_any_augmentation_share_one_teacher(folder_config: FolderConfig, cache_dir: Path) -> None:
    source = open_folder(folder_config, cache_dir)

    def teacher_of(*overrides: str) -> Path:
        return Builder(parsed(f"cache_dir={cache_dir}", *overrides)).teacher_cache(source).checkpoint

    assert teacher_of("augment=strong") == teacher_of("augment.flip.p=0.1") == teacher_of()
    assert teacher_of("augment@teacher.training.augment=strong") != teacher_of()
    assert teacher_of("teacher.training.augment.flip.p=0.1") != teacher_of()


def test_a_data_module_augments_training_images_alone(folder_config: FolderConfig, cache_dir: Path) -> None:
    source = open_folder(folder_config, cache_dir)
    composed = parsed("+augment.x={_target_: torchvision.transforms.v2.RandomInvert, p: 1.0}", "~augment.jitter")
    fit = composed.student.fit
    fit.crop, fit.scale, fit.batch_size, composed.augment["flip"]["p"] = [24, 36], [1.0, 1.0], 5, 0.0
    augment = build_augmentation("augment", composed.augment)
    data = SegmentationDataModule(source, fit, augment, preprocessing=Preprocessing((24, 36)), num_workers=0)
    (batch,) = data.train_dataloader()
    for index, image in zip(batch["index"].tolist(), batch["image"], strict=True):
        expected = 255 - source.read("train", index)[0].astype(int)
        np.testing.assert_allclose(255 * image.permute(1, 2, 0).numpy(), expected, atol=1e-3)
    (validation, *_) = data.val_dataloader()
    np.testing.assert_allclose(
        255 * validation["image"][0].permute(1, 2, 0).numpy(), source.read("val", 0)[0], atol=1e-3
    )
