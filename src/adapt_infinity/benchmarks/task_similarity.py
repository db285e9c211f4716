"""How alike the stream's tasks are: by what they show, ask and answer (He et al., arXiv:2311.16206, section 5).

Every round keeps the mean vectors of what arrived (model/modality_embeddings.py). Their cosines are shown beside what
each round made the model forget, so that one can see whether similar tasks lose less or more.
"""

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cosine_similarity

from adapt_infinity.benchmarks.answering import BenchmarkParams
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import samples_of
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_vlm
from adapt_infinity.model.modality_embeddings import MODALITIES, embed_modalities
from adapt_infinity.model.prompts import encode
from adapt_infinity.pool.pool import Pool


def start_tasks() -> pd.DataFrame:
    """Before the first round there is none. Columns: round, dataset, part (image, instruction, answer), vector."""
    return pd.DataFrame(
        {
            "round": pd.Series(dtype=np.int64),
            "dataset": pd.Series(dtype=object),
            "part": pd.Series(dtype=object),
            "vector": pd.Series(dtype=object),
        }
    )


def describe_task(
    pool: Pool,
    pictures: Pictures,
    base_model: Checkpoint,
    previous_task_vectors: pd.DataFrame,
    model_params: ModelParams,
    params: BenchmarkParams,
    round: int,
) -> pd.DataFrame:
    """The mean vectors of every task so far, this round's last; a part that the task does not have is left out.

    `task_samples` of what has arrived in this round are read, drawn by seed, by the base model without any adapter.
    Where nothing has arrived (a round on a past pool) there is no new task.
    """
    ids = pool.index.loc[pool.index["round"] == round, "sample_id"].to_numpy()
    if len(ids) == 0:
        return previous_task_vectors
    order = np.random.default_rng([params.seed, round]).permutation(len(ids))
    samples = samples_of(pool.rows(np.sort(ids[order[: params.task_samples]])))
    vlm = load_vlm(base_model, model_params)
    means = embed_modalities(vlm, [encode(vlm, sample, pictures) for sample in samples], params.token_budget).means()
    rows = [
        {"round": round, "dataset": samples[0].source, "part": part, "vector": means[part].numpy()}
        for part in MODALITIES
        if means[part].any()
    ]
    return pd.concat([previous_task_vectors, pd.DataFrame(rows)], ignore_index=True)


def compare_tasks(task_vectors: pd.DataFrame) -> pd.DataFrame:
    """Cosine of every pair of tasks in every part that both have: round, dataset, other_round, other, part, cosine."""
    rows = []
    for part, tasks in task_vectors.groupby("part", sort=False):
        vectors = torch.tensor(np.stack(tasks["vector"].tolist())).float()
        cosines = cosine_similarity(vectors[:, None], vectors[None], dim=-1)
        names = list(zip(tasks["round"], tasks["dataset"], strict=True))
        for i, (round, dataset) in enumerate(names):
            for j, (other_round, other) in enumerate(names):
                known = {"round": round, "dataset": dataset, "other_round": other_round, "other": other}
                rows.append({**known, "part": part, "cosine": float(cosines[i, j])})
    return pd.DataFrame(rows)
