"""What the commands that read sweeps take on their command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from segdistill.reporting.sweep.jobs import Jobs, joined, read_jobs
from segdistill.reporting.sweep.rows import read_rows


def settings(text: str) -> dict[str, str]:
    """Parse KEY=VALUE,... as the settings of a baseline."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(key and equals for key, equals, _ in pairs):
        raise argparse.ArgumentTypeError(f"{text}: must be KEY=VALUE,...")
    return {key: value for key, _, value in pairs}


def read_sweeps(paths: Sequence[Path]) -> Jobs:
    """Read and join directories of sweeps and files of rows.

    Raises:
        UserError: If one cannot be read, or two hold the same job.
    """
    return joined([read_rows(path) if path.suffix == ".csv" else read_jobs(path) for path in paths])
