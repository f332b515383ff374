"""What distillation gains over the same student without a teacher, paired over seeds."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.stats import t

from segdistill.report.jobs import REPETITION, TEACHER_SCORE, Jobs, Setting

log = logging.getLogger(__name__)
METHOD, UNDISTILLED = "distill", "none"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Gain:
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
class Study:
    """A sweep that holds a baseline.

    Attributes:
        baseline: The setting without a teacher.
        teacher: Its mean IoU, a fraction of 1; None where no job has tested it.
        gains: By the name of each other setting's first job.
    """

    baseline: Setting
    teacher: float | None
    gains: Mapping[str, Gain]

    def of(self, setting: Setting) -> Gain | None:
        """Returns a setting's gain; None of the baseline, and of one that shares no seed with it."""
        return self.gains.get(setting.jobs[0].name)


def study(jobs: Jobs) -> Study | None:
    """Compares every setting with the one that has no teacher; None if there is not exactly one of those."""
    settings = jobs.by_setting()
    baselines = [setting for setting in settings if setting.values.get(METHOD) == UNDISTILLED]
    if len(baselines) > 1:
        log.warning("no gains: %d settings have %s=%s, sweep one", len(baselines), METHOD, UNDISTILLED)
    if len(baselines) != 1:
        return None
    (baseline,) = baselines
    taught = [score for job in jobs.jobs if (score := job.tested.get(TEACHER_SCORE)) is not None]
    teacher = statistics.fmean(taught) if taught else None
    gains = {setting.jobs[0].name: _gain(setting, baseline, teacher) for setting in settings if setting is not baseline}
    return Study(baseline, teacher, {name: gain for name, gain in gains.items() if gain is not None})


def _gain(setting: Setting, baseline: Setting, teacher: float | None) -> Gain | None:
    mine, theirs = _by_seed(setting), _by_seed(baseline)
    common = mine.keys() & theirs.keys()
    differences = [mine[seed] - theirs[seed] for seed in common]
    if not differences:
        return None
    mean, count = statistics.fmean(differences), len(differences)
    ahead = None if teacher is None else teacher - statistics.fmean(theirs[seed] for seed in common)
    return Gain(
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


def _by_seed(setting: Setting) -> dict[str, float]:
    return {job.settings.get(REPETITION, ""): job.score for job in setting.jobs if job.score is not None}
