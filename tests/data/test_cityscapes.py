"""Cityscapes, as far as its files can be told without its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.composed import parsed
from PIL import Image

from segdistill.data.sources.opening import open_source

# cityscapesScripts, helpers/labels.py: (id, trainId) of every class that is evaluated
TRAIN_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13}
TRAIN_IDS |= {27: 14, 28: 15, 31: 16, 32: 17, 33: 18}


def test_label_ids_become_train_ids_in_the_nested_layout(tmp_path: Path, cache_dir: Path) -> None:
    ids = np.arange(34, dtype=np.uint8)
    for place, (split, city) in enumerate(
        (("train", "aachen"), ("train", "ulm"), ("val", "munster"), ("test", "bonn"))
    ):
        name, image = f"{city}_000000_000019", np.full((1, 34, 3), 50 * place, np.uint8)
        (tmp_path / "leftImg8bit" / split / city).mkdir(parents=True)
        (tmp_path / "gtFine" / split / city).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
        for kind in ("labelIds", "instanceIds", "color"):
            values = ids if kind == "labelIds" else np.zeros(34, np.uint8)
            Image.fromarray(values[None]).save(tmp_path / "gtFine" / split / city / f"{name}_gtFine_{kind}.png")
    index = open_source(parsed("data=cityscapes", f"data.root={tmp_path}").data, cache_dir)
    assert {split: len(samples) for split, samples in index.splits.items()} == {"train": 2, "val": 1}
    assert index.eval_split == "val"
    expected = [TRAIN_IDS.get(value, 255) for value in range(34)]
    assert index.read("val", 0)[1][0].tolist() == expected
    assert len(index.labels) == 19
    assert index.labels.names[6:8] == ("traffic light", "traffic sign")
    assert dict(zip(index.labels.names, index.labels.palette, strict=True))["car"] == (0, 0, 142)
