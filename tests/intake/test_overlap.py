"""Overlap: what was there before is found, whoever brought it and whether or not it is still in the pool."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapt_infinity.data.sample import SAMPLE_SCHEMA
from adapt_infinity.intake.overlap import BITS, COLUMNS, KINDS, Likeness, find_overlaps, summarise
from adapt_infinity.pipelines.nodes import join_arrivals
from adapt_infinity.pool.pool import Pool, join_pool, remove
from tests.conftest import intake, unread

NEAR = 10
NOBODY = pd.DataFrame({name: [] for name in SAMPLE_SCHEMA.names})


def mark(*flipped: int, seed: int = 0) -> bytes:
    """A picture's mark by its seed, with some bits turned over."""
    bits = np.random.default_rng(seed).integers(0, 2, BITS, dtype=np.uint8)
    bits[list(flipped)] ^= 1
    return np.packbits(bits).tobytes()


def sample(content: str, question: int, *shown: tuple[str, bytes]) -> dict[str, Any]:
    """What a sample says and asks (by name), and its pictures: hash and mark."""
    return {
        "source_id": f"{content}-{question}-{len(shown)}",
        "content_hash": content,
        "question_hash": question,
        "picture_hashes": [digest for digest, _ in shown],
        "perceptual_hashes": [bits for _, bits in shown],
    }


def rows(*samples: dict[str, Any], first_id: int = 0, source: str = "d1") -> pd.DataFrame:
    made = pd.DataFrame(list(samples)).reindex(columns=SAMPLE_SCHEMA.names)
    empty: dict[str, Any] = {name: [[] for _ in samples] for name in ("images", "turns", "references", "repairs")}
    numbered = made.assign(sample_id=range(first_id, first_id + len(samples)), round=1, source=source, skill="s")
    named = [f"{source_id}/{place}" for place, source_id in enumerate(made["source_id"])]
    return numbered.assign(source_id=named, **empty)


def items(*samples: dict[str, Any]) -> pd.DataFrame:
    return rows(*samples) if samples else NOBODY


def overlaps(arriving: pd.DataFrame, pool: Pool | None = None, tests: pd.DataFrame = NOBODY) -> list[tuple[Any, ...]]:
    found = find_overlaps(unread(arriving), Pool() if pool is None else pool, tests, NEAR)
    assert found.columns.tolist() == COLUMNS
    return [tuple(row) for row in found.drop(columns="source_id").values.tolist()]


A, B = mark(seed=1), mark(seed=2)
NEAR_A, FAR_A = mark(*range(NEAR), seed=1), mark(*range(NEAR + 1), seed=1)


# ---- likeness --------------------------------------------------------------------------------------------------------

MARKS = st.lists(
    st.builds(
        lambda seed, flipped: mark(*flipped, seed=seed),
        st.integers(0, 3),
        st.sets(st.integers(0, BITS - 1), max_size=14),
    ),
    max_size=30,
)


@given(MARKS, MARKS, st.integers(0, 14))
@example([mark()], [mark(*range(10))], 10)
@example([bytes(30)], [b"\xff" * 30, bytes(30)], 0)
def test_the_nearest_leader_within_reach_is_found(led: list[bytes], asked: list[bytes], near_bits: int) -> None:
    """As if every leader were compared."""
    likeness = Likeness(near_bits)
    numbers = [likeness.add(one) for one in led]
    assert all(bits <= near_bits for _, bits in numbers)
    for one in [*asked, *led]:
        number = int.from_bytes(one, "big")
        distances = [((number ^ leader).bit_count(), place) for place, leader in enumerate(likeness.leaders)]
        by_hand = min(distances, default=(999, 0))
        expected = (by_hand[1], by_hand[0]) if by_hand[0] <= near_bits else None
        if one not in likeness.known:
            assert likeness.find(one) == expected
        assert Likeness(near_bits, likeness.leaders, likeness.bands).find(one) == expected


@pytest.mark.parametrize("near_bits", [1, 2, 10, 64])
def test_bits_that_differ_in_as_many_bands_as_may_be_hide_no_picture(near_bits: int) -> None:
    """The worst case: each differing bit lies in a band of its own, and one band is left."""
    likeness = Likeness(near_bits)
    likeness.add(A)
    for spared in range(near_bits + 1):
        bits = np.unpackbits(np.frombuffer(A, np.uint8))
        for number, part in enumerate(likeness._parts):
            if number != spared:
                bits[part[0]] ^= 1
        assert likeness.find(np.packbits(bits).tobytes()) == (0, near_bits)


