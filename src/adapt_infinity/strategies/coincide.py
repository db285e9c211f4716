"""COINCIDE (Lee et al. 2024, arXiv:2406.10995): more of the budget to clusters that resemble many others and are not
dense, and of each the rows whose distribution is nearest to the cluster's.

The published method clusters activations of several layers of a small reference model; here they are the rows that
`pseudo_skills.space` names, gradients by default, read by the model itself or by `probe.proxy`.
"""

from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.subset.selecting import select_subset as select

PRESETS = {
    "probe": {"image_grounding": False},
    "selector_experts": {"experts": ["nll"], "choice": "fixed"},  # not looked at
    "subset": {"shares": "transferability", "sampler": "mmd"},
}

__all__ = ["PRESETS", "keep", "select"]
