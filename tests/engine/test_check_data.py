"""`segdistill check-data`: everything that is wrong with a dataset, on the terminal and on one page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.pages import Tags
from helpers.runs import ROOT
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from segdistill.config.data import FolderConfig
from segdistill.data.labels import label_set
from segdistill.engine import check_data as command
from segdistill.reporting.data_page import CASES_SHOWN, overlay

Checked = Callable[..., tuple[int, str, str]]
"""Runs the command with arguments; returns exit code, what it printed, and the page."""

SOURCE = """
from pathlib import Path
from segdistill.data.sources.base import Sample, Source

class Town(Source):
    def __init__(self, root):
        self.root = Path(root)

    def samples(self, cache_dir):
        return {split: [Sample(path, path.parents[1] / "masks" / path.name)
                        for path in sorted((self.root / split / "images").glob("*.png"))]
                for split in ("train", "val")}
"""


@pytest.fixture
def overrides(folder_config: FolderConfig, cache_dir: Path) -> list[str]:
    classes = ", ".join(f"{name}: {values}" for name, values in folder_config.classes.items())
    return [
        "data=folder",
        f"data.root={folder_config.root}",
        f"data.input_size={folder_config.input_size}",
        f"+data.classes={{{classes}}}",
        "+data.splits={test: {images: test/images, masks: test/masks}}",
        f"cache_dir={cache_dir}",
    ]


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Checked:
    def check(*arguments: str) -> tuple[int, str, str]:
        GlobalHydra.instance().clear()
        page = tmp_path / "page.html"
        page.unlink(missing_ok=True)
        monkeypatch.setattr(sys, "argv", ["check-data", *arguments, "--out", str(page)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        code = ended.value.code
        printed = capsys.readouterr().out
        return (int(code), printed, page.read_text()) if isinstance(code, int) else (1, str(code), "")

    return check


def mask_files(config: FolderConfig, split: str) -> list[Path]:
    return sorted((Path(config.root) / split / "masks").iterdir())


def test_a_clean_set_ends_with_zero_and_a_page_that_needs_nothing_else(checked: Checked, overrides: list[str]) -> None:
    code, printed, page = checked(*overrides)
    assert code == 0, printed
    assert re.match(r"train: 5 images of 36 x 24; car \d\d\.\d%, ", printed)
    assert "nothing was found that is worth a look" in printed
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert all(address.startswith(("data:image/", "#")) for address in tags.addresses)
    assert "<script" not in page
    assert page.count("<img") == 5 + 3 + 2 + 3  # every image, and one for each class
    assert "Nothing: every file can be used" in page


def test_every_faulty_file_is_listed_with_the_total(
    checked: Checked, overrides: list[str], folder_config: FolderConfig
) -> None:
    folder = Path(folder_config.root) / "train"
    for index in range(CASES_SHOWN + 7):
        shutil.copy(folder / "images/000.png", folder / f"images/more{index:02}.png")
        (folder / f"masks/more{index:02}.png").write_text("<no mask>")
    code, printed, page = checked(*overrides)
    assert code == 1
    assert f"stops a training: files that cannot be used ({CASES_SHOWN + 7})" in printed
    assert "  and 52 more\n" in printed
    assert len(re.findall(r"<li>.*masks/more\d\d\.png: cannot be read", page)) == CASES_SHOWN
    assert "<li>and 7 more</li>" in page
    assert f"{CASES_SHOWN + 7} more cannot be used" in page


def test_what_on_bad_skip_leaves_out_is_worth_a_look(
    checked: Checked, overrides: list[str], folder_config: FolderConfig
) -> None:
    mask_files(folder_config, "train")[0].write_text("no mask")
    assert checked(*overrides)[0] == 1
    code, printed, _ = checked(*overrides, "data.on_bad=skip")
    assert code == 0
    assert "worth a look: files that cannot be used (1)" in printed
    for path in mask_files(folder_config, "val"):
        path.write_text("no mask")
    code, printed, _ = checked(*overrides, "data.on_bad=skip")
    assert code == 1
    assert "stops a training: files that cannot be used (4)" in printed


def test_files_without_a_partner_do_not_hide_the_others(
    checked: Checked, overrides: list[str], folder_config: FolderConfig
) -> None:
    mask_files(folder_config, "train")[0].unlink()
    mask_files(folder_config, "val")[1].write_text("no mask")
    code, printed, page = checked(*overrides)
    assert code == 1
    assert "files that cannot be used (2)" in printed
    assert "train/images/000.png has no mask in" in page
    assert "val/masks/001.png: cannot be read" in page


def test_images_of_two_splits_are_shown_side_by_side(
    checked: Checked, overrides: list[str], folder_config: FolderConfig
) -> None:
    root = Path(folder_config.root)
    shutil.copy(root / "train/images/003.png", root / "val/images/001.png")
    code, printed, page = checked(*overrides)
    assert code == 1
    assert "stops a training: images that occur in two splits (1); take it out of one" in printed
    assert "Images of two splits that look the same" in page
    code, printed, _ = checked(*overrides, "data.allow_duplicates=true")
    assert code == 0
    assert "worth a look: images that occur in two splits (1)" in printed


def test_what_spoils_a_training_ends_with_one(
    checked: Checked, overrides: list[str], folder_config: FolderConfig
) -> None:
    path = mask_files(folder_config, "train")[2]
    Image.fromarray(np.full((24, 36), 1, np.uint8)).save(path, "JPEG")
    code, printed, _ = checked(*overrides)
    assert code == 1
    assert f"spoils a training: masks that are JPEG files (1); make them anew as PNG\n  {path}" in printed


def test_all_of_the_data_is_looked_at_whatever_part_a_training_takes(checked: Checked, overrides: list[str]) -> None:
    _, printed, _ = checked(*overrides, "data.limit=1", "data.overfit=true", "data.unlabelled=3")
    assert re.findall(r"^(\w+): (\d) images", printed, re.MULTILINE) == [("train", "5"), ("val", "3"), ("test", "2")]


def test_images_without_labels_are_counted_and_shown_alone(
    checked: Checked, overrides: list[str], folder_config: FolderConfig
) -> None:
    more = Path(folder_config.root) / "more"
    more.mkdir()
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (31, 17, 3), np.uint8)).save(more / "a.png")
    code, printed, page = checked(*overrides, "data.unlabelled=more")
    assert code == 0
    assert "train: 6 images of 36 x 24, 17 x 31; " in printed
    assert "6</b>images, 1 without a mask" in page
    assert "a.png, without a mask" in page


def test_a_source_in_code_is_looked_at(
    checked: Checked, overrides: list[str], folder_config: FolderConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "towns.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    found = [
        "data=schema_source",
        f"+data.source={{_target_: towns.Town, root: {folder_config.root}}}",
        "data.void=[255]",
    ]
    kept = [each for each in overrides if each.startswith(("data.input", "+data.classes", "cache_dir"))]
    code, _, page = checked(*found, *kept, "trusted_packages=[towns]")
    assert code == 0
    assert "<h1>Town</h1>" in page
    for path in mask_files(folder_config, "train"):
        path.unlink()
    code, printed, _ = checked(*found, *kept, "trusted_packages=[towns]")
    assert code == 1
    assert "files that cannot be used (5)" in printed
    assert "may not be called" in checked(*found, *kept)[1]


@pytest.mark.slow
def test_road_scenes_are_looked_at(checked: Checked, cache_dir: Path) -> None:
    small = ["data=roadscenes", "data.input_size=[40,65]", "data.train=3", "data.val=2", "data.test=1"]
    code, printed, page = checked(*small, f"cache_dir={cache_dir}")
    assert code == 0
    assert "train: 3 images of 65 x 40; background" in printed
    assert "<h1>RoadScenes</h1>" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=folder"], "error: data.input_size=???: needs a value"),
        (["data.colour=red"], "error: data.colour: no such key"),
        (["+data.colour=red"], "error: data.colour=red: no such key"),
        (["data=camvid", "data.root=/no/such"], "error: /no/such/train: no such folder"),
        (["--conf", "/no/such"], "error: /no/such/config.yaml: no such file"),
    ],
)
def test_bad_input_ends_in_one_line(checked: Checked, arguments: list[str], message: str) -> None:
    code, printed, page = checked(*arguments)
    assert (code, page) == (1, "")
    assert printed.startswith(message)
    assert "\n" not in printed


def test_settings_of_a_training_are_not_looked_at(checked: Checked, overrides: list[str]) -> None:
    assert checked(*overrides, "student.fit.crop=[4000,4000]")[0] == 0


def test_help_tells_the_exit_codes_and_imports_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['segdistill', 'check-data', '--help']\n"
        "from segdistill.inference.commands import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout.endswith("False\n")
    for line in ("usage: segdistill check-data", "0  a training can start", "1  something would stop or spoil it"):
        assert line in ended.stdout


def test_a_mask_is_blended_over_its_image_and_void_is_dark() -> None:
    image = np.full((1, 3, 3), 100, np.uint8)
    shown = overlay(
        image, np.array([[0, 1, 255]], np.uint8), label_set(["a", "b"], {"a": [200, 0, 0], "b": [0, 50, 0]})
    )
    assert shown.tolist() == [[[160, 40, 40], [40, 70, 40], [40, 40, 40]]]


def test_a_number_of_images_other_than_the_published_one_is_worth_a_look(
    checked: Checked, overrides: list[str]
) -> None:
    code, printed, _ = checked(*overrides, "+data.expected={train: 9, val: 3}")
    assert code == 0
    assert "worth a look: data.expected.train: 9 images are published, 5 are there" in printed
    assert "data.expected.val" not in printed
