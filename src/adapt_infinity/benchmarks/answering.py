"""Answering: the model speaks, greedily, and a grader compares what it says with the reference.

Test items are picked once, at genesis, and stay the same for every round of a stream: rows of R can be compared.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from adapt_infinity.benchmarks import graders
from adapt_infinity.benchmarks.routing import answer_by_experts
from adapt_infinity.benchmarks.speaking import speak
from adapt_infinity.benchmarks.text import SEPARATOR
from adapt_infinity.folding import fold_adapter
from adapt_infinity.intake import IntakeParams, Source, check_records, whole
from adapt_infinity.lora import Adapter
from adapt_infinity.model import Checkpoint, ModelParams, load_reader, load_vlm
from adapt_infinity.pictures import Pictures
from adapt_infinity.prompts import PromptCheck, encode_question
from adapt_infinity.sample import samples_of


@dataclass(frozen=True, kw_only=True)
class BenchmarkParams:
    """params:benchmarks."""

    items_per_skill: int
    max_new_tokens: int
    token_budget: int  # tokens in a batch, answers to come included
    task_samples: int  # arrivals whose mean stands for the round's task
    seed: int

    def __post_init__(self) -> None:
        for name in ("items_per_skill", "max_new_tokens", "token_budget", "task_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"benchmarks.{name} must be at least 1, got {getattr(self, name)}")


def pick_items(
    test_sources: list[Source],
    pictures: Pictures,
    base_model: Checkpoint,
    intake: IntakeParams,
    model_params: ModelParams,
    params: BenchmarkParams,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Up to `items_per_skill` test items of every skill, drawn by seed, and the test records that had to be rejected.

    Columns: those of sample.ROWS (sample_id: the item's number) and grader. `ValueError` when a skill has no grader: an
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
    vlm = load_vlm(base_model, model_params, adapter)
    fold_adapter(vlm)
    samples = samples_of(benchmark_items)
    routed = vlm.form.get("kind") == "eproj"
    encoded = [encode_question(vlm, sample, pictures) for sample in samples]
    if routed:
        sources = [sample.source for sample in samples]
        answers, told, experts, owners = answer_by_experts(
            vlm, encoded, sources, params.max_new_tokens, params.token_budget
        )
    else:
        answers = speak(vlm, encoded, params.max_new_tokens, params.token_budget)
    known = zip(samples, benchmark_items["references"], strict=True)
    references = [SEPARATOR.join(right) if len(right) else sample.turns[-1].text for sample, right in known]
    grade = {name: graders.load(name) for name in benchmark_items["grader"].unique()}
    rows: list[dict[str, Any]] = [
        {
            "sample_id": sample.sample_id,
            "source": sample.source,
            "skill": sample.skill,
            "grader": grader,
            "reference": reference,
            "answer": answer.text,
            "score": grade[grader](answer.text, reference),
            "tokens": answer.tokens,
        }
        for sample, grader, reference, answer in zip(
            samples, benchmark_items["grader"], references, answers, strict=True
        )
    ]
    table = pd.DataFrame(rows)
    if routed:
        table["expert"], table["right_expert"] = experts, owners
        table["oracle_score"] = [
            grade[row["grader"]](text, row["reference"]) for row, text in zip(rows, told, strict=True)
        ]
    return table


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
