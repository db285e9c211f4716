"""Equal shares; what a small cluster cannot use goes to larger ones (docs/method.md, section 5; the paper's rule)."""

from adapt_infinity.subset.shares import ClusterStatistics


def weights(statistics: ClusterStatistics) -> None:
    """None: equal shares, where the remainder of the division goes to the largest clusters."""
    return None
