"""Spaces: the contract of each one, the question space, and words."""

from inspect import signature

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity import registry
from adapt_infinity.pool.pool import start_pool
from adapt_infinity.pseudo_skills import spaces
from adapt_infinity.pseudo_skills.finding import agreement, cluster_rows, find_pseudo_skills
from adapt_infinity.pseudo_skills.matching import start_clusters
from adapt_infinity.pseudo_skills.spaces import questions, rows_in
from adapt_infinity.pseudo_skills.words import turns_text, typical_words, words
from tests.pseudo_skills.planted import features_of, params, planted, pool_of
from tests.subset.defaults import StubFeatures

FAMILIES = {
    "count": "<image>\nHow many {} are there in the picture?",
    "colour": "What colour is the {}?\n<image>",
    "translate": "Translate the word {} into Czech, please.",
    "farbe": "Wie viele {} siehst du auf dem Bild?",
    "中文": "图片里的{}是什么颜色？",
}
THINGS = ["dog", "cat", "red car", "house", "ball", "tree", "boat", "lamp", "cup", "cow", "kite", "hat"]


def questions_of_families() -> tuple[list[str], list[str]]:
    pairs = [(form.format(thing), name) for thing in THINGS for name, form in FAMILIES.items()]
    return [question for question, _ in pairs], [name for _, name in pairs]


def some_features(n: int) -> StubFeatures:
    made = features_of(planted(n=n, skills=4)[0], "float16")
    return StubFeatures(
        np.arange(n), made.gradients, made.embeddings[:, :32], made.scores.assign(sample_id=np.arange(n))
    )


@pytest.mark.parametrize("name", spaces.names())
def test_every_space_has_a_row_for_every_sample(name: str) -> None:
    texts, _ = questions_of_families()
    given = {"features": some_features(len(texts)), "pool": pool_of(texts)}
    needed = set(signature(registry.load("adapt_infinity.pseudo_skills.spaces", name, "rows")).parameters)
    assert needed <= set(given)
    rows = rows_in(name, **given)
    assert len(rows) == len(texts)
    assert rows.dtype in (np.float16, np.float32)
    assert (np.linalg.norm(rows.astype(np.float32), axis=1) > 0).all()
    again = rows_in(name, **{argument: given[argument] for argument in needed})
    assert (rows == again).all()


def test_the_question_space_separates_kinds_of_questions_without_a_probe() -> None:
    texts, names = questions_of_families()
    rows = {"questions": rows_in("questions", pool=pool_of(texts))}
    table, _ = cluster_rows(rows, np.arange(len(texts)), params(k=5), start_clusters())
    assert agreement(table, pd.Series(names))["ari"] >= 0.95  # type: ignore[operator]


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ValueError, match="the space 'gradients' needs features; given are: pool"):
        rows_in("gradients", pool=start_pool())


def test_the_size_of_the_windows_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(questions_of_families()[0])
    whole = rows_in("questions", pool=pool)
    monkeypatch.setattr(questions, "WINDOW", 7)
    assert (rows_in("questions", pool=pool) == whole).all()


def test_only_the_words_of_the_user_count() -> None:
    """Image placeholders and answers do not count; all questions without a word are equal."""
    rows = rows_in("questions", pool=pool_of(["<image>\nA dog?", "a DOG <image>", "<image>", "…", "a cat"]))
    assert (rows[0] == rows[1]).all()
    assert (rows[2] == rows[3]).all()
    assert (rows[0] != rows[4]).any()
    assert rows_in("questions", pool=start_pool()).shape == (0, 1024)


def test_the_sketch_preserves_cosines() -> None:
    """Compared with the same weighted counts without the sketch."""
    texts, _ = questions_of_families()
    rows = rows_in("questions", pool=pool_of(texts)).astype(np.float64)
    counts = next(questions._counts(pool_of(texts))).toarray()
    exact = counts * (np.log((1 + len(texts)) / (1 + (counts > 0).sum(axis=0))) + 1)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    error = rows @ rows.T - exact @ exact.T
    assert error.std() < 1024**-0.5
    assert abs(error.mean()) < 0.01


def test_joined_spaces_have_equal_weight() -> None:
    """The cosine of joined rows is the mean of the views' cosines."""
    texts, _ = questions_of_families()
    features, pool = some_features(len(texts)), pool_of(texts)
    names = ["gradients", "embeddings", "questions"]
    table, _ = find_pseudo_skills(features, pool, start_clusters(), params(space=names, k=1))
    views = [rows_in(name, features=features, pool=pool).astype(np.float64) for name in names]
    joined = np.concatenate([view / np.linalg.norm(view, axis=1, keepdims=True) for view in views], axis=1) / 3**0.5
    centre = joined.sum(axis=0)
    expected = joined @ centre / np.linalg.norm(centre)
    assert table["similarity"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_words_of_any_script() -> None:
    assert words("Don't SHOUT, Café-bar 42_x!") == ["don", "t", "shout", "café", "bar", "42", "x"]
    assert words("图片里的dog") == ["图片", "片里", "里的", "dog"]
    assert words("色") == ["色"]
    assert words("สีอะไร किताब") == ["สีอะไร", "किताब"]
    assert words("… <>\n") == []
    assert turns_text([{"role": "user", "text": "<image>\na"}, {"role": "assistant", "text": "b"}], "user").split() == [
        "a"
    ]


@given(st.text())
def test_words_are_never_empty(text: str) -> None:
    assert all(words(text))
    assert words(" ".join(words(text))) == words(" ".join(words(text)))


def test_typical_words_by_hand() -> None:
    """`the` is in all clusters, `once` is in one text only, 7 is a number."""
    found = typical_words({0: ["the dog 7", "the dog 7 once"], 1: ["the cat", "the cat sat", "the cat sat"], 2: ["…"]})
    assert found == {0: ["dog"], 1: ["cat", "sat"], 2: []}
    assert typical_words({0: ["是什么颜色", "什么颜色"], 1: ["红"]}) == {0: ["什么颜色"], 1: ["红"]}
