"""A run directory holds one run: who may begin in it, who may go on, and that only one process does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from segdistill.reporting.sweep.shaping import INCIDENTAL, differing_keys
from segdistill.utils.errors import ConfigError, UserError

FREE = ("hydra", *INCIDENTAL, "trusted_packages", "logger")
"""Rooms of the configuration that a resumed run need not have as it had them."""

PATIENCE_S = 15.0
"""How long the loader processes of a killed run are waited for, which inherited its lock and end within seconds."""


class RunDirInUseError(UserError):
    """Another process runs in the directory."""


@contextmanager
def owned(run_dir: Path) -> Iterator[None]:
    """Let no other process run in a directory.

    Raises:
        RunDirInUseError: If another one does.
    """
    lock = FileLock(run_dir / ".lock")
    try:
        lock.acquire(timeout=PATIENCE_S)
    except Timeout:
        raise RunDirInUseError(f"{run_dir}: another process runs in it; wait for it, or give another folder") from None
    try:
        yield
    finally:
        lock.release()


def require_own_run(config: DictConfig) -> None:
    """Reject a new run in the directory of another, and one that goes on with settings that changed unasked.

    Args:
        config: Composed configuration, with Hydra's own.

    Raises:
        UserError: If the directory holds a run that is not resumed, or was composed otherwise; names the keys.
    """
    run_dir, resumed = Path(config.hydra.run.dir).resolve(), config.get("resume")
    if not (run_dir / "checkpoints").is_dir():
        return
    if resumed is None or run_dir not in (Path(resumed).resolve(), *Path(resumed).resolve().parents):
        raise ConfigError("hydra.run.dir", run_dir, f"holds a run; resume={run_dir} goes on, or give another folder")
    saved = run_dir / ".hydra"
    if not (saved / "config.yaml").is_file():
        return
    then, now = _settings(OmegaConf.load(saved / "config.yaml")), _settings(config)
    noted = [str(text) for text in OmegaConf.load(saved / "overrides.yaml")]
    places = [_place(text) for text in config.hydra.overrides.task if text not in noted]
    if any(place.partition(".")[0] not in {*now, *FREE} for place in places):
        return  # an experiment, for example, may change every key
    changed = [key for key in differing_keys(then, now) if not any(_holds(place, key) for place in places)]
    if changed:
        key = changed[0]
        values = " instead of ".join(str(OmegaConf.select(OmegaConf.create(each), key)) for each in (now, then))
        others = f", and changes {', '.join(changed[1:])}" if changed[1:] else ""
        raise UserError(f"{run_dir}: conf/ now gives {key}={values}{others}; give what the run shall go on with")


def _settings(config: Any) -> dict[str, Any]:
    settings = OmegaConf.to_container(config, resolve=False)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items() if key not in FREE}


def _place(override: str) -> str:
    """Return the key, or the package of the group, that an override sets."""
    group, _, package = override.lstrip("+~").partition("=")[0].partition("@")
    return package or group.replace("/", ".")


def _holds(place: str, key: str) -> bool:
    return key == place or key.startswith(f"{place}.") or place.startswith(f"{key}.")
