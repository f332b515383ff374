"""A packed folder: everything in it is the run's, the card's own commands run in it, and it is written whole."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.exported import HEIGHT, PALETTE, WIDTH, export_brightest, run_predict, with_metadata
from helpers.result_rows import ROW
from huggingface_hub import ModelCard
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from segdistill.data.labels import LabelSet
from segdistill.inference import Segmenter
from segdistill.inference.metadata import write_preprocessing
from segdistill.reporting.pack import __main__ as command
from segdistill.reporting.panels import prediction_sheet
from segdistill.reporting.results import FailedRow, write_results
from segdistill.reporting.sweep.jobs import Job, Jobs
from segdistill.reporting.sweep.rows import write_rows
from segdistill.utils.io import write_json
from segdistill.utils.preprocessing import Preprocessing

LABELS = LabelSet(("red", "green", "blue"), tuple((r, g, b) for r, g, b in PALETTE))
CONFIG: dict[str, Any] = {
    "stage": "student",
    "seed": 0,
    "cache_dir": "${oc.env:NO_SUCH_VARIABLE}",
    "data": {"root": "/home/somebody/private"},
    "teacher": {
        "network": {"_target_": "segdistill.models.DeepLabV3Plus", "backbone": "resnet18"},
        "fit": {"max_epochs": 36},
        "source": "checkpoint",
        "checkpoint": "/home/somebody/best.ckpt",
    },
    "student": {"network": {"_target_": "my.Net"}, "fit": {"max_epochs": 9}, "init": "auto"},
    "distill": {
        "temperature": 3.5,
        "alpha": 0.5,
        "alpha_schedule": "cosine",
        "losses": {"kl": {"_target_": "segdistill.losses.PixelwiseKL", "temperature": "${distill.temperature}"}},
    },
}
STUDENT = replace(
    ROW,
    engine="onnxruntime-int8",
    overall_acc=0.9,
    mean_acc=0.8,
    freqw_acc=0.7,
    miou=0.45,
    class_iou={"red": 0.6, "green": 0.3, "blue": None},
)
TEACHER = replace(STUDENT, model="teacher", engine="onnxruntime-fp32", miou=0.55)


def noise(seed: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    plain = export_brightest(folder / "plain.onnx")
    return with_metadata(plain, folder / "model.onnx", {"training_data": "My Scenes 0123456789abcdef"})


@pytest.fixture
def run_dir(exported: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "onnx").mkdir(parents=True)
    for name in ("student.onnx", "student.int8.onnx", "teacher.onnx"):
        shutil.copy(exported, folder / "onnx" / name)
    (folder / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(CONFIG), folder / ".hydra" / "config.yaml")
    OmegaConf.save(
        OmegaConf.create(["experiment=mine", "+data.classes={red: 0}"]), folder / ".hydra" / "overrides.yaml"
    )
    failed = [FailedRow("student", "onnxruntime-fp32", "test", "no such operator")]
    write_results(folder / "results.json", [TEACHER, STUDENT], failed)
    write_json(folder / "confusion.json", {"student onnxruntime-int8": [[8, 1, 1], [6, 3, 1], [0, 0, 0]]})
    (folder / "predictions" / "differing").mkdir(parents=True)
    for index in range(5):
        sheet = prediction_sheet(noise(index), np.zeros((HEIGHT, WIDTH), np.uint8), {}, LABELS)
        sheet.save(folder / "predictions" / f"{index:03}.png")
        sheet.save(folder / "predictions" / "differing" / f"0{index}_{index:03}.png")
    return folder


@pytest.fixture
def packed(run_dir: Path, tmp_path: Path) -> Path:
    assert run(run_dir, "-o", tmp_path / "packed") is None
    return tmp_path / "packed"


def run(*arguments: object) -> str | None:
    """The error of the command, if it ends in one."""
    patched = pytest.MonkeyPatch()
    patched.setattr(sys, "argv", ["pack", *map(str, arguments)])
    try:
        command.main()
    except SystemExit as stop:
        return str(stop.code)
    finally:
        patched.undo()
    return None


def blocks(card: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", card.read_text(), re.DOTALL | re.MULTILINE)


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_folder_holds_the_file_labels_samples_with_masks_and_sums_of_all(packed: Path, run_dir: Path) -> None:
    lines = [line.split("  ") for line in (packed / "SHA256SUMS").read_text().splitlines()]
    assert {name: hashlib.sha256((packed / name).read_bytes()).hexdigest() for _, name in lines} == {
        name: digest for digest, name in lines
    }
    there = {path.relative_to(packed).as_posix() for path in packed.rglob("*") if path.is_file()}
    assert there == {
        *(name for _, name in lines),
        "SHA256SUMS",
    }
    assert there >= {"README.md", "labels.json", "student.int8.onnx", "failures/00_000.png", "failures/02_002.png"}
    for index in range(3):
        image = pixels(packed / "samples" / "images" / f"{index:03}.png")
        np.testing.assert_array_equal(image, noise(index))
        np.testing.assert_array_equal(pixels(packed / "samples" / "masks" / f"{index:03}.png"), image.argmax(axis=2))
    labels = json.loads((packed / "labels.json").read_text())
    assert (labels["classes"], labels["palette"], labels["void"]) == (["red", "green", "blue"], PALETTE, 255)
    assert labels["preprocessing"]["resize"] == [HEIGHT, WIDTH]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_verifies_the_folder(packed: Path) -> None:
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=packed, capture_output=True, check=False).returncode == 0


def test_the_metadata_block_is_read_by_the_hubs_library_with_every_score_that_was_counted(packed: Path) -> None:
    card = ModelCard.load(packed / "README.md")
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "unknown",
        "onnx",
        "image-segmentation",
    )
    assert (card.data.datasets, card.data.model_name) == (None, "packed")
    assert {result.metric_name: result.metric_value for result in card.data.eval_results or []} == {
        "mean IoU": 0.45,
        "overall accuracy": 0.9,
        "mean accuracy of the classes": 0.8,
        "IoU weighted by frequency": 0.7,
        "IoU of red": 0.6,
        "IoU of green": 0.3,
    }
    assert {
        (result.dataset_type, result.dataset_name, result.dataset_split) for result in card.data.eval_results or []
    } == {("my-scenes", "My Scenes", "test")}
    block = yaml.safe_load((packed / "README.md").read_text().split("---\n")[1])
    assert block["model-index"][0]["results"][0]["task"]["type"] == "image-segmentation"


def test_the_text_is_the_runs_own(packed: Path) -> None:
    text = " ".join((packed / "README.md").read_text().split())
    assert "`DeepLabV3Plus` on `resnet18`" in text
    assert "temperature 3.5" in text
    assert "a checkpoint, `best.ckpt`" in text
    assert "/home/somebody" not in text
    assert "| green | 30.00 | 30.00 | red (60.00 %) | | red | 60.00 | 80.00 | green (10.00 %) |" in text
    assert "student onnxruntime-fp32 failed: no such operator" in text
    assert "is not known here" in text
    assert "on A processor with a rather long name @ 2.10GHz" in text


@pytest.mark.parametrize("steps", [None, Preprocessing((HEIGHT, WIDTH), cut_bottom=5, gamma=1.5)])
def test_what_the_card_prints_runs_in_the_folder(
    steps: Preprocessing | None, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []
    if steps is not None:
        model = run_dir / "onnx" / "student.int8.onnx"
        with_metadata(model, model, {"preprocessing": write_preprocessing(steps)})
        Image.fromarray(noise(3, 33, 50)).save(tmp_path / "own.png")
        assert "gamma and cut; give sample images with --images" in (run(run_dir, "-o", tmp_path / "packed") or "")
        given = ["--images", tmp_path / "own.png"]
    assert run(run_dir, "-o", tmp_path / "packed", *given) is None
    monkeypatch.chdir(tmp_path / "packed")
    first = sorted(Path("samples/images").iterdir())[0]
    expected = Segmenter("student.int8.onnx")(pixels(first))
    np.testing.assert_array_equal(pixels(Path("samples/masks") / first.name), expected)
    ours, plain = blocks(Path("README.md"), "python")
    told: dict[str, NDArray[np.uint8]] = {}
    exec(ours, told)
    np.testing.assert_array_equal(told["mask"], expected)
    exec(plain, {})
    np.testing.assert_array_equal(pixels(Path("mask.png")), expected)
    (line,) = blocks(Path("README.md"), "bash")
    name, action, *arguments = line.split()
    assert (name, action) == ("segdistill", "predict")
    assert run_predict(monkeypatch, *arguments) == 0
    np.testing.assert_array_equal(pixels(Path("../masks") / first.name), expected)


def card_of(run_dir: Path, out: Path, *arguments: object, **changes: Any) -> str:
    """The card's text in one line, of a run whose configuration is changed first."""
    config = OmegaConf.load(run_dir / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.merge(config, changes), run_dir / ".hydra" / "config.yaml")
    assert run(run_dir, "-o", out, *arguments) is None
    return " ".join((out / "README.md").read_text().split())


