"""Fingerprint of the package's own code, for caches of results that the code computed."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Folder that holds this package and `roadscenes`, which is installed beside it."""
DIGITS = 8


@cache
def code_digest(*places: str) -> str:
    """Compute a fingerprint of files and folders of code; comments and docstrings do not change it.

    Args:
        places: Paths relative to the folder that holds the packages, such as "segdistill/data".
    """
    digest = hashlib.sha256()
    for place in places:
        path = ROOT / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(ROOT).as_posix()}\n{essence(file.read_text('utf-8'))}".encode())
    return digest.hexdigest()[:DIGITS]


def essence(source: str) -> str:
    """Dump the syntax tree of Python code, without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _is_text(each)]  # type: ignore[attr-defined] # it has a body
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
