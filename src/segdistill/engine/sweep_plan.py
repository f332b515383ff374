"""Plan of a multirun: its jobs, the names of their folders, and whether a folder may hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from segdistill.reporting.sweep.jobs import STATUS, read_jobs
from segdistill.reporting.sweep.shaping import differing_keys
from segdistill.utils.errors import UserError
from segdistill.utils.io import read_object

MAX_NAME = 120  # characters of a folder's name; file systems allow 255 bytes
Choices = dict[str, list[str]]


def swept_choices(config: DictConfig) -> Choices:
    """Return every override of a multirun with its values, in the order of Hydra's own sweeper.

    Ranges that another sweeper samples from have no values yet, and are left out.
    """
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*params, *config.hydra.overrides.task])
    return {
        override.get_key_element(): list(override.sweep_string_iterator())
        if override.is_sweep_override()
        else [override.get_value_element_as_str()]
        for override in overrides
        if not override.is_delete() and (not override.is_sweep_override() or override.is_discrete_sweep())
    }


def sample_jobs(config: DictConfig) -> Iterator[list[str]]:
    """Yield the overrides of jobs in which every swept value occurs once, not in every combination."""
    choices, deleted = swept_choices(config), _deletions(config)
    first = {key: values[0] for key, values in choices.items()}
    yield [*(f"{key}={value}" for key, value in first.items()), *deleted]
    for key, values in choices.items():
        for value in values[1:]:
            yield [*(f"{k}={v}" for k, v in (first | {key: value}).items()), *deleted]


def planned_jobs(config: DictConfig) -> list[dict[str, str]] | None:
    """Return the settings of every job of Hydra's own sweeper; None for others, whose jobs are not known yet."""
    if not str(config.hydra.sweeper._target_).endswith(".BasicSweeper"):
        return None
    choices, deleted = swept_choices(config), settings_of(_deletions(config))
    keys = [key.lstrip("+") for key in choices]
    return [dict(zip(keys, values, strict=True)) | deleted for values in product(*choices.values())]


def _deletions(config: DictConfig) -> list[str]:
    return [text for text in config.hydra.overrides.task if text.startswith("~")]


def settings_of(overrides: Sequence[str]) -> dict[str, str]:
    """Return overrides as key -> value, both as text; a deleted key has an empty value."""
    pairs = [override.lstrip("+").partition("=") for override in overrides]
    return {key: value for key, _, value in pairs}


def name_by_swept_keys(config: DictConfig) -> None:
    """Make Hydra name each job after only those keys that differ between jobs."""
    choices = swept_choices(config)
    swept = {_group(key) for key, values in choices.items() if len(values) > 1}
    constant = {_group(key) for key in [*choices, *settings_of(_deletions(config))]} - swept
    if swept and constant:
        listed = ",".join(f"'{key}'" for key in sorted(constant))
        with open_dict(config.hydra.overrides):
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{listed}]")


def _group(key: str) -> str:
    """Return the key as Hydra compares it: without its prefix and without the package of a group."""
    return key.lstrip("+~").partition("@")[0]


def folder_name(overrides: str) -> str:
    """Return a file name for a job's overrides; if characters had to be replaced or cut, it ends with a digest."""
    name = "".join(c if c.isalnum() or c in "=,.-+_" else "_" for c in overrides)[:MAX_NAME] or "job"
    if name == overrides:
        return name
    return f"{name}-{hashlib.sha256(overrides.encode()).hexdigest()[:8]}"


def job_folder(overrides: str, sweep_dir: str, task: Sequence[str]) -> str:
    """Return the name of a job's folder: the one that holds it already, whatever its name, or a new one.

    Args:
        overrides: Swept overrides of the job, after which a new folder is named.
        sweep_dir: Folder of the sweep, which need not exist.
        task: All overrides of the job.
    """
    settings = settings_of(task)
    records = {path.parent.name: read_object(path) for path in Path(sweep_dir).glob(f"*/{STATUS}")}
    held = [
        (noted.get("status") == "failed", name) for name, noted in records.items() if noted.get("overrides") == settings
    ]
    return min(held)[1] if held else folder_name(overrides)


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)  # at import: Ray workers compose, too


def require_own_folder(
    sweep_dir: Path, planned: Sequence[dict[str, str]], compose: Callable[[list[str]], dict[str, Any]]
) -> None:
    """Reject a folder that holds jobs of another sweep; jobs of this one are accepted, finished or not.

    Args:
        sweep_dir: Folder of the sweep, which need not exist.
        planned: Settings of every job of the sweep.
        compose: Function that returns the identity of a job's configuration for its recorded overrides.

    Raises:
        UserError: If a job is not part of the sweep, has other settings, or is there twice; names the job.
    """
    for record in sorted(sweep_dir.glob(f"*/{STATUS}")):
        noted = read_object(record)
        if not noted or noted.get("status") == "failed":
            continue
        cure = "give another hydra.sweep.dir"
        settings = noted.get("overrides")
        if settings is None:
            raise UserError(f"{record.parent}: was written by an older version of segdistill; {cure}")
        if settings not in planned:
            listed = ", ".join(f"{key}={value}" for key, value in settings.items())
            raise UserError(
                f"{record.parent}: holds a job that this sweep has not ({listed}); {cure}, or sweep it, too"
            )
        now, then = compose(noted["task"]), noted["config"]
        if now != then:
            raise UserError(f"{record.parent}: holds a job with another {next(differing_keys(then, now), '?')}; {cure}")
    if sweep_dir.is_dir():
        read_jobs(sweep_dir)
