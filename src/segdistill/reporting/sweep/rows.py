"""A sweep as one CSV file with a row per job, which remains when the sweep's directory is gone."""

from __future__ import annotations

import csv
from pathlib import Path

from segdistill.reporting.sweep.jobs import Job, Jobs
from segdistill.utils.errors import UserError
from segdistill.utils.io import atomic_write

NAME, SPLIT, SELECTED_ON = "job", "split", "selected_on"
SCORES = "test/"
"""Prefix of the columns of scores; a column that is neither a score nor one of the above is a setting."""
DELETED = "(deleted)"
"""Text of an override without a value, such as `~augment.jitter`; an empty field is a key that a job left as it is."""


def write_rows(jobs: Jobs, path: Path) -> None:
    """Write the jobs that have a score, sorted by name; the same jobs give the same file."""
    scored = sorted((job for job in jobs.jobs if job.score is not None), key=lambda job: job.name)
    settings = dict.fromkeys(key for job in scored for key in job.identity)
    scores = sorted({name for job in scored for name in job.tested})
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [NAME, *settings, SPLIT, SELECTED_ON, *scores], restval="", lineterminator="\n")
        writer.writeheader()
        for job in scored:
            tested = {name: "" if value is None else f"{value:.6f}" for name, value in job.tested.items()}
            known = {NAME: job.name, SPLIT: job.split, SELECTED_ON: str(job.selected_on).lower()}
            writer.writerow({key: value or DELETED for key, value in job.identity.items()} | known | tested)


def read_rows(path: Path) -> Jobs:
    """Read a file that `write_rows` wrote.

    Raises:
        UserError: If the file cannot be read as rows of a sweep.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return Jobs([_job(row, path) for row in csv.DictReader(file)])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise UserError(f"{path}: holds no rows of a sweep ({type(error).__name__}: {error})") from error


def _job(row: dict[str, str], path: Path) -> Job:
    tested = {name: float(text) if text else None for name, text in row.items() if name.startswith(SCORES)}
    known = {NAME, SPLIT, SELECTED_ON} | tested.keys()
    settings = {key: "" if text == DELETED else text for key, text in row.items() if key not in known and text}
    return Job(row[NAME], settings, tested, None, row[SPLIT], row[SELECTED_ON] == "true", source=path)
