"""The notebooks run, and their two forms say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jupytext
import pytest
from helpers.runs import CROPS, ROOT, TINY
from helpers.sweep_jobs import job
from nbclient import NotebookClient

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def executed(path: Path, **parameters: Any) -> tuple[str, int]:
    """Runs a notebook with other values in its cell of parameters; returns what it wrote, and how many images."""
    notebook = jupytext.read(path)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    metadata = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(notebook, timeout=400, kernel_name="python3", resources=metadata).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return json.dumps(outputs), sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_match_their_scripts_and_hold_no_output(source: Path) -> None:
    notebook = jupytext.read(source.with_suffix(".ipynb"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in jupytext.read(source).cells
    ]
    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.slow
def test_quickstart_runs(tmp_path: Path) -> None:
    overrides = [*TINY, *CROPS, f"cache_dir={tmp_path}", "distill=none"]  # without a teacher: half the time
    shown, images = executed(NOTEBOOKS[0], OVERRIDES=overrides)
    assert "onnxruntime-int8" in shown
    assert images == 3
    assert "background" in shown


@pytest.mark.slow
def test_sweep_analysis_runs(tmp_path: Path) -> None:
    for index, (method, seed, score) in enumerate(
        [("none", 0, 0.3), ("kl", 0, 0.4), ("none", 1, 0.32), ("kl", 1, 0.41)]
    ):
        job(tmp_path, str(index), [f"distill={method}", f"seed={seed}"], tested={"test/miou": score})
    shown, images = executed(NOTEBOOKS[1], SWEEP_DIR=str(tmp_path))
    assert "+9.50 points" in shown
    assert images == 1
    assert (tmp_path / "summary.html").is_file()