BEGAN = "It began with everything of its teacher that fits"


def test_a_student_that_began_as_its_teacher_says_so_although_nothing_was_distilled(
    run_dir: Path, tmp_path: Path
) -> None:
    config = OmegaConf.load(run_dir / ".hydra" / "config.yaml")
    config.distill.losses = {}
    OmegaConf.save(config, run_dir / ".hydra" / "config.yaml")
    write_results(run_dir / "results.json", [STUDENT])
    text = card_of(run_dir, tmp_path / "inherited", student={"init": "teacher"})
    assert f"{BEGAN} (`student.init=teacher`)" in text
    assert "nothing was distilled" in text
    assert "The teacher is `DeepLabV3Plus` on `resnet18`; its weights are those of a checkpoint" in text
    text = card_of(run_dir, tmp_path / "alone", student={"init": "auto"})
    assert "It began" not in text
    assert "The teacher is" not in text


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", "`student.init=auto`: it began with everything of its teacher that fits, or with its own weights"),
        ("- student: 288 of 310 tensors copied from the teacher, 18 adapted\n", f"{BEGAN} (`student.init=auto`)"),
        ("- student: begins from its own weights; student.init: A and B share no part\n", ""),
    ],
)
def test_a_student_is_said_to_begin_as_its_teacher_where_the_log_tells_that_it_did(
    log: str, told: str, run_dir: Path, tmp_path: Path
) -> None:
    (run_dir / "train.log").write_text(log)
    text = card_of(run_dir, tmp_path / "packed")
    assert told in text
    assert told or ("began with" not in text)


