"""What a worker does: answer one shard of the test items with the model, and grade what it said.

The model is opened once a process and stays for the shards that follow.
"""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from adapt_infinity.benchmarks import graders
from adapt_infinity.benchmarks.generation import speak
from adapt_infinity.benchmarks.routing import answer_by_experts
from adapt_infinity.benchmarks.text import SEPARATOR
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import samples_of
from adapt_infinity.executors import ProcessCache
from adapt_infinity.model import adapters
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, Vlm, load_vlm
from adapt_infinity.model.lora import Adapter
from adapt_infinity.model.merging import merge_adapter
from adapt_infinity.model.prompts import encode_question


@dataclass(frozen=True)
class AnswerJob:
    """What is the same for all shards."""

    base: Checkpoint
    adapter: Adapter | None = field(compare=False)  # its digest tells it from others
    adapter_digest: str
    model: ModelParams
    pictures: Pictures
    max_new_tokens: int
    token_budget: int


def answer_shard(job: AnswerJob, items: pd.DataFrame) -> pd.DataFrame:
    """What the model answers to these items, in their order; the columns are those of `answering.answer_items`."""
    vlm = _kept.get(job)
    samples = samples_of(items)
    encoded = [encode_question(vlm, sample, job.pictures) for sample in samples]
    routed = adapters.routes_samples(vlm.adapter_type)
    if routed:
        sources = [sample.source for sample in samples]
        answers, told, experts, owners = answer_by_experts(vlm, encoded, sources, job.max_new_tokens, job.token_budget)
    else:
        answers = speak(vlm, encoded, job.max_new_tokens, job.token_budget)
    known = zip(samples, items["references"], strict=True)
    references = [SEPARATOR.join(right) if len(right) else sample.turns[-1].text for sample, right in known]
    grade = {name: graders.load(name) for name in items["grader"].unique()}
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
        for sample, grader, reference, answer in zip(samples, items["grader"], references, answers, strict=True)
    ]
    table = pd.DataFrame(rows)
    if routed:
        table["expert"], table["right_expert"] = experts, owners
        table["oracle_score"] = [
            grade[row["grader"]](text, row["reference"]) for row, text in zip(rows, told, strict=True)
        ]
    return table


def release() -> None:
    """Let go of this process's model."""
    _kept.release()


def _open(job: AnswerJob) -> Vlm:
    vlm = load_vlm(job.base, job.model, job.adapter)
    merge_adapter(vlm)
    return vlm


_kept = ProcessCache(_open)
