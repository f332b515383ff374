"""Jobs of a sweep, read from their directories."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from segdistill.reporting.findings import split_label
from segdistill.reporting.sweep.shaping import INCIDENTAL, REPETITION, conflicts
from segdistill.utils.errors import UserError

STATUS = "job.json"
SCORE, TESTED, TESTED_TEACHER = "test/miou", "test/", "test/teacher_"
CLASS_SCORE, CLASSES_PREDICTED = "test/iou_", "test/classes_predicted"
UNSET = "(default)"
"""Value of a key that a job left as it is, where another job sets it."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        name: Name of its directory within the sweep's.
        settings: Overrides of its command line, key -> value, as text.
        tested: Logged test metrics, fractions of 1: test/miou, test/teacher_miou and others; empty without a test.
        error: Reason for its failure; None if it did not fail.
        split: Split on which it was tested.
        selected_on: Whether its checkpoint was selected on that split.
        config: Configuration that it ran with; empty if nothing recorded it.
        scored_by: Which of the test metrics is its score.
        source: Sweep's directory or file of rows that it was read from.
    """

    name: str
    settings: dict[str, str]
    tested: dict[str, float | None]
    error: str | None
    split: str = "test"
    selected_on: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    scored_by: str = SCORE
    source: Path = Path()

    @property
    def place(self) -> Path:
        """Its directory, or its row in a file."""
        return self.source / self.name

    @property
    def seed(self) -> str | None:
        """Seed of its command line or its configuration; None if neither is recorded."""
        seed = self.settings.get(REPETITION, self.config.get(REPETITION))
        return None if seed is None else str(seed)

    @property
    def identity(self) -> dict[str, str]:
        """What no other job has: its overrides that may shape a result, and its seed."""
        shaping = {key: value for key, value in self.settings.items() if key not in INCIDENTAL}
        return shaping if self.seed is None else shaping | {REPETITION: self.seed}

    @property
    def score(self) -> float | None:
        """Mean IoU of the trained network, or the metric of `scored_by`; None while there is none."""
        return self.tested.get(self.scored_by)

    @property
    def teacher_score(self) -> float | None:
        """The teacher's value of the same metric; None if that was not measured."""
        return self.tested.get(self.scored_by.replace(TESTED, TESTED_TEACHER))

    @property
    def score_label(self) -> str:
        """Label of the score: "test mean IoU", or "val mean IoU (selected on)"."""
        name = "mean IoU" if self.scored_by == SCORE else self.scored_by.removeprefix(TESTED)
        return split_label(self.split, self.selected_on, name)

    @property
    def classes(self) -> tuple[int, int]:
        """Number of classes that the mean averages over, and number of all classes; zeros if they are not recorded."""
        scores = [value for name, value in self.tested.items() if name.startswith(CLASS_SCORE)]
        return sum(value is not None for value in scores), len(scores)

    @property
    def collapsed(self) -> bool:
        """Whether a single class is predicted although others occur."""
        return self.tested.get(CLASSES_PREDICTED) == 1 and self.classes[0] > 1


@dataclass(frozen=True)
class ConfigGroup:
    """Jobs that differ only in their seed, and were tested on the same split.

    Attributes:
        values: Swept key -> value.
        jobs: Jobs with a score.
    """

    values: dict[str, str]
    jobs: list[Job]

    @property
    def key(self) -> tuple[str, ...]:
        """What no other setting of the same split has: its values. Jobs of joined sweeps may share their names."""
        return tuple(self.values.values())

    @property
    def scores(self) -> list[float]:
        """Scores, one per seed."""
        return [job.score for job in self.jobs if job.score is not None]

    @property
    def mean(self) -> float:
        """Mean of the scores."""
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the scores; None for a single score."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def score_label(self) -> str:
        """Label of the scores, which are all of one split."""
        return self.jobs[0].score_label