def test_a_teachers_card_claims_nothing_that_the_student_gained(run_dir: Path, tmp_path: Path) -> None:
    text = card_of(run_dir, tmp_path / "packed", "--files", "teacher.fp32")
    assert "gained" not in text
    assert "knowledge-distillation" not in text
    assert "knowledge-distillation" in card_of(run_dir, tmp_path / "student")
    override(run_dir, *MINE)
    study = ["--study", write_study(tmp_path / "rows.csv"), "--baseline", "experiment=baseline"]
    error = run(run_dir, "-o", tmp_path / "refused", "--files", "teacher.fp32", *study) or ""
    assert error == "error: --study: tells what a student gained, and the folder stands for teacher.fp32; leave it out"
    assert not (tmp_path / "refused").exists()


def test_own_images_keep_those_of_the_data_set_out(run_dir: Path, tmp_path: Path) -> None:
    Image.fromarray(noise(9)).save(tmp_path / "my [own](image) <b>.png")
    text = card_of(run_dir, tmp_path / "packed", "--images", tmp_path / "my [own](image) <b>.png")
    packed = {path.relative_to(tmp_path / "packed").as_posix() for path in (tmp_path / "packed").rglob("*.png")}
    assert packed == {"samples/images/my_own_image_b_.png", "samples/masks/my_own_image_b_.png"}
    assert "![my_own_image_b_](samples/images/my_own_image_b_.png)" in text
    assert "teacher and student differ" not in text


def test_images_whose_plain_names_are_the_same_are_refused(run_dir: Path, tmp_path: Path) -> None:
    for name in ("a b.png", "a(b.png"):
        Image.fromarray(noise(9)).save(tmp_path / name)
    images = ["--images", tmp_path / "a b.png", tmp_path / "a(b.png"]
    assert "another image is packed as a_b, too" in (run(run_dir, "-o", tmp_path / "packed", *images) or "")


