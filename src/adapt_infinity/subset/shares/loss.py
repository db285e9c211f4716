"""Loss: more for clusters that the model is still bad at."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selection.shares import Ledger


def weights(ledger: Ledger) -> Float[np.ndarray, " clusters"]:
    """Mean loss now, nats an answer token."""
    return ledger.mean(ledger.column("nll"))
