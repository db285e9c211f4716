"""Overlaps of arrivals with the pool (pruned samples included) and with the benchmarks."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapt_infinity.data.sample import SAMPLE_SCHEMA
from adapt_infinity.intake.overlap import COLUMNS, HASH_BITS, KINDS, SimilarPictures, find_overlaps, summarise
from adapt_infinity.pipelines.nodes import join_arrivals
from adapt_infinity.pool.pool import Pool, join_pool, remove
from tests.conftest import intake, unread

NEAR = 10
NO_SAMPLES = pd.DataFrame({name: [] for name in SAMPLE_SCHEMA.names})


def phash(*flipped: int, seed: int = 0) -> bytes:
    """A random perceptual hash, with the given bits flipped."""
    bits = np.random.default_rng(seed).integers(0, 2, HASH_BITS, dtype=np.uint8)
    bits[list(flipped)] ^= 1
    return np.packbits(bits).tobytes()


def sample(content: str, question: int, *shown: tuple[str, bytes]) -> dict[str, Any]:
    """The compared columns of a sample: content, question, and for each picture its hash and perceptual hash."""
    return {
        "source_id": f"{content}-{question}-{len(shown)}",
        "content_hash": content,
        "question_hash": question,
        "picture_hashes": [digest for digest, _ in shown],
        "picture_marks": [bits for _, bits in shown],
    }


def rows(*samples: dict[str, Any], first_id: int = 0, source: str = "d1") -> pd.DataFrame:
    made = pd.DataFrame(list(samples)).reindex(columns=SAMPLE_SCHEMA.names)
    empty: dict[str, Any] = {name: [[] for _ in samples] for name in ("images", "turns", "references", "repairs")}
    numbered = made.assign(sample_id=range(first_id, first_id + len(samples)), round=1, source=source, skill="s")
    named = [f"{source_id}/{number}" for number, source_id in enumerate(made["source_id"])]
    return numbered.assign(source_id=named, **empty)


def items(*samples: dict[str, Any]) -> pd.DataFrame:
    return rows(*samples) if samples else NO_SAMPLES


def overlaps(
    arriving: pd.DataFrame, pool: Pool | None = None, tests: pd.DataFrame = NO_SAMPLES
) -> list[tuple[Any, ...]]:
    found = find_overlaps(unread(arriving), Pool() if pool is None else pool, tests, NEAR)
    assert found.columns.tolist() == COLUMNS
    return [tuple(row) for row in found.drop(columns="source_id").values.tolist()]


A, B = phash(seed=1), phash(seed=2)
NEAR_A, FAR_A = phash(*range(NEAR), seed=1), phash(*range(NEAR + 1), seed=1)


# ---- similar pictures ------------------------------------------------------------------------------------------------

HASHES = st.lists(
    st.builds(
        lambda seed, flipped: phash(*flipped, seed=seed),
        st.integers(0, 3),
        st.sets(st.integers(0, HASH_BITS - 1), max_size=14),
    ),
    max_size=30,
)


@given(HASHES, HASHES, st.integers(0, 14))
@example([phash()], [phash(*range(10))], 10)
@example([bytes(30)], [b"\xff" * 30, bytes(30)], 0)
def test_the_nearest_leader_within_reach_is_found(led: list[bytes], asked: list[bytes], near_bits: int) -> None:
    """The same as when every leader is compared."""
    similar = SimilarPictures(near_bits)
    numbers = [similar.add(one) for one in led]
    assert all(bits <= near_bits for _, bits in numbers)
    for one in [*asked, *led]:
        value = int.from_bytes(one, "big")
        distances = [((value ^ leader).bit_count(), index) for index, leader in enumerate(similar.leaders)]
        by_hand = min(distances, default=(999, 0))
        expected = (by_hand[1], by_hand[0]) if by_hand[0] <= near_bits else None
        if one not in similar.known:
            assert similar.find(one) == expected
        assert SimilarPictures(near_bits, similar.leaders, similar.bands).find(one) == expected


@pytest.mark.parametrize("near_bits", [1, 2, 10, 64])
def test_a_picture_is_found_when_all_bands_but_one_differ(near_bits: int) -> None:
    """The worst case: each differing bit is in another band, and one band is equal."""
    similar = SimilarPictures(near_bits)
    similar.add(A)
    for spared in range(near_bits + 1):
        bits = np.unpackbits(np.frombuffer(A, np.uint8))
        for number, part in enumerate(similar._bits_of_band):
            if number != spared:
                bits[part[0]] ^= 1
        assert similar.find(np.packbits(bits).tobytes()) == (0, near_bits)


def test_leaders_are_distant_and_a_picture_keeps_its_leader() -> None:
    similar = SimilarPictures(NEAR)
    assert similar.add(A) == (0, 0)
    assert similar.add(NEAR_A) == (0, NEAR)
    assert similar.add(FAR_A) == (1, 0)
    assert similar.add(NEAR_A) == (0, NEAR)  # although the second leader is nearer now
    assert len(similar.leaders) == 2
    assert similar.find(B) is None


# ---- the pool --------------------------------------------------------------------------------------------------------


def pool_with(*samples: dict[str, Any]) -> Pool:
    return join_pool(Pool(), unread(rows(*samples)), 1)


def test_duplicates_within_one_arrival() -> None:
    arriving = rows(
        sample("x", 1),
        sample("y", 2, ("a", A)),
        sample("x", 1),  # the content of the first
        sample("y", 2, ("a", A)),
        sample("z", 2, ("b", NEAR_A)),  # the question of the second, and a similar picture
        sample("w", 2, ("c", FAR_A)),
        sample("v", 3, ("b", NEAR_A)),  # a similar picture, but another question
        sample("x", 1),
    )
    assert overlaps(arriving) == [
        (2, "pool", "duplicate", 0, 0),
        (3, "pool", "duplicate", 1, 0),
        (4, "pool", "near duplicate", 1, NEAR),
        (7, "pool", "duplicate", 0, 0),
    ]


def test_duplicates_of_the_pool_and_of_pruned_samples() -> None:
    pool = pool_with(sample("x", 1), sample("y", 2, ("a", A)), sample("z", 3, ("a", A), ("b", B)))
    arriving = rows(
        sample("new", 1),
        sample("x", 1),
        sample("n", 2, ("b", NEAR_A)),
        sample("m", 3, ("b", NEAR_A), ("b", phash(3, seed=2))),
        sample("k", 3, ("b", B), ("a", A)),  # the pictures in another order
        first_id=3,
        source="d2",
    )
    expected = [
        (4, "pool", "duplicate", 0, 0),
        (5, "pool", "near duplicate", 1, NEAR),
        (6, "pool", "near duplicate", 2, NEAR),
    ]
    assert overlaps(arriving, pool) == expected
    pruned = remove(pool, pd.DataFrame({"sample_id": [0, 1, 2]}), 1)
    assert overlaps(arriving, pruned) == expected


def test_duplicates_within_the_pool_are_not_reported() -> None:
    pool = pool_with(sample("x", 1), sample("x", 1), sample("y", 2, ("a", A)), sample("z", 2, ("a", NEAR_A)))
    assert overlaps(rows(sample("new", 9), first_id=4), pool) == []


# ---- the benchmarks --------------------------------------------------------------------------------------------------


def test_every_kind_of_overlap_with_the_benchmarks() -> None:
    tests = items(
        sample("t", 1),
        sample("u", 2, ("a", A)),
        sample("v", 4, ("a", A), ("b", B)),
    )
    arriving = rows(
        sample("p", 1),  # a question without pictures
        sample("q", 2, ("a", A)),
        sample("r", 2, ("else", NEAR_A)),
        sample("s", 3, ("a", A)),
        sample("o", 3, ("else", NEAR_A)),
        sample("n", 4, ("a", A), ("b", B)),
        sample("m", 2),  # the question of u without its picture
        sample("l", 2, ("else", FAR_A)),
        sample("k", 1, ("c", phash(seed=3))),
    )
    assert [row for row in overlaps(arriving, tests=tests) if row[1] == "benchmark"] == [
        (0, "benchmark", "item", 0, 0),
        (1, "benchmark", "item", 1, 0),
        (2, "benchmark", "near item", 1, NEAR),
        (3, "benchmark", "picture", 1, 0),
        (4, "benchmark", "near picture", 1, NEAR),
        (5, "benchmark", "item", 2, 0),
    ]


def test_a_sample_has_one_row_per_scope_with_its_strongest_overlap() -> None:
    pool = pool_with(sample("x", 1, ("a", A)), sample("x2", 1, ("a", A)))
    arriving = rows(sample("x", 1, ("a", A)), first_id=2)
    tests = items(sample("t", 1, ("a", A)))
    assert overlaps(arriving, pool, tests) == [
        (2, "benchmark", "item", 0, 0),
        (2, "pool", "duplicate", 0, 0),
    ]


def test_without_overlaps_the_table_is_empty() -> None:
    found = find_overlaps(unread(rows(sample("x", 1, ("a", A)))), Pool(), NO_SAMPLES, NEAR)
    assert found.empty
    assert summarise(found) == {}


def test_overlaps_are_counted_by_scope_and_kind() -> None:
    every = [(scope, kind) for scope, kinds in KINDS.items() for kind in kinds]
    found = pd.DataFrame([(scope, kind) for count, (scope, kind) in enumerate(every) for _ in range(count)])
    found.columns = pd.Index(["scope", "kind"])
    assert summarise(found) == {f"{scope}: {kind}": count for count, (scope, kind) in enumerate(every) if count}


def test_leaked_test_items_stop_the_round_when_on_contamination_is_stop() -> None:
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
def test_duplicates_are_the_samples_with_the_content_of_an_earlier_one(
    before: list[dict[str, Any]], now: list[dict[str, Any]]
) -> None:
    """It makes no difference whether the earlier sample is in the pool or in the same arrival."""
    if not now:
        return
    pool = pool_with(*before) if before else Pool()
    arriving = rows(*now, first_id=len(before), source="d2")
    found = find_overlaps(unread(arriving), pool, NO_SAMPLES, NEAR)
    contents = [one["content_hash"] for one in (*before, *now)]
    expected = {
        number: contents.index(contents[number])
        for number in range(len(before), len(contents))
        if contents.index(contents[number]) < number
    }
    exact = found[found["kind"] == "duplicate"]
    assert dict(zip(exact["sample_id"], exact["other"], strict=True)) == expected
    together = find_overlaps(unread(rows(*before, *now)), Pool(), NO_SAMPLES, NEAR)
    later = together[together["sample_id"] >= len(before)]
    keys = ["sample_id", "kind", "other", "bits"]
    assert found[keys].values.tolist() == later[keys].values.tolist()


def leader(
    one: bytes, leaders: list[bytes], leader_of: dict[bytes, tuple[int, int]], add: bool
) -> tuple[int, int] | None:
    """Index and distance of the nearest leader of a perceptual hash, found by comparing all leaders."""
    if one in leader_of:
        return leader_of[one]
    distances = [(int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count() for other in leaders]
    near = [(bits, index) for index, bits in enumerate(distances) if bits <= NEAR]
    if not add:
        return min(near)[::-1] if near else None
    if not near:
        leaders.append(one)
    leader_of[one] = min(near)[::-1] if near else (len(leaders) - 1, 0)
    return leader_of[one]


def overlaps_by_definition(
    before: list[dict[str, Any]], now: list[dict[str, Any]], tests: list[dict[str, Any]]
) -> list[tuple[Any, ...]]:
    """Compare each arriving sample with every sample before it and with every test item."""
    samples = [*before, *now]
    of_samples: tuple[list[bytes], dict[bytes, tuple[int, int]]] = ([], {})
    sample_leaders: list[Any] = [[leader(h, *of_samples, True) for h in one["picture_marks"]] for one in samples]
    of_items: tuple[list[bytes], dict[bytes, tuple[int, int]]] = ([], {})
    item_leaders: list[Any] = [[leader(h, *of_items, True) for h in one["picture_marks"]] for one in tests]

    def about_similar(one: dict[str, Any], leaders: list[Any]) -> tuple[Any, ...]:
        return one["question_hash"], [found and found[0] for found in leaders]

    def about_same(one: dict[str, Any]) -> tuple[Any, ...]:
        return one["question_hash"], one["picture_hashes"]

    def first(numbers: Any) -> int | None:
        return next(iter(numbers), None)

    rows: list[tuple[Any, ...]] = []
    for number in range(len(before), len(samples)):
        one = samples[number]
        leaders: list[Any] = [leader(h, *of_items, False) for h in one["picture_marks"]]
        near = [found for found in leaders if found is not None]
        item = first(n for n, test in enumerate(tests) if about_same(test) == about_same(one))
        near_item = first(
            n
            for n, test in enumerate(tests)
            if leaders and about_similar(test, item_leaders[n]) == about_similar(one, leaders)
        )
        picture = first(n for d in one["picture_hashes"] for n, test in enumerate(tests) if d in test["picture_hashes"])
        if item is not None:
            rows.append((number, "benchmark", "item", item, 0))
        elif near_item is not None:
            rows.append((number, "benchmark", "near item", near_item, max(bits for _, bits in near)))
        elif picture is not None:
            rows.append((number, "benchmark", "picture", picture, 0))
        elif near:
            nearest, bits = min(near, key=lambda found: found[1])
            near_picture = first(n for n, found in enumerate(item_leaders) if nearest in [index for index, _ in found])
            rows.append((number, "benchmark", "near picture", near_picture, bits))
        own = sample_leaders[number]
        duplicate = first(n for n in range(number) if samples[n]["content_hash"] == one["content_hash"])
        near_duplicate = first(
            n for n in range(number) if own and about_similar(samples[n], sample_leaders[n]) == about_similar(one, own)
        )
        if duplicate is not None:
            rows.append((number, "pool", "duplicate", duplicate, 0))
        elif near_duplicate is not None:
            rows.append((number, "pool", "near duplicate", near_duplicate, max(bits for _, bits in own)))
    return rows


PICTURES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([A, NEAR_A, FAR_A, B, phash(3, seed=2), phash(seed=3)])),
    max_size=2,
)
MANY = st.lists(
    st.builds(lambda c, q, s: sample(c, q, *s), st.sampled_from("vwxyz"), st.integers(0, 3), PICTURES), max_size=12
)


@given(MANY, MANY, MANY, st.integers(1, 5), st.booleans())
def test_all_overlaps_are_found_as_by_comparing_all_pairs(
    before: list[dict[str, Any]], now: list[dict[str, Any]], tests: list[dict[str, Any]], size: int, collide: bool
) -> None:
    """For any division into shards, and also when the digests of all contents collide."""
    pool = Pool()
    for round, start in enumerate(range(0, len(before), size)):
        pool = join_pool(pool, unread(rows(*before[start : start + size], first_id=start, source=f"d{round}")), round)
    arriving = rows(*now, first_id=len(before), source="new") if now else NO_SAMPLES
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            patch.setattr("adapt_infinity.intake.overlap._digests", lambda contents: np.zeros(len(contents), np.uint64))
        assert overlaps(arriving, pool, items(*tests)) == overlaps_by_definition(before, now, tests)


def test_other_contents_of_the_same_digest_are_no_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the pool, and in the same arrival."""
    monkeypatch.setattr("adapt_infinity.intake.overlap._digests", lambda contents: np.full(len(contents), 7, np.uint64))
    pool = pool_with(sample("x", 1), sample("y", 2))
    arriving = rows(sample("z", 3), sample("y", 4), sample("w", 5), sample("z", 6), first_id=2, source="d2")
    assert overlaps(arriving, pool) == [(3, "pool", "duplicate", 1, 0), (5, "pool", "duplicate", 2, 0)]


def test_the_source_ids_are_those_of_the_arriving_samples() -> None:
    pool = pool_with(sample("x", 1), sample("y", 2))
    arriving = rows(sample("z", 3), sample("y", 4), sample("x", 5), first_id=2, source="d2")
    found = find_overlaps(unread(arriving), pool, NO_SAMPLES, NEAR)
    assert found[["sample_id", "source_id"]].values.tolist() == [[3, "y-4-0/1"], [4, "x-5-0/2"]]
