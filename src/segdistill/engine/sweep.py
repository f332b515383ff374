"""Hydra's multirun: jobs that fail independently and are not run twice, and a summary at the end."""

from __future__ import annotations

import gc
import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from segdistill.config.explain import one_line_errors
from segdistill.config.parse import parse
from segdistill.config.plan import plan
from segdistill.engine.run_dir import RunDirInUseError
from segdistill.engine.sweep_plan import planned_jobs, settings_of
from segdistill.reporting.sweep.jobs import SCORE, STATUS
from segdistill.reporting.sweep.shaping import INCIDENTAL, differing_keys
from segdistill.utils.errors import UserError, first_line
from segdistill.utils.io import read_object, remove, write_json

READ_AGAIN = ("checkpoints", "csv", "results.json", "report.html")
"""What a run leaves, and a later one in its folder would resume from or show as its own."""
log = logging.getLogger(__name__)


def run_job(cfg: DictConfig, job_dir: Path, overrides: Sequence[str], *, alone: bool = False) -> float:
    """Run one job of a sweep, unless it is already finished; an interrupted one is resumed.

    Args:
        cfg: Configuration composed for the job.
        job_dir: Folder for all files of the job.
        overrides: Overrides of the job, which are saved in its record.
        alone: Whether the job is resumed by itself: a finished job is measured again, and errors are raised.

    Returns:
        The score; NaN if the job failed, which is logged and recorded in the job's directory.

    Raises:
        UserError: If `alone`, and the job fails or its record has other settings.
    """
    identity, noted = job_identity(cfg), read_object(job_dir / STATUS)
    same = noted.get("config") == identity
    if noted and not same and (alone or noted.get("status") != "failed"):
        changed = next(differing_keys(noted.get("config"), identity), "?")
        error = UserError(f"{job_dir}: holds a job of a sweep with another {changed}; give another folder")
        if alone:
            raise error
        log.error("%s", error)
        return math.nan
    if noted.get("status") == "finished" and not alone:
        log.info("finished before")
        score = noted["tested"][SCORE]
        return math.nan if score is None else float(score)
    kept = {"overrides": noted["overrides"], "task": noted["task"]} if alone else {}
    record = {"overrides": settings_of(overrides), "task": list(overrides), "config": identity} | kept

    def note(status: str, **more: Any) -> None:
        write_json(job_dir / STATUS, {"status": status, **more, **record})

    if noted and not same:
        for name in READ_AGAIN:
            remove(job_dir / name)
    note("started")
    try:
        config = parse(cfg)
        if same and config.resume is None and (job_dir / "checkpoints" / "last.ckpt").is_file():
            log.info("interrupted before, goes on")
            config = replace(config, resume=str(job_dir))
        log.info("%s: %s", job_dir, plan(config))
        from segdistill.engine.pipeline import run  # torch is imported here, after the configuration was checked

        result = run(config, job_dir)
    except UserError as error:
        if not isinstance(error, RunDirInUseError):  # whoever runs there notes its end
            note("failed", error=str(error))
        if alone:
            raise
        log.error("%s", error)
        return math.nan
    except Exception as error:  # a defect of one job is logged in full and does not stop the others
        note("failed", error=f"{type(error).__name__}: {first_line(error)}")
        if alone:
            raise
        log.exception("the job failed")
        return math.nan
    finally:
        gc.collect()  # trainer and loops refer to each other, and hold the pipes of loader processes
    tested = {name: None if math.isnan(value) else value for name, value in result.scores.items()}
    note("finished", tested=tested, split=result.split, selected_on=result.selected_on)
    return result.scores[SCORE]


def job_identity(cfg: DictConfig) -> dict[str, Any]:
    """Return what identifies a job: its whole configuration, except where it is stored."""
    shaping = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in (*INCIDENTAL, "hydra")])
    identity: dict[str, Any] = json.loads(json.dumps(OmegaConf.to_container(shaping, resolve=True)))
    return identity


class SummariseSweep(Callback):
    """Hydra callback that writes the summary of a multirun at its end, and names the jobs that failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """End the process with exit code 1 if a job failed; Hydra would turn an exception into a warning."""
        from segdistill.reporting.sweep.summary import summarise

        with one_line_errors():
            jobs = summarise(Path(config.hydra.sweep.dir))
        planned = planned_jobs(config)
        failed = [job for job in jobs.jobs if job.error and (planned is None or job.settings in planned)]
        if failed:
            listed = "\n".join(f"  {job.name} ({jobs.described(job)}): {job.error}" for job in failed)
            sys.exit(f"error: {len(failed)} jobs failed:\n{listed}")
