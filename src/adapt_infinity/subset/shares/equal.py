"""Equal: the paper's rule; what a small cluster cannot use flows to the larger ones (METHOD section 5)."""

from adapt_infinity.subset.shares import ClusterStatistics


def weights(statistics: ClusterStatistics) -> None:
    """All alike, exactly: the remainder of the division goes to the largest clusters."""
    return None
