"""Gain of a setting over a baseline, paired over seeds; the default is the same student without a teacher."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy.stats import ttest_rel

from segdistill.reporting.sweep.jobs import ConfigGroup, Jobs

METHOD, UNDISTILLED = "distill", "none"
INIT, OWN_WEIGHTS = "student.init", "pretrained"
LEVEL = 0.05
SAME_TEACHER_DIGITS = 4  # decimals of its score: two processors round a few pixels differently


@dataclass(frozen=True)
class PairedComparison:
    """A setting compared with the baseline; shares are fractions of 1.

    Attributes:
        seeds: Number of seeds that both were run with.
        mean: Mean of the per-seed differences in mean IoU.
        interval: 95 % confidence interval of the true mean difference (paired t-test); None for one seed.
        p: p-value of the paired t-test, adjusted for all comparisons of the sweep (Holm, 1979); None for one seed.
        gap_closed: `mean` as a share of the lead that the setting's teachers have over the baseline with the same
            seeds; None if they have no lead. A setting that tested no teacher has that of the others, if it is one.
    """

    seeds: int
    mean: float
    interval: tuple[float, float] | None
    p: float | None
    gap_closed: float | None

    @property
    def probability(self) -> str:
        """`p` as shown in tables."""
        if self.p is None:
            return "-"
        return f"{self.p:.3f}" if self.p >= 0.001 else "<0.001"

    @property
    def verdict(self) -> str:
        """Conclusion that the p-value allows."""
        if self.p is None:
            return "one seed: unknown"
        if self.p >= LEVEL:
            return "within the noise"
        return "better" if self.mean > 0 else "worse"


@dataclass(frozen=True)
class BaselineStudy:
    """Comparisons of the settings of a sweep with its baseline.

    Attributes:
        baseline: Setting that the others are compared with.
        teachers: Mean IoU of each teacher that was tested, fractions of 1.
        gains: Comparison of each other setting, by its key.
    """

    baseline: ConfigGroup
    teachers: Sequence[float]
    gains: Mapping[tuple[str, ...], PairedComparison]

    @property
    def teacher(self) -> float | None:
        """Mean IoU of the one teacher; None if no job has tested it, or there are several."""
        return _common(self.teachers)

    @property
    def coverage(self) -> str:
        """Statement of what the intervals cover, and what they do not."""
        distinct = _distinct(self.teachers)
        whose = f"the {distinct} teachers of these jobs" if distinct > 1 else "one teacher"
        return f"the intervals cover seeds of the student, for {whose}; another teacher may change the verdict"

    def of(self, setting: ConfigGroup) -> PairedComparison | None:
        """Return the comparison of a setting; None for the baseline, and for a setting that shares no seed with it."""
        return self.gains.get(setting.key)


def refusal(jobs: Jobs, chosen: Mapping[str, str] | None = None) -> str | None:
    """Return why the settings of a sweep are not compared with each other; None if they can be.

    Args:
        jobs: Jobs of the sweep.
        chosen: Swept key -> value of the baseline; None selects the setting without a teacher.
    """
    if len(jobs.score_labels) > 1:
        return f"nothing is compared: some jobs report {' and some '.join(jobs.score_labels)}"
    count = len(_baselines(jobs.by_setting(), chosen))
    if chosen is not None:
        wanted = ",".join(f"{key}={value}" for key, value in chosen.items())
        return None if count == 1 else f"no gains: {count} settings have {wanted}, the baseline must be one"
    several = f"no gains: {count} settings have {METHOD}={UNDISTILLED}, choose one: segdistill report-sweep --baseline"
    return several if count > 1 else None


def study(jobs: Jobs, chosen: Mapping[str, str] | None = None) -> BaselineStudy | None:
    """Compare every setting with the baseline; None if there is no baseline, or if there is a `refusal`.

    Args:
        jobs: Jobs of the sweep.
        chosen: Swept key -> value of the baseline; None selects the setting without a teacher.
    """
    settings = jobs.by_setting()
    baselines = _baselines(settings, chosen)
    if not baselines or refusal(jobs, chosen) is not None:
        return None
    (baseline,) = baselines
    taught = [score for job in jobs.jobs if (score := job.teacher_score) is not None]
    gains = {setting.key: _gain(setting, baseline, _common(taught)) for setting in settings if setting is not baseline}
    return BaselineStudy(baseline, taught, _holm({key: gain for key, gain in gains.items() if gain is not None}))


def gain_record(gain: PairedComparison | None) -> dict[str, Any]:
    """Return a comparison as fields of a summary's row, all None if there is none."""
    low, high = gain.interval if gain and gain.interval else (None, None)
    return {
        "gain": gain.mean if gain else None,
        "gain_low": low,
        "gain_high": high,
        "p_holm": gain.p if gain else None,
        "gap_closed": gain.gap_closed if gain else None,
        "verdict": gain.verdict if gain else None,
    }


