"""Names of classes that mean the same, however a data set or a network spells them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

SYNONYMS = (
    ("person", "pedestrian", "people", "human"),
    ("rider", "cyclist", "bicyclist"),
    ("road", "street", "roadway"),
    ("sidewalk", "pavement", "footpath"),
    ("lane", "lane marking", "road marking"),
    ("signal", "traffic light", "traffic signal"),
    ("sign", "traffic sign", "street sign", "sign symbol", "signboard"),
    ("vegetation", "tree"),
    ("bicycle", "bike"),
    ("motorcycle", "motorbike", "minibike"),
    ("car", "automobile"),
    ("truck", "lorry"),
    ("airplane", "aeroplane", "plane"),
    ("sofa", "couch"),
    ("tv", "television", "tv monitor"),
)
"""Groups of names of one meaning; each name stands in one group."""
IRREGULAR = {"people": "person", "buses": "bus", "bus": "bus", "men": "man", "women": "woman"}
ALTERNATIVES = re.compile(r"[,;/|]")
"""What separates the names of one class, as ADE20K has them: `sofa, couch, lounge`."""


def normalised(name: str) -> set[str]:
    """Return the spellings of a name that are compared: singular, without case, spaces and punctuation.

    Example:
        >>> sorted(normalised("Traffic_Lights; stop-lights"))
        ['stoplight', 'trafficlight']
    """
    found = {"".join(map(_singular, re.findall(r"[^\W_]+", each.casefold()))) for each in ALTERNATIVES.split(name)}
    return found - {""}


def match_names(
    wanted: Sequence[str], known: Sequence[str], taken: Collection[int] = ()
) -> dict[str, tuple[list[int], str]]:
    """Find, for each name, the known names that mean the same.

    A name that is known as it is takes those alone; only then synonyms are tried. No known name is given twice.

    Args:
        wanted: Names to find.
        known: Names to choose from.
        taken: Indices of known names that are not available.

    Returns:
        Name -> indices of the known names, and "name" or "synonym"; names without any are left out.

    Example:
        >>> match_names(["Cars", "pedestrian", "lane"], ["__background__", "car", "person"])
        {'Cars': ([1], 'name'), 'pedestrian': ([2], 'synonym')}
    """
    used, spellings = set(taken), [normalised(name) for name in known]
    found: dict[str, tuple[list[int], str]] = {}
    for how, spelt in (("name", normalised), ("synonym", _synonyms)):
        for name in wanted:
            indices = [index for index, each in enumerate(spellings) if index not in used and each & spelt(name)]
            if indices and name not in found:
                found[name] = indices, how
                used.update(indices)
    return {name: found[name] for name in wanted if name in found}


def _synonyms(name: str) -> set[str]:
    own = normalised(name)
    groups = [set().union(*map(normalised, group)) for group in SYNONYMS]
    return own.union(*(group for group in groups if group & own))


def _singular(word: str) -> str:
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) else word
