"""The record that a job of a sweep leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segdistill.reporting.sweep.jobs import STATUS
from segdistill.utils.io import write_json


def job(sweep_dir: Path, name: str, overrides: list[str], **noted: Any) -> Path:
    folder = sweep_dir / name
    settings = dict(override.split("=", 1) for override in overrides)
    write_json(folder / STATUS, {"status": "finished", "overrides": settings, **noted})
    return folder
