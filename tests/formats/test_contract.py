"""Every format, the next one included: hostile records are refused with a ValueError, never with anything else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity import formats

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "image", "conversations", "from", "value", "task"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", formats.names())
@given(record=ANYTHING)
def test_hostile_records(name: str, record: Any) -> None:
    try:
        parsed = formats.load(name)(record)
    except ValueError:
        return
    for conversation in [parsed] if isinstance(parsed, formats.Conversation) else parsed:
        assert conversation.turns


def test_an_unknown_format_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"there is no 'lava' in formats; known: .*llava"):
        formats.load("lava")
