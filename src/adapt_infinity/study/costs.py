"""The costs of a round in floating-point operations (FLOPs), so that selection and training can be compared.

For N weights in the decoder's layers, a trained weights in the adapter, and T tokens (those of pictures included):

    forward     2 N T
    backward    2 N T for the gradients of activations, and 2 a T for those of the adapter's weights
    training    forward + backward of the training samples; forward of what a training method reads in addition
    probe       forward; a second forward without pictures, if the score image_grounding is used; backward down to the
                lowest probed layer l of L, which is (L − l) / L of a backward pass; for zero-order features of
                width dim, 2 dim forward passes from layer l on in place of the backward pass
    experts     the same for the validation samples of `influence`; forward of each arrival for `learnability`
    evaluation  forward of the questions and answers of the test items

A probe with `probe.proxy` uses the N of the proxy model. The FLOPs leave out the vision tower, the projector, the
output head, the part of attention that is quadratic in length, the sketch, k-means and pruning; the seconds do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """The numbers of weights that the formulas need."""

    layers: int  # L, of the decoder
    weights: int  # N, in the decoder's layers
    adapter: int  # a, trained weights


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The costs of one round."""

    selection_seconds: float
    training_seconds: float
    evaluation_seconds: float
    samples_probed: int
    selection_flops: float
    training_flops: float
    evaluation_flops: float
    stored_samples: int  # in the pool that the next round starts from
    state_bytes: int  # of the training method's state for the next round
    added_parameters: int
    peak_memory_gb: float


SELECTION = (
    "pool",
    "features",
    "pseudo_skills",
    "selector_experts",
    "subset",
    "pruning",
)  # pool makes shortlists


def training_flops(size: ModelSize, tokens: int, extra_tokens: int) -> float:
    """FLOPs of training: `tokens` pass forward and backward, `extra_tokens` forward only."""
    backward = 2 * (size.weights + size.adapter)
    return float(tokens * (2 * size.weights + backward) + extra_tokens * 2 * size.weights)


def probe_flops(size: ModelSize, spec: Mapping[str, Any], tokens: int, reread_tokens: int = 0) -> float:
    """FLOPs of the probe for `tokens`, and `reread_tokens` without pictures; `spec`: fields of `features.spec.Spec`."""
    share = (size.layers - min(spec["layers"])) / size.layers
    forward = 2 * size.weights * (tokens + reread_tokens)
    match spec["feature"]:
        case "gradient":
            return float(forward + share * 2 * (size.weights + size.adapter) * tokens)
        case "zero_order":
            return float(forward + 2 * spec["dim"] * share * 2 * size.weights * tokens)
    return float(forward)


def forward_flops(size: ModelSize, tokens: int) -> float:
    """FLOPs of forward passes over `tokens`."""
    return float(2 * size.weights * tokens)


def reading_flops(size: ModelSize, scores: pd.DataFrame, spec: Mapping[str, Any]) -> float:
    """FLOPs of computing a pool's features, including those that were reused from an earlier run.

    `scores` has one row per sample, with the columns tokens, reread_tokens and stale; stale rows, whose features are of
    an earlier round, do not count.
    """
    tokens = scores.loc[~scores["stale"], ["tokens", "reread_tokens"]].sum()
    return probe_flops(size, spec, int(tokens["tokens"]), int(tokens["reread_tokens"]))


def stage_seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of selection, training and evaluation, from the seconds of each stage."""
    return {
        "selection_seconds": sum(seconds.get(stage, 0.0) for stage in SELECTION),
        "training_seconds": seconds.get("training", 0.0),
        "evaluation_seconds": seconds.get("benchmarks", 0.0),
    }


def total(costs: Sequence[Cost]) -> dict[str, float]:
    """The costs of a stream: sums over its rounds, but the maximum of samples, bytes, parameters and memory."""
    largest = ("stored_samples", "state_bytes", "added_parameters", "peak_memory_gb")
    rows = [asdict(cost) for cost in costs]
    costs_of_stream = {name: (max if name in largest else sum)(row[name] for row in rows) for name in rows[0]}
    return {
        **costs_of_stream,
        "total_flops": costs_of_stream["selection_flops"] + costs_of_stream["training_flops"],
        "total_seconds": costs_of_stream["selection_seconds"] + costs_of_stream["training_seconds"],
    }


def from_json(facts: Mapping[str, Any]) -> Cost:
    """The costs in a round's `cost.json`; ValueError if a field is missing."""
    missing = sorted(Cost.__dataclass_fields__.keys() - facts.keys())
    if missing:
        raise ValueError(f"a cost.json lacks {', '.join(missing)}; an older version wrote it, so run its round again")
    return Cost(**{name: facts[name] for name in Cost.__dataclass_fields__})
