"""Density-based pruning (Abbas et al. 2024, arXiv:2401.04578): clusters of embeddings, larger shares for clusters that
are spread out and far from the others, and from each cluster the samples that are least similar to another one.

Shares are in proportion to spread × distance, without the published softmax and its temperature.
"""

from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.subset.selecting import select_subset as select

PRESETS = {
    "probe": {"feature": "embedding", "image_grounding": False},  # a forward pass is enough
    "pseudo_skills": {"space": "embeddings"},
    "selector_experts": {"experts": ["uniqueness"], "choice": "fixed"},
    "subset": {"shares": "density", "sampler": "top"},
}

__all__ = ["PRESETS", "keep", "select"]
