"""Overrides that a run directory brings along: settings, but no control over Hydra and no trust.

The directory may come from somebody else. What only the user of this command line may decide is left out or rejected.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from segdistill.utils.errors import UserError

DECIDED_HERE = re.compile(r"[+~]*(trusted_packages\b|logger\.\w+\.upload\b)")
VALUES = ("stage", "seed", "resume", "cache_dir")
"""Top-level keys that are values; every other one selects a file of conf/."""
OPTION = re.compile(r"[\w-]+")


def saved_overrides(path: Path, given: Collection[str]) -> list[str]:
    """Return the overrides that a run was started with, except those given again on this command line.

    Only this command line decides what is trusted and whether to upload: saved overrides of these are left out.

    Args:
        path: File `.hydra/overrides.yaml` of the run.
        given: Keys that this command line sets.

    Raises:
        UserError: If the file cannot be read, or an override would do more than set a value or select a file of conf/.
    """
    try:
        saved = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:  # not YAML, or YAML that OmegaConf rejects
        raise UserError(f"{path}: cannot be read as a list of overrides") from error
    if not isinstance(saved, list) or not all(isinstance(text, str) for text in saved):
        raise UserError(f"{path}: is no list of overrides")
    kept = [text for text in map(str, saved) if _key(text) not in given and not DECIDED_HERE.match(text)]
    for text in kept:
        reason = _objection(text)
        if reason is not None:
            line = " ".join(text.split())
            raise UserError(f"{path}: {line}: {reason}; if you trust it, give it again on this command line")
    return kept


def require_current(run_dir: Path) -> None:
    """Reject the run directory of a version whose settings had other names.

    Raises:
        UserError: If it is one; names the directory.
    """
    saved = run_dir / ".hydra" / "config.yaml"
    if saved.is_file() and re.search(r"^train: ", saved.read_text(encoding="utf-8"), re.MULTILINE):
        raise UserError(f"{run_dir}: was written by segdistill 0.1.0, whose settings had other names; start a new run")


def _key(text: str) -> str:
    return text.lstrip("+~").partition("=")[0]


def _objection(text: str) -> str | None:
    key = _key(text)
    if "hydra" in re.split(r"\W+", key):
        return "a run directory may not give orders to Hydra"
    if re.search(r"\$\{.*:", text, re.DOTALL):
        return "a run directory may not read the environment"
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        return "is no override"
    if ".." in key or not _chooses_from_conf(override):
        return "a run directory may choose files of conf/ alone"
    composed = isinstance(override.value(), dict | list) or "${" in text
    if key.startswith("logger.") and (key.endswith("._target_") or composed):
        return "a run directory may not start another logger"
    return None


def _chooses_from_conf(override: Override) -> bool:
    """Return whether an override selects no other files than those that come with the project."""
    if "." in override.key_or_group or override.key_or_group in VALUES or override.value() is None:
        return True
    value = override.value()
    if isinstance(value, dict):  # values of a group's keys
        return override.key_or_group != "logger"
    return all(OPTION.fullmatch(str(option)) for option in (value if isinstance(value, list) else [value]))
