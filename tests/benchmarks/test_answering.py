"""Answering: test items are picked once, answered in batches, and graded by the grader of their skill."""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from adapt_infinity import executors
from adapt_infinity.benchmarks import answering, worker
from adapt_infinity.benchmarks.answering import (
    BenchmarkParams,
    answer_zero_shot,
    grade_round,
    grade_zero_shot,
    pick_items,
)
from adapt_infinity.benchmarks.generation import _tokens_up_to_end, generate_answers
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import samples_of
from adapt_infinity.intake.reading import Source
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, Vlm, load_vlm
from adapt_infinity.model.lora import Adapter
from adapt_infinity.model.prompts import encode_question
from tests.conftest import INTAKE
from tests.executors.work import last_task_first

PARAMS = BenchmarkParams(
    items_per_skill=1, max_new_tokens=8, token_budget=200, task_samples=4, executor="local", workers=1, seed=0
)


@pytest.fixture(scope="module")
def pick(pictures: Pictures, base_model: Checkpoint, model_params: ModelParams):  # type: ignore[no-untyped-def]
    def from_source(source: Source, params: BenchmarkParams = PARAMS) -> pd.DataFrame:
        return pick_items([source], pictures, base_model, INTAKE, model_params, params)[0]

    return from_source


@pytest.fixture(scope="module")
def items(toy_source: Source, pick) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    return pick(toy_source)


def test_every_skill_has_as_many_items_as_asked_for(items: pd.DataFrame, toy_source: Source, pick) -> None:  # type: ignore[no-untyped-def]
    assert sorted(items["skill"]) == ["caption", "compare", "cs", "language", "talk", "zh"]
    assert items["sample_id"].tolist() == list(range(6))
    again = pick(toy_source)
    assert again["source_id"].tolist() == items["source_id"].tolist()
    other = pick(toy_source, BenchmarkParams(**{**vars(PARAMS), "items_per_skill": 9}))
    assert len(other) == 8


def test_a_skill_without_a_grader_is_an_error(toy_source: Source, pick) -> None:  # type: ignore[no-untyped-def]
    source = Source("toy", "llava", toy_source.records, {"language": "exact"})
    with pytest.raises(ValueError, match=r"skill 'caption' of source 'toy' has no grader; known graders: .*exact"):
        pick(source)


def test_shards_contain_every_item_once_and_start_with_the_longest(
    items: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "SHARD_ITEMS", 4)
    shards = answering.shards(items)
    assert [len(shard) for shard in shards] == [4, 2]
    assert sorted(pd.concat(shards)["sample_id"]) == items["sample_id"].tolist()
    pictures = [len(names) for shard in shards for names in shard["images"]]
    assert pictures == sorted(pictures, reverse=True)
    characters = [sum(len(turn["text"]) for turn in turns[:-1]) for turns in pd.concat(shards)["turns"]]
    single_picture = [length for length, count in zip(characters, pictures, strict=True) if count == 1]
    assert len(single_picture) > 2
    assert single_picture == sorted(single_picture, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{"workers": 2}, {"workers": 2, "executor": "ray"}], ids=str)
@pytest.mark.usefixtures("cluster")
def test_the_number_and_place_of_workers_change_no_answer(
    items: pd.DataFrame,
    pictures: Pictures,
    base_model: Checkpoint,
    model_params: ModelParams,
    warm_adapter: Adapter,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
) -> None:
    monkeypatch.setattr(answering, "SHARD_ITEMS", 2)
    calls: list[tuple[str, int]] = []
    load = executors.load

    def load_recording(name: str) -> executors.Run:
        def run(function: Any, shared: Any, tasks: Any, workers: int) -> Iterator[Any]:
            calls.append((name, workers))
            return load(name)(function, shared, tasks, workers)

        return run

    monkeypatch.setattr(executors, "load", load_recording)
    alone, shared = (
        answering.answer_items(items, pictures, base_model, warm_adapter, model_params, replace(PARAMS, **asked))
        for asked in ({}, changed)
    )
    assert alone["sample_id"].tolist() == items["sample_id"].tolist()
    pd.testing.assert_frame_equal(alone, shared)
    assert calls == [("local", 1), (changed.get("executor", "local"), 2)]


def test_the_order_of_shards_changes_no_answer(
    items: pd.DataFrame,
    pictures: Pictures,
    base_model: Checkpoint,
    model_params: ModelParams,
    warm_adapter: Adapter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What two workers would answer is answered here, without their processes: the last shard first."""
    monkeypatch.setattr(answering, "SHARD_ITEMS", 2)
    given = (items, pictures, base_model, warm_adapter, model_params)
    alone = answering.answer_items(*given, PARAMS)
    monkeypatch.setattr(executors, "load", lambda _name: last_task_first)
    pd.testing.assert_frame_equal(alone, answering.answer_items(*given, replace(PARAMS, workers=2)))


def test_the_model_is_loaded_once_and_its_memory_is_freed(
    items: pd.DataFrame,
    pictures: Pictures,
    base_model: Checkpoint,
    model_params: ModelParams,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[weakref.ref[Vlm]] = []

    def load_recording(*arguments: Any) -> Vlm:
        loaded.append(weakref.ref(vlm := load_vlm(*arguments)))
        return vlm

    monkeypatch.setattr(worker, "load_vlm", load_recording)
    monkeypatch.setattr(answering, "SHARD_ITEMS", 2)
    answer_zero_shot(items, pictures, base_model, model_params, PARAMS)
    assert len(loaded) == 1
    assert loaded[0]() is None, "the stages that follow need the memory"


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"executor": "somewhere"}, {"items_per_skill": 0}], ids=str)
def test_parameters_name_key_and_value(wrong: dict[str, Any]) -> None:
    ((key, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"benchmarks\.{key} must be .*, got '?{value}"):
        replace(PARAMS, **wrong)


def test_batches_change_no_answer(items: pd.DataFrame, pictures: Pictures, vlm: Vlm) -> None:
    rows = [encode_question(vlm, sample, pictures) for sample in samples_of(items)]
    together = generate_answers(vlm, rows, PARAMS.max_new_tokens, PARAMS.token_budget)
    assert together == generate_answers(vlm, rows, PARAMS.max_new_tokens, 1)
    for number in range(1, len(rows)):
        assert together[:number] == generate_answers(vlm, rows[:number], PARAMS.max_new_tokens, PARAMS.token_budget)
    counts = [answer.tokens - len(row) for row, answer in zip(rows, together, strict=True)]
    assert all(0 < count <= PARAMS.max_new_tokens for count in counts)
    assert len(set(counts)) > 1, "an answer ends at its own end, not at that of the longest answer of its batch"


def test_tokens_are_counted_up_to_the_first_end_token() -> None:
    is_end = torch.tensor([[False, True, False, True], [False, False, False, False], [True, True, True, True]])
    assert _tokens_up_to_end(is_end).tolist() == [2, 4, 1]


def test_grades_become_rows_of_the_score_matrix(
    items: pd.DataFrame, pictures: Pictures, base_model: Checkpoint, model_params: ModelParams
) -> None:
    answers = answer_zero_shot(items, pictures, base_model, model_params, PARAMS)
    assert answers["reference"].tolist() == [turns[-1]["text"] for turns in items["turns"]]
    answers["score"] = [1.0, 0.0, 0.5, 1.0, 0.25, 0.0]
    zero = grade_zero_shot(answers, 0)
    assert zero["score"].tolist() == answers["score"].tolist()
    both = grade_round(answers, 1, zero)
    assert both["round"].tolist() == [0] * 6 + [1] * 6
    assert both["items"].eq(1).all()
