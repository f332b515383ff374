"""The jobs of a sweep, read back from their directories."""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from segdistill.reporting.findings import split_label

STATUS = "job.json"
SCORE, TEACHER_SCORE = "test/miou", "test/teacher_miou"
CLASS_SCORE, CLASSES_PREDICTED = "test/iou_", "test/classes_predicted"
REPETITION = "seed"
"""The key whose values repeat a setting instead of making another."""
UNSHAPING = ("resume", "cache_dir")
"""Keys of a configuration that may differ between two runs of the same job."""


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        name: Of its directory, within the sweep's.
        settings: What its command line set: key -> value, as text.
        tested: What the test logged, fractions of 1: test/miou, test/teacher_miou and others; empty without a test.
        error: Why it failed.
        split: The split it was tested on.
        selected_on: Whether its checkpoint was selected on that very split.
    """

    name: str
    settings: dict[str, str]
    tested: dict[str, float | None]
    error: str | None
    split: str = "test"
    selected_on: bool = False

    @property
    def score(self) -> float | None:
        """The mean IoU of what was trained; None while there is none."""
        return self.tested.get(SCORE)

    @property
    def score_label(self) -> str:
        """What the score is called: "test mean IoU", or "val mean IoU (selected on)"."""
        return split_label(self.split, self.selected_on, "mean IoU")

    @property
    def classes(self) -> tuple[int, int]:
        """Over how many classes the mean goes, and how many there are; zeros where that is not noted."""
        scores = [value for name, value in self.tested.items() if name.startswith(CLASS_SCORE)]
        return sum(value is not None for value in scores), len(scores)

    @property
    def collapsed(self) -> bool:
        """Whether a single class is predicted where others occur."""
        return self.tested.get(CLASSES_PREDICTED) == 1 and self.classes[0] > 1


@dataclass(frozen=True)
class ConfigGroup:
    """The jobs that differ in nothing but their seed, and were tested on the same split.

    Attributes:
        values: Swept key -> value.
        jobs: Those with a score.
    """

    values: dict[str, str]
    jobs: list[Job]

    @property
    def scores(self) -> list[float]:
        """One a seed."""
        return [job.score for job in self.jobs if job.score is not None]

    @property
    def mean(self) -> float:
        """Of the scores."""
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the scores, of a sample; None of a single one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def score_label(self) -> str:
        """What the scores are called; they are of one split."""
        return self.jobs[0].score_label


@dataclass(frozen=True)
class Jobs:
    """What a sweep's directory holds.

    Attributes:
        jobs: In the order they were started.
        skipped: Directories that are no job of a sweep, and why.
    """

    jobs: list[Job]
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def swept(self) -> list[str]:
        """The keys that differ between jobs, seeds aside."""
        keys = dict.fromkeys(key for job in self.jobs for key in job.settings if key != REPETITION)
        return [key for key in keys if len({job.settings.get(key) for job in self.jobs}) > 1]

    @property
    def score_labels(self) -> list[str]:
        """What the scores are called; more than one where jobs were tested on different splits."""
        return sorted({job.score_label for job in self.jobs if job.score is not None})

    def described(self, job: Job) -> str:
        """Returns what sets a job apart from the others, in one line."""
        return ", ".join(f"{key}={job.settings[key]}" for key in [*self.swept, REPETITION] if key in job.settings)

    def by_setting(self) -> list[ConfigGroup]:
        """Returns the settings that have a score, best mean first; those of one split together."""
        groups: dict[tuple[str, tuple[str, ...]], list[Job]] = {}
        for job in self.jobs:
            if job.score is not None:
                values = tuple(job.settings.get(key, "") for key in self.swept)
                groups.setdefault((job.score_label, values), []).append(job)
        settings = [
            ConfigGroup(dict(zip(self.swept, values, strict=True)), jobs) for (_, values), jobs in groups.items()
        ]
        return sorted(settings, key=lambda setting: (setting.score_label, -setting.mean))


def read_jobs(sweep_dir: Path) -> Jobs:
    """Reads every job's directory; one that cannot be read is skipped and named."""
    jobs, skipped = [], {}
    folders = [path for path in sweep_dir.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for folder in sorted(folders, key=_order):
        try:
            jobs.append(_job(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            skipped[folder.name] = f"{type(error).__name__}: {error}"
    return Jobs(jobs, skipped)


def _order(folder: Path) -> list[tuple[float, str]]:
    """Sort numbers within names by their values."""
    parts = re.split(r"(\d+\.?\d*)", folder.name)
    return [(float(part), "") if part[:1].isdigit() else (-1.0, part) for part in parts]


def _job(folder: Path) -> Job:
    noted = json.loads((folder / STATUS).read_text())
    tested = noted.get("tested", {})
    error = noted.get("error") if noted["status"] == "failed" else None
    numbers = {name: None if value is None else float(value) for name, value in tested.items()}
    split, selected_on = noted.get("split", "test"), noted.get("selected_on", False)
    return Job(folder.name, dict(noted["overrides"]), numbers, error, split, selected_on)
