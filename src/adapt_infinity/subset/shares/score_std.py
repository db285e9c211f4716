"""Spread of EL2N: more for clusters whose samples differ in difficulty (METHOD section 5)."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selection.shares import Ledger


def weights(ledger: Ledger) -> Float[np.ndarray, " clusters"]:
    """Standard deviation of EL2N in the cluster."""
    el2n = ledger.column("el2n")
    return np.sqrt(ledger.mean((el2n - ledger.mean(el2n)[ledger.code]) ** 2))
