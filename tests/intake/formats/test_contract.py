"""What holds for every format, also one that is added later: a bad record raises a ValueError and no other error."""

import copy
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.intake import formats
from tests.intake.formats.examples import EXAMPLES


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of `value` and of every value inside it, outermost first."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from paths(one, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of `value` with `new` at `path`."""
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


KEYS = sorted({key for record, _, _ in EXAMPLES.values() for path in paths(record) for key in path if str(key) == key})
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


def check(name: str, record: Any, options: dict[str, Any]) -> None:
    try:
        found = formats.load(name, options)(record)
    except ValueError:
        return
    for conversation in found if isinstance(found, list) else [found]:
        assert conversation.turns
        assert all(isinstance(turn["text"], str) for turn in conversation.turns)
        assert all(isinstance(image, str | bytes) and image for image in conversation.images)


@pytest.mark.parametrize("name", formats.names())
@given(record=ANYTHING)
def test_a_random_record_raises_at_most_a_value_error(name: str, record: Any) -> None:
    check(name, record, {})


@pytest.mark.parametrize("name", sorted(EXAMPLES))
@given(data=st.data(), new=ANYTHING)
def test_a_record_with_one_random_value_raises_at_most_a_value_error(name: str, data: st.DataObject, new: Any) -> None:
    record, options, _ = EXAMPLES[name]
    path = data.draw(st.sampled_from(list(paths(record))))
    check(name, replaced(record, path, new), options)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_record_with_a_missing_field_raises_at_most_a_value_error(name: str) -> None:
    record, options, _ = EXAMPLES[name]
    for path in paths(record):
        if path and isinstance(path[-1], str):
            outer = copy.deepcopy(record)
            inner = outer
            for key in path[:-1]:
                inner = inner[key]
            del inner[path[-1]]
            check(name, outer, options)


@pytest.mark.parametrize("name", formats.names())
def test_every_option_has_a_default(name: str) -> None:
    options = list(inspect.signature(formats.module(name).parse).parameters.values())[1:]
    assert all(option.default is not option.empty for option in options)


@pytest.mark.parametrize("name", formats.names())
def test_parsing_does_not_change_the_record(name: str) -> None:
    record, options, _ = EXAMPLES[name]
    before = copy.deepcopy(record)
    formats.load(name, options)(record)
    assert record == before


def test_every_format_has_an_example() -> None:
    assert sorted(EXAMPLES) == formats.names()


def test_the_error_for_an_unknown_format_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"there is no 'lava' in formats; known: .*llava"):
        formats.load("lava")


def test_the_error_for_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="format 'gqa' has no option 'image_path'; its options: image, full, hint"):
        formats.load("gqa", {"image_path": "x"})
