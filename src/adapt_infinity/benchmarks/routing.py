"""Answering with a projector a task (He et al. 2023, arXiv:2311.16206): each item is given to an expert, and the items
of an expert are answered together. An item's expert depends on the item alone: any batch size gives the same answers.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from adapt_infinity.benchmarks.generation import GeneratedAnswer, speak
from adapt_infinity.model.adapters import eproj
from adapt_infinity.model.checkpoint import Vlm
from adapt_infinity.model.modality_embeddings import embed_modalities
from adapt_infinity.model.prompts import Encoded


def answer_by_experts(
    vlm: Vlm, encoded: Sequence[Encoded], sources: Sequence[str], max_new_tokens: int, token_budget: int
) -> tuple[list[GeneratedAnswer], list[str], list[str], list[str]]:
    """Answers; the answers of the right experts (an oracle); the task of the expert that each item was given to; the
    task of the right one, "" for an item whose source has none: it is answered where it was sent.
    """
    tasks = list(vlm.adapter_type["tasks"])
    chosen = route_items(vlm, encoded, token_budget)
    right = torch.tensor(
        [tasks.index(source) if source in tasks else int(sent) for source, sent in zip(sources, chosen, strict=True)]
    )
    answers, told = [GeneratedAnswer("", 0)] * len(encoded), [""] * len(encoded)
    for task in range(len(tasks)):
        eproj.use_projector(vlm, task)
        mine = torch.nonzero((chosen == task) | (right == task)).flatten().tolist()
        if not mine:
            continue
        spoken = speak(vlm, [encoded[place] for place in mine], max_new_tokens, token_budget)
        for place, answer in zip(mine, spoken, strict=True):
            if chosen[place] == task:
                answers[place] = answer
            if right[place] == task:
                told[place] = answer.text
    eproj.use_projector(vlm, None)
    owner = [source if source in tasks else "" for source in sources]
    return answers, told, [tasks[task] for task in chosen.tolist()], owner


def route_items(vlm: Vlm, encoded: Sequence[Encoded], token_budget: int) -> Int[Tensor, " items"]:
    """The number of each item's expert, by its picture and instruction as the pre-trained projector shows them."""
    eproj.use_projector(vlm, None)
    parts = embed_modalities(vlm, encoded, token_budget)
    return eproj.route(vlm.adapter_type, vlm.extra_tensors, parts.image, parts.instruction)


def judge_routing(answers: pd.DataFrame) -> dict[str, float]:
    """Over the items whose source has an expert: accuracy, how often it was chosen; score and oracle_score, the means
    with the chosen and with the right expert. Empty where there are no experts, or none is any item's own.
    """
    if "expert" not in answers:
        return {}
    owned = answers[answers["right_expert"] != ""]
    if owned.empty:
        return {}
    return {
        "accuracy": float((owned["expert"] == owned["right_expert"]).mean()),
        "score": float(owned["score"].mean()),
        "oracle_score": float(owned["oracle_score"].mean()),
    }
