"""One score for the whole pool, such as `score:perplexity`: no pseudo-skills, and the same expert for all samples.

This is a baseline for selector experts. Samples are drawn by `subset.sampler`, as Adapt-∞ draws those of one cluster,
and leave the pool at random.
"""

from typing import Any

from adapt_infinity.features import scores
from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.selector_experts import comparisons
from adapt_infinity.subset.selecting import select_subset as select

ARGUMENT = "selector_experts.experts"
PRESETS = {"pseudo_skills": {"k": 1}, "selector_experts": {"choice": "fixed"}}

__all__ = ["ARGUMENT", "PRESETS", "keep", "presets_of", "select"]


def presets_of(score: str) -> dict[str, Any]:
    """Settings of the probe, so that it makes only the passes that the score needs; comparisons may need gradients."""
    if score in comparisons.names():
        return {"probe": {"image_grounding": False}}
    needed = scores.needs(score) if score in scores.names() else ()  # counts such as tokens need no pass of their own
    feature = {} if "gradient_norm" in needed else {"feature": "embedding"}
    return {"probe": {**feature, "image_grounding": "nll_without_image" in needed}}