def _baselines(settings: Sequence[ConfigGroup], chosen: Mapping[str, str] | None) -> list[ConfigGroup]:
    """Return the possible baselines: settings without a teacher, if possible those that also start without one."""
    if chosen is not None:
        return [setting for setting in settings if chosen.items() <= setting.values.items()]
    undistilled = [setting for setting in settings if setting.values.get(METHOD) == UNDISTILLED]
    return [setting for setting in undistilled if setting.values.get(INIT) == OWN_WEIGHTS] or undistilled


def _distinct(teachers: Sequence[float]) -> int:
    return len({round(score, SAME_TEACHER_DIGITS) for score in teachers})


def _common(teachers: Sequence[float]) -> float | None:
    return statistics.fmean(teachers) if _distinct(teachers) == 1 else None


def _gain(setting: ConfigGroup, baseline: ConfigGroup, common_teacher: float | None) -> PairedComparison | None:
    mine, theirs = _by_seed(setting), _by_seed(baseline)
    common = sorted(mine.keys() & theirs.keys())
    if not common:
        return None
    mean = statistics.fmean(mine[seed] - theirs[seed] for seed in common)
    interval, p = _paired([mine[seed] for seed in common], [theirs[seed] for seed in common])
    paired = [job.teacher_score for job in setting.jobs if (job.seed or "") in common]
    own = [score for score in paired if score is not None]
    teacher = statistics.fmean(own) if own else common_teacher
    ahead = None if teacher is None else teacher - statistics.fmean(theirs[seed] for seed in common)
    return PairedComparison(
        seeds=len(common),
        mean=mean,
        interval=interval,
        p=p,
        gap_closed=mean / ahead if ahead is not None and ahead > 0 else None,
    )


def _paired(mine: Sequence[float], theirs: Sequence[float]) -> tuple[tuple[float, float] | None, float | None]:
    """Compute the confidence interval of the mean difference, and the p-value of the paired t-test."""
    if len(mine) < 2:
        return None, None
    differences = {a - b for a, b in zip(mine, theirs, strict=True)}
    if len(differences) == 1:  # scipy would divide by their deviation of 0
        (difference,) = differences
        return (difference, difference), float(difference == 0)
    test = ttest_rel(mine, theirs)
    low, high = test.confidence_interval(1 - LEVEL)
    return (float(low), float(high)), float(test.pvalue)


def _holm(gains: Mapping[tuple[str, ...], PairedComparison]) -> dict[tuple[str, ...], PairedComparison]:
    """Adjust the p-values so that the chance of any false verdict among them stays within `LEVEL`."""
    ordered = sorted((gain.p, key) for key, gain in gains.items() if gain.p is not None)
    adjusted, largest = {}, 0.0
    for rank, (p, key) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p))
        adjusted[key] = largest
    return {key: replace(gain, p=adjusted.get(key)) for key, gain in gains.items()}


def _by_seed(setting: ConfigGroup) -> dict[str, float]:
    return {job.seed or "": job.score for job in setting.jobs if job.score is not None}
