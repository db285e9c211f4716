"""One static score over the whole pool, such as `score:perplexity`: no pseudo-skills, and the same expert for all.

What selector experts have to beat. The rows are drawn as adapt_inf draws a cluster's (`subset.sampler`), and leave the
pool at random.
"""

from adapt_infinity.pruning import prune_uniformly as keep
from adapt_infinity.selection.subset import select_subset as select

ARGUMENT = "selector_experts.experts"
PRESETS = {"pseudo_skills": {"k": 1}, "selector_experts": {"choice": "fixed"}}

__all__ = ["ARGUMENT", "PRESETS", "keep", "select"]
