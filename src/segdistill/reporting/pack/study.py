"""What a study knows of the gain that a run's setting has over a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from segdistill.reporting.pack.run import SHAPING, Run
from segdistill.reporting.sweep.comparison import PairedComparison, refusal, study
from segdistill.reporting.sweep.findings import sweep_warnings
from segdistill.reporting.sweep.jobs import UNSET, ConfigGroup, Job, Jobs
from segdistill.reporting.sweep.shaping import shapes_weights
from segdistill.reporting.sweep.table import sweep_table
from segdistill.utils.console import as_markdown
from segdistill.utils.errors import UserError


@dataclass(frozen=True)
class Gain:
    """Gain of a run's setting over the baseline of a study, measured in the study's own runs.

    Attributes:
        setting: The run's setting among those of the study.
        baseline: The setting that it is compared with.
        comparison: Paired comparison of the two; None if the run's setting is the baseline itself.
        table: Every setting of the study as a table in Markdown.
    """

    setting: ConfigGroup
    baseline: ConfigGroup
    comparison: PairedComparison | None
    table: str


def measured_gain(jobs: Jobs, run: Run, chosen: Mapping[str, str] | None = None) -> Gain:
    """Find a run's setting in a study, and compare it with the study's baseline.

    Args:
        jobs: Jobs of the study.
        run: Run whose setting is looked for: one with the same value of every key that shapes weights.
        chosen: Swept key -> value of the baseline; None selects the setting without a teacher.

    Raises:
        UserError: If the study compares nothing, or has not exactly one setting that is the run's.
    """
    compared = study(jobs, chosen)
    if compared is None:
        raise UserError(f"--study: {refusal(jobs, chosen) or 'no setting has distill=none; name one by --baseline'}")
    differing = [(setting, list(_differing(setting.jobs[0], run))) for setting in jobs.by_setting()]
    own = [setting for setting, differences in differing if not differences]
    if not own:
        nearest, differences = min(differing, key=lambda pair: len(pair[1]))
        key, theirs, mine = differences[0]
        where = f"in its nearest setting ({_described(nearest)})" if nearest.values else "there"
        raise UserError(f"--study: did not measure {run.folder}: {key} is {theirs} {where}, and {mine} in the run")
    if len(own) > 1:
        several = "; ".join(map(_described, own))
        raise UserError(f"--study: {len(own)} of its settings are that of {run.folder}, must be one: {several}")
    comparison = compared.of(own[0])
    if comparison is None and own[0] != compared.baseline:
        raise UserError(f"--study: {_described(own[0])} shares no seed with {_described(compared.baseline)}")
    table = as_markdown(sweep_table(jobs, compared, sweep_warnings(jobs, chosen)))
    return Gain(own[0], compared.baseline, comparison, table)


def _differing(job: Job, run: Run) -> Iterator[tuple[str, Any, Any]]:
    """Yield key, value in a job and value in the run of everything that shapes weights and is not the same in both.

    Whole configurations are compared where the job's is recorded. Otherwise what either command line sets is: what the
    run sets and the job leaves as it is counts as different, for nothing tells the job's value.
    """
    if job.config:
        theirs, own = (
            dict(_flat({name: config.get(name) for name in SHAPING})) for config in (job.config, run.settings)
        )
    else:
        theirs = {key: _parsed(value) for key, value in job.settings.items()}
        own = {key: _value(run, key) for key in theirs} | {key: _parsed(v) for key, v in run.overrides.items()}
    for key in filter(shapes_weights, dict.fromkeys([*theirs, *own])):
        left, right = (values.get(key, UNSET) for values in (theirs, own))
        if left != right:
            yield key, left, right


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every leaf that is set to anything."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _parsed(text: str) -> Any:
    """Return the value that a command line's text stands for; the text itself if it is no YAML."""
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)
    except Exception:  # the errors of YAML's and OmegaConf's parsers have no common class
        return text
    assert isinstance(parsed, dict)
    return parsed["value"]


def _value(run: Run, key: str) -> Any:
    """Return a run's option of a group, or its value of a key."""
    if key in run.choices:
        return run.choices[key]
    value: Any = run.settings
    for part in key.split("."):
        value = value.get(part, UNSET) if isinstance(value, dict) else UNSET
    return UNSET if isinstance(value, dict) else value


def _described(setting: ConfigGroup) -> str:
    return ", ".join(f"{key}={value}" for key, value in setting.values.items())
