"""Equal: the paper's rule; what a small cluster cannot use flows to the larger ones (METHOD section 5)."""

from adapt_infinity.selection.shares import Ledger


def weights(ledger: Ledger) -> None:
    """All alike, exactly: the remainder of the division goes to the largest clusters."""
    return None