def test_leaders_are_apart_and_a_picture_keeps_its_leader() -> None:
    likeness = Likeness(NEAR)
    assert likeness.add(A) == (0, 0)
    assert likeness.add(NEAR_A) == (0, NEAR)
    assert likeness.add(FAR_A) == (1, 0)
    assert likeness.add(NEAR_A) == (0, NEAR)  # though the second leader is nearer by now
    assert len(likeness.leaders) == 2
    assert likeness.find(B) is None


# ---- the pool --------------------------------------------------------------------------------------------------------


def pool_with(*samples: dict[str, Any]) -> Pool:
    return join_pool(Pool(), unread(rows(*samples)), 1)


def test_by_hand_in_the_same_arrival() -> None:
    arriving = rows(
        sample("x", 1),
        sample("y", 2, ("a", A)),
        sample("x", 1),  # says the same as the first
        sample("y", 2, ("a", A)),
        sample("z", 2, ("b", NEAR_A)),  # asks the second's question of a picture like its
        sample("w", 2, ("c", FAR_A)),
        sample("v", 3, ("b", NEAR_A)),  # the picture, another question
        sample("x", 1),
    )
    assert overlaps(arriving) == [
        (2, "pool", "duplicate", 0, 0),
        (3, "pool", "duplicate", 1, 0),
        (4, "pool", "near duplicate", 1, NEAR),
        (7, "pool", "duplicate", 0, 0),
    ]


def test_by_hand_in_the_pool_and_pruned_from_it() -> None:
    pool = pool_with(sample("x", 1), sample("y", 2, ("a", A)), sample("z", 3, ("a", A), ("b", B)))
    arriving = rows(
        sample("new", 1),
        sample("x", 1),
        sample("n", 2, ("b", NEAR_A)),
        sample("m", 3, ("b", NEAR_A), ("b", mark(3, seed=2))),
        sample("k", 3, ("b", B), ("a", A)),  # in another order
        first_id=3,
        source="d2",
    )
    expected = [
        (4, "pool", "duplicate", 0, 0),
        (5, "pool", "near duplicate", 1, NEAR),
        (6, "pool", "near duplicate", 2, NEAR),
    ]
    assert overlaps(arriving, pool) == expected
    gone = remove(pool, pd.DataFrame({"sample_id": [0, 1, 2]}), 1)
    assert overlaps(arriving, gone) == expected


def test_what_the_pool_held_before_is_not_reported_again() -> None:
    pool = pool_with(sample("x", 1), sample("x", 1), sample("y", 2, ("a", A)), sample("z", 2, ("a", NEAR_A)))
    assert overlaps(rows(sample("new", 9), first_id=4), pool) == []


# ---- the benchmarks --------------------------------------------------------------------------------------------------


def test_by_hand_of_the_benchmarks() -> None:
    tests = items(
        sample("t", 1),
        sample("u", 2, ("a", A)),
        sample("v", 4, ("a", A), ("b", B)),
    )
    arriving = rows(
        sample("p", 1),  # a question without a picture
        sample("q", 2, ("a", A)),
        sample("r", 2, ("else", NEAR_A)),
        sample("s", 3, ("a", A)),
        sample("o", 3, ("else", NEAR_A)),
        sample("n", 4, ("a", A), ("b", B)),
        sample("m", 2),  # its question without its picture
        sample("l", 2, ("else", FAR_A)),
        sample("k", 1, ("c", mark(seed=3))),
    )
    assert [row for row in overlaps(arriving, tests=tests) if row[1] == "benchmark"] == [
        (0, "benchmark", "item", 0, 0),
        (1, "benchmark", "item", 1, 0),
        (2, "benchmark", "near item", 1, NEAR),
        (3, "benchmark", "picture", 1, 0),
        (4, "benchmark", "near picture", 1, NEAR),
        (5, "benchmark", "item", 2, 0),
    ]


