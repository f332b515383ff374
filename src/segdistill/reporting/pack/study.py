"""What a study knows of the gain that a run's setting has over a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segdistill.reporting.pack.run import TOLD, Run
from segdistill.reporting.sweep.comparison import PairedComparison, refusal, study
from segdistill.reporting.sweep.findings import sweep_warnings
from segdistill.reporting.sweep.jobs import INCIDENTAL, REPETITION, UNSET, ConfigGroup, Jobs
from segdistill.reporting.sweep.table import sweep_table
from segdistill.utils.console import as_markdown
from segdistill.utils.errors import UserError

UNTOLD = (REPETITION, *INCIDENTAL)


@dataclass(frozen=True)
class Gain:
    """Gain of a run's setting over the baseline of a study, measured in the study's own runs.

    Attributes:
        setting: The run's setting among those of the study.
        baseline: The setting that it is compared with.
        comparison: Paired comparison of the two; None if the run's setting is the baseline itself.
        differing: Key -> (value in the study, value in the run), where every job of the study differs from the run.
        table: Every setting of the study as a table in Markdown.
    """

    setting: ConfigGroup
    baseline: ConfigGroup
    comparison: PairedComparison | None
    differing: dict[str, tuple[str, str]]
    table: str


def measured_gain(jobs: Jobs, run: Run, chosen: Mapping[str, str] | None = None) -> Gain:
    """Find a run's setting in a study, and compare it with the study's baseline.

    Args:
        jobs: Jobs of the study.
        run: Run whose setting is looked for.
        chosen: Swept key -> value of the baseline; None selects the setting without a teacher.

    Raises:
        UserError: If the study compares nothing, or has not exactly one setting that is the run's.
    """
    compared = study(jobs, chosen)
    if compared is None:
        raise UserError(f"--study: {refusal(jobs, chosen) or 'no setting has distill=none; name one by --baseline'}")
    own = [setting for setting in jobs.by_setting() if _is_setting_of(run, setting.values)]
    if len(own) != 1:
        there = "; ".join(_described(setting) for setting in jobs.by_setting())
        raise UserError(f"--study: {len(own)} of its settings are that of {run.folder}, must be one; it has {there}")
    comparison = compared.of(own[0])
    if comparison is None and own[0] != compared.baseline:
        raise UserError(f"--study: {_described(own[0])} shares no seed with {_described(compared.baseline)}")
    table = as_markdown(sweep_table(jobs, compared, sweep_warnings(jobs, chosen)))
    return Gain(own[0], compared.baseline, comparison, _differing(jobs, run), table)


def _is_setting_of(run: Run, values: Mapping[str, str]) -> bool:
    return all(
        _value(run, key) == value or (value == UNSET and key not in run.overrides) for key, value in values.items()
    )


def _value(run: Run, key: str) -> str | None:
    """Return what a run has for a key, as text: what its command line says, or else its configuration."""
    if key in run.overrides:
        return run.overrides[key]
    value: Any = run.settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None or isinstance(value, dict) else str(value)


def _differing(jobs: Jobs, run: Run) -> dict[str, tuple[str, str]]:
    """Return what all jobs of a study set to one value and the run has another value for."""
    common = dict(jobs.jobs[0].settings.items())
    for job in jobs.jobs[1:]:
        common = {key: value for key, value in common.items() if job.settings.get(key) == value}
    shaping = {key: value for key, value in common.items() if key not in UNTOLD and key.partition(".")[0] in TOLD}
    told = {key: (value, _value(run, key)) for key, value in shaping.items()}
    return {key: (value, own) for key, (value, own) in told.items() if own is not None and own != value}


def _described(setting: ConfigGroup) -> str:
    return ", ".join(f"{key}={value}" for key, value in setting.values.items())
