"""Spaces: the contract of each, and that questions tell families of questions apart."""

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
from adapt_infinity.pseudo_skills.words import said, typical_words, words
from tests.pseudo_skills.planted import params, planted, pool_of, probe
from tests.subset.usual import Read

FAMILIES = {
    "count": "<image>\nHow many {} are there in the picture?",
    "colour": "What colour is the {}?\n<image>",
    "translate": "Translate the word {} into Czech, please.",
    "farbe": "Wie viele {} siehst du auf dem Bild?",
    "中文": "图片里的{}是什么颜色？",
}
THINGS = ["dog", "cat", "red car", "house", "ball", "tree", "boat", "lamp", "cup", "cow", "kite", "hat"]


def family() -> tuple[list[str], list[str]]:
    asked = [(form.format(thing), name) for thing in THINGS for name, form in FAMILIES.items()]
    return [question for question, _ in asked], [name for _, name in asked]


def features_of(n: int) -> Read:
    rows, _ = planted(n=n, skills=4)
    made = probe(rows, "float16")
    return Read(np.arange(n), made.gradients, made.embeddings[:, :32], made.scores.assign(sample_id=np.arange(n)))


@pytest.mark.parametrize("name", spaces.names())
def test_every_space_has_a_row_for_every_sample(name: str) -> None:
    asked, _ = family()
    given = {"features": features_of(len(asked)), "pool": pool_of(asked)}
    asks = set(signature(registry.load("adapt_infinity.pseudo_skills.spaces", name, "rows")).parameters)
    assert asks <= set(given)
    made = rows_in(name, **given)
    assert len(made) == len(asked)
    assert made.dtype in (np.float16, np.float32)
    assert (np.linalg.norm(made.astype(np.float32), axis=1) > 0).all()
    again = rows_in(name, **{argument: given[argument] for argument in asks})
    assert (made == again).all()


def test_questions_tell_families_apart_without_a_probe() -> None:
    asked, names = family()
    made = {"questions": rows_in("questions", pool=pool_of(asked))}
    table, _ = cluster_rows(made, np.arange(len(asked)), params(k=5), start_clusters())
    assert agreement(table, pd.Series(names))["ari"] >= 0.95  # type: ignore[operator]


def test_windows_change_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(family()[0])
    whole = rows_in("questions", pool=pool)
    monkeypatch.setattr(questions, "WINDOW", 7)
    assert (rows_in("questions", pool=pool) == whole).all()


def test_only_what_the_user_asks_counts() -> None:
    """Pictures' places and answers do not; questions without a word are alike."""
    made = rows_in("questions", pool=pool_of(["<image>\nA dog?", "a DOG <image>", "<image>", "…", "a cat"]))
    assert (made[0] == made[1]).all()
    assert (made[2] == made[3]).all()
    assert (made[0] != made[4]).any()
    assert rows_in("questions", pool=start_pool()).shape == (0, 1024)


def test_the_sketch_keeps_cosines() -> None:
    """Against the same weights without a sketch."""
    asked, _ = family()
    made = rows_in("questions", pool=pool_of(asked)).astype(np.float64)
    counts = next(questions._counts(pool_of(asked))).toarray()
    exact = counts * (np.log((1 + len(asked)) / (1 + (counts > 0).sum(axis=0))) + 1)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    error = made @ made.T - exact @ exact.T
    assert error.std() < 1024**-0.5
    assert abs(error.mean()) < 0.01


def test_joined_spaces_weigh_alike() -> None:
    """The cosine of joined rows is the mean of the views' cosines."""
    asked, _ = family()
    features, pool = features_of(len(asked)), pool_of(asked)
    spaces_asked = ["gradients", "embeddings", "questions"]
    table, _ = find_pseudo_skills(features, pool, start_clusters(), params(space=spaces_asked, k=1))
    views = [rows_in(name, features=features, pool=pool).astype(np.float64) for name in spaces_asked]
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
    assert said([{"role": "user", "text": "<image>\na"}, {"role": "assistant", "text": "b"}], "user").split() == ["a"]


@given(st.text())
def test_words_are_never_empty(text: str) -> None:
    assert all(words(text))
    assert words(" ".join(words(text))) == words(" ".join(words(text)))


def test_typical_words_by_hand() -> None:
    """`the` is everywhere, `once` in one text, 7 a number."""
    found = typical_words({0: ["the dog 7", "the dog 7 once"], 1: ["the cat", "the cat sat", "the cat sat"], 2: ["…"]})
    assert found == {0: ["dog"], 1: ["cat", "sat"], 2: []}
    assert typical_words({0: ["是什么颜色", "什么颜色"], 1: ["红"]}) == {0: ["什么颜色"], 1: ["红"]}
