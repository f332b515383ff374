"""Sweeps on Ray and on submitit, each on this machine alone: two jobs at a time, one teacher between them."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from helpers.runs import CROPS, ROOT, TINY

from segdistill.reporting.sweep.jobs import read_jobs

pytestmark = [pytest.mark.slow, pytest.mark.long]

LAUNCHERS = ("ray", "submitit_local")
STAMP = re.compile(r"^\[([\d-]+ [\d:,]+)\]", re.MULTILINE)


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The directory of a sweep with each launcher; they run at the same time, because both mostly wait."""
    folder = tmp_path_factory.mktemp("launchers")
    running = {}
    for launcher in LAUNCHERS:
        command = [sys.executable, str(ROOT / "train.py"), "-m", *TINY, *CROPS, "callbacks=none", "logger=csv"]
        placed = [f"hydra.sweep.dir={folder / launcher}", f"cache_dir={folder / launcher}_cache"]
        arguments = [*command, *placed, "seed=0,1", f"hydra/launcher={launcher}"]
        running[launcher] = subprocess.Popen(
            arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    for process in running.values():
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output[-3000:]
    return {launcher: folder / launcher for launcher in LAUNCHERS}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_jobs_run_side_by_side_with_one_teacher_training(sweeps: dict[str, Path], launcher: str) -> None:
    logs = [(sweeps[launcher] / f"seed={seed}" / "train.log").read_text() for seed in range(2)]
    assert sum("training one for 1 epochs" in text for text in logs) == 1
    assert sum("teacher: reused from" in text for text in logs) == 1
    spans = [[datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f") for stamp in STAMP.findall(text)] for text in logs]
    assert max(span[0] for span in spans) < min(span[-1] for span in spans)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_summary_holds_both_jobs(sweeps: dict[str, Path], launcher: str) -> None:
    jobs = read_jobs(sweeps[launcher])
    assert [job.settings["seed"] for job in jobs.jobs] == ["0", "1"]
    assert not jobs.skipped
    assert None not in [job.score for job in jobs.jobs]
    assert (sweeps[launcher] / "summary.html").is_file()
