"""report.html: one run on one self-contained page."""

from __future__ import annotations

import base64
import io
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import onnx
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image

from segdistill import __version__
from segdistill.data.check import left_out_line
from segdistill.reporting.curves import read_curves
from segdistill.reporting.figures import confusion_matrix, per_class_iou, save_figure, speed_accuracy, training_curves
from segdistill.reporting.findings import count_of, failures, run_warnings, scored_classes, selected_on, split_label
from segdistill.reporting.results import SKIPPED, Row, baseline_row, read_confusions, read_failures, read_results
from segdistill.utils.image import read_rgb
from segdistill.utils.io import atomic_write, read_object

IMAGE_WIDTH, MAX_IMAGES = 1400, 8


@dataclass(frozen=True)
class Line:
    """A row of results, compared with the baseline row.

    Attributes:
        row: Row of results.
        classes: Number of classes that its mean IoU averages over, as text.
        faster: Median latency of the baseline divided by that of the row.
        points: Mean IoU minus that of the baseline, in percentage points; None if either is unknown.
    """

    row: Row
    classes: str
    faster: float
    points: float | None


def write_report(run_dir: Path) -> Path:
    """Write `report.html` and `figures/*.png` from the files of a run, and return the path of the page.

    Args:
        run_dir: Run directory with `results.json`, of which every row may have failed; other files are optional.
    """
    rows, failed = read_results(run_dir / "results.json"), read_failures(run_dir / "results.json")
    split = next(iter([row.split for row in rows] + [row.split for row in failed]), "test")
    label = split_label(split, selected_on(split))
    figures = _figures(run_dir, rows, label)
    for name, figure in figures.items():
        with atomic_write(run_dir / "figures" / f"{name}.png") as temporary:
            save_figure(figure, temporary, "png")
    overrides = _overrides(run_dir)
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            name=run_dir.resolve().name,
            reference=baseline_row(rows) if rows else None,
            split=label,
            images=split_label(split, selected_on(split), "images"),
            warnings=[*run_warnings(rows), *failures(failed), *_left_out(run_dir)],
            scored=scored_classes(rows),
            scored_differ=len({(row.classes_scored, len(row.class_iou)) for row in rows}) > 1,
            failed=failed,
            batch_size=next((row.batch_size for row in rows if row.batch_size), None),
            lines=_lines(rows),
            models={row.model: row for row in rows},
            figures={name: drawn(figure) for name, figure in figures.items()},
            predictions=list(_predictions(run_dir)),
            quantization=_quantization(run_dir),
            command=None if overrides is None else shlex.join(["python", "train.py", *overrides]),
            configuration=_text(run_dir / ".hydra" / "config.yaml"),
            version=__version__,
        )
    )
    path = run_dir / "report.html"
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _lines(rows: Sequence[Row]) -> list[Line]:
    return [_line(row, baseline_row(rows)) for row in rows]


def _line(row: Row, reference: Row) -> Line:
    known = row.miou is not None and reference.miou is not None
    return Line(
        row,
        classes=count_of(row.classes_scored, len(row.class_iou)),
        faster=reference.latency_ms_p50 / row.latency_ms_p50,
        points=100 * ((row.miou or 0.0) - (reference.miou or 0.0)) if known else None,
    )


def _figures(run_dir: Path, rows: Sequence[Row], split: str) -> dict[str, Figure]:
    figures = {"speed_accuracy": speed_accuracy(rows), "per_class_iou": per_class_iou(rows)} if rows else {}
    losses, scores = read_curves(run_dir)
    if losses or scores:
        figures["training_curves"] = training_curves(losses, {_on(split, name): scores[name] for name in scores})
    for role, matrix in read_confusions(run_dir).items() if rows else ():
        figures[f"confusion_{role}"] = confusion_matrix(matrix, list(rows[0].class_iou), f"{role} on {split}")
    return figures


def _on(split: str, name: str) -> str:
    """Return the name of a curve; Lightning logs as test/miou what may have been scored on another split."""
    return f"{name}, on {split}" if name == "test/miou" and split != "test" else name


def environment() -> Environment:
    """Return the environment that renders the pages: values are escaped, a missing one is an error."""
    return Environment(loader=PackageLoader("segdistill.reporting"), autoescape=True, undefined=StrictUndefined)


def drawn(figure: Figure) -> Markup:
    """Return a figure as an element of a page; its text stays text, in whatever sans-serif font the reader has."""
    buffer = io.StringIO()
    save_figure(figure, buffer, "svg")
    svg = buffer.getvalue()
    return Markup(svg[svg.index("<svg") :])  # matplotlib escapes what it is given


def data_url(image: Image.Image) -> str:
    """Return an image as an address that holds it, so that a page needs no other file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _predictions(run_dir: Path) -> Iterator[tuple[str, str]]:
    """Yield name and data URL of the images on which teacher and student differ most, or of any."""
    folder = run_dir / "predictions"
    for path in islice(sorted((folder / "differing").glob("*.png")) or sorted(folder.glob("*.png")), MAX_IMAGES):
        shown = Image.fromarray(read_rgb(path))
        shown.thumbnail((IMAGE_WIDTH, IMAGE_WIDTH))
        yield path.stem, data_url(shown)


def _quantization(run_dir: Path) -> dict[str, Mapping[str, object]]:
    """Return how each INT8 file was quantized, by model, as recorded in the file itself."""
    found = {}
    for path in sorted((run_dir / "onnx").glob("*.int8.onnx")):
        metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        found[path.name.removesuffix(".int8.onnx")] = json.loads(metadata["quantization"])
    return found


def _left_out(run_dir: Path) -> list[str]:
    """Return a line for each split of which images were left out."""
    return [left_out_line(split, faults) for split, faults in read_object(run_dir / SKIPPED).items()]


def _overrides(run_dir: Path) -> list[str] | None:
    """Return the overrides given on the command line; None if Hydra did not record them."""
    path = run_dir / ".hydra" / "overrides.yaml"
    return [str(override) for override in OmegaConf.load(path)] if path.is_file() else None


def _text(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None
