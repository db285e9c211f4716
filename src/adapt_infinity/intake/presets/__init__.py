"""Presets: what to download of a public dataset, where to put it, and the source entry that reads it.

A preset is a YAML file here, found by its name:

    about: what the dataset is
    download: [addresses and file names]
    licence: under which terms; what a file in it says goes before what stands here
    layout: which file goes where below the stream's data folder
    source: {name, format, options, train, test, …}        an entry of `sources`, as docs/your_data.md has them
    expected: {train: samples, test: samples, note: …}     before anything is rejected; `note` says what is unconfirmed
    cite: the paper

A stream names it by a resolver, with what is to be different: `"${preset:gqa, {train: ''}}"` only tests on GQA.
Nothing is downloaded by this project.
"""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml


def names() -> list[str]:
    """Every preset there is."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".yml") for file in files if file.name.endswith(".yml"))


def load(name: str) -> dict[str, Any]:
    """The whole preset `name`; `ValueError` lists what is there."""
    if name not in names():
        raise ValueError(f"there is no preset {name!r}; known: {', '.join(names())}")
    preset: dict[str, Any] = yaml.safe_load(resources.files(__name__).joinpath(f"{name}.yml").read_text("utf-8"))
    return preset


def source(name: str, overrides: Any = None) -> dict[str, Any]:
    """The preset's source entry with the counts that are expected of it, and `overrides` on top."""
    preset = load(name)
    if overrides is not None and not isinstance(overrides, Mapping):
        raise ValueError(f"what preset {name!r} is to have different must be keys and values, got {overrides!r}")
    return {**preset["source"], "expected": dict(preset["expected"]), **(overrides or {})}
