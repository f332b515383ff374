"""Hydra's multirun: jobs that cannot take each other down, that are not run twice, and a summary at the end."""

from __future__ import annotations

import json
import logging
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from segdistill.config import parse
from segdistill.errors import UserError, first_line
from segdistill.files import read_object, write_json
from segdistill.report.jobs import SCORE, STATUS

log = logging.getLogger(__name__)


def run_job(cfg: DictConfig, job_dir: Path) -> float:
    """Runs one job of a sweep, unless it was finished before; an interrupted one goes on.

    Args:
        cfg: Composed for the job.
        job_dir: Where it leaves everything.

    Returns:
        The score; NaN where the job failed, which is logged and noted in the job's directory.
    """
    settings = json.loads(json.dumps(OmegaConf.to_container(cfg, resolve=True)))
    noted = read_object(job_dir / STATUS)
    same = noted.get("config") == settings
    if noted and not same and noted.get("status") != "failed":
        log.error("%s: holds a job with other settings; give another hydra.sweep.dir", job_dir)
        return math.nan
    if noted.get("status") == "finished":
        log.info("finished before")
        score = noted["tested"][SCORE]
        return math.nan if score is None else float(score)

    def note(status: str, **more: Any) -> None:
        write_json(job_dir / STATUS, {"status": status, **more, "config": settings})

    note("started")
    try:
        config = parse(cfg)
        if same and config.resume is None and (job_dir / "checkpoints" / "last.ckpt").is_file():
            log.info("interrupted before, goes on")
            config = replace(config, resume=str(job_dir))
        from segdistill.run import run  # torch is imported here, after the configuration was checked

        tested = run(config, job_dir)
    except UserError as error:
        log.error("%s", error)
        note("failed", error=str(error))
        return math.nan
    except Exception as error:  # a defect of one job, told in full, leaves the others theirs
        log.exception("the job failed")
        note("failed", error=f"{type(error).__name__}: {first_line(error)}")
        return math.nan
    note("finished", tested={name: None if math.isnan(value) else value for name, value in tested.items()})
    return tested[SCORE]


class SummariseSweep(Callback):
    """Writes the summary of a multirun at its end, and names the jobs that failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Ends the process with exit code 1 if a job failed; Hydra would turn an exception into a warning."""
        from segdistill.report.sweep import summarise

        sweep_dir = Path(config.hydra.sweep.dir)
        jobs = summarise(sweep_dir)
        failed = [job for job in jobs.jobs if job.error]
        if failed:
            listed = "\n".join(f"  {job.name} ({jobs.described(job)}): {job.error}" for job in failed)
            sys.exit(f"error: {len(failed)} jobs failed:\n{listed}")