@pytest.mark.parametrize("place", ["predictions/000.png", "predictions/differing/00_000.png", "onnx/student.int8.onnx"])
@pytest.mark.parametrize("folder", [False, True])
def test_what_a_run_links_to_is_not_published(place: str, folder: bool, run_dir: Path, tmp_path: Path) -> None:
    linked = (run_dir / place).parent if folder else run_dir / place
    linked.rename(tmp_path / "private")
    linked.symlink_to(tmp_path / "private")
    error = run(run_dir, "-o", tmp_path / "packed", "--files", "student.int8", "teacher.fp32") or ""
    assert "is a link or lies behind one; only files of the run itself are packed" in error
    assert not (tmp_path / "packed").exists()


def test_nothing_but_pixels_of_a_drawing_is_published(run_dir: Path, tmp_path: Path) -> None:
    notes = PngInfo()
    notes.add_text("owner", "somebody")
    with Image.open(run_dir / "predictions" / "differing" / "00_000.png") as sheet:
        sheet.save(run_dir / "predictions" / "differing" / "00_a [b].png", pnginfo=notes)
    (run_dir / "predictions" / "differing" / "00_000.png").unlink()
    text = card_of(run_dir, tmp_path / "packed")
    assert "](failures/00_a_b_.png)" in text
    with Image.open(tmp_path / "packed" / "failures" / "00_a_b_.png") as sheet:
        assert "owner" not in sheet.info
    (run_dir / "predictions" / "differing" / "00_a [b].png").write_text("a key")
    assert "cannot be read as an image" in (run(run_dir, "-o", tmp_path / "other") or "")


def test_every_file_has_to_be_an_exported_network(run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "onnx" / "teacher.onnx").write_text("a key")
    files = ["--files", "student.int8", "teacher.fp32"]
    assert "teacher.onnx: cannot be loaded as an ONNX file" in (run(run_dir, "-o", tmp_path / "packed", *files) or "")


@pytest.mark.parametrize("out", [".", "..", "link"])
def test_the_current_folder_and_those_that_hold_it_are_refused(
    out: str, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "current" / "inner").mkdir(parents=True)
    (tmp_path / "current" / "inner" / "link").symlink_to(tmp_path / "current")
    monkeypatch.chdir(tmp_path / "current" / "inner")
    assert "is the current folder or holds it" in (run(run_dir, "-o", out, "--overwrite") or "")


def test_a_folder_behind_a_link_is_packed_under_its_own_name(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "my-model")
    assert run(run_dir, "-o", tmp_path / "link") is None
    assert (tmp_path / "link").is_symlink()
    assert ModelCard.load(tmp_path / "my-model" / "README.md").data.model_name == "my-model"


def test_names_of_classes_mean_nothing_to_markdown(run_dir: Path, tmp_path: Path) -> None:
    classes = ["a|b", "![x](http://y)", "<script>"]
    model = run_dir / "onnx" / "student.int8.onnx"
    with_metadata(model, model, {"classes": json.dumps(classes)})
    row = replace(STUDENT, class_iou=dict(zip(classes, (0.6, 0.3, 0.2), strict=True)), never_predicted=["<script>"])
    write_results(run_dir / "results.json", [row])
    assert run(run_dir, "-o", tmp_path / "packed") is None
    card = ModelCard.load(tmp_path / "packed" / "README.md").text
    assert "<script>" not in card
    assert "![x]" not in card
    assert "| 0 | a&#124;b | `#0a141e` | 60.00 |" in card


def test_scores_of_tiles_are_told_as_such(run_dir: Path, tmp_path: Path) -> None:
    text = card_of(run_dir, tmp_path / "packed", data={"eval_tile": [64, 96], "eval_overlap": 16})
    assert "> **Mind:** scores and times are of tiles of 64 x 96 that share 16 pixels (data.eval_tile)" in text


@pytest.mark.parametrize(
    ("name", "datasets"),
    [("owner/scenes", ["owner/scenes"]), ("/home/somebody/scenes", None), ("data/my/scenes", None)],
)
def test_only_an_id_of_the_hub_is_told_as_one(
    name: str, datasets: list[str] | None, run_dir: Path, tmp_path: Path
) -> None:
    card_of(run_dir, tmp_path / "packed", data={"name": name, "image_column": "image"})
    assert ModelCard.load(tmp_path / "packed" / "README.md").data.datasets == datasets


