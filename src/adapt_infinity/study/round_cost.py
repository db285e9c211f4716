"""The costs of a finished round, from its catalog; the formulas are in `costs.py`."""

import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adapt_infinity.study.costs import (
    Cost,
    ModelSize,
    forward_flops,
    probe_flops,
    reading_flops,
    stage_seconds,
    training_flops,
)

Load = Callable[[str], Any]  # loads a catalog entry by its name


def round_cost(made: set[str], load: Load, params: Mapping[str, Any], seconds: Mapping[str, float]) -> Cost:
    """The costs of a round; `made` are the entries that it saved, `seconds` the seconds of each stage."""
    adapter, log = load("adapter"), load("training_log")
    state, kept = load("method_state"), load("kept_pool")
    size = model_size(load("base_model"), adapter)
    features = load("features") if "features" in made else None
    return Cost(
        **stage_seconds(seconds),
        samples_probed=0 if features is None else int((~features.scores["stale"]).sum()),
        selection_flops=0.0 if features is None else selection_flops(size, features, made, load, params),
        training_flops=training_flops(size, int(log["tokens"].sum()), int(log["extra_tokens"].sum())),
        evaluation_flops=forward_flops(size, int(load("answers")["tokens"].sum())),
        stored_samples=len(kept),
        state_bytes=state.bytes,
        added_parameters=size.adapter,
        peak_memory_gb=peak_memory_gb(),
    )


def selection_flops(size: ModelSize, features: Any, made: set[str], load: Load, params: Mapping[str, Any]) -> float:
    """FLOPs of everything that the model read for the selection: samples, validation samples, reference scores."""
    from adapt_infinity.model.checkpoint import Checkpoint
    from adapt_infinity.model.lora import read_adapter

    probe, spec = params["probe"], features.spec["spec"]
    reader = size
    if probe["proxy"]:
        reader = model_size(Checkpoint(Path(probe["proxy"])), read_adapter(Path(probe["proxy_adapter"])))
    flops = reading_flops(reader, features.scores, spec)
    if "targets" in made and len(targets := load("targets")):
        flops += probe_flops(reader, spec, int(targets["tokens"].sum()))
    if "reference_scores" in made and len(load("reference_scores")):
        rows = load("pool_rows")
        new = rows.loc[rows["round"] == params["round"], "sample_id"]  # scores of other rows exist already
        flops += forward_flops(size, int(features.scores.loc[features.scores["sample_id"].isin(new), "tokens"].sum()))
    return flops


def model_size(base: Any, adapter: Any) -> ModelSize:
    """The size of the round's model, for the formulas in `costs.py`."""
    from adapt_infinity.model.checkpoint import decoder_size

    decoder = decoder_size(base)
    return ModelSize(layers=decoder.layers, weights=decoder.weights, adapter=adapter.parameter_count)


def peak_memory_gb() -> float:
    """Peak memory of this process in GiB. Off Linux, `ru_maxrss` may include the parent process's memory."""
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