def test_a_sample_has_one_row_a_scope_its_strongest() -> None:
    pool = pool_with(sample("x", 1, ("a", A)), sample("x2", 1, ("a", A)))
    arriving = rows(sample("x", 1, ("a", A)), first_id=2)
    tests = items(sample("t", 1, ("a", A)))
    assert overlaps(arriving, pool, tests) == [
        (2, "benchmark", "item", 0, 0),
        (2, "pool", "duplicate", 0, 0),
    ]


def test_nothing_in_common_is_an_empty_table_of_the_same_columns() -> None:
    found = find_overlaps(unread(rows(sample("x", 1, ("a", A)))), Pool(), NOBODY, NEAR)
    assert found.empty
    assert summarise(found) == {}


def test_what_is_found_is_counted_by_scope_and_kind() -> None:
    every = [(scope, kind) for scope, kinds in KINDS.items() for kind in kinds]
    found = pd.DataFrame([(scope, kind) for place, (scope, kind) in enumerate(every) for _ in range(place)])
    found.columns = pd.Index(["scope", "kind"])
    assert summarise(found) == {f"{scope}: {kind}": place for place, (scope, kind) in enumerate(every) if place}


def test_leaked_test_items_stop_the_round_before_it_trains_where_that_is_asked_for() -> None:
    arriving = unread(rows(sample("p", 1), sample("q", 7)))
    found = find_overlaps(arriving, Pool(), items(sample("t", 1)), NEAR)
    assert len(join_arrivals(Pool(), arriving, found, intake(), 1)) == 2
    stop = intake(on_contamination="stop")
    with pytest.raises(ValueError, match=r"1 arriving samples are test items of the benchmarks, the first: p-1-0/0"):
        join_arrivals(Pool(), arriving, found, stop, 1)
    harmless = found.assign(kind="picture")
    assert len(join_arrivals(Pool(), arriving, harmless, stop, 1)) == 2


SHOWN = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([A, NEAR_A, B])), max_size=2)
SAMPLES = st.lists(
    st.builds(lambda c, q, s: sample(c, q, *s), st.sampled_from("xyz"), st.integers(0, 2), SHOWN), max_size=8
)


@given(SAMPLES, SAMPLES)
def test_duplicates_are_those_whose_content_came_before(
    before: list[dict[str, Any]], now: list[dict[str, Any]]
) -> None:
    """Where a sample arrived makes no difference: in the pool, or earlier in the same arrival."""
    if not now:
        return
    pool = pool_with(*before) if before else Pool()
    arriving = rows(*now, first_id=len(before), source="d2")
    found = find_overlaps(unread(arriving), pool, NOBODY, NEAR)
    contents = [one["content_hash"] for one in (*before, *now)]
    expected = {
        place: contents.index(contents[place])
        for place in range(len(before), len(contents))
        if contents.index(contents[place]) < place
    }
    exact = found[found["kind"] == "duplicate"]
    assert dict(zip(exact["sample_id"], exact["other"], strict=True)) == expected
    together = find_overlaps(unread(rows(*before, *now)), Pool(), NOBODY, NEAR)
    later = together[together["sample_id"] >= len(before)]
    keys = ["sample_id", "kind", "other", "bits"]
    assert found[keys].values.tolist() == later[keys].values.tolist()


def leader(mark: bytes, leaders: list[bytes], led: dict[bytes, tuple[int, int]], grows: bool) -> Any:
    """The nearest leader of a mark and the bits between them, all leaders being compared."""
    if mark not in led:
        bits = [int.from_bytes(mark, "big") ^ int.from_bytes(one, "big") for one in leaders]
        near = [(one.bit_count(), place) for place, one in enumerate(bits) if one.bit_count() <= NEAR]
        if near:
            nearest = min(near)[::-1]
        elif grows:
            leaders.append(mark)
            nearest = (len(leaders) - 1, 0)
        else:
            return None
        if not grows:
            return nearest
        led[mark] = nearest
    return led[mark]