@pytest.mark.parametrize(("checkpoint", "wanted"), [(None, "apache-2.0"), ("/home/somebody/best.ckpt", "unknown")])
def test_a_licence_is_stated_where_all_weights_are_the_projects_own(
    checkpoint: str | None, wanted: str, run_dir: Path, tmp_path: Path
) -> None:
    model, own = run_dir / "onnx" / "student.int8.onnx", {"network": {"backbone": "efficientnet_lite0"}}
    with_metadata(model, model, {"training_data": "RoadScenes 0123456789abcdef"})
    card_of(run_dir, tmp_path / "packed", student=own, teacher={**own, "checkpoint": checkpoint, "source": "train"})
    assert ModelCard.load(tmp_path / "packed" / "README.md").data.license == wanted


def test_a_network_that_was_trained_on_labels_alone_says_so_and_what_to_mind(run_dir: Path, tmp_path: Path) -> None:
    config = OmegaConf.load(run_dir / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.merge(config, {"stage": "teacher"}), run_dir / ".hydra" / "config.yaml")
    write_results(run_dir / "results.json", [replace(TEACHER, split="val", selected_on=True, never_predicted=["blue"])])
    assert run(run_dir, "-o", tmp_path / "packed", "--files", "teacher.fp32") is None
    text = " ".join((tmp_path / "packed" / "README.md").read_text().split())
    assert "The network is `DeepLabV3Plus` on `resnet18`, trained on the labels for 36 epochs." in text
    assert "> **Mind:** teacher never predicts: blue." in text
    assert "> **Mind:** the scores are optimistic" in text
    assert "gained" not in text
    assert "student" not in text.partition("## Use")[2].partition("## How to run it")[0]


def write_study(path: Path, **settings: str) -> Path:
    jobs = [
        Job(
            f"{name}{seed}",
            {"experiment": name, "seed": str(seed), "data.classes": "{red:  0}", **settings},
            {"test/miou": score + seed * score / 20},
            None,
        )
        for name, score in (("mine", 0.5), ("baseline", 0.4), ("none", 0.3))
        for seed in range(2)
    ]
    write_rows(Jobs([replace(job, settings=job.settings | method(job)) for job in jobs]), path)
    return path


def method(job: Job) -> dict[str, str]:
    return {"distill": "none"} if job.settings["experiment"] == "none" else {}


def override(run_dir: Path, *overrides: str, **choices: str) -> None:
    OmegaConf.save(OmegaConf.create(list(overrides)), run_dir / ".hydra" / "overrides.yaml")
    OmegaConf.save({"hydra": {"runtime": {"choices": choices}}}, run_dir / ".hydra" / "hydra.yaml")


def test_a_study_tells_the_gain_that_it_measured_with_the_runs_own_settings(run_dir: Path, tmp_path: Path) -> None:
    override(run_dir, "experiment=mine", "data.classes={red: 0}", "+student.fit.crop=[8,16]", "logger=csv", "seed=7")
    same = {"student.fit.max_epochs": "9", "student.fit.crop": "[8, 16]", "callbacks": "none", "data.num_workers": "1"}
    study = write_study(tmp_path / "rows.csv", **same)
    chosen = ["--study", study, "--baseline", "experiment=baseline"]
    assert run(run_dir, "-o", tmp_path / "packed", *chosen) is None
    text = " ".join((tmp_path / "packed" / "README.md").read_text().split())
    assert "+10.25 points of mean IoU against `experiment=baseline`" in text
    assert "paired over 2 seeds" in text
    assert "is not known here" not in text


MINE = ["experiment=mine", "data.classes={red: 0}"]


