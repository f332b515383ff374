"""Damaged files: the data check and `predict` answer each in one line, or read it; none crashes or hangs them."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers.exported import export_brightest, sample_image
from PIL import Image

from segdistill.data.check import check_splits
from segdistill.data.labels import MaskCoding, mask_coding
from segdistill.data.sources.base import Sample
from segdistill.utils.errors import UserError

FILES, SHOWN, DEADLINE_S = 200, 100, 300
SOME_SKIPPED = 3


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One to eight faults of a disk or a network: bytes changed, cut out, repeated, or an end that is missing."""
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(damaged)) if damaged else 0
        length = rng.randint(1, 16)
        match rng.randrange(4):
            case 0:
                damaged[at : at + length] = rng.randbytes(min(length, len(damaged) - at))
            case 1:
                del damaged[at : at + length]
            case 2:
                damaged[at:at] = damaged[at : at + length]
            case _ if rng.random() < 0.3:
                del damaged[at:]
    return bytes(damaged)


@dataclass(frozen=True)
class Whole:
    """Files before they are damaged, and where damaged ones go."""

    folder: Path
    images: Sequence[Path]
    model: Path

    def damaged(self, path: Path, seed: int) -> Path:
        target = self.folder / "damaged" / f"{seed:04}{path.suffix}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(mutate(path.read_bytes(), random.Random(seed)))
        return target


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    images = [folder / name for name in ("image.png", "image.jpg", "palette.png", "progressive.jpg")]
    pixels = Image.fromarray(sample_image())
    pixels.save(images[0])
    pixels.save(images[1], quality=90)
    pixels.convert("P").save(images[2])
    pixels.save(images[3], progressive=True)
    return Whole(folder, images, export_brightest(folder / "model.onnx"))


def require_answers_to_images(whole: Whole, seeds: range) -> None:
    coding = mask_coding({"object": [1]}, [0])
    mask = whole.folder / "mask.png"
    Image.fromarray(np.ones(sample_image().shape[:2], np.uint8)).save(mask)
    refused = 0
    for seed in seeds:
        path = whole.damaged(whole.images[seed % len(whole.images)], seed)
        for sample in (Sample(path, mask), Sample(mask, path)):
            line = fault(sample, coding, whole.folder)
            refused += line is not None
            assert line is None or str(path) in line or "void" in line
            assert line is None or "\n" not in line
    assert refused > len(seeds) / 3


def fault(sample: Sample, coding: MaskCoding, cache_dir: Path) -> str | None:
    """What the data check says is wrong with a sample."""
    try:
        check_splits({"train": [sample]}, coding, ["object"], cache_dir)
    except UserError as error:
        return str(error)
    return None


def require_answers_to_files(whole: Whole, images: range, models: range) -> None:
    """One process predicts all images, as a user has it; each model has a process of its own, for it may crash it."""
    folder = whole.folder / f"images-{images.start}"
    folder.mkdir()
    for seed in images:
        path = whole.damaged(whole.images[seed % len(whole.images)], seed)
        path.rename(folder / path.name)
    require_one_line(predict(whole.model, folder, whole.folder / f"masks-{images.start}"))
    for seed in models:
        model = whole.damaged(whole.model, seed)
        require_one_line(predict(model, whole.images[0], whole.folder / f"masks-{model.stem}"))


def predict(model: Path, images: Path, masks: Path) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "segdistill.inference.predict", str(model), str(images), "-o", str(masks)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def require_one_line(process: subprocess.CompletedProcess[str]) -> None:
    assert process.returncode in (0, 1, SOME_SKIPPED), process.stderr[-2000:]  # a signal's code is negative
    assert "Traceback" not in process.stderr


def test_damaged_images_pass_the_data_check_or_are_named(whole: Whole) -> None:
    require_answers_to_images(whole, range(SHOWN))


@pytest.mark.slow
def test_predict_answers_to_damaged_files(whole: Whole) -> None:
    require_answers_to_files(whole, range(SHOWN), range(6))


@pytest.mark.soak
def test_many_damaged_files_are_answered(whole: Whole) -> None:
    require_answers_to_images(whole, range(SHOWN, FILES))
    require_answers_to_files(whole, range(SHOWN, FILES), range(6, FILES))
