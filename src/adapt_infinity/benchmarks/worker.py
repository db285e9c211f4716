"""A benchmark worker: one process answers shards of the test items with the model and grades the answers.

The model is loaded once per process and stays for the shards that follow.
"""

from dataclasses import dataclass, field

import pandas as pd

from adapt_infinity.benchmarks import graders
from adapt_infinity.benchmarks.generation import generate_answers
from adapt_infinity.benchmarks.routing import RoutedAnswers, answer_with_routing
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
    """What all shards of one run have in common."""

    base: Checkpoint
    adapter: Adapter | None = field(compare=False)  # compared by its digest
    adapter_digest: str
    model: ModelParams
    pictures: Pictures
    max_new_tokens: int
    token_budget: int


def answer_shard(job: AnswerJob, items: pd.DataFrame) -> pd.DataFrame:
    """The model's answers to these items, in their order; the columns are those of `answering.answer_items`."""
    vlm = _models.get(job)
    samples = samples_of(items)
    encoded = [encode_question(vlm, sample, job.pictures) for sample in samples]
    routed: RoutedAnswers | None = None
    if adapters.routes_samples(vlm.adapter_type):
        sources = [sample.source for sample in samples]
        routed = answer_with_routing(vlm, encoded, sources, job.max_new_tokens, job.token_budget)
    answers = routed.answers if routed else generate_answers(vlm, encoded, job.max_new_tokens, job.token_budget)
    listed = zip(samples, items["references"], strict=True)
    references = [SEPARATOR.join(texts) if len(texts) else sample.turns[-1].text for sample, texts in listed]
    grade = {name: graders.load(name) for name in items["grader"].unique()}
    table = pd.DataFrame(
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
    )
    if routed:
        table["routed_task"], table["right_task"] = routed.routed_tasks, routed.right_tasks
        graded = zip(items["grader"], routed.oracle_texts, references, strict=True)
        table["oracle_score"] = [grade[grader](text, reference) for grader, text, reference in graded]
    return table


def release_model() -> None:
    """Free the memory of the model that this process has loaded."""
    _models.release()


def _load_model(job: AnswerJob) -> Vlm:
    vlm = load_vlm(job.base, job.model, job.adapter)
    merge_adapter(vlm)
    return vlm


_models = ProcessCache(_load_model)