@dataclass(frozen=True)
class Jobs:
    """Contents of a sweep's directory.

    Attributes:
        jobs: Jobs in the order in which they were started.
        skipped: Directories that are not jobs of a sweep, and why.
    """

    jobs: list[Job]
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def swept(self) -> list[str]:
        """Keys that differ between jobs, except seeds and what shapes no result."""
        keys = dict.fromkeys(key for job in self.jobs for key in job.identity if key != REPETITION)
        return [key for key in keys if len({job.settings.get(key) for job in self.jobs}) > 1]

    @property
    def score_labels(self) -> list[str]:
        """Labels of the scores; more than one if jobs were tested on different splits."""
        return sorted({job.score_label for job in self.jobs if job.score is not None})

    def scored_by(self, name: str) -> Jobs:
        """Return the same jobs with another of their test metrics as their score.

        Raises:
            UserError: If no job has measured it.
        """
        known = sorted({metric for job in self.jobs for metric in job.tested} - {CLASSES_PREDICTED})
        if name not in known:
            raise UserError(f"--score={name}: no job has measured it; there are {', '.join(known) or 'no metrics'}")
        return Jobs([replace(job, scored_by=name) for job in self.jobs], self.skipped)

    def described(self, job: Job) -> str:
        """Return in one line what distinguishes a job from the others."""
        return ", ".join(f"{key}={job.settings[key]}" for key in [*self.swept, REPETITION] if key in job.settings)

    def by_setting(self) -> list[ConfigGroup]:
        """Return the settings that have a score, best mean first, grouped by split."""
        groups: dict[tuple[str, tuple[str, ...]], list[Job]] = {}
        for job in self.jobs:
            if job.score is not None:
                values = tuple(job.settings.get(key, UNSET) for key in self.swept)
                groups.setdefault((job.score_label, values), []).append(job)
        settings = [
            ConfigGroup(dict(zip(self.swept, values, strict=True)), jobs) for (_, values), jobs in groups.items()
        ]
        return sorted(settings, key=lambda setting: (setting.score_label, -setting.mean))


def joined(parts: Sequence[Jobs]) -> Jobs:
    """Join the jobs of several sweeps, whose settings may differ in any key.

    Raises:
        UserError: If two jobs have the same settings and seed, which would count one measurement twice, or have the
            same overrides, and configurations that differ in more than the seed.
    """
    skipped = {name: reason for part in parts for name, reason in part.skipped.items()}
    jobs = Jobs([job for part in parts for job in part.jobs], skipped)
    first: dict[tuple[tuple[str, str], ...], Job] = {}
    for job in jobs.jobs:
        same = first.setdefault(tuple(sorted(job.identity.items())), job) if job.tested else job
        if same is not job:
            raise UserError(f"{job.place}: has the settings and the seed of {same.place}; keep one of them")
    for setting in jobs.by_setting():
        for one, other in combinations(setting.jobs, 2):
            if keys := conflicts(one.config, other.config):
                cure = "they are no repetitions; leave one out"
                raise UserError(f"{other.place}: was run with another {', '.join(keys)} than {one.place}; {cure}")
    return jobs


def read_jobs(sweep_dir: Path) -> Jobs:
    """Read every job's directory; directories that cannot be read are skipped and recorded.

    Raises:
        UserError: If there is no such folder, or two of its jobs cannot stand side by side, as in `joined`.
    """
    if not sweep_dir.is_dir():
        raise UserError(f"{sweep_dir}: no such folder")
    jobs, skipped = [], {}
    folders = [path for path in sweep_dir.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for folder in sorted(folders, key=_order):
        try:
            jobs.append(_job(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            skipped[folder.name] = f"{type(error).__name__}: {error}"
    return joined([Jobs(jobs, skipped)])


def _order(folder: Path) -> list[tuple[float, str]]:
    """Return a sort key that orders numbers within names by value."""
    parts = re.split(r"(\d+\.?\d*)", folder.name)
    return [(float(part), "") if part[:1].isdigit() else (-1.0, part) for part in parts]


def _job(folder: Path) -> Job:
    noted = json.loads((folder / STATUS).read_text())
    tested = noted.get("tested", {})
    error = noted.get("error") if noted["status"] == "failed" else None
    numbers = {name: None if value is None else float(value) for name, value in tested.items()}
    split, selected_on = noted.get("split", "test"), noted.get("selected_on", False)
    config = dict(noted.get("config", {}))
    return Job(folder.name, dict(noted["overrides"]), numbers, error, split, selected_on, config, source=folder.parent)