@pytest.mark.parametrize(
    ("overrides", "settings", "wanted"),
    [
        (["experiment=other", *MINE[1:]], {}, ": experiment is mine in its nearest setting (experiment=mine, "),
        ([*MINE, "student=deeplabv3_tiny"], {}, ": student is (default) in its nearest setting"),
        ([*MINE, "loss=focal"], {"loss": "ohem"}, "and focal in the run"),
        (MINE, {"loss": "ohem"}, ": loss is ohem in its nearest setting"),
        (MINE, {"loss": "ohem"}, "and balanced in the run"),
        (MINE, {"student.fit.max_epochs": "5"}, "and 9 in the run"),
        ([*MINE, "debug=fast"], {}, "and fast in the run"),
        ([*MINE, "trainer.max_steps=3"], {}, "and 3 in the run"),
    ],
)
def test_a_study_that_did_not_measure_the_runs_settings_is_refused(
    overrides: list[str], settings: dict[str, str], wanted: str, run_dir: Path, tmp_path: Path
) -> None:
    override(run_dir, *overrides, loss="balanced")
    study = ["--study", write_study(tmp_path / "rows.csv", **settings), "--baseline", "experiment=baseline"]
    error = run(run_dir, "-o", tmp_path / "packed", *study) or ""
    assert error.startswith("error: --study: did not measure")
    assert wanted in error
    assert "\n" not in error
    assert not (tmp_path / "packed").exists()


def test_a_swept_method_is_not_taken_for_the_one_that_the_runs_experiment_chose(run_dir: Path, tmp_path: Path) -> None:
    override(run_dir, "experiment=inherited", distill="none")
    jobs = [
        Job(f"{settings}", {"seed": "0", **settings}, {"test/miou": 0.5}, None)
        for settings in ({}, {"distill": "none"})
    ]
    write_rows(Jobs(jobs), tmp_path / "rows.csv")
    error = run(run_dir, "-o", tmp_path / "packed", "--study", tmp_path / "rows.csv") or ""
    assert "experiment is (default) in its nearest setting (distill=none), and inherited in the run" in error


@pytest.mark.parametrize(
    ("temperature", "wanted"),
    [(3.5, None), (2.0, "distill.temperature is 2.0 in its nearest setting (distill=kl), and 3.5 in the run")],
)
def test_a_sweeps_directory_is_compared_by_whole_configurations(
    temperature: float, wanted: str | None, run_dir: Path, tmp_path: Path
) -> None:
    for method, losses in (("kl", CONFIG["distill"]["losses"]), ("none", {})):
        merged = OmegaConf.merge(CONFIG, {"cache_dir": "elsewhere", "distill": {"temperature": temperature}})
        merged.distill.losses = losses
        record = {
            "status": "finished",
            "tested": {"test/miou": 0.5},
            "overrides": {"experiment": "study", "seed": "0", "distill": method},
            "config": OmegaConf.to_container(merged, resolve=True),
        }
        (tmp_path / "sweep" / method).mkdir(parents=True)
        write_json(tmp_path / "sweep" / method / "job.json", record)
    error = run(run_dir, "-o", tmp_path / "packed", "--study", tmp_path / "sweep")
    assert (error is None) if wanted is None else (wanted in (error or ""))


def test_a_baseline_that_the_study_lacks_is_refused(run_dir: Path, tmp_path: Path) -> None:
    study = ["--study", write_study(tmp_path / "rows.csv"), "--baseline", "experiment=absent"]
    assert "0 settings have experiment=absent" in (run(run_dir, "-o", tmp_path / "packed", *study) or "")


def remove(*names: str) -> Callable[[Path], None]:
    def change(run_dir: Path) -> None:
        for name in names:
            shutil.rmtree(run_dir / name) if (run_dir / name).is_dir() else (run_dir / name).unlink()

    return change


