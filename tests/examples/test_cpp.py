"""examples/cpp segments as `Segmenter` does, pixel by pixel."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.examples import halves, masks, require_ten_equal_masks, write_folders
from helpers.runs import ROOT
from PIL import Image

EXAMPLE = ROOT / "examples" / "cpp"
HEADERS = "#include <cstdio>\n#include <jpeglib.h>\n#include <png.h>\n"


def missing() -> str | None:
    """What the example needs and this machine lacks."""
    for tool in ("cmake", "g++"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    spec = find_spec("openvino")
    if spec is None or not (Path(str(spec.origin)).parent / "cmake").is_dir():
        return "openvino with its CMake files is not installed"
    check = ["g++", "-fsyntax-only", "-x", "c++", "-"]
    found = subprocess.run(check, input=HEADERS, text=True, capture_output=True, check=False).returncode == 0
    return None if found else "the headers of libjpeg or libpng are not installed"


pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cpp")
    write_folders(folder)
    openvino = Path(str(getattr(find_spec("openvino"), "origin", ""))).parent
    for step in (
        ["cmake", "-S", str(EXAMPLE), "-B", str(folder / "build"), f"-DOpenVINO_DIR={openvino / 'cmake'}"],
        ["cmake", "--build", str(folder / "build")],
    ):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def command(folder: Path, model: Path) -> list[str]:
    return [str(folder / "build" / "segment"), str(model / "student.int8.onnx")]


def test_ten_images_have_the_masks_of_segmenter(folder: Path) -> None:
    require_ten_equal_masks(folder, partial(command, folder))


def test_a_jpeg_is_segmented_too(folder: Path) -> None:
    Image.fromarray(halves()).save(folder / "image.jpg", quality=95)
    own, expected = masks(command(folder, folder / "plain"), folder / "image.jpg", folder / "plain")
    assert own.shape == expected.shape == (40, 64)
    assert (own == expected).mean() > 0.97  # decoders may differ at the border of the colours


def test_an_image_that_is_none_is_named(folder: Path) -> None:
    arguments = [*command(folder, folder / "plain"), str(folder / "absent.png"), str(folder / "mask.png")]
    failed = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr == f"error: {folder / 'absent.png'}: cannot be opened\n"
