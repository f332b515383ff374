"""README.md of a packed folder: a model card in Hugging Face's format, of a run's own results alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # in its __init__, not its __all__
from jinja2 import Environment, PackageLoader, StrictUndefined

from segdistill.inference import Segmenter
from segdistill.reporting.findings import count_of, run_warnings, split_label
from segdistill.reporting.pack.run import Run
from segdistill.reporting.pack.study import Gain
from segdistill.reporting.results import Row
from segdistill.reporting.table import results_table
from segdistill.utils.console import as_markdown
from segdistill.utils.errors import UserError
from segdistill.utils.io import read_object

TASK = "image-segmentation"
ACCURACIES = {
    "miou": ("mean_iou", "mean IoU"),
    "overall_acc": ("accuracy", "overall accuracy"),
    "mean_acc": ("mean_accuracy", "mean accuracy of the classes"),
    "freqw_acc": ("frequency_weighted_iou", "IoU weighted by frequency"),
}
"""Field of a row -> identifier and name of its metric on the hub."""
UNKNOWN = "unknown"
"""Identifier of a licence that nobody has stated."""
OWN_DATA, OWN_BACKBONE, OWN_LICENSE = "RoadScenes", "efficientnet_lite0", "apache-2.0"
"""Data that this project renders, and the backbone whose weights it brings, with their licence."""
MAX_WEAK = 10
MARKUP = re.compile(r"[&<>\"'`|*\[\]\\]")
"""Characters by which a name could become a link, an image, HTML or the border of a table cell."""


@dataclass(frozen=True)
class Contents:
    """Contents of a packed folder, apart from its card.

    Attributes:
        name: Name of the model.
        files: Packed files by name: "student.int8" -> path; the model index tells of `main`.
        main: Name of the file that the folder stands for.
        segmenter: That file, loaded.
        samples: Names of the sample images.
        failures: Paths, within the folder, of drawings of images on which teacher and student differ most.
        own_images: Whether the samples are of the run's evaluation split.
    """

    name: str
    files: Mapping[str, Path]
    main: str
    segmenter: Segmenter
    samples: Sequence[str]
    failures: Sequence[str]
    own_images: bool


@dataclass(frozen=True)
class WeakClass:
    """A class and what is taken for it; shares are fractions of 1.

    Attributes:
        name: Name of the class.
        iou: Its IoU.
        found: Share of its true pixels that are found; None if it does not occur.
        taken_for: The other class that most of its true pixels are taken for; None if all are found.
        missed: Share of its true pixels that are.
    """

    name: str
    iou: float
    found: float | None
    taken_for: str | None
    missed: float


def model_card(run: Run, contents: Contents, gain: Gain | None = None, license_id: str | None = None) -> ModelCard:
    """Write the card, and read it back as the hub does.

    Args:
        run: The run.
        contents: Everything else in the folder.
        gain: Gain of the run's setting in a study.
        license_id: Identifier of the licence on the hub; None states what is known of the project's own data and
            weights, and is `unknown` for others.

    Raises:
        UserError: If results.json lacks the main file's row, or the metadata do not survive being read back.
    """
    row = run.row(contents.main)
    if row is None:
        failed = [each.error for each in run.failed if f"{each.model} {each.engine}" == _engine(contents.main)]
        reason = f": {failed[0]}" if failed else ""
        raise UserError(f"{run.folder / 'results.json'}: {_engine(contents.main)} was not measured{reason}")
    metadata = contents.segmenter.metadata
    dataset, fingerprint = metadata["training_data"].rsplit(" ", 1)
    hub_id, distilled = _hub_id(run), row.model == "student" and _distilled(run)
    data = ModelCardData(
        license=license_id or _license(run, dataset),
        library_name="onnx",
        pipeline_tag=TASK,
        datasets=None if hub_id is None else [hub_id],
        tags=["onnx", "onnxruntime", "semantic-segmentation", *(["knowledge-distillation"] if distilled else [])],
        metrics=["mean_iou", "accuracy"],
        model_name=contents.name,
        eval_results=_eval_results(row, hub_id or _slug(dataset), dataset, fingerprint),
    )
    loader = PackageLoader("segdistill.reporting")
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["plain"] = _plain
    text = environment.get_template("card.md.j2").render(
        metadata=data.to_yaml(),
        contents=contents,
        row=row,
        file=contents.files[contents.main].name,
        warnings=[*run_warnings([row]), *_tiled(run)],
        classes=_classes(contents.segmenter, row),
        scored=count_of(row.classes_scored, len(row.class_iou)),
        dataset=dataset,
        on=split_label(row.split, row.selected_on, "images"),
        teacher=next((each for each in run.rows if each.model == "teacher"), None),
        settings=run.settings,
        distilled=distilled,
        begun=_begun(run),
        steps=contents.segmenter.preprocessing,
        quantization=json.loads(metadata["quantization"]) if "quantization" in metadata else None,
        weak=_weak_classes(run, row),
        table=as_markdown(results_table(run.rows, run.failed)),
        rows={name: run.row(name) for name in contents.files},
        gain=gain,
        own_license=license_id is None and data.license == OWN_LICENSE,
    )
    card = ModelCard(text)
    if card.data.to_yaml() != data.to_yaml():
        raise UserError(f"{contents.name}: the metadata of its card are read back as others")
    return card


def _engine(name: str) -> str:
    role, _, precision = name.partition(".")
    return f"{role} onnxruntime-{precision}"


def _distilled(run: Run) -> bool:
    return run.settings["stage"] == "student" and bool(run.settings["distill"]["losses"])


def _begun(run: Run) -> bool | None:
    """Return whether the student began with the teacher's weights; None if nothing tells."""
    init = run.settings["student"]["init"]
    if init == "auto" and _distilled(run):
        return run.inherited
    return bool(init == "teacher")


