"""Dashboard: shows the results of a run as W&B and TensorBoard panels at the end of a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import wandb
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from segdistill.callbacks.fit_end import tolerated
from segdistill.callbacks.inputs import evenly_spaced, predict_masks, task_and_data
from segdistill.config.data import IGNORE_INDEX
from segdistill.config.ranges import require_count
from segdistill.data.labels import LabelSet
from segdistill.reporting.figures import confusion_matrix, per_class_iou, speed_accuracy
from segdistill.reporting.findings import selected_on, split_label
from segdistill.reporting.panels import prediction_sheet
from segdistill.reporting.results import Row, read_confusions, read_results


@dataclass(frozen=True)
class PanelImage:
    """An image, uint8 [H, W, 3], and its class ids, uint8 [H, W], in the truth and as predicted by each network."""

    name: str
    pixels: NDArray[np.uint8]
    masks: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Panels:
    """Contents of a dashboard.

    Attributes:
        labels: Classes of the dataset.
        split: Name of the evaluation split, and whether checkpoints were selected on it.
        images: Evenly spaced images of that split.
        rows: Rows of results.json; empty if nothing was timed.
        confusions: Confusion matrix of each network in PyTorch, by role.
        files: Files to upload: exported ones and the best checkpoint.
    """

    labels: LabelSet
    split: str
    images: list[PanelImage]
    rows: list[Row]
    confusions: Mapping[str, NDArray[np.int64]]
    files: list[Path]


class Dashboard(pl.Callback):
    """Shows images with masks, backends, classes and confusions; with `logger.wandb.upload`, also uploads files.

    Args:
        count: Number of images of the evaluation split; 0 shows none.

    Raises:
        ConfigError: If the number is negative, or not whole.
    """

    def __init__(self, count: int = 8) -> None:
        require_count("callbacks.dashboard.count", count, 0)
        self.count = count

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fill the dashboard of each logger that has one; a failure is only a warning."""
        panels = None
        for logger in trainer.loggers:
            with tolerated(f"filling the dashboard of {type(logger).__name__}"):
                show = _board(logger)
                if show is not None:
                    panels = panels or self._panels(trainer, pl_module)
                    show(panels)

    def _panels(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Panels:
        task, data = task_and_data(trainer, pl_module)
        run_dir, split = Path(trainer.default_root_dir), data.source.eval_split
        samples = data.source.splits[split]
        images = []
        for index in evenly_spaced(len(samples), self.count):
            pixels, truth = data.eval_image(index)
            images.append(PanelImage(samples[index].image.stem, pixels, {"truth": truth} | predict_masks(task, pixels)))
        results = run_dir / "results.json"
        return Panels(
            labels=data.source.labels,
            split=split_label(split, selected_on(split)),
            images=images,
            rows=read_results(results) if results.is_file() else [],
            confusions=read_confusions(run_dir),
            files=[*sorted((run_dir / "onnx").glob("*.onnx")), *(run_dir / "checkpoints").glob("best.ckpt")],
        )


def _board(logger: Logger) -> Callable[[Panels], None] | None:
    if isinstance(logger, WandbLogger):
        return partial(show_in_wandb, logger.experiment, upload=getattr(logger, "upload", False))
    if isinstance(logger, TensorBoardLogger):
        return partial(show_in_tensorboard, logger.experiment)
    return None


def show_in_wandb(run: wandb.Run, panels: Panels, *, upload: bool) -> None:
    """Log tables and charts to W&B, and images and files as far as they may be uploaded.

    Images have masks that can be toggled; they are logged if the run is offline or `upload` is set. The files are
    logged as an artifact if the run is online and `upload` is set.

    Args:
        run: W&B run, online or offline.
        panels: Contents to show.
        upload: Whether images and files may be uploaded.
    """
    with_images = upload or run.offline
    classes = dict(enumerate(panels.labels.names)) | {IGNORE_INDEX: "void"}
    if with_images:
        run.log(
            {
                "predictions": [
                    wandb.Image(
                        image.pixels,
                        caption=f"{image.name}, {panels.split}",
                        masks={
                            name: {"mask_data": mask, "class_labels": classes} for name, mask in image.masks.items()
                        },
                    )
                    for image in panels.images
                ]
            }
        )
    if panels.rows:
        engines = _engines(panels.rows)
        undecoded = [row for row in panels.rows if not row.decodes]
        title = f"p50 latency in ms against mean IoU on {panels.split}"
        run.log(
            {
                "engines": engines,
                "class_iou": wandb.Table(
                    ["model", "engine", "split", "class", "iou"],
                    [[r.model, r.engine, r.split, name, iou] for r in panels.rows for name, iou in r.class_iou.items()],
                ),
                "speed_accuracy": wandb.plot.scatter(_engines(undecoded), "latency_ms_p50", "miou", title),
            }
        )
        if with_images:
            run.log({"speed_accuracy_by_engine": wandb.Image(speed_accuracy(panels.rows))})
    for role, matrix in panels.confusions.items():
        run.log({f"confusion_{role}": _confusion_chart(matrix, panels.labels.names, f"{role} on {panels.split}")})
    if upload and not run.offline and panels.files:
        artifact = wandb.Artifact(f"segdistill-{run.id}", type="model")
        for path in panels.files:
            artifact.add_file(str(path))
        run.log_artifact(artifact)


def _engines(rows: list[Row]) -> wandb.Table:
    """Return the rows of results.json as a table, without fields that are not single values."""
    listed = [{k: v for k, v in asdict(row).items() if not isinstance(v, dict | list)} for row in rows]
    columns: list[str | int] = [*listed[0]]
    return wandb.Table(columns, [list(row.values()) for row in listed])


def _confusion_chart(matrix: NDArray[np.int64], names: tuple[str, ...], title: str) -> Any:
    """Fill W&B's own confusion chart from counts; `wandb.plot.confusion_matrix` takes single predictions."""
    fields = {column: column for column in ("Actual", "Predicted", "nPredictions")}
    cells = [[names[true], names[guess], int(matrix[true, guess])] for true, guess in np.ndindex(matrix.shape)]
    return wandb.plot_table(
        vega_spec_name="wandb/confusion_matrix/v1",
        data_table=wandb.Table([*fields], cells),
        fields=fields,
        string_fields={"title": f"{title}, pixels"},
    )


def show_in_tensorboard(writer: Any, panels: Panels) -> None:
    """Add the images and the report's figures to a `torch.utils.tensorboard.SummaryWriter`."""
    for image in panels.images:
        predicted = {name: mask for name, mask in image.masks.items() if name != "truth"}
        sheet = prediction_sheet(image.pixels, image.masks["truth"], predicted, panels.labels)
        writer.add_image(f"predictions/{image.name}", np.asarray(sheet), dataformats="HWC")
    if panels.rows:
        writer.add_figure("speed_accuracy", speed_accuracy(panels.rows))
        writer.add_figure("class_iou", per_class_iou(panels.rows))
    for role, matrix in panels.confusions.items():
        title = f"{role} on {panels.split}"
        writer.add_figure(f"confusion_{role}", confusion_matrix(matrix, panels.labels.names, title))
    writer.flush()
