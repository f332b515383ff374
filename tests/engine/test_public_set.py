"""A run on a public data set, in miniature, by the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from helpers import miniatures
from helpers.runs import CROPS, NO_REPORT, finished, train


@pytest.mark.slow
@pytest.mark.long
def test_voc_trains_and_is_tested_on_its_published_val(tmp_path: Path) -> None:
    miniatures.voc2012(tmp_path / "VOC2012", {"train": 10, "val": 3})
    output = finished(
        train(
            "experiment=smoke",
            "data=voc2012",
            f"data.root={tmp_path / 'VOC2012'}",
            "data.input_size=[67,98]",
            "data.holdout=0.2",
            *CROPS,
            *NO_REPORT,
            f"hydra.run.dir={tmp_path / 'run'}",
            f"cache_dir={tmp_path / 'cache'}",
        ),
        tmp_path,
    )
    assert "1464 images are published, 10 are there" in output
    (file,) = (tmp_path / "run" / "csv").rglob("metrics.csv")
    logged = {key for row in csv.DictReader(file.read_text().splitlines()) for key, value in row.items() if value}
    assert {"val/miou", "test/miou"} <= logged
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
