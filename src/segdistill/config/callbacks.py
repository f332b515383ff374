"""Entries of `callbacks`: which of them are built, and which a command line sets in vain."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from segdistill.config.locate import TARGET
from segdistill.utils.errors import UserError


def built_callbacks(callbacks: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the entries that name what is built, in their order.

    With callbacks=none, an experiment's settings of a callback remain, but have no `_target_`.
    """
    return {name: spec for name, spec in callbacks.items() if isinstance(spec, Mapping) and TARGET in spec}


def refuse_unused_callbacks(callbacks: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Reject overrides of an entry that builds nothing; what an experiment's file brings is left alone.

    Args:
        callbacks: Entries of the composed configuration.
        overrides: Overrides from which it was composed, as the command line has them.

    Raises:
        UserError: If there is one; names the override and the way out.
    """
    for text in overrides:
        for name in _names_set(text):
            built = built_callbacks(callbacks)
            if name in callbacks and name not in built:
                near = difflib.get_close_matches(name, built, n=1)
                cure = f"did you mean callbacks.{near[0]}?" if near else "choose callbacks=default or callbacks=export"
                raise UserError(
                    f"{text.lstrip('+~')}: has no effect, because callbacks.{name} has no `_target_`; {cure} "
                    f"(~callbacks.{name} leaves it out)"
                )


def _names_set(text: str) -> Iterator[str]:
    """Yield the entries of `callbacks` that an override sets."""
    override = OverridesParser.create().parse_override(text)
    room, _, rest = override.key_or_group.partition(".")
    if room == "callbacks":
        value = override.value()
        yield from [rest.partition(".")[0]] if rest else map(str, value) if isinstance(value, dict) else []
