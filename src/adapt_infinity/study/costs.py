"""What a round costs, in passes through the model, so that selection and training can be set against each other.

With N weights in the decoder's layers and T tokens (pictures' places included), in floating-point operations:

    forward     2 N T
    backward    2 N T through frozen weights, and as much again for what of them is trained: the adapter's share a / N
    training    forward + backward of what is trained on and of what a method adds
    probe       forward; forward again of what is read without its pictures, where the score image_grounding is wanted;
                a backward pass that ends at the lowest probed layer ℓ of L: (L − ℓ) / L of one; in its place, for
                zero-order features of width dim, 2 dim forward passes from ℓ on
    experts     the same for the validation samples of `influence`; forward of each arrival for `learnability`
    evaluation  forward of the test items' questions and answers

A reading by `probe.proxy` is counted with the proxy's N. Left out, everywhere: the vision tower and projector, the head
(answer positions only), attention's part that grows with the square of the length, the sketch, k-means and pruning.
Seconds have all of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """What the formulas need to know of a model."""

    layers: int  # L
    weights: int  # N: in the decoder's layers
    adapter: int  # trained weights


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one round."""

    selection_seconds: float
    training_seconds: float
    evaluation_seconds: float
    samples_probed: int
    selection_flops: float
    training_flops: float
    evaluation_flops: float
    stored_samples: int  # of the pool, that go on to the next round
    state_bytes: int  # of what the method carries to the next round
    added_parameters: int
    peak_memory_gb: float


SELECTION = ("pool", "features", "pseudo_skills", "selector_experts", "subset", "pruning")  # a shortlist is in pool


def training_flops(size: ModelSize, tokens: int, extra_tokens: int) -> float:
    """Of `tokens` read forward and backward, and `extra_tokens` read forward only."""
    backward = 2 * (size.weights + size.adapter)
    return float(tokens * (2 * size.weights + backward) + extra_tokens * 2 * size.weights)


def probe_flops(size: ModelSize, spec: Mapping[str, Any], tokens: int, reread_tokens: int = 0) -> float:
    """Of a reading of `tokens`, and of `reread_tokens` without pictures; `spec` has the fields of `probe.spec.Spec`."""
    part = (size.layers - min(spec["layers"])) / size.layers
    forward = 2 * size.weights * (tokens + reread_tokens)
    match spec["feature"]:
        case "gradient":
            return float(forward + part * 2 * (size.weights + size.adapter) * tokens)
        case "zero_order":
            return float(forward + 2 * spec["dim"] * part * 2 * size.weights * tokens)
    return float(forward)


def forward_flops(size: ModelSize, tokens: int) -> float:
    """Of tokens that are only read: test items' questions and answers, say."""
    return float(2 * size.weights * tokens)


def reading_flops(size: ModelSize, scores: pd.DataFrame, spec: Mapping[str, Any]) -> float:
    """Of a pool's features, whether read now or taken over from an earlier run: the choice needs them either way.

    `scores` has a row a sample with its tokens; rows that are stale were read for another round and are not charged.
    """
    read = scores.loc[~scores["stale"], ["tokens", "reread_tokens"]].sum()
    return probe_flops(size, spec, int(read["tokens"]), int(read["reread_tokens"]))


def stage_seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """The stages' seconds by what they are for."""
    return {
        "selection_seconds": sum(seconds.get(stage, 0.0) for stage in SELECTION),
        "training_seconds": seconds.get("training", 0.0),
        "evaluation_seconds": seconds.get("benchmarks", 0.0),
    }


def total(costs: Sequence[Cost]) -> dict[str, float]:
    """Of a stream: sums over rounds; of memory, bytes and parameters the largest."""
    largest = ("stored_samples", "state_bytes", "added_parameters", "peak_memory_gb")
    rows = [asdict(cost) for cost in costs]
    found = {name: (max if name in largest else sum)(row[name] for row in rows) for name in rows[0]}
    found["total_flops"] = found["selection_flops"] + found["training_flops"]
    found["total_seconds"] = found["selection_seconds"] + found["training_seconds"]
    return found


def from_json(facts: Mapping[str, Any]) -> Cost:
    """As a round's `cost.json` has it; `ValueError` for one that an older version wrote."""
    missing = sorted(Cost.__dataclass_fields__.keys() - facts.keys())
    if missing:
        raise ValueError(f"a cost.json lacks {', '.join(missing)}: it is of an older version, run its round again")
    return Cost(**{name: facts[name] for name in Cost.__dataclass_fields__})
