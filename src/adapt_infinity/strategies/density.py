"""Density-based pruning (Abbas et al. 2024, arXiv:2401.04578): clusters of embeddings, more of the budget to those that
are spread out and far from the others, and of each the rows that least resemble another.

Shares are proportional to spread × distance, without the published softmax and its temperature.
"""

from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.subset.selecting import select_subset as select

PRESETS = {
    "probe": {"feature": "embedding", "image_grounding": False},  # a forward pass is all that it takes
    "pseudo_skills": {"space": "embeddings"},
    "selector_experts": {"experts": ["uniqueness"], "choice": "fixed"},
    "subset": {"shares": "density", "sampler": "top"},
}

__all__ = ["PRESETS", "keep", "select"]
