"""COINCIDE (Lee et al. 2024, arXiv:2406.10995): larger shares for clusters that resemble many others and are not dense,
and from each cluster the samples whose distribution is closest to the cluster's.

The published method clusters activations of several layers of a small reference model. Here samples are clustered in
`pseudo_skills.space`, by default by their gradients, which are read with the model itself or with `probe.proxy`.
"""

from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.subset.selecting import select_subset as select

PRESETS = {
    "probe": {"image_grounding": False},
    "selector_experts": {"experts": ["nll"], "choice": "fixed"},  # any score; it is not used
    "subset": {"shares": "transferability", "sampler": "mmd"},
}

__all__ = ["PRESETS", "keep", "select"]
