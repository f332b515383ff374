"""A finished run, as far as a packed folder tells of it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from segdistill.inference.exported import PRECISIONS
from segdistill.reporting.compared_runs import group_choices
from segdistill.reporting.results import FailedRow, Row, read_failures, read_results
from segdistill.utils.errors import UserError, first_line

ROLES = ("student", "teacher")
TOLD = ("stage", "seed", "data", "teacher", "student", "distill")
"""Sections of the configuration that the card tells of."""
SHAPING = (*TOLD, "loss", "optimizer", "schedule", "augment", "trainer")
"""Sections of the configuration on which the weights may depend."""
NO_REFERENCE = re.compile(r"\$\{(?!\w+(?:\.\w+)*\})[^}]*\}?")
"""Any interpolation but `${a.b.c}`, such as `${oc.env:HOME}`: a card must not publish what a call returns."""
INHERITED = re.compile(r"student: (?:(\d+ of \d+ tensors copied from the teacher)|begins from its own weights)")


@dataclass(frozen=True)
class Run:
    """Contents of a run directory.

    Attributes:
        folder: The run directory.
        settings: Sections `SHAPING` of the configuration that it ran with, as plain values.
        overrides: Key -> value of the command line, as text.
        choices: Group -> option that the run has of it, such as "student" -> "lraspp".
        inherited: Whether its student began with tensors of the teacher; None if the log does not tell.
        rows: Measured rows of results.json.
        failed: Failed rows of results.json.
        files: Exported files by name: "student.int8", "teacher.fp32".
    """

    folder: Path
    settings: dict[str, Any]
    overrides: dict[str, str]
    choices: dict[str, Any]
    inherited: bool | None
    rows: list[Row]
    failed: list[FailedRow]
    files: dict[str, Path]

    def row(self, name: str) -> Row | None:
        """Return the results of an exported file in ONNX Runtime; None if it has none."""
        role, _, precision = name.partition(".")
        wanted = (role, f"onnxruntime-{precision}")
        return next((row for row in self.rows if (row.model, row.engine) == wanted), None)

    def own_file(self, path: Path) -> Path:
        """Return a path within the run directory, which may come from somebody else and link to any file.

        Raises:
            UserError: If it is a link, or lies in a folder that is one.
        """
        if path.resolve() != self.folder.resolve() / path.relative_to(self.folder):
            raise UserError(f"{path}: is a link or lies behind one; only files of the run itself are packed")
        return path

    def chosen(self, names: Sequence[str]) -> dict[str, Path]:
        """Return the files of these names.

        Raises:
            UserError: If the run lacks one; tells which ones it has.
        """
        absent = [name for name in names if name not in self.files]
        if absent:
            there = ", ".join(self.files)
            raise UserError(f"{self.folder}: has no {absent[0]}; choose with --files among {there}")
        return {name: self.own_file(self.files[name]) for name in dict.fromkeys(names)}


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
    overrides, choices = _overrides(folder / ".hydra" / "overrides.yaml"), group_choices(folder)
    return Run(folder, _settings(config), overrides, choices, _inherited(folder / "train.log"), rows, failed, files)


def _settings(path: Path) -> dict[str, Any]:
    try:
        told = OmegaConf.masked_copy(OmegaConf.load(path), list(SHAPING))  # type: ignore[arg-type] # a list raises, too
        call = NO_REFERENCE.search(json.dumps(OmegaConf.to_container(told, resolve=False), ensure_ascii=False))
        settings = None if call else OmegaConf.to_container(told, resolve=True)
    except Exception as error:  # not YAML, or YAML that OmegaConf rejects
        raise UserError(f"{path}: cannot be read as a configuration ({first_line(error)})") from error
    if call:
        raise UserError(f"{path}: reads {call[0]}, which a published card must not tell; write its value instead")
    assert isinstance(settings, dict)
    if missing := [name for name in TOLD if name not in settings]:
        raise UserError(f"{path}: has no {missing[0]}; a run of this version has {', '.join(TOLD)}")
    return {str(name): value for name, value in settings.items()}


def _inherited(log: Path) -> bool | None:
    """Return whether the student began with tensors of the teacher, as the last training in a log tells."""
    told = INHERITED.findall(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else []
    return bool(told[-1]) if told else None


def _overrides(path: Path) -> dict[str, str]:
    """Return what the command line set; Hydra records it as a list of KEY=VALUE."""
    try:
        listed = OmegaConf.to_container(OmegaConf.load(path), resolve=False) if path.is_file() else []
    except Exception as error:
        raise UserError(f"{path}: cannot be read as a list of overrides ({first_line(error)})") from error
    pairs = [str(text).lstrip("+").partition("=") for text in (listed or [])]
    return {key: value for key, _, value in pairs}
