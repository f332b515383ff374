"""A set as small as people first try: 24 images, two classes, 36 steps. The student must not start dead."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import NO_REPORT, finished, train
from PIL import Image

SIZE = (96, 128)


def write_scene(folder: Path, index: int, rng: np.random.Generator) -> None:
    """Write one bright ellipse of any colour on a darker texture, and its mask."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    centre, radii = rng.uniform((25, 30), (70, 98)), rng.uniform(10, 25, 2)
    inside = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 < 1
    colours = rng.uniform(20, 120, 3), rng.uniform(120, 250, 3)
    image = np.where(inside[..., None], colours[1], colours[0]) + rng.normal(0, 25, (*SIZE, 3))
    for kind, pixels in (("images", image.clip(0, 255)), ("masks", inside)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{index}.png")


@pytest.mark.slow
@pytest.mark.long
def test_default_student_learns_from_24_images_as_its_teacher_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 12)):
        for index in range(count):
            write_scene(tmp_path / "data" / split, index, rng)
    budget = "{max_epochs: 6, batch_size: 4, crop: [96, 128], scale: [0.75, 1.5]}"
    output = finished(
        train(
            "experiment=kd_deeplab",
            "data=folder",
            f"data.root={tmp_path / 'data'}",
            f"data.input_size={list(SIZE)}",
            "+data.classes={ground: 0, thing: 1}",
            *(f"{part}.fit={budget}" for part in ("teacher", "student")),
            f"hydra.run.dir={tmp_path / 'run'}",
            f"cache_dir={tmp_path / 'cache'}",
            *NO_REPORT,
        ),
        tmp_path,
    )
    last = {
        part: max(float(value) for value in re.findall(rf"{part} epoch \d/6: .*?val/miou (\d\.\d+)", output))
        for part in ("teacher", "student")
    }
    assert last["teacher"] > 0.6, output[-3000:]
    assert last["student"] > last["teacher"] - 0.15  # a student of one class lies 0.4 below
