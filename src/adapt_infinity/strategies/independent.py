"""Independent: every round trains the adapter of round 0 on its own arrivals, as if there were no earlier rounds.

This is a reference baseline: what a dataset reaches alone is the reference of the relative gain.
"""

from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.subset.uniform import draw_arrivals as select

START = "genesis"

__all__ = ["START", "keep", "select"]
