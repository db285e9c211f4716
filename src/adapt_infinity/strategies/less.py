"""LESS (Xia et al. 2024, arXiv:2402.04333): the samples whose training would help the validation samples of some skill
most, by the cosine of Adam-preconditioned gradients.

As published, the skill that is helped most counts, and the samples of highest influence are taken. Gradients are those
of the probed layers with the current adapter, where LESS sums over checkpoints of a warm-up run. Gradients of
validation samples are preconditioned in the same way.
"""

from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.subset.selecting import select_subset as select

PRESETS = {
    "probe": {"gradient": "adam", "image_grounding": False},
    "pseudo_skills": {"k": 1},
    "selector_experts": {"experts": ["influence"], "choice": "fixed"},
    "subset": {"sampler": "top"},
}

__all__ = ["PRESETS", "keep", "select"]
