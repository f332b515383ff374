"""The exported files of a folder: how they are named, and which of them is meant. Needs nothing but Python."""

from __future__ import annotations

from pathlib import Path

from segdistill.utils.errors import UserError

PRECISIONS = {"fp32": ".onnx", "fp16": ".fp16.onnx", "int8": ".int8.onnx"}
"""Suffix of the files of each precision, after the role of the network: `student.int8.onnx`."""

PREFERRED = f"student{PRECISIONS['int8']}"
"""File that is meant where a folder holds several: small, fast, and scored in every run."""


def onnx_files(folder: Path) -> list[Path]:
    """Return the ONNX files of a folder by name, without one that is still being written."""
    return sorted(file for file in folder.glob("*.onnx") if not file.name.startswith("."))


def exported_file(path: Path) -> Path:
    """Return the exported file that a path means: itself, or for a folder its only ONNX file, or `PREFERRED`.

    Raises:
        UserError: If there is no such path, or if the folder holds no ONNX file or several others.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such file")
    files = onnx_files(path)
    if not files:
        raise UserError(f"{path}: holds no .onnx file; give a file, or a folder that `segdistill pack` wrote")
    preferred = path / PREFERRED
    if preferred not in files and len(files) > 1:
        raise UserError(f"{path}: holds {', '.join(file.name for file in files)}; give one of them")
    return preferred if preferred in files else files[0]
