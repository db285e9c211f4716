"""Adapt-∞ (Maharana et al., arXiv:2410.10636): the budget is divided over pseudo-skills, each is ranked by its own
expert, and the most redundant samples of each leave the pool (docs/method.md, sections 3 to 7).
"""

from adapt_infinity.pruning.removals import prune_redundant as keep
from adapt_infinity.subset.selecting import select_subset as select

__all__ = ["keep", "select"]
