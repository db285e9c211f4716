"""Tables with one row per sample: brought into another row order; missing columns and samples are named."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.data.tables import align_rows, require_columns


def test_missing_columns_are_named() -> None:
    table = pd.DataFrame({"sample_id": [1], "el2n": [0.5]})
    require_columns(table, "scores", ["sample_id", "el2n"])
    with pytest.raises(ValueError, match="scores lacks columns: nll, grand; it has sample_id, el2n"):
        require_columns(table, "scores", ["sample_id", "nll", "grand"])


@given(st.lists(st.integers(0, 50), unique=True), st.randoms(use_true_random=False))
def test_rows_come_in_the_order_that_is_asked_for(ids: list[int], random: object) -> None:
    table = pd.DataFrame({"sample_id": np.array(ids, np.int64), "value": [str(i) for i in ids]})
    asked = [i for i in ids if random.random() < 0.7]  # type: ignore[attr-defined]
    random.shuffle(asked)  # type: ignore[attr-defined]
    assert align_rows(table, np.array(asked, np.int64))["value"].tolist() == [str(i) for i in asked]
    assert align_rows(table, np.array(ids, np.int64)) is table


@pytest.mark.parametrize("ids", [[], [1, 2], [2, 4], [9]])
def test_a_missing_sample_is_named(ids: list[int]) -> None:
    table = pd.DataFrame({"sample_id": np.array(ids, np.int64)})
    with pytest.raises(ValueError, match="has no row for sample 3"):
        align_rows(table, np.array([*ids, 3], np.int64))
