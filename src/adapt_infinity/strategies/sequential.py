"""Sequential: train on the samples that have just arrived only. It shows what is forgotten without replay.

The pool is kept at the same size as by other strategies, although old samples are not read again.
"""

from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.subset.uniform import draw_arrivals as select

__all__ = ["keep", "select"]
