"""Random overrides either compose into a checked configuration or end in one line."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from segdistill.config.explain import explain
from segdistill.config.parse import parse, register
from segdistill.config.suggest import known_keys
from segdistill.config.unused import refuse_unused

CONF = Path(__file__).parents[2] / "conf"
GROUPS = [path.name for path in CONF.iterdir() if path.is_dir()]
VALUES = [
    *("0", "1", "-1", "2", "3.5", "1e-3", "1e400", "-0.0", "nan", "inf", "-inf", "true", "null", "???", "''", '"a b"'),
    *("[]", "[1]", "[1,2]", "[64,64]", "[0.5,2]", "[a,b]", "[[1],[2]]", "{}", "{a: 1}", "{kl: 1}", "{kl: {weight: x}}"),
    *("hot", "größe", "${seed}", "${no.such}", "${oc.env:NO_SUCH}", "${", "\\", "a=b", "a,b", "/no/such", "~", "."),
    *("99999999999999999999", "torch.optim.SGD", "os.system", "{_target_: os.system, command: ls}"),
]
SETS, SHOWN = 1000, 100


def draw(seed: int) -> list[str]:
    """One to four overrides of known, misspelt or invented keys and of groups."""
    rng, keys = random.Random(seed), sorted(set(known_keys()))

    def override() -> str:
        if rng.random() < 0.25:
            group = rng.choice(GROUPS)
            options = [path.stem for path in (CONF / group).glob("*.yaml")]
            return f"{group}={rng.choice([*options, 'null', 'magic'])}"
        key = rng.choice(keys)
        if rng.random() < 0.15:
            place = rng.randrange(len(key))
            key = key[:place] + key[place + 1 :]
        if rng.random() < 0.15:
            key += "." + rng.choice(["_target_", "x", "weight", "0"])
        prefix = rng.choice(["", "", "", "", "+", "++", "~"])
        return prefix + key if prefix == "~" else f"{prefix}{key}={rng.choice(VALUES)}"

    return [override() for _ in range(rng.randint(1, 4))]


@pytest.fixture(scope="module", autouse=True)
def hydra_with_the_schema() -> Iterator[None]:
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def outcome(overrides: list[str]) -> str | None:
    """Return the line that the command line prints, or None where the configuration passes."""
    try:
        refuse_unused(parse(compose("config", overrides=overrides)), overrides)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        return line
    return None


def require_one_line(seeds: range) -> None:
    outcomes = {seed: outcome(draw(seed)) for seed in seeds}
    long = {seed: line for seed, line in outcomes.items() if line is not None and (not line or "\n" in line)}
    assert not long
    assert any(line is None for line in outcomes.values())
    assert sum(line is not None for line in outcomes.values()) > len(seeds) / 3


@pytest.mark.slow
def test_random_overrides_pass_or_end_in_one_line() -> None:
    require_one_line(range(SHOWN))


@pytest.mark.soak
def test_many_random_overrides_pass_or_end_in_one_line() -> None:
    require_one_line(range(SHOWN, SETS))
