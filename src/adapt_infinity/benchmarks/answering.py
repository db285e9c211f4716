"""Answering: the model speaks, greedily, and a grader compares what it says with the reference.

Test items are picked once, at genesis, and stay the same for every round of a stream: rows of R can be compared.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm import tqdm

from adapt_infinity import executors
from adapt_infinity.benchmarks import graders
from adapt_infinity.benchmarks.worker import AnswerJob, answer_shard, release
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.intake.reading import IntakeParams, Source, check_records, whole
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_reader
from adapt_infinity.model.lora import Adapter, adapter_digest
from adapt_infinity.model.prompts import PromptCheck

SHARD = 256  # items that a worker answers at a time; not by workers, or their number would decide who shares a batch


@dataclass(frozen=True, kw_only=True)
class BenchmarkParams:
    """params:benchmarks."""

    items_per_skill: int
    max_new_tokens: int
    token_budget: int  # tokens in a batch, answers to come included
    task_samples: int  # arrivals whose mean stands for the round's task
    executor: str  # a file in executors
    workers: int  # who answers at a time; 0 = one a GPU
    seed: int

    def __post_init__(self) -> None:
        for name in ("items_per_skill", "max_new_tokens", "token_budget", "task_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"benchmarks.{name} must be at least 1, got {getattr(self, name)}")
        if self.workers < 0:
            raise ValueError(f"benchmarks.workers must be at least 0, got {self.workers}")
        executors.check("benchmarks.executor", self.executor)


def pick_items(
    test_sources: list[Source],
    pictures: Pictures,
    base_model: Checkpoint,
    intake: IntakeParams,
    model_params: ModelParams,
    params: BenchmarkParams,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Up to `items_per_skill` test items of every skill, drawn by seed, and the test records that had to be rejected.

    Columns: SAMPLE_SCHEMA (sample_id: the item's number) and grader. `ValueError` when a skill has no grader: an
    ungraded skill would be a silent hole in R.
    """
    readable = PromptCheck(load_reader(base_model, model_params), pictures)
    picked, rejected = [], []
    for place, source in enumerate(test_sources):
        arrivals, rejects = check_records(source, pictures, intake, readable=readable)
        items = whole(arrivals)
        rejected.append(whole(rejects))
        for number, (skill, rows) in enumerate(items.groupby("skill", sort=True)):
            draw = np.random.default_rng([params.seed, place, number])
            chosen = np.sort(draw.permutation(len(rows))[: params.items_per_skill])
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
    """What the model answers to each item: sample_id, source, skill, grader, reference, answer, score in 0..1, tokens
    (of question and answer).

    Under an adapter of experts by task also expert and right_expert, the tasks whose expert answered and should have
    ("" where the source has none), and oracle_score, that of the right expert's answer (or of the given one).
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
    with tqdm(total=len(benchmark_items), desc="answering", unit="item", disable=None) as bar:
        for table in run(answer_shard, job, shards(benchmark_items), params.workers):
            tables.append(table)
            bar.update(len(table))
    release()
    return pd.concat(tables).sort_values("sample_id", ignore_index=True)


def shards(items: pd.DataFrame) -> list[pd.DataFrame]:
    """The items by length, the longest first: a worker's are alike, and no long ones are left to the end."""
    words = items["turns"].map(lambda turns: sum(len(turn["text"]) for turn in turns[:-1]))
    order = np.lexsort((words, items["images"].map(len)))[::-1]
    return [items.iloc[order[start : start + SHARD]] for start in range(0, len(order), SHARD)]


def answer_zero_shot(
    benchmark_items: pd.DataFrame,
    pictures: Pictures,
    base_model: Checkpoint,
    model_params: ModelParams,
    params: BenchmarkParams,
) -> pd.DataFrame:
    """As `answer_items`, by the base model without any adapter: row 0 of R."""
    return answer_items(benchmark_items, pictures, base_model, None, model_params, params)


def grade_round(answers: pd.DataFrame, round: int, previous_score_matrix: pd.DataFrame) -> pd.DataFrame:
    """R with this round's rows added: round, dataset, skill, grader, items, score (mean over the skill's items)."""
    return pd.concat([previous_score_matrix, grade_zero_shot(answers, round)], ignore_index=True)


def grade_zero_shot(answers: pd.DataFrame, round: int) -> pd.DataFrame:
    """One round's rows of R."""
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
