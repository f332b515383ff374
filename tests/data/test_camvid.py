"""Real dashcam frames, where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from segdistill.config.data import IGNORE_INDEX, FolderConfig
from segdistill.config.parse import parse, register
from segdistill.data.sources.folder import open_folder

ROOT = Path(__file__).parents[2]
CAMVID = Path(os.environ.get("SEGDISTILL_CAMVID", ROOT.parent / "shared" / "camvid"))


@pytest.mark.camvid
@pytest.mark.skipif(not CAMVID.is_dir(), reason=f"no CamVid frames in {CAMVID}; set SEGDISTILL_CAMVID")
def test_camvid_opens_with_its_published_splits_and_classes(tmp_path: Path) -> None:
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        data = parse(compose("config", ["data=camvid", f"data.root={CAMVID}"])).data
    assert isinstance(data, FolderConfig)
    source = open_folder(data, tmp_path)
    assert {split: len(samples) for split, samples in source.splits.items()} == {"train": 367, "val": 101, "test": 233}
    assert len(source.labels) == 11
    image, mask = source.read("test", 0)
    assert image.shape == (360, 480, 3)
    assert set(np.unique(mask)) <= {*range(11), IGNORE_INDEX}
    road = source.labels.names.index("road")
    assert np.bincount(mask[300:].ravel(), minlength=256).argmax() == road  # what lies in front of the car
