"""How tests start a run as a user does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEADLINE_S = 1200  # of a run that takes one minute, on a machine that others use, too
TINY = ["experiment=smoke", "data.input_size=[67,98]", "data.train=8", "data.val=4", "data.test=5"]
CROPS = [f"{part}.fit.{key}" for part in ("teacher", "student") for key in ("crop=[64,64]", "batch_size=4")]
NO_REPORT = ["callbacks=none", "logger=csv"]


def temporaries(folder: Path) -> list[Path]:
    """What was not written whole, and has no final name."""
    return [path for path in folder.rglob(".*") if re.match(r"\..*\.\d+\.", path.name)]


def train(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *arguments]


def command(run_dir: Path, *overrides: str) -> list[str]:
    placed = [f"hydra.run.dir={run_dir}", f"cache_dir={run_dir.parent / 'cache'}"]
    return train(*TINY, *CROPS, *placed, *overrides)


def logged_out(folder: Path) -> dict[str, str]:
    """An environment without a login of W&B."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return environment | {"NETRC": str(folder / "absent")}


def launched(arguments: list[str], folder: Path, **options: Any) -> subprocess.Popen[str]:
    """A process that goes on beside the test, in a group of its own."""
    environment = logged_out(folder)
    return subprocess.Popen(arguments, cwd=folder, env=environment, text=True, start_new_session=True, **options)


def until(there: Callable[[], object], process: subprocess.Popen[str], deadline_s: float) -> None:
    """Wait for what a process is about to do, or for its end."""
    deadline = time.monotonic() + deadline_s
    while not there() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = logged_out(folder)
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def finished(arguments: list[str], folder: Path) -> str:
    process = ended(arguments, folder)
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout + process.stderr
