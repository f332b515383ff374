"""A finished run, as far as a packed folder tells of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from segdistill.inference.exported import PRECISIONS
from segdistill.reporting.results import FailedRow, Row, read_failures, read_results
from segdistill.utils.errors import UserError, first_line

ROLES = ("student", "teacher")
TOLD = ("stage", "seed", "data", "teacher", "student", "distill")
"""Sections of the configuration that the card tells of."""
RESOLVER = re.compile(r"\$\{[\w.]+:[^}]*\}")
"""An interpolation that calls something, such as `${oc.env:HOME}`: a card must not publish what it returns."""


@dataclass(frozen=True)
class Run:
    """Contents of a run directory.

    Attributes:
        folder: The run directory.
        settings: Sections `TOLD` of the configuration that it ran with, as plain values.
        overrides: Key -> value of the command line, as text.
        rows: Measured rows of results.json.
        failed: Failed rows of results.json.
        files: Exported files by name: "student.int8", "teacher.fp32".
    """

    folder: Path
    settings: dict[str, Any]
    overrides: dict[str, str]
    rows: list[Row]
    failed: list[FailedRow]
    files: dict[str, Path]

    def row(self, name: str) -> Row | None:
        """Return the results of an exported file in ONNX Runtime; None if it has none."""
        role, _, precision = name.partition(".")
        wanted = (role, f"onnxruntime-{precision}")
        return next((row for row in self.rows if (row.model, row.engine) == wanted), None)

    def chosen(self, names: Sequence[str]) -> dict[str, Path]:
        """Return the files of these names.

        Raises:
            UserError: If the run lacks one; tells which ones it has.
        """
        absent = [name for name in names if name not in self.files]
        if absent:
            there = ", ".join(self.files)
            raise UserError(f"{self.folder}: has no {absent[0]}; choose with --files among {there}")
        return {name: self.files[name] for name in dict.fromkeys(names)}


def read_run(folder: Path) -> Run:
    """Read a run directory.

    Raises:
        UserError: If it is none, or lacks what only a finished run with exported and measured files has.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    results, config = folder / "results.json", folder / ".hydra" / "config.yaml"
    for path, cure in ((config, "give the directory of one run"), (results, "callbacks.latency writes it at the end")):
        if not path.is_file():
            there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
            raise UserError(f"{folder}: has no {path.relative_to(folder)} ({cure}); it has {there}")
    try:
        rows, failed = read_results(results), read_failures(results)
    except (ValueError, TypeError) as error:
        raise UserError(f"{results}: cannot be read as results ({first_line(error)})") from error
    files = {
        f"{role}.{precision}": folder / "onnx" / f"{role}{suffix}"
        for role in ROLES
        for precision, suffix in PRECISIONS.items()
        if (folder / "onnx" / f"{role}{suffix}").is_file()
    }
    if not files:
        raise UserError(f"{folder / 'onnx'}: holds no exported file; callbacks.onnx_export writes them")
    overrides = folder / ".hydra" / "overrides.yaml"
    return Run(folder, _settings(config), _overrides(overrides), rows, failed, files)


def _settings(path: Path) -> dict[str, Any]:
    try:
        told = OmegaConf.masked_copy(OmegaConf.load(path), list(TOLD))  # type: ignore[arg-type] # a list raises, too
        call = RESOLVER.search(OmegaConf.to_yaml(told))
        settings = None if call else OmegaConf.to_container(told, resolve=True)
    except Exception as error:  # not YAML, or YAML that OmegaConf rejects
        raise UserError(f"{path}: cannot be read as a configuration ({first_line(error)})") from error
    if call:
        raise UserError(f"{path}: reads {call[0]}, which a published card must not tell; write its value instead")
    assert isinstance(settings, dict)
    if missing := [name for name in TOLD if name not in settings]:
        raise UserError(f"{path}: has no {missing[0]}; a run of this version has {', '.join(TOLD)}")
    return {str(name): value for name, value in settings.items()}


def _overrides(path: Path) -> dict[str, str]:
    """Return what the command line set; Hydra records it as a list of KEY=VALUE."""
    try:
        listed = OmegaConf.to_container(OmegaConf.load(path), resolve=False) if path.is_file() else []
    except Exception as error:
        raise UserError(f"{path}: cannot be read as a list of overrides ({first_line(error)})") from error
    pairs = [str(text).lstrip("+").partition("=") for text in (listed or [])]
    return {key: value for key, _, value in pairs}
