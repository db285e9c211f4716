"""Adapt-∞ (Maharana et al., arXiv:2410.10636): pseudo-skills share the budget, each judged by its own expert, and the
most redundant rows of each leave the pool (METHOD sections 3 to 7).
"""

from adapt_infinity.pruning.removals import prune_redundant as keep
from adapt_infinity.subset.selecting import select_subset as select

__all__ = ["keep", "select"]
