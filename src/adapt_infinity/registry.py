"""Finds plug-ins by file name: a folder of the package is a registry, and each of its files is one entry.

A format, score, grader, sampler or strategy is one file with one function that all files of the folder have. To add
one, add a file.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def names(package: str) -> list[str]:
    """Sorted names of the files (without .py) in `package`, such as "adapt_infinity.subset.samplers"; without `_…`."""
    folder = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))


def module(package: str, name: str) -> ModuleType:
    """The module `name` of `package`; ValueError, with the known names, if there is none."""
    known = names(package)
    if name not in known:
        kind = package.rsplit(".", 1)[-1]
        raise ValueError(f"there is no {name!r} in {kind}; known: {', '.join(known)}")
    return importlib.import_module(f"{package}.{name}")


def load(package: str, name: str, function: str) -> Any:
    """The function called `function` of the module `name` of `package`; ValueError if there is no such module."""
    return getattr(module(package, name), function)
