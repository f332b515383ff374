"""`segdistill benchmark loader`: images per second of the data loader, against what the configured student takes.

The loader runs as in a training, with each place where decoded images may be kept, in turns with the student's steps.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from PIL import Image
from rich.progress import track

from roadscenes.render import render_scene
from segdistill.benchmarks.steps import loader_turn, task_step
from segdistill.config.parse import parse, register
from segdistill.config.schema import Config
from segdistill.data.labels import ROAD_SCENES
from segdistill.data.sources.base import DatasetIndex
from segdistill.engine.builders import Builder
from segdistill.engine.trainer import choose_precision, filter_warnings, root_device
from segdistill.utils.console import compact_table, terminal
from segdistill.utils.errors import UserError, first_line
from segdistill.utils.hardware import cpu_count, cpu_name
from segdistill.utils.io import atomic_write, write_json

LARGE, SMALL = (3000, 4000), (300, 400)
LARGE_INPUT = (480, 640)
NOISE, QUALITY = 4.0, 92
"""Standard deviation of a camera's noise in grey levels, and JPEG quality: files of about 3 MB."""

JPEG_SUFFIXES = (".jpg", ".jpeg")
PLACES = {"decoded every time": "none", "kept in memory": "memory", "kept on disk": "disk"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as of train.py: data=camvid data.root=DIR")
    command.add_argument("--large", action="store_true", help="4000 x 3000 JPEG files, rendered first; no data=")
    command.add_argument("--count", type=int, default=64, help="training images at most; with --large a quarter")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--conf", type=Path, default=Path("conf"), help="folder of the configuration; default: conf")
    command.add_argument("--cache", type=Path, default=Path("cache"), help="where images are rendered and kept")
    command.add_argument("--output", type=Path, default=Path("benchmark-loader.json"))


def run(arguments: argparse.Namespace) -> None:
    """Run the benchmark, print a table and save it as JSON.

    Raises:
        UserError: If the configuration or the data is at fault.
    """
    filter_warnings()
    overrides = [*arguments.overrides, f"cache_dir={arguments.cache.resolve()}"]
    overrides += _large_data(arguments.cache, max(1, arguments.count // 4)) if arguments.large else []
    config = composed(arguments.conf, [*overrides, f"data.limit={arguments.count}"])
    builder = Builder(config)
    source = builder.source().labelled()
    step = student_step(builder, source)
    loaders = {name: _turns(config, source, place, draft) for name, place, draft in _variants(source)}
    seconds: dict[str, list[float]] = {name: [] for name in ["", *loaders]}
    for number in track(range(arguments.rounds + 1), "Timing loaders and steps", transient=True):
        for name, turn in {"": step, **loaders}.items():
            spent = turn()
            if number:  # the first round warms up
                seconds[name].append(spent)
    batch_size = config.student.fit.batch_size
    rates = {name: batch_size / statistics.median(spent) for name, spent in seconds.items()}
    _report(builder, source, rates, arguments.output)


def composed(conf: Path, overrides: Sequence[str]) -> Config:
    """Compose and check a configuration as `train.py` does.

    Raises:
        UserError: If there is no such folder, or the configuration is at fault.
    """
    if not (conf / "config.yaml").is_file():
        raise UserError(f"{conf}: holds no config.yaml; give the folder of train.py's configuration by --conf")
    GlobalHydra.instance().clear()
    register()
    try:
        with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
            return parse(compose("config", overrides=list(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(first_line(error)) from error


def student_step(builder: Builder, source: DatasetIndex) -> Callable[[], float]:
    """Return a function that runs one step of the configured student without a teacher, and returns its seconds."""
    network, loss = builder.network("student"), builder.supervised_loss("student")
    task = builder.segmentation_task("student", network, loss, source)
    batch = next(iter(builder.datamodule(source, "student").train_dataloader()))
    step, device = task_step(task, batch, builder.trainer_config), root_device(builder.trainer_config)

    def timed() -> float:
        begin = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    return timed


def _variants(source: DatasetIndex) -> list[tuple[str, str, bool]]:
    """List what is timed: its name, where images are kept, and whether JPEG files are decoded at a reduced size."""
    variants = [(name, place, False) for name, place in PLACES.items()]
    if any(sample.image.suffix.lower() in JPEG_SUFFIXES for sample in source.splits["train"]):
        variants += [(f"draft, {name}", place, True) for name, place in PLACES.items()]
    return variants


def _turns(config: Config, source: DatasetIndex, place: str, draft: bool) -> Callable[[], float]:
    """Build a training loader, and keep what it keeps; return a function that measures its seconds per batch."""
    config = copy.deepcopy(config)
    config.data.image_cache, config.data.draft = place, draft
    loader = Builder(config).datamodule(source, "student").train_dataloader()
    for _ in loader:  # an epoch that decodes
        pass
    return loader_turn(loader)


def _report(builder: Builder, source: DatasetIndex, rates: dict[str, float], output: Path) -> None:
    taken, config = rates.pop(""), builder.config
    workers = builder.datamodule(source, "student").num_workers
    precision, device = choose_precision(config.trainer), root_device(config.trainer).type
    count, fit = len(source.splits["train"]), config.student.fit
    height, width = fit.crop or builder.input_size
    table = compact_table(
        f"{source.name}: {count} images, crops of {height} x {width}",
        f"medians in turns, loader workers: {workers}",
    )
    for heading in ("images", "images/s", "of the student's"):
        table.add_column(heading, justify="left" if heading == "images" else "right")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:.1f}", f"{rate / taken:.2f}")
    console = terminal()
    console.print(table)
    console.print(f"The student takes {taken:.1f} images/s on {device} in {precision}, in batches of {fit.batch_size}.")
    console.print(f"Processor: {cpu_name()}, {cpu_count()} cores.")
    content = {
        "data": source.name,
        "images": count,
        "workers": workers,
        "cores": cpu_count(),
        "device": cpu_name(),
        "student": {"images_per_second": taken, "device": device, "precision": precision},
        "loader": {name: {"images_per_second": rate, "of_student": rate / taken} for name, rate in rates.items()},
    }
    write_json(output, content)


def _large_data(cache_dir: Path, count: int) -> list[str]:
    """Render large JPEG images with masks, or reuse earlier ones; return the overrides that name them."""
    folder = cache_dir / f"large-{LARGE[0]}x{LARGE[1]}-{count}"
    if not folder.is_dir():
        with atomic_write(folder) as temporary:
            scenes = [("train", index) for index in range(count)] + [("val", 0)]
            for split, index in track(scenes, "Rendering large images", transient=True):
                _write_large(temporary / split, split, index)
    classes = ",".join(f"{name}: {index}" for index, name in enumerate(ROAD_SCENES.names))
    size = f"[{LARGE_INPUT[0]},{LARGE_INPUT[1]}]"
    return ["data=folder", f"data.root={folder.resolve()}", f"data.input_size={size}", f"+data.classes={{{classes}}}"]


def _write_large(folder: Path, split: str, index: int) -> None:
    """Write one scene, enlarged and with a camera's noise, as JPEG, and its mask."""
    image, mask = (Image.fromarray(np.ascontiguousarray(part)) for part in render_scene(0, split, index, SMALL))
    enlarged = np.asarray(image.resize(LARGE[::-1], Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(index).standard_normal(LARGE, np.float32)[..., None] * NOISE
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    noisy = Image.fromarray((enlarged + noise).clip(0, 255).astype(np.uint8))
    noisy.save(folder / "images" / f"{index:03}.jpg", quality=QUALITY)
    mask.resize(LARGE[::-1], Image.Resampling.NEAREST).save(folder / "masks" / f"{index:03}.png", compress_level=1)
