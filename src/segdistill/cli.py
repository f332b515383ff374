"""Command line in front of Hydra: the configuration check before a run, and `resume=`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from segdistill.config.explain import one_line_errors
from segdistill.config.parse import parse
from segdistill.config.unused import refuse_unused
from segdistill.engine.resumed_overrides import require_current, saved_overrides
from segdistill.engine.run_dir import require_own_run
from segdistill.engine.sweep import job_identity
from segdistill.engine.sweep_plan import name_by_swept_keys, planned_jobs, require_own_folder, sample_jobs
from segdistill.utils.errors import UserError


class CheckConfiguration(Callback):
    """Rejects an invalid configuration before Hydra creates the run directory."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the configuration; exit on errors, because Hydra would turn a callback's exception into a warning."""
        HydraConfig.instance().set_config(copy.deepcopy(config))  # hydra.run.dir refers to it
        with one_line_errors():
            refuse_unused(parse(config), config.hydra.overrides.task)
            require_own_run(config)

    def on_multirun_start(self, config: DictConfig, config_name: str | None = None, **kwargs: Any) -> None:
        """Check a sweep before its first job; reject a folder that holds jobs of another sweep."""
        name_by_swept_keys(config)
        HydraConfig.instance().set_config(copy.deepcopy(config))  # hydra.sweep.dir refers to it
        loader = GlobalHydra.instance().config_loader()

        def compose(overrides: list[str]) -> DictConfig:
            return loader.load_configuration(config_name, overrides, RunMode.RUN)

        with one_line_errors():
            for overrides in sample_jobs(config):
                refuse_unused(parse(compose(overrides)), overrides)
            planned = planned_jobs(config)
            if planned is not None:
                require_own_folder(Path(config.hydra.sweep.dir), planned, lambda task: job_identity(compose(task)))


def with_resumed_overrides(arguments: list[str]) -> list[str]:
    """Return the command line that continues a run in its own directory with its own settings.

    `resume=RUN_DIR` (or one of its checkpoints) restores the overrides the run was started with; overrides given again
    take precedence, and `saved_overrides` documents which ones are never taken from a directory. A checkpoint outside
    of a run directory starts a new run from it.

    Raises:
        UserError: If the run ended before its overrides were saved, comes from an incompatible version, or has
            overrides that would do more than configure a run.
    """
    given = {a.lstrip("+~").partition("=")[0]: a.partition("=")[2] for a in arguments}
    target = Path(given["resume"].strip("'\"")) if given.get("resume") else None
    if target is None or not target.exists():
        return arguments
    run_dir = target.resolve() if target.is_dir() else target.resolve().parent.parent
    saved = run_dir / ".hydra" / "overrides.yaml"
    if not saved.is_file():
        if saved.parent.is_dir():
            raise UserError(f"{run_dir}: was killed before it had noted its settings; start it again as it was started")
        return arguments
    require_current(run_dir)
    earlier = saved_overrides(saved, given)
    arguments = [f"resume={_quoted(target)}" if a.startswith("resume=") else a for a in arguments]
    placed = [] if "hydra.run.dir" in given else [f"hydra.run.dir={_quoted(run_dir)}"]
    alone = [] if "hydra.mode" in given else ["hydra.mode=RUN"]  # the experiment of a sweep's job would start a sweep
    return [*earlier, *arguments, *placed, *alone]


def _quoted(path: Path) -> str:
    """Return a path quoted for Hydra's grammar, in which commas and equals signs, for example, have a meaning."""
    escaped = str(path).replace("'", r"\'")
    return f"'{escaped}'"