def _tiled(run: Run) -> list[str]:
    """Return the warning for scores and times of images that were taken in tiles."""
    data = run.settings["data"]
    if data.get("eval_tile") is None:
        return []
    height, width = data["eval_tile"]
    shared = f"{height} x {width} that share {data['eval_overlap']} pixels (data.eval_tile)"
    return [f"scores and times are of tiles of {shared}; the masks and programs below take an image as a whole"]


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", " ".join(text.split()))


def _hub_id(run: Run) -> str | None:
    """Return the data set's id on the hub; None if it has none."""
    name = run.settings["data"].get("name")
    if "image_column" not in run.settings["data"] or Path(name).exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return str(name)


def _slug(dataset: str) -> str:
    """Return a data set's name in the form of an id on the hub."""
    return re.sub(r"[^a-z0-9._-]+", "-", dataset.lower()).strip("-._") or UNKNOWN


def _license(run: Run, dataset: str) -> str:
    backbones = {run.settings[role]["network"].get("backbone") for role in ("teacher", "student")}
    foreign = run.settings["teacher"]["checkpoint"] is not None  # trained by somebody, on some data
    return OWN_LICENSE if dataset == OWN_DATA and backbones == {OWN_BACKBONE} and not foreign else UNKNOWN


def _eval_results(row: Row, identifier: str, dataset: str, fingerprint: str) -> list[EvalResult]:
    """Return the four accuracies and the IoU of every class that was scored, as fractions of 1."""
    measured = [(kind, name, getattr(row, field)) for field, (kind, name) in ACCURACIES.items()]
    measured += [("iou", f"IoU of {name}", value) for name, value in row.class_iou.items()]
    return [
        EvalResult(
            task_type=TASK,
            task_name="Semantic segmentation",
            dataset_type=identifier,
            dataset_name=dataset,
            dataset_split=row.split,
            dataset_args={"fingerprint": fingerprint},
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 6),
        )
        for kind, name, value in measured
        if value is not None
    ]


def _classes(segmenter: Segmenter, row: Row) -> list[tuple[str, str, float | None]]:
    """Return name, colour as #rrggbb, and IoU of every class by its id."""
    colours = ["#" + bytes(colour).hex() for colour in segmenter.palette]
    return [(name, colour, row.class_iou.get(name)) for name, colour in zip(segmenter.classes, colours, strict=True)]


def _weak_classes(run: Run, row: Row) -> list[WeakClass]:
    """Return the classes with the lowest IoU, lowest first."""
    matrix = read_object(run.folder / "confusion.json").get(f"{row.model} {row.engine}")
    names = list(row.class_iou)
    counts = np.zeros((len(names), len(names))) if matrix is None else np.array(matrix, float)
    scored = sorted((iou, index) for index, iou in enumerate(row.class_iou.values()) if iou is not None)
    return [_weak_class(names, index, iou, counts[index]) for iou, index in scored[:MAX_WEAK]]


def _weak_class(names: Sequence[str], index: int, iou: float, predicted: Any) -> WeakClass:
    total, others = predicted.sum(), np.delete(predicted, index)
    if not total:
        return WeakClass(names[index], iou, None, None, 0.0)
    most = int(others.argmax())
    other = [*names[:index], *names[index + 1 :]][most] if others[most] else None
    return WeakClass(names[index], iou, predicted[index] / total, other, others[most] / total)
