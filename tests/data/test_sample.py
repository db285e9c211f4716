"""Samples: what is the same, and what remains without pictures."""

from adapt_infinity.data.sample import Sample, Turn, content_hash


def test_without_images_keeps_the_words() -> None:
    sample = Sample(
        7, "s", "a", "k", ("p.png", "q.png"), (Turn("user", "<image>\n<image>\nWhich?"), Turn("assistant", "one"))
    )
    bare = sample.without_images()
    assert bare.images == ()
    assert [turn.text for turn in bare.turns] == ["Which?", "one"]
    assert bare.sample_id == 7


def test_hash_is_of_content_and_knows_where_a_text_ends() -> None:
    turns = [{"role": "user", "text": "ab"}, {"role": "assistant", "text": "c"}]
    moved = [{"role": "user", "text": "a"}, {"role": "assistant", "text": "bc"}]
    assert content_hash(turns, []) == content_hash([dict(turn) for turn in turns], [])
    assert content_hash(turns, []) != content_hash(moved, [])
    assert content_hash(turns, []) != content_hash(turns, ["00" * 32])
