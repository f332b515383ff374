"""Results of earlier weights do not outlive them."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from segdistill.callbacks import ForgetResults


@pytest.mark.parametrize("trained", [True, False])
def test_results_go_when_the_weights_that_they_are_of_have_gone(trained: bool, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("results.json", "onnx/student.onnx", "report.html", "checkpoints/best.ckpt")]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    callback, trainer = ForgetResults(), Mock(default_root_dir=str(tmp_path))
    if trained:
        callback.on_train_start(trainer, Mock())
    assert all(path.exists() for path in files)
    callback.on_fit_end(trainer, Mock())
    assert [path.exists() for path in files] == ([False, False, False, True] if trained else [True] * 4)