def plainly(before: list[dict[str, Any]], now: list[dict[str, Any]], tests: list[dict[str, Any]]) -> list[tuple]:
    """By the definition: each arriving sample against everything that was there before it."""
    everything = [*before, *now]
    seen: tuple[list[bytes], dict[bytes, tuple[int, int]]] = ([], {})
    led = [[leader(one, *seen, True) for one in sample["perceptual_hashes"]] for sample in everything]
    shown: tuple[list[bytes], dict[bytes, tuple[int, int]]] = ([], {})
    items = [[leader(one, *shown, True) for one in item["perceptual_hashes"]] for item in tests]

    def asks(one: dict[str, Any], marks: list[Any]) -> tuple[Any, ...]:
        return one["question_hash"], [found and found[0] for found in marks]

    def first(those: Any) -> int | None:
        return next(iter(those), None)

    rows: list[tuple] = []
    for place in range(len(before), len(everything)):
        one, marks = everything[place], [leader(mark, *shown, False) for mark in everything[place]["perceptual_hashes"]]
        near = [found for found in marks if found is not None]
        item = first(n for n, t in enumerate(tests) if asked(t) == asked(one))
        alike = first(n for n, t in enumerate(tests) if marks and asks(t, items[n]) == asks(one, marks))
        picture = first(n for d in one["picture_hashes"] for n, t in enumerate(tests) if d in t["picture_hashes"])
        if item is not None:
            rows.append((place, "benchmark", "item", item, 0))
        elif alike is not None:
            rows.append((place, "benchmark", "near item", alike, max(bits for _, bits in near)))
        elif picture is not None:
            rows.append((place, "benchmark", "picture", picture, 0))
        elif near:
            number, bits = min(near, key=lambda found: found[1])
            holder = first(n for n, found in enumerate(items) if number in [one for one, _ in found])
            rows.append((place, "benchmark", "near picture", holder, bits))
        earlier = everything[:place]
        same = first(n for n, other in enumerate(earlier) if other["content_hash"] == one["content_hash"])
        like = first(
            n for n, other in enumerate(earlier) if led[place] and asks(other, led[n]) == asks(one, led[place])
        )
        if same is not None:
            rows.append((place, "pool", "duplicate", same, 0))
        elif like is not None:
            rows.append((place, "pool", "near duplicate", like, max(bits for _, bits in led[place])))
    return rows


def asked(one: dict[str, Any]) -> tuple[Any, ...]:
    return one["question_hash"], one["picture_hashes"]


PICTURES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([A, NEAR_A, FAR_A, B, mark(3, seed=2), mark(seed=3)])), max_size=2
)
MANY = st.lists(
    st.builds(lambda c, q, s: sample(c, q, *s), st.sampled_from("vwxyz"), st.integers(0, 3), PICTURES), max_size=12
)


@given(MANY, MANY, MANY, st.integers(1, 5), st.booleans())
def test_what_is_found_is_what_comparing_all_with_all_finds(
    before: list[dict[str, Any]], now: list[dict[str, Any]], tests: list[dict[str, Any]], size: int, collide: bool
) -> None:
    """However rows lie in shards, and though 8 bytes of all contents should be the same."""
    pool = Pool()
    for round, start in enumerate(range(0, len(before), size)):
        pool = join_pool(pool, unread(rows(*before[start : start + size], first_id=start, source=f"d{round}")), round)
    arriving = rows(*now, first_id=len(before), source="new") if now else NOBODY
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            patch.setattr("adapt_infinity.intake.overlap._digests", lambda contents: np.zeros(len(contents), np.uint64))
        assert overlaps(arriving, pool, items(*tests)) == plainly(before, now, tests)


def test_contents_of_one_digest_are_no_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those that are the same whole; in the pool, and in the same arrival."""
    monkeypatch.setattr("adapt_infinity.intake.overlap._digests", lambda contents: np.full(len(contents), 7, np.uint64))
    pool = pool_with(sample("x", 1), sample("y", 2))
    arriving = rows(sample("z", 3), sample("y", 4), sample("w", 5), sample("z", 6), first_id=2, source="d2")
    assert overlaps(arriving, pool) == [(3, "pool", "duplicate", 1, 0), (5, "pool", "duplicate", 2, 0)]


def test_source_ids_are_those_of_the_samples_found() -> None:
    pool = pool_with(sample("x", 1), sample("y", 2))
    arriving = rows(sample("z", 3), sample("y", 4), sample("x", 5), first_id=2, source="d2")
    found = find_overlaps(unread(arriving), pool, NOBODY, NEAR)
    assert found[["sample_id", "source_id"]].values.tolist() == [[3, "y-4-0/1"], [4, "x-5-0/2"]]
