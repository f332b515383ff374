"""One line for every error that the user can fix, whoever raised it: this package, Hydra or OmegaConf."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from segdistill.config.suggest import unknown
from segdistill.utils.errors import UserError
from segdistill.utils.interruption import INTERRUPTED


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Exit with one line on an error that the user can fix; a defect keeps its traceback."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints the error and exits itself
    try:
        yield
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        sys.exit(f"error: {line}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def explain(error: Exception) -> str | None:
    """Return one line for an error that the user can fix: key or file, value, what is allowed; None for a defect."""
    if not isinstance(error, HydraException | OmegaConfBaseException):  # some of these are OSErrors, too
        if isinstance(error, UserError | OSError):
            return str(error)
        if not _raised_while_composing(error):
            return None
    if isinstance(error.__cause__, UserError):  # raised by what Hydra instantiates
        return str(error.__cause__)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = str(getattr(cause, "full_key", None) or "")
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)) and key:
        return f"{key}: {unknown(key)}"
    if isinstance(cause, ValidationError) and key:
        return f"{key}: {str(cause.msg).splitlines()[0]}"
    launcher = re.search(r"Could not find 'hydra/launcher/((ray|submitit)\w*)'", str(error))
    if launcher:
        return f"hydra/launcher={launcher[1]}: needs a package: pip install hydra-{launcher[2]}-launcher"
    message = re.split(r"Config search path|Set the environment variable|full_key:", str(error))[0]
    return " ".join(message.split())


def _raised_while_composing(error: Exception) -> bool:
    """Return whether Hydra or its parsers raised an error of another class, as they do if a group's value is null."""
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    return str(innermost.f_globals.get("__name__")).partition(".")[0] in ("hydra", "omegaconf", "antlr4", "yaml")
