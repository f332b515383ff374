"""Checks and imports of every dotted path in a configuration, by its role.

A configuration may come from somewhere else, with a run directory. Its names are checked when it is parsed, before
torch is imported, and what they turn out to be is checked again before anything is called.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

from segdistill.config.known_names import backbone_objection, is_installed, objection
from segdistill.utils.errors import ConfigError, first_line

Role = Literal["network", "loss", "optimizer", "augmentation", "logger", "callback", "source"]
TARGET, FACTORY = "_target_", "factory"
ADAPTERS = ("segdistill.models.SegmentationModelAdapter", "segdistill.models.adapters.SegmentationModelAdapter")
"""Networks whose `factory` is a dotted path as well."""
PUBLIC_PATH = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")


@dataclass(frozen=True)
class Rule:
    """What may take a role without being listed in `trusted_packages`.

    Attributes:
        base: Dotted path of the class that every class inherits from.
        namespaces: Where names may be looked up.
        functions: Where functions may be defined, as opposed to imported; each a module or a function.
    """

    base: str
    namespaces: tuple[str, ...]
    functions: tuple[str, ...] = ()


RULES: dict[Role, Rule] = {
    "network": Rule(
        "torch.nn.Module",
        (
            "segdistill.models",
            "torch.nn",
            "torchvision.models",
            "torchvision.ops",
            "timm.models",
            "timm.layers",
            "transformers",
            "segmentation_models_pytorch",
        ),
        (
            "segdistill.models.adapters.segformer",
            "segdistill.models.pretrained.transformer",
            "segdistill.models.pretrained.smp",
            "torchvision.models",
            "segmentation_models_pytorch.create_model",
        ),
    ),
    "loss": Rule("torch.nn.Module", ("segdistill.losses", "torch.nn")),
    "optimizer": Rule("torch.optim.Optimizer", ("torch.optim", "timm.optim")),
    "augmentation": Rule(
        "torchvision.transforms.v2.Transform", ("torchvision.transforms.v2", "segdistill.data.augment")
    ),
    "logger": Rule(
        "pytorch_lightning.loggers.Logger",
        ("pytorch_lightning.loggers", "segdistill.engine.loggers"),
        ("segdistill.engine.loggers.wandb_logger",),
    ),
    "callback": Rule("pytorch_lightning.Callback", ("pytorch_lightning.callbacks", "segdistill.callbacks")),
    "source": Rule("segdistill.data.sources.base.Source", ("segdistill.data.sources",)),
}
ROLES: dict[str, Role] = {
    "network": "network",
    "loss": "loss",
    "losses": "loss",
    "optimizer": "optimizer",
    "augment": "augmentation",
    "logger": "logger",
    "callbacks": "callback",
    "source": "source",
}
"""Key of the configuration -> role of every path under it."""
_trusted: ContextVar[tuple[str, ...]] = ContextVar("trusted_packages", default=())


@contextmanager
def trusting(packages: Sequence[str]) -> Iterator[None]:
    """Let `locate` accept callables that these packages define, while the block runs."""
    token = _trusted.set(tuple(packages))
    try:
        yield
    finally:
        _trusted.reset(token)


@dataclass(frozen=True)
class Target:
    """A dotted path in a configuration.

    Attributes:
        key: Its place in the configuration, such as `student.network._target_`.
        path: The class or function to call.
        options: The mapping that contains it.
    """

    key: str
    path: Any
    options: Mapping[str, Any]

    @property
    def role(self) -> Role:
        """The role of the path, which its key determines.

        Raises:
            ConfigError: If nothing is called there.
        """
        for part in self.key.split("."):
            if part in ROLES:
                return ROLES[part]
        raise ConfigError(self.key, self.path, f"nothing is called here, only under {', '.join(ROLES)}")


def targets(node: Any, key: str = "") -> Iterator[Target]:
    """Yield every dotted path of a configuration, at any depth.

    Args:
        node: Dictionaries, lists and plain values, without interpolations.
        key: Key of the node.
    """
    if isinstance(node, Mapping):
        if TARGET in node:
            yield Target(f"{key}.{TARGET}".lstrip("."), node[TARGET], node)
            if node[TARGET] in ADAPTERS and FACTORY in node:
                yield Target(f"{key}.{FACTORY}".lstrip("."), node[FACTORY], node)
        for name, child in node.items():
            yield from targets(child, f"{key}.{name}".lstrip("."))
    elif isinstance(node, list | tuple):
        for index, child in enumerate(node):
            yield from targets(child, f"{key}.{index}".lstrip("."))


def check_name(key: str, path: Any, role: Role, trusted: Sequence[str]) -> None:
    """Check a dotted path without importing anything.

    Raises:
        ConfigError: If it is outside of the namespaces of its role and of the trusted packages.
    """
    if not isinstance(path, str) or not PUBLIC_PATH.fullmatch(path):
        raise ConfigError(key, path, "must be the dotted path of a class or function, as in package.module.Name")
    package, rule = path.partition(".")[0], RULES[role]
    if package in sys.stdlib_module_names:
        raise ConfigError(key, path, "is part of Python itself, and stands for nothing that is trained here")
    if _within(path, trusted) or _within(path, rule.namespaces):
        return
    listed = ", ".join(rule.namespaces)
    allowed = f"may not be called as {role}: it is not of {listed}, and trusted_packages does not list {package}"
    raise ConfigError(key, path, allowed)


def check_targets(settings: Mapping[str, Any], trusted: Sequence[str], unused: Sequence[str] = ()) -> None:
    """Check every dotted path of a configuration as far as possible without importing it.

    Args:
        settings: The whole configuration, without interpolations.
        trusted: Packages whose names are not looked up: they may define them, or register models, when imported.
        unused: Top-level keys of networks that this run does not build; a path under them need not exist.

    Raises:
        ConfigError: If a path may not be called, or does not exist.
    """
    for target in targets(settings):
        check_name(target.key, target.path, target.role, trusted)
        if target.key.partition(".")[0] in unused:
            continue
        package = target.path.partition(".")[0]
        if not _within(target.path, trusted):
            complaint = objection(target.path)
        else:
            complaint = None if is_installed(package) else f"there is no package {package}; PYTHONPATH adds its folder"
        if complaint is not None:
            raise ConfigError(target.key, target.path, complaint)
        complaint = None if trusted else backbone_objection(target.options)
        if complaint is not None:
            key = f"{target.key.rpartition('.')[0]}.backbone"
            raise ConfigError(key, target.options["backbone"], complaint)


def locate(key: str, path: str, role: Role) -> Callable[..., Any]:
    """Import the object that a dotted path names.

    Args:
        key: Key in the configuration, for errors.
        path: Dotted path, checked by `check_name`.
        role: Its role, which decides what it may be.

    Raises:
        ConfigError: If it does not exist, or is not what the role requires.
    """
    trusted, rule = _trusted.get(), RULES[role]
    check_name(key, path, role, trusted)
    try:
        found: Callable[..., Any] = pkgutil.resolve_name(path)
    except (ImportError, AttributeError) as error:
        raise ConfigError(key, path, f"cannot be imported ({first_line(error)})") from error
    defined = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', '')}"
    if inspect.isclass(found) and issubclass(found, pkgutil.resolve_name(rule.base)):
        return found
    if callable(found) and (
        _within(defined, trusted) or (inspect.isfunction(found) and _within(defined, rule.functions))
    ):
        return found
    functions = f", or a function of {', '.join(rule.functions)}" if rule.functions else ""
    raise ConfigError(key, path, f"is {defined}; needed is a subclass of {rule.base}{functions}")


def build(key: str, spec: Mapping[str, Any], **options: Any) -> Any:
    """Locate every dotted path in a mapping with a `_target_`, then instantiate it.

    Args:
        key: Key of the mapping in the configuration, which determines its role.
        spec: Mapping in the form that `hydra.utils.instantiate` takes.
        options: Further arguments of the call.

    Raises:
        ConfigError: If a path in it may not be called.
    """
    from hydra.utils import instantiate

    for target in targets(spec, key):
        locate(target.key, target.path, target.role)
    return instantiate(spec, **options)


def _within(path: str, namespaces: Sequence[str]) -> bool:
    return any(path == namespace or path.startswith(f"{namespace}.") for namespace in namespaces)
