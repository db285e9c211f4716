"""Answering test items: the model generates an answer to each item, and a grader compares it with the reference.

Test items are picked once, at genesis, and stay the same for every round of a stream, so that the rows of the score
matrix R can be compared.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
from tqdm import tqdm

from adapt_infinity import executors
from adapt_infinity.benchmarks import graders
from adapt_infinity.benchmarks.worker import AnswerJob, answer_shard, release_model
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.tables import require_columns
from adapt_infinity.intake.reading import IntakeParams, Source, check_records, to_dataframe
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_reader
from adapt_infinity.model.lora import Adapter, adapter_digest
from adapt_infinity.model.prompts import PromptCheck
from adapt_infinity.parameters import NonNegativeInt, OneOf, PositiveInt, Seed, check

SHARD_ITEMS = 256  # that a worker answers at a time; fixed, so that the batches do not depend on the number of workers


@dataclass(frozen=True, kw_only=True)
class BenchmarkParams:
    """params:benchmarks."""

    SECTION: ClassVar[str] = "benchmarks"

    items_per_skill: PositiveInt = 40  # test items that genesis draws
    max_new_tokens: PositiveInt = 48  # highest number of tokens of an answer
    token_budget: PositiveInt = 8192  # tokens per batch, the answers to be generated included
    executor: Annotated[str, OneOf(executors.names)] = "local"  # a file in executors
    workers: NonNegativeInt = 1  # processes that answer items; 0 = one per GPU
    task_samples: PositiveInt = 256  # arriving samples whose mean embedding represents the round's task
    seed: Seed = 0

    def __post_init__(self) -> None:
        check(self)


def pick_items(
    test_sources: list[Source],
    pictures: Pictures,
    base_model: Checkpoint,
    intake: IntakeParams,
    model_params: ModelParams,
    params: BenchmarkParams,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Up to `items_per_skill` test items of every skill, drawn by seed, and the test records that were rejected.

    The items have one row each, with the columns of SAMPLE_SCHEMA (sample_id is the number of the item) and grader.
    `ValueError` when a skill has no grader: its scores would be missing in R.
    """
    check_sample = PromptCheck(load_reader(base_model, model_params), pictures)
    picked, rejected = [], []
    for source_number, source in enumerate(test_sources):
        arrivals, rejects = check_records(source, pictures, intake, check_sample=check_sample)
        items = to_dataframe(arrivals)
        rejected.append(to_dataframe(rejects))
        for skill_number, (skill, rows) in enumerate(items.groupby("skill", sort=True)):
            rng = np.random.default_rng([params.seed, source_number, skill_number])
            chosen = np.sort(rng.permutation(len(rows))[: params.items_per_skill])
            picked.append(rows.iloc[chosen].assign(grader=_grader(source, str(skill))))
    items = pd.concat(picked, ignore_index=True)
    return items.assign(sample_id=np.arange(len(items))), pd.concat(rejected, ignore_index=True)


def answer_items(
    benchmark_items: pd.DataFrame,
    pictures: Pictures,
    base_model: Checkpoint,
    adapter: Adapter | None,
    model_params: ModelParams,
    params: BenchmarkParams,
) -> pd.DataFrame:
    """One row per item: sample_id, source, skill, grader, reference, answer, score in 0..1, tokens (of question and
    answer).

    If the adapter has one projector per task, there are three more columns: routed_task, the task whose projector
    answered; right_task, the task that the item belongs to ("" if no projector was trained on the item's source); and
    oracle_score, the score of the answer with the right projector (where there is none, of the given answer).
    """
    job = AnswerJob(
        base_model,
        adapter,
        "" if adapter is None else adapter_digest(adapter),
        model_params,
        pictures,
        params.max_new_tokens,
        params.token_budget,
    )
    run = executors.load(params.executor)
    tables = []
    with tqdm(total=len(benchmark_items), desc="answering", unit="item", disable=None) as progress:
        for table in run(answer_shard, job, shards(benchmark_items), params.workers):
            tables.append(table)
            progress.update(len(table))
    release_model()
    return pd.concat(tables).sort_values("sample_id", ignore_index=True)


def shards(items: pd.DataFrame) -> list[pd.DataFrame]:
    """The items in shards of `SHARD_ITEMS`, the longest first: the items of a shard have similar lengths, and no long
    item is started last. Items with more images count as longer.
    """
    characters = items["turns"].map(lambda turns: sum(len(turn["text"]) for turn in turns[:-1]))
    order = np.lexsort((characters, items["images"].map(len)))[::-1]
    return [items.iloc[order[start : start + SHARD_ITEMS]] for start in range(0, len(order), SHARD_ITEMS)]


def answer_zero_shot(
    benchmark_items: pd.DataFrame,
    pictures: Pictures,
    base_model: Checkpoint,
    model_params: ModelParams,
    params: BenchmarkParams,
) -> pd.DataFrame:
    """`answer_items` with the base model, without any adapter: row 0 of R."""
    return answer_items(benchmark_items, pictures, base_model, None, model_params, params)


def grade_round(answers: pd.DataFrame, round: int, previous_score_matrix: pd.DataFrame) -> pd.DataFrame:
    """The score matrix with this round's rows appended: see `grade_zero_shot` for the columns."""
    return pd.concat([previous_score_matrix, grade_zero_shot(answers, round)], ignore_index=True)


def grade_zero_shot(answers: pd.DataFrame, round: int) -> pd.DataFrame:
    """The rows of the score matrix for one round: round, dataset, skill, grader, items, score (mean over the items).

    `answers` is a table of `answer_items`. `ValueError` names a missing column.
    """
    require_columns(answers, "answers", ["source", "skill", "grader", "score"])
    graded = answers.groupby(["source", "skill", "grader"], sort=False, as_index=False).agg(
        items=("score", "size"), score=("score", "mean")
    )
    graded = graded.rename(columns={"source": "dataset"})
    graded.insert(0, "round", round)
    return graded


def _grader(source: Source, skill: str) -> str:
    if skill not in source.graders:
        raise ValueError(f"skill {skill!r} of source {source.name!r} has no grader; known graders: {graders.names()}")
    return source.graders[skill]
