"""The console command: each of its names leads to a module that answers, also where only inference is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.exported import export_brightest, sample_image
from PIL import Image

from segdistill.inference.commands import COMMANDS

TRAINING = (
    "torch",
    "pytorch_lightning",
    "hydra",
    "omegaconf",
    "onnx",
    "rich",
    "scipy",
    "matplotlib",
    "jinja2",
    "timm",
    "gradio",
)
"""What `pip install segdistill` alone does not bring."""
LEAN = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TRAINING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from segdistill.inference.commands import main
main()
"""


def ran(*arguments: str, lean: bool = False) -> subprocess.CompletedProcess[str]:
    start = ["-c", LEAN] if lean else ["-m", "segdistill.inference.commands"]
    return subprocess.run([sys.executable, *start, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_what_it_takes(command: str) -> None:
    process = ran(command, "--help")
    assert process.returncode == 0
    assert process.stdout.startswith("usage: ")


def test_help_lists_the_commands_and_an_unknown_one_is_one_line() -> None:
    assert all(f"  {command}" in ran("--help").stdout for command in COMMANDS)
    process = ran("predictt")
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == f"error: predictt: no such command; there are {', '.join(COMMANDS)}\n"


def test_a_page_needs_what_its_own_extra_brings(tmp_path: Path) -> None:
    process = ran("demo", str(tmp_path), lean=True)
    assert process.returncode == 1
    assert process.stderr == "error: demo needs the package gradio: pip install 'segdistill[demo]'\n"


def test_predict_needs_no_package_of_the_training(tmp_path: Path) -> None:
    model = export_brightest(tmp_path / "model.onnx")
    Image.fromarray(sample_image()).save(tmp_path / "image.png")
    process = ran("predict", str(model), str(tmp_path / "image.png"), "-o", str(tmp_path / "masks"), lean=True)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "masks" / "image.png").is_file()


def test_a_command_that_needs_more_says_what_to_install() -> None:
    process = ran("benchmark", "--help", lean=True)
    assert process.returncode == 1
    assert process.stderr.endswith("pip install 'segdistill[train]'\n")
    assert "Traceback" not in process.stderr
