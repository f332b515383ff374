"""Train, distil, export, score and time networks: `python train.py experiment=kd_deeplab`; see --help."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from segdistill.cli import with_resumed_overrides
from segdistill.config.explain import one_line_errors
from segdistill.config.parse import parse, register
from segdistill.config.plan import plan
from segdistill.engine.sweep import run_job
from segdistill.reporting.sweep.jobs import SCORE, STATUS
from segdistill.utils.interruption import ending_at_once

register()
log = logging.getLogger("segdistill")


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Run one configuration and return its `test/miou`, which a sweep compares."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode == RunMode.MULTIRUN:
        return run_job(cfg, folder, hydra_config.overrides.task)
    with one_line_errors():  # here as well, because Hydra adds a line of its own to an error that reaches it
        if (folder / STATUS).is_file():
            return run_job(cfg, folder, hydra_config.overrides.task, alone=True)
        checked = parse(cfg)
        log.info("%s: %s", folder, plan(checked))
        from segdistill.engine.pipeline import run  # torch is imported here, after the configuration was checked

        return run(checked, folder).scores[SCORE]


if __name__ == "__main__":
    with one_line_errors(), ending_at_once():
        sys.argv[1:] = with_resumed_overrides(sys.argv[1:])
        main()
