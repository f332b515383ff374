"""Write a packed folder, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segdistill.inference import Segmenter
from segdistill.inference.exported import PREFERRED
from segdistill.inference.metadata import write_preprocessing
from segdistill.inference.predict import predict
from segdistill.reporting.pack.card import Contents, model_card
from segdistill.reporting.pack.run import Run
from segdistill.reporting.pack.study import Gain
from segdistill.utils.drawing import first_panel
from segdistill.utils.errors import UserError
from segdistill.utils.image import read_rgb
from segdistill.utils.io import atomic_write, write_json
from segdistill.utils.preprocessing import IGNORE_INDEX, Preprocessing

CARD, LABELS, SUMS = "README.md", "labels.json", "SHA256SUMS"
IMAGES, MASKS, FAILURES = "samples/images", "samples/masks", "failures"
SAMPLES = 3
MAX_FAILURES = 3


def pack(
    run: Run,
    out: Path,
    names: Sequence[str],
    *,
    images: Sequence[Path] = (),
    gain: Gain | None = None,
    license_id: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write a folder with exported files, model card, labels, sample images with their masks, and checksums.

    Args:
        run: The run.
        out: The folder.
        names: Exported files to pack: "student.int8", "teacher.fp32".
        images: Sample images, beside which no image of the run's data is packed; empty takes some of its evaluation
            split from its drawings.
        gain: Gain of the run's setting in a study, for the card.
        license_id: Identifier of the licence on the Hugging Face hub; None states what is known.
        overwrite: Whether to replace a folder that was packed before.

    Returns:
        The files, relative to the folder.

    Raises:
        UserError: If the run lacks what is to be packed, the folder holds something else, or a gain is given although
            the folder stands for a teacher.
    """
    files, out = run.chosen(names), out.resolve()
    _require_free(out, overwrite=overwrite)
    main = next((name for name, path in files.items() if path.name == PREFERRED), next(iter(files)))
    if gain is not None and not main.startswith("student"):
        raise UserError(f"--study: tells what a student gained, and the folder stands for {main}; leave it out")
    segmenter = {name: Segmenter(path) for name, path in files.items()}[main]  # each must be an exported network
    samples = _given(images) if images else _drawn(run, segmenter)
    with atomic_write(out) as temporary:
        temporary.mkdir()
        for path in files.values():
            shutil.copyfile(path, temporary / path.name)
        write_json(temporary / LABELS, file_labels(segmenter))
        (temporary / IMAGES).mkdir(parents=True)
        for name, pixels in samples.items():
            Image.fromarray(pixels).save(temporary / IMAGES / f"{name}.png")
        predict(segmenter, str(temporary / IMAGES), temporary / MASKS)
        failures = [] if images else _failures(run, temporary)
        contents = Contents(out.name, files, main, segmenter, list(samples), failures, not images)
        model_card(run, contents, gain, license_id).save(temporary / CARD)
        packed = sorted(path.relative_to(temporary) for path in temporary.rglob("*") if path.is_file())
        lines = [f"{_sha256(temporary / path)}  {path.as_posix()}\n" for path in packed]
        (temporary / SUMS).write_text("".join(lines), encoding="utf-8")
    return [*packed, Path(SUMS)]


def _require_free(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder with anything that `pack` did not write, and one that it wrote unless `overwrite` is set."""
    if out.is_file():
        raise UserError(f"{out}: is a file; give a folder with -o")
    if Path.cwd().is_relative_to(out):
        raise UserError(f"{out}: is the current folder or holds it; give a folder of its own with -o")
    if not out.is_dir() or not any(out.iterdir()):
        return
    sums = out / SUMS
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines() if sums.is_file() else []
    packed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    held = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_symlink() or not path.is_dir()}
    foreign = next((name for name in held if name not in packed and name != SUMS), None)
    if foreign is not None:
        raise UserError(f"{out}: holds {foreign}, which `segdistill pack` did not write; give another folder with -o")
    if not overwrite:
        raise UserError(f"{out}: was packed before; --overwrite replaces it")
    changed = next((name for name, path in held.items() if name != SUMS and _sha256(path) != packed[name]), None)
    if changed is not None:
        raise UserError(
            f"{out / changed}: was changed since it was packed; move it away, or give another folder with -o"
        )


def file_labels(segmenter: Segmenter) -> dict[str, object]:
    """Return the file's name and what its own metadata tell, for languages whose ONNX Runtime does not read them.

    Raises:
        UserError: If they do not tell all of it.
    """
    steps, named = segmenter.preprocessing, len(segmenter.classes)
    if steps is None or not named or len(segmenter.palette) != named or "training_data" not in segmenter.metadata:
        wanted = "classes, a palette of as many colours, preprocessing and training_data"
        raise UserError(f"{segmenter.path}: its metadata must tell {wanted}; export the network again")
    told = json.loads(write_preprocessing(steps))
    return {
        "file": segmenter.path.name,
        "classes": segmenter.classes,
        "palette": segmenter.palette,
        "void": IGNORE_INDEX,
        "preprocessing": told,
    }


def _given(paths: Sequence[Path]) -> dict[str, NDArray[np.uint8]]:
    """Read images; they are packed upright and without the notes that a camera leaves in a file."""
    return {name: read_rgb(path) for name, path in _named(paths).items()}


def _named(paths: Iterable[Path]) -> dict[str, Path]:
    """Return image files by the names under which they are packed: plain ones, which mean nothing to Markdown."""
    named: dict[str, Path] = {}
    for path in paths:
        name = re.sub(r"[^\w.-]+", "_", path.stem).lstrip(".") or "_"
        if name in named:
            raise UserError(f"{path}: another image is packed as {name}, too; choose images with --images")
        named[name] = path
    return named


def _drawn(run: Run, segmenter: Segmenter) -> dict[str, NDArray[np.uint8]]:
    """Take images of the evaluation split from the run's drawings, which show them as its networks see them."""
    steps, cure = segmenter.preprocessing, "give sample images with --images"
    if steps is not None and steps != Preprocessing(steps.resize):
        raise UserError(f"{run.folder}: its drawings show images after gamma and cut; {cure}")
    sheets = sorted((run.folder / "predictions").glob("*.png"))
    if not sheets or steps is None:
        raise UserError(f"{run.folder}: has no predictions/*.png (callbacks.predictions draws them); {cure}")
    spaced = sheets[:: max(1, len(sheets) // SAMPLES)][:SAMPLES]
    return {name: first_panel(run.own_file(sheet), steps.size) for name, sheet in _named(spaced).items()}


def _failures(run: Run, folder: Path) -> list[str]:
    """Pack drawings of the images on which teacher and student differ most; return their paths in the folder.

    They are decoded and written anew, so that nothing but pixels is published.
    """
    sheets = _named(sorted((run.folder / "predictions" / "differing").glob("*.png"))[:MAX_FAILURES])
    for name, sheet in sheets.items():
        (folder / FAILURES).mkdir(exist_ok=True)
        Image.fromarray(read_rgb(run.own_file(sheet))).save(folder / FAILURES / f"{name}.png")
    return [f"{FAILURES}/{name}.png" for name in sheets]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
