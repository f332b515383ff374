"""Between the command line and Hydra: one-line errors, the check before a run, and `resume=`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from segdistill.config import near_keys, parse
from segdistill.errors import UserError
from segdistill.interruption import INTERRUPTED
from segdistill.resumed import saved_overrides


class CheckConfiguration(Callback):
    """Refuses a configuration before Hydra makes the run directory."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Ends the process with one line; Hydra would turn an exception of a callback into a warning."""
        with one_line_errors():
            parse(config)

    def on_multirun_start(self, config: DictConfig, config_name: str | None = None, **kwargs: Any) -> None:
        """Refuses a sweep before its first job."""
        loader = GlobalHydra.instance().config_loader()
        with one_line_errors():
            for overrides in sample_jobs(config):
                parse(loader.load_configuration(config_name, overrides, RunMode.RUN))


def sample_jobs(config: DictConfig) -> Iterator[list[str]]:
    """Yields the overrides of jobs of a sweep in which every swept value comes up once, not in every combination.

    Ranges that another sweeper draws from have no values yet, and are left out.
    """
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create()
    values = {
        override.get_key_element(): list(override.sweep_string_iterator())
        if override.is_sweep_override()
        else [override.get_value_element_as_str()]
        for override in parser.parse_overrides([*params, *config.hydra.overrides.task])
        if not override.is_delete() and (not override.is_sweep_override() or override.is_discrete_sweep())
    }
    deleted = [text for text in config.hydra.overrides.task if text.startswith("~")]
    first = {key: choices[0] for key, choices in values.items()}
    yield [*(f"{key}={value}" for key, value in first.items()), *deleted]
    for key, choices in values.items():
        for value in choices[1:]:
            yield [*(f"{k}={v}" for k, v in (first | {key: value}).items()), *deleted]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with one line for what the user can mend; a defect keeps its traceback."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits itself
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {explain(error)}")
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def explain(error: BaseException) -> str:
    """Returns one line for an error of Hydra or OmegaConf: the key, the value, what is allowed."""
    if isinstance(error.__cause__, UserError):  # raised by what Hydra instantiates
        return str(error.__cause__)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = str(getattr(cause, "full_key", None) or "")
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)) and key:
        near = near_keys(key)
        return f"{key}: no such key" + (f"; did you mean {' or '.join(near)}?" if near else "; see --help")
    if isinstance(cause, ValidationError) and key:
        return f"{key}: {str(cause.msg).splitlines()[0]}"
    launcher = re.search(r"Could not find 'hydra/launcher/((ray|submitit)\w*)'", str(error))
    if launcher:
        return f"hydra/launcher={launcher[1]}: needs a package: pip install hydra-{launcher[2]}-launcher"
    message = re.split(r"Config search path|Set the environment variable|full_key:", str(error))[0]
    return " ".join(message.split())


def with_resumed_overrides(arguments: list[str]) -> list[str]:
    """Returns the command line that continues a run in its own directory with its own settings.

    `resume=RUN_DIR` (or one of its checkpoints) brings back the overrides the run was started with; those given
    again win, and `saved_overrides` says which are not taken from a directory. A checkpoint outside of a run directory
    starts a new run from it.

    Raises:
        UserError: If the directory's overrides would do more than configure a run.
    """
    given = {a.lstrip("+~").partition("=")[0]: a.partition("=")[2] for a in arguments}
    target = Path(given["resume"].strip("'\"")) if given.get("resume") else None
    if target is None or not target.exists():
        return arguments
    run_dir = target.resolve() if target.is_dir() else target.resolve().parent.parent
    saved = run_dir / ".hydra" / "overrides.yaml"
    if not saved.is_file():
        return arguments
    earlier = saved_overrides(saved, given)
    quoted = str(run_dir).replace("'", r"\'")  # a path may hold what Hydra's grammar gives a meaning
    placed = [] if "hydra.run.dir" in given else [f"hydra.run.dir='{quoted}'"]
    return [*earlier, *arguments, *placed]
