"""Sequential: train on what has just arrived and nothing else. What is forgotten without any replay.

The pool is kept as others keep it, though nothing of it is read again: all strategies store as many samples.
"""

from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.subset.uniform import draw_arrivals as select

__all__ = ["keep", "select"]
