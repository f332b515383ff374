"""What distillation gains over the same student without a teacher, paired over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import t

from segdistill.reporting.sweep.jobs import REPETITION, TEACHER_SCORE, ConfigGroup, Jobs

METHOD, UNDISTILLED = "distill", "none"
CONFIDENCE = 0.95
SAME_TEACHER_DIGITS = 4  # of its score: two processors round a few pixels differently


@dataclass(frozen=True)
class PairedComparison:
    """A setting against the baseline; shares of 1.

    Attributes:
        seeds: Those that both were run with.
        mean: Of the differences of mean IoU, seed by seed.
        interval: Where the true mean lies with 95 % confidence (Student's t of the differences); None of one seed.
        gap_closed: The mean as a share of what the teacher is ahead of the baseline with the same seeds; None where it
            is not ahead.
    """

    seeds: int
    mean: float
    interval: tuple[float, float] | None
    gap_closed: float | None

    @property
    def verdict(self) -> str:
        """What may be said of it."""
        if self.interval is None:
            return "one seed: unknown"
        low, high = self.interval
        if low <= 0 <= high:
            return "within the noise"
        return "better" if low > 0 else "worse"


@dataclass(frozen=True)
class BaselineStudy:
    """A sweep that holds a baseline.

    Attributes:
        baseline: The setting without a teacher.
        teachers: The mean IoU of each one that was tested, fractions of 1.
        gains: By the name of each other setting's first job.
    """

    baseline: ConfigGroup
    teachers: Sequence[float]
    gains: Mapping[str, PairedComparison]

    @property
    def teacher(self) -> float | None:
        """Mean IoU of the teachers; None where no job has tested one."""
        return statistics.fmean(self.teachers) if self.teachers else None

    @property
    def coverage(self) -> str:
        """What the intervals cover, and what they do not."""
        distinct = len({round(score, SAME_TEACHER_DIGITS) for score in self.teachers})
        whose = f"the {distinct} teachers of these jobs" if distinct > 1 else "one teacher"
        return f"the intervals cover seeds of the student, for {whose}; another teacher may change the verdict"

    def of(self, setting: ConfigGroup) -> PairedComparison | None:
        """Returns a setting's gain; None of the baseline, and of one that shares no seed with it."""
        return self.gains.get(setting.jobs[0].name)


def refusal(jobs: Jobs) -> str | None:
    """Return why the settings of a sweep are not compared with each other; None where nothing is against it."""
    if len(jobs.score_labels) > 1:
        return f"nothing is compared: some jobs report {' and some '.join(jobs.score_labels)}"
    count = len(_baselines(jobs.by_setting()))
    return f"no gains: {count} settings have {METHOD}={UNDISTILLED}, sweep one" if count > 1 else None


def study(jobs: Jobs) -> BaselineStudy | None:
    """Compares every setting with the one that has no teacher; None if there is none, or a `refusal`."""
    settings = jobs.by_setting()
    baselines = _baselines(settings)
    if not baselines or refusal(jobs) is not None:
        return None
    (baseline,) = baselines
    taught = [score for job in jobs.jobs if (score := job.tested.get(TEACHER_SCORE)) is not None]
    teacher = statistics.fmean(taught) if taught else None
    gains = {setting.jobs[0].name: _gain(setting, baseline, teacher) for setting in settings if setting is not baseline}
    return BaselineStudy(baseline, taught, {name: gain for name, gain in gains.items() if gain is not None})


def gain_record(gain: PairedComparison | None) -> dict[str, Any]:
    """Return a gain as a row of a summary; Nones where there is none."""
    low, high = gain.interval if gain and gain.interval else (None, None)
    return {
        "gain": gain.mean if gain else None,
        "gain_low": low,
        "gain_high": high,
        "gap_closed": gain.gap_closed if gain else None,
        "verdict": gain.verdict if gain else None,
    }


def _baselines(settings: Sequence[ConfigGroup]) -> list[ConfigGroup]:
    return [setting for setting in settings if setting.values.get(METHOD) == UNDISTILLED]


def _gain(setting: ConfigGroup, baseline: ConfigGroup, teacher: float | None) -> PairedComparison | None:
    mine, theirs = _by_seed(setting), _by_seed(baseline)
    common = mine.keys() & theirs.keys()
    differences = [mine[seed] - theirs[seed] for seed in common]
    if not differences:
        return None
    mean, count = statistics.fmean(differences), len(differences)
    ahead = None if teacher is None else teacher - statistics.fmean(theirs[seed] for seed in common)
    return PairedComparison(
        seeds=count,
        mean=mean,
        interval=_interval(differences, mean) if count > 1 else None,
        gap_closed=mean / ahead if ahead is not None and ahead > 0 else None,
    )


def _interval(differences: list[float], mean: float) -> tuple[float, float]:
    count = len(differences)
    error = statistics.stdev(differences) / math.sqrt(count)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    return mean - reach, mean + reach


def _by_seed(setting: ConfigGroup) -> dict[str, float]:
    return {job.settings.get(REPETITION, ""): job.score for job in setting.jobs if job.score is not None}