def replace_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(run_dir: Path) -> None:
        text = (run_dir / name).read_text()
        assert old in text
        (run_dir / name).write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "arguments", "wanted"),
    [
        (remove("results.json"), [], "has no results.json (callbacks.latency writes it at the end); it has .hydra"),
        (remove(".hydra"), [], "has no .hydra/config.yaml (give the directory of one run); it has"),
        (remove("onnx"), [], "holds no exported file; callbacks.onnx_export writes them"),
        (remove("predictions"), [], "has no predictions/*.png"),
        (replace_text("results.json", "[", "{"), [], "results.json: cannot be read as results"),
        (replace_text(".hydra/config.yaml", "distill:", "distil:"), [], "has no distill; a run of this version has"),
        (replace_text(".hydra/config.yaml", "my.Net", "${oc.env:HOME}"), [], "reads ${oc.env:HOME}, which"),
        (replace_text(".hydra/config.yaml", "my.Net", "${ oc.env:HOME}"), [], "reads ${ oc.env:HOME}, which"),
        (replace_text(".hydra/config.yaml", "my.Net", "'${oc.env :HOME}'"), [], "reads ${oc.env :HOME}, which"),
        (replace_text(".hydra/config.yaml", "my.Net", "${oc.${stage}:HOME}"), [], "reads ${oc.${stage}, which"),
        (replace_text(".hydra/config.yaml", "my.Net", "${${stage}:HOME}"), [], "reads ${${stage}, which"),
        (
            None,
            ["--files", "student.fp16"],
            "has no student.fp16; choose with --files among student.fp32, student.int8",
        ),
        (None, ["--files", "student.fp32"], "student onnxruntime-fp32 was not measured: no such operator"),
        (None, ["--images", "absent.png"], "absent.png: cannot be read as an image"),
        (None, ["--study", "absent.csv"], "absent.csv: holds no rows of a sweep"),
    ],
)
def test_what_a_run_lacks_is_named_in_one_line_and_nothing_is_written(
    change: Callable[[Path], None] | None, arguments: list[str], wanted: str, run_dir: Path, tmp_path: Path
) -> None:
    if change is not None:
        change(run_dir)
    error = run(run_dir, "-o", tmp_path / "out" / "packed", *arguments) or ""
    assert error.startswith("error: ")
    assert wanted in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_packed_folder_is_replaced_only_where_that_is_asked_for_and_nothing_else_is(
    packed: Path, run_dir: Path
) -> None:
    assert "was packed before; --overwrite replaces it" in (run(run_dir, "-o", packed) or "")
    assert run(run_dir, "-o", packed, "--files", "teacher.fp32", "--overwrite", "--license", "mit") is None
    assert [path.name for path in packed.glob("*.onnx")] == ["teacher.onnx"]
    assert ModelCard.load(packed / "README.md").data.license == "mit"
    (packed / "notes.txt").write_text("mine")
    assert "holds notes.txt, which `segdistill pack` did not write" in (run(run_dir, "-o", packed, "--overwrite") or "")
    assert (packed / "notes.txt").read_text() == "mine"
    assert "is a file" in (run(run_dir, "-o", packed / "notes.txt") or "")


def test_a_file_that_was_changed_by_hand_is_not_replaced(packed: Path, run_dir: Path) -> None:
    (packed / "README.md").write_text((packed / "README.md").read_text() + "My own remark.\n")
    assert f"{packed / 'README.md'}: was changed since it was packed" in (
        run(run_dir, "-o", packed, "--overwrite") or ""
    )
    assert "My own remark." in (packed / "README.md").read_text()


def test_the_folder_stands_for_the_int8_student_among_several_files(run_dir: Path, tmp_path: Path) -> None:
    assert run(run_dir, "-o", tmp_path / "packed", "--files", "teacher.fp32", "student.int8") is None
    assert Segmenter(tmp_path / "packed").path.name == "student.int8.onnx"
    assert json.loads((tmp_path / "packed" / "labels.json").read_text())["file"] == "student.int8.onnx"
    card = ModelCard.load(tmp_path / "packed" / "README.md")
    assert (card.data.eval_results or [])[0].metric_value == 0.45
    assert "| `teacher.onnx` | onnxruntime-fp32 | 55.00 |" in card.text


def test_the_cards_command_runs_among_several_files_without_the_int8_student(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(run_dir / "results.json", [replace(STUDENT, engine="onnxruntime-fp32"), TEACHER])
    files = ["--files", "student.fp32", "teacher.fp32"]
    assert run(run_dir, "-o", tmp_path / "packed", *files) is None
    assert json.loads((tmp_path / "packed" / "labels.json").read_text())["file"] == "student.onnx"
    monkeypatch.chdir(tmp_path / "packed")
    (line,) = blocks(Path("README.md"), "bash")
    assert run_predict(monkeypatch, *line.split()[2:]) == 0
    assert Path("../masks/000.png").is_file()


def test_packing_imports_no_torch() -> None:
    code = "import segdistill.reporting.pack.__main__, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
