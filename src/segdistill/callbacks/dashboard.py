"""Dashboard: at the end of a fit, what a run has left goes to W&B and TensorBoard as panels."""

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
from segdistill.callbacks.predictions import side_by_side
from segdistill.config.data import IGNORE_INDEX
from segdistill.data.labels import LabelSet
from segdistill.reporting.figures import confusion_matrix, per_class_iou, speed_accuracy
from segdistill.reporting.findings import selected_on, split_label
from segdistill.reporting.results import Row, read_confusions, read_results


@dataclass(frozen=True)
class Picture:
    """One picture, uint8 [H, W, 3], and the class ids, uint8 [H, W], of truth and of each network."""

    name: str
    pixels: NDArray[np.uint8]
    masks: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Panels:
    """What a dashboard shows.

    Attributes:
        labels: Of the data.
        split: The report split, and whether it was selected on.
        pictures: Evenly spaced ones of that split.
        rows: Of results.json; empty where nothing was timed.
        confusions: Of each network in PyTorch, by role.
        files: That ship: exported ones, and the best checkpoint.
    """

    labels: LabelSet
    split: str
    pictures: list[Picture]
    rows: list[Row]
    confusions: Mapping[str, NDArray[np.int64]]
    files: list[Path]


class Dashboard(pl.Callback):
    """Shows pictures with masks, engines, classes and confusions; `logger.wandb.upload` uploads what ships, too.

    Args:
        count: How many pictures of the report split.
    """

    def __init__(self, count: int = 8) -> None:
        self.count = count

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fills the dashboards there are; one that fails costs a warning."""
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
        pictures = []
        for index in evenly_spaced(len(samples), self.count):
            pixels, truth = data.eval_image(index)
            pictures.append(Picture(samples[index].image.stem, pixels, {"truth": truth} | predict_masks(task, pixels)))
        results = run_dir / "results.json"
        return Panels(
            labels=data.source.labels,
            split=split_label(split, selected_on(split)),
            pictures=pictures,
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
    """Logs tables and charts; images whose masks can be toggled where they stay here or may leave; an artifact.

    Args:
        run: Online or offline.
        panels: What there is to show.
        upload: Whether pictures and files may leave this machine.
    """
    with_images = upload or run.offline
    classes = dict(enumerate(panels.labels.names)) | {IGNORE_INDEX: "void"}
    if with_images:
        run.log(
            {
                "predictions": [
                    wandb.Image(
                        picture.pixels,
                        caption=f"{picture.name}, {panels.split}",
                        masks={
                            name: {"mask_data": mask, "class_labels": classes} for name, mask in picture.masks.items()
                        },
                    )
                    for picture in panels.pictures
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
    """The rows as they are in results.json, but for what is no single value."""
    listed = [{k: v for k, v in asdict(row).items() if not isinstance(v, dict | list)} for row in rows]
    columns: list[str | int] = [*listed[0]]
    return wandb.Table(columns, [list(row.values()) for row in listed])


def _confusion_chart(matrix: NDArray[np.int64], names: tuple[str, ...], title: str) -> Any:
    """W&B's own confusion chart, which `wandb.plot.confusion_matrix` would fill from single predictions."""
    fields = {column: column for column in ("Actual", "Predicted", "nPredictions")}
    cells = [[names[true], names[guess], int(matrix[true, guess])] for true, guess in np.ndindex(matrix.shape)]
    return wandb.plot_table(
        vega_spec_name="wandb/confusion_matrix/v1",
        data_table=wandb.Table([*fields], cells),
        fields=fields,
        string_fields={"title": f"{title}, pixels"},
    )


def show_in_tensorboard(writer: Any, panels: Panels) -> None:
    """Adds the pictures and the report's figures to a `torch.utils.tensorboard.SummaryWriter`."""
    for picture in panels.pictures:
        masks = {name: panels.labels.colourise(mask) for name, mask in picture.masks.items()}
        sheet = side_by_side({"image": picture.pixels} | masks, panels.labels)
        writer.add_image(f"predictions/{picture.name}", np.asarray(sheet), dataformats="HWC")
    if panels.rows:
        writer.add_figure("speed_accuracy", speed_accuracy(panels.rows))
        writer.add_figure("class_iou", per_class_iou(panels.rows))
    for role, matrix in panels.confusions.items():
        title = f"{role} on {panels.split}"
        writer.add_figure(f"confusion_{role}", confusion_matrix(matrix, panels.labels.names, title))
    writer.flush()
