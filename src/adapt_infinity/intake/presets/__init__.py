"""Presets of public datasets: what to download, where to put it, and the source entry that reads it.

A preset is a YAML file in this folder, named by its file name, with these keys:

    about: what the dataset is
    download: [URLs and file names]
    licence: the terms of use; if the dataset's own files state others, those apply
    layout: where each file goes below the stream's data folder
    source: {name, format, options, train, test, …}     an entry of `sources`; docs/your_data.md explains its keys
    expected: {train: samples, test: samples, note: …}  numbers before rejects; `note` says which are unconfirmed
    cite: the paper

A stream uses a preset by a resolver, and may override keys: `"${preset:gqa, {train: ''}}"` uses GQA for tests only.
This project downloads nothing itself.
"""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml


def names() -> list[str]:
    """The names of all presets."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".yml") for file in files if file.name.endswith(".yml"))


def load(name: str) -> dict[str, Any]:
    """All keys of the preset `name`; `ValueError` lists the known presets."""
    if name not in names():
        raise ValueError(f"there is no preset {name!r}; known: {', '.join(names())}")
    preset: dict[str, Any] = yaml.safe_load(resources.files(__name__).joinpath(f"{name}.yml").read_text("utf-8"))
    return preset


def source(name: str, overrides: Any = None) -> dict[str, Any]:
    """The preset's source entry, with its expected numbers of samples, after `overrides` replace some keys.

    `ValueError` for an unknown preset, and when `overrides` is not a mapping.
    """
    preset = load(name)
    if overrides is not None and not isinstance(overrides, Mapping):
        raise ValueError(f"the overrides of preset {name!r} must be keys and values, got {overrides!r}")
    return {**preset["source"], "expected": dict(preset["expected"]), **(overrides or {})}
