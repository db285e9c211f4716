"""Data strategies: what a study compares. One file each, with

    select(...) -> subset        which pool rows this round trains on
    keep(...) -> removals        which of them leave the pool for good

whose arguments are taken by name from: pool_rows, round, features, clusters, cluster_experts, must_keep,
subset_params, pruning_params. The pipeline wires what a strategy names, so one that reads no features pays for no
probe. `must_keep` lists the samples that `keep` may not remove; a round whose strategy removes one stops. A file may
also say

    START = "genesis"   the round trains genesis' adapter, and not the one of the round before
    PRESETS = {…}       parameters that the strategy sets, unless the command line says otherwise
    ARGUMENT = "a.b"    the parameter, a list, of which what follows a colon is the only element: in `score:el2n`, el2n
    presets_of(el2n)    presets that hang on it
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from adapt_infinity import registry


def names() -> list[str]:
    """The strategies that there are, by file name."""
    return registry.names(__name__)


def load(name: str) -> ModuleType:
    """The strategy `name`; `ValueError` lists those that there are."""
    return registry.module(__name__, name)


def presets(name: str) -> dict[str, Any]:
    """The parameters that a strategy sets, nested as in the configuration; of `score:el2n`, its argument too."""
    file, _, argument = name.partition(":")
    strategy = load(file)
    place = getattr(strategy, "ARGUMENT", "")
    if argument and not place:
        raise ValueError(f"strategy {file!r} takes no argument, got {name!r}")
    given: dict[str, Any] = getattr(strategy, "PRESETS", {})
    if argument:
        stage, key = place.split(".")
        given = merged(given, {stage: {key: [argument]}})
        if hasattr(strategy, "presets_of"):
            given = merged(given, strategy.presets_of(argument))
    return given


def pipeline_name(name: str) -> str:
    """Under which a strategy's round is registered."""
    file = name.partition(":")[0]
    load(file)
    return "round" if file == "adapt_inf" else f"round_{file}"


def of_pipeline(name: str) -> str:
    """The strategy's file of a round's pipeline."""
    return "adapt_inf" if name in ("__default__", "round") else name.removeprefix("round_")


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested parameters: what `over` says counts."""
    both = dict(under)
    for key, value in over.items():
        inside = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = merged(both[key], value) if inside else value
    return both
