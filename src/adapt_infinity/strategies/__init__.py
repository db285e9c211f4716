"""Data strategies, which a study compares. One file each, found by name, with two functions:

    select(...) -> subset        which pool samples this round trains on (the table of subset/table.py)
    keep(...) -> removals        which samples leave the pool permanently

Their arguments are taken by name from: pool_rows, round, features, clusters, question_clusters, scores,
cluster_experts, previous_subset, requests, must_keep, subset_params, pruning_params. The pipeline contains only the
stages whose results a strategy names, so a strategy without `features` needs no probe. `must_keep` lists the samples
that `keep` must not remove; a round whose strategy removes one of them stops. A file can also define

    shortlist(...) -> removals   samples that leave the joined pool before the probe reads it
    START = "genesis"            the round trains the adapter of round 0 instead of that of the previous round
    KEEPS_ALL = True             the pool has no size limit
    PRESETS = {…}                parameters that the strategy sets unless the command line sets them
    ARGUMENT = "stage.key"       a list parameter; in `score:el2n` it is set to ["el2n"]
    presets_of(argument)         presets that depend on this argument
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from adapt_infinity import registry


def names() -> list[str]:
    """Names of all strategies (file names), sorted."""
    return registry.names(__name__)


def load(name: str) -> ModuleType:
    """The module of the strategy `name`; `ValueError` for an unknown name lists the known ones."""
    return registry.module(__name__, name)


def presets(name: str) -> dict[str, Any]:
    """The parameters that a strategy sets, nested as in the configuration.

    name: a strategy, with its argument if it takes one (`score:el2n`). `ValueError` for an unknown strategy, and for an
    argument that the strategy does not take.
    """
    file, _, argument = name.partition(":")
    strategy = load(file)
    parameter = getattr(strategy, "ARGUMENT", "")
    if argument and not parameter:
        raise ValueError(f"strategy {file!r} takes no argument, got {name!r}")
    given: dict[str, Any] = getattr(strategy, "PRESETS", {})
    if argument:
        stage, key = parameter.split(".")
        given = merged(given, {stage: {key: [argument]}})
        if hasattr(strategy, "presets_of"):
            given = merged(given, strategy.presets_of(argument))
    return given


def pipeline_name(name: str) -> str:
    """The name of the pipeline of a strategy's round; `ValueError` for an unknown strategy."""
    file = name.partition(":")[0]
    load(file)
    return "round" if file == "adapt_inf" else f"round_{file}"


def of_pipeline(name: str) -> str:
    """The strategy (file name) of a round's pipeline."""
    return "adapt_inf" if name in ("__default__", "round") else name.removeprefix("round_")


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested parameters of both; where both have a value, that of `over`."""
    both = dict(under)
    for key, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = merged(both[key], value) if nested else value
    return both
