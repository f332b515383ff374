"""Every command that README and docs print is one that composes and passes the check before a run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
from helpers.composed import parsed
from helpers.runs import ROOT

from segdistill.utils.errors import UserError

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LEFT_OUT = ("--help", "-sc", "--cfg", "--info", "data=mine")
"""Flags of Hydra's, and a configuration that the reader writes."""
ANSWERED_BEFORE = ("hydra", "resume", "experiment=study")
"""What Hydra or the command line answers before the configuration is read."""


def commands(text: str) -> list[list[str]]:
    """The arguments of each `python train.py` in fenced blocks, tables and running text."""
    joined = text.replace("\\\n", " ")
    blocks = re.findall(r"^```bash\n(.*?)^```", joined, re.DOTALL | re.MULTILINE)
    lines = [line.partition("  #")[0] for block in blocks for line in block.splitlines()]
    found = [match[1] for line in lines if (match := re.search(r"python train\.py(.*)", line))]
    prose = re.sub(r"^```.*?^```", "", joined, flags=re.DOTALL | re.MULTILINE)
    found += re.findall(r"`python\s+train\.py([^`]*)`", prose)
    return [shlex.split(" ".join(command.split())) for command in found]


def jobs(arguments: list[str], tmp_path: Path) -> list[list[str]]:
    """The overrides of each job of a command, with a directory where it says PATH."""
    overrides = [argument for argument in arguments if argument != "-m" and not argument.startswith(ANSWERED_BEFORE)]
    placed = [
        re.sub(r"^(data\.root=|\S+=)(PATH\S*|sets/\S+|DIR|FOLDER)$", rf"\1{tmp_path}", each) for each in overrides
    ]
    for override in placed:
        if override.endswith(".ckpt"):
            Path(override.partition("=")[2]).touch()
    if "-m" not in arguments:
        return [placed]
    choices = [
        [f"{key}={value}" for value in values.split(",")] for key, _, values in (p.partition("=") for p in placed)
    ]
    return [list(job) for job in product(*choices)]


@contextmanager
def suppress_missing_packages() -> Iterator[None]:
    """The answer to an optional package that is not installed here is an answer, too."""
    try:
        yield
    except UserError as error:
        if "pip install" not in str(error):
            raise


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documented_commands_are_accepted(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in commands(document.read_text(encoding="utf-8")):
        if any(argument in LEFT_OUT or "<" in argument for argument in arguments):
            continue
        for job in jobs(arguments, tmp_path):
            with suppress_missing_packages():
                parsed(*job)
