"""Tables with one row per sample: what is checked before they are read."""

import pandas as pd
import pytest

from adapt_infinity.data.tables import require_columns


def test_missing_columns_are_named() -> None:
    table = pd.DataFrame({"sample_id": [1], "el2n": [0.5]})
    require_columns(table, "scores", ["sample_id", "el2n"])
    with pytest.raises(ValueError, match="scores lacks columns: nll, grand; it has sample_id, el2n"):
        require_columns(table, "scores", ["sample_id", "nll", "grand"])
