"""Independent: every round trains genesis' adapter on its own arrivals, as if there were no stream.

A ruler: what a dataset comes to alone is the reference of the relative gain.
"""

from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.subset.uniform import draw_arrivals as select

START = "genesis"

__all__ = ["START", "keep", "select"]
