"""Answering with one projector per task (EProj, He et al. 2023, arXiv:2311.16206).

Each test item is routed to the projector of one task, and the items of a task are answered together. The choice depends
on the item alone, so any batch size gives the same answers. Adapter types of this kind declare `ROUTES_SAMPLES` and
have the functions `use_projector` and `route` (model/adapters/).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from adapt_infinity.benchmarks.generation import GeneratedAnswer, generate_answers
from adapt_infinity.data.tables import require_columns
from adapt_infinity.model import adapters
from adapt_infinity.model.checkpoint import Vlm
from adapt_infinity.model.modality_embeddings import embed_modalities
from adapt_infinity.model.prompts import Encoded


@dataclass(frozen=True)
class RoutedAnswers:
    """Answers of a model with one projector per task; every list has one entry per item."""

    answers: list[GeneratedAnswer]
    oracle_texts: list[str]  # answers with the projector of the right task
    routed_tasks: list[str]  # the task whose projector answered
    right_tasks: list[str]  # the task that the item belongs to, "" if no projector was trained on its source


def answer_with_routing(
    vlm: Vlm, encoded: Sequence[Encoded], sources: Sequence[str], max_new_tokens: int, token_budget: int
) -> RoutedAnswers:
    """Answer each item with the projector of the task that it is routed to, and with that of its right task.

    `sources` are the datasets of the items. An item whose source has no projector has its given answer as oracle text.
    """
    adapter_type, tasks = adapters.load(vlm.adapter_type["kind"]), list(vlm.adapter_type["tasks"])
    routed = route_items(vlm, encoded, token_budget)
    right = torch.tensor(
        [tasks.index(source) if source in tasks else int(task) for source, task in zip(sources, routed, strict=True)]
    )
    answers, oracle_texts = [GeneratedAnswer("", 0)] * len(encoded), [""] * len(encoded)
    for task in range(len(tasks)):
        adapter_type.use_projector(vlm, task)
        places = torch.nonzero((routed == task) | (right == task)).flatten().tolist()
        if not places:
            continue
        generated = generate_answers(vlm, [encoded[place] for place in places], max_new_tokens, token_budget)
        for place, answer in zip(places, generated, strict=True):
            if routed[place] == task:
                answers[place] = answer
            if right[place] == task:
                oracle_texts[place] = answer.text
    adapter_type.use_projector(vlm, None)
    right_tasks = [source if source in tasks else "" for source in sources]
    return RoutedAnswers(answers, oracle_texts, [tasks[task] for task in routed.tolist()], right_tasks)


def route_items(vlm: Vlm, encoded: Sequence[Encoded], token_budget: int) -> Int[Tensor, " items"]:
    """The number of the task that each item is routed to, by its picture and instruction.

    Both are embedded with the pre-trained projector, which stays in place afterwards.
    """
    adapter_type = adapters.load(vlm.adapter_type["kind"])
    adapter_type.use_projector(vlm, None)
    embeddings = embed_modalities(vlm, encoded, token_budget)
    routed: Int[Tensor, " items"] = adapter_type.route(
        vlm.adapter_type, vlm.extra_tensors, embeddings.image, embeddings.instruction
    )
    return routed


def measure_routing(answers: pd.DataFrame) -> dict[str, float]:
    """How good the routing was, over the items that have a right task.

    accuracy is the share of items that were routed to their right task; score and oracle_score are the mean scores with
    the routed and with the right projector. `answers` is a table of `answering.answer_items`. The result is empty if
    the answers were not routed, or if no item has a right task. `ValueError` names a missing column.
    """
    if "routed_task" not in answers:
        return {}
    require_columns(answers, "answers", ["right_task", "score", "oracle_score"])
    known = answers[answers["right_task"] != ""]
    if known.empty:
        return {}
    return {
        "accuracy": float((known["routed_task"] == known["right_task"]).mean()),
        "score": float(known["score"].mean()),
        "oracle_score": float(known["oracle_score"].mean()),
    }
