"""The folder is the registry: a room's files, found by name.

A format, expert, grader, sampler or strategy is one file with one agreed function. Adding one is adding that file.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def names(room: str) -> list[str]:
    """File names (without .py) in the package `room`, sorted; names that start with `_` are not offered."""
    folder = importlib.import_module(room).__path__
    return sorted(module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))


def module(room: str, name: str) -> ModuleType:
    """The file `name` of the package `room`; `ValueError` lists what is there."""
    known = names(room)
    if name not in known:
        kind = room.rsplit(".", 1)[-1]
        raise ValueError(f"there is no {name!r} in {kind}; known: {', '.join(known)}")
    return importlib.import_module(f"{room}.{name}")


def load(room: str, name: str, function: str) -> Any:
    """The agreed `function` of the file `name` in the package `room`."""
    return getattr(module(room, name), function)
