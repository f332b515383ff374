"""Names of a package, read from its source, so that a misspelt one is reported before torch is imported."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

NEEDS = {
    "segdistill.models.adapters.segformer": "transformers",
    "segdistill.models.pretrained.transformer": "transformers",
    "segdistill.models.pretrained.smp": "segmentation_models_pytorch",
    "pytorch_lightning.loggers.TensorBoardLogger": "tensorboard",
}
"""Paths that need a package that requirements.txt does not install."""
DISTRIBUTIONS = {"segmentation_models_pytorch": "segmentation-models-pytorch"}
"""Package -> its name for `pip install`, where the two differ."""
DYNAMIC = re.compile(r"\bglobals\(\)|\bsys\.modules\b")
TIMM_BACKBONES = ("segdistill.models.DeepLabV3", "segdistill.models.DeepLabV3Plus")
"""Networks whose `backbone` is a model of timm."""


def objection(path: str) -> str | None:
    """Return why a dotted path cannot be imported; None if it can be, or if the source does not tell."""
    package, *rest = path.split(".")
    needed = next((name for name in (package, NEEDS.get(path)) if name and not is_installed(name)), None)
    if needed is not None:
        return f"needs a package: pip install {DISTRIBUTIONS.get(needed, needed)}"
    file, rest = _descend(_root(package), rest)
    names = _names(file) if file is not None and rest else None
    if names is None or rest[0] in names:
        return None
    module = path[: -len(".".join(rest)) - 1]
    inner = _defining(file, rest[0]) if file is not None else None
    if inner is not None:
        return f"{module} has no {rest[0]}; did you mean {module}.{inner}.{rest[0]}?"
    return f"{module} has no {rest[0]}{_near(rest[0], (name for name in names if not name.startswith('_')))}"


def backbone_objection(options: Mapping[str, Any]) -> str | None:
    """Return why a backbone cannot be built; None if timm has it, or if timm's source does not tell."""
    name, folder = options.get("backbone"), _root("timm")
    if options.get("_target_") not in TIMM_BACKBONES or not isinstance(name, str) or folder is None:
        return None
    sources = [path.read_text(encoding="utf-8") for path in (folder.parent / "models").rglob("*.py")]
    model = name.partition(".")[0]  # what follows names its weights
    ways = (f"def {model}(", f'"{model}"', f"'{model}'")  # a function, or a deprecated name in a table
    if not sources or any(way in source for source in sources for way in ways):
        return None
    models = re.findall(r"^@register_model\s+def (\w+)", "\n".join(sources), re.MULTILINE)
    return f"timm has no such network{_near(name, models)}"


def is_installed(package: str) -> bool:
    """Tell whether a package could be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _root(package: str) -> Path | None:
    """Return the source file of a top-level package or module."""
    if not is_installed(package):
        return None
    spec = importlib.util.find_spec(package)
    file = Path(spec.origin) if spec is not None and spec.origin else None
    return file if file is not None and file.suffix == ".py" else None


def _descend(file: Path | None, parts: list[str]) -> tuple[Path | None, list[str]]:
    """Follow a path through packages and modules; return the last one's source and the rest of the path."""
    while file is not None and file.name == "__init__.py" and parts:
        inner = next(
            (p for p in (file.parent / parts[0] / "__init__.py", file.parent / f"{parts[0]}.py") if p.is_file()), None
        )
        if inner is None:
            break
        file, parts = inner, parts[1:]
    return file, parts


def _defining(file: Path, name: str) -> str | None:
    """Return the module of a package that defines a name which the package does not import, or None."""
    defined = re.compile(rf"^(class|def) {name}\b", re.MULTILINE)
    inner = file.parent.glob("[!_]*.py") if file.name == "__init__.py" else ()
    return next((path.stem for path in sorted(inner) if defined.search(path.read_text(encoding="utf-8"))), None)


@cache
def _names(file: Path) -> frozenset[str] | None:
    """Return the names that a module defines or imports; None if its source does not tell all of them."""
    source = file.read_text(encoding="utf-8")
    if DYNAMIC.search(source):
        return None
    names: set[str] = set()
    for statement in _statements(ast.parse(source).body):
        if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
            starred = _starred(file, statement)
            if starred is None:
                return None
            names |= starred
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        else:
            names |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return None if "__getattr__" in names else frozenset(names)


def _starred(file: Path, statement: ast.ImportFrom) -> frozenset[str] | None:
    """Return the names that `from module import *` brings, and those that `__all__` leaves out."""
    parts = statement.module.split(".") if statement.module else []
    if statement.level == 0:
        inner, rest = _descend(_root(parts[0]), parts[1:])
    else:
        folder = file.parent
        for _ in range(statement.level - 1):
            folder = folder.parent
        inner, rest = _descend(folder / "__init__.py", parts)
    return None if inner is None or rest or inner == file else _names(inner)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported, without those inside functions and classes."""
    for statement in body:
        if isinstance(statement, ast.For):
            yield ast.Expr(statement.target)
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for part in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(statement, part, []))
            for handler in getattr(statement, "handlers", []):
                yield from _statements(handler.body)
        else:
            yield statement
