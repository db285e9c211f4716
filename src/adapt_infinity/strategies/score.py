"""One static score over the whole pool, such as `score:perplexity`: no pseudo-skills, and the same expert for all.

What selector experts have to beat. The rows are drawn as adapt_inf draws a cluster's (`subset.sampler`), and leave the
pool at random.
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
    """A score pays for the passes that it needs; a comparison may look at gradients."""
    if score in comparisons.names():
        return {"probe": {"image_grounding": False}}
    needed = scores.needs(score) if score in scores.names() else ()  # tokens, say, are counted in any reading
    feature = {} if "gradient_norm" in needed else {"feature": "embedding"}
    return {"probe": {**feature, "image_grounding": "nll_without_image" in needed}}
