"""Task similarity: cosines of the tasks' mean image, instruction and answer (He et al., arXiv:2311.16206, section 5).

Every round keeps the mean embeddings of the dataset that arrived (model/modality_embeddings.py). A figure shows their
cosines beside the change of score in each round, so that one can see whether similar tasks are forgotten less or more.
"""

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cosine_similarity

from adapt_infinity.benchmarks.answering import BenchmarkParams
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import samples_of
from adapt_infinity.data.tables import require_columns
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_vlm
from adapt_infinity.model.modality_embeddings import MODALITIES, embed_modalities
from adapt_infinity.model.prompts import encode
from adapt_infinity.pool.pool import Pool


def start_tasks() -> pd.DataFrame:
    """An empty table of task vectors, as it is before the first round.

    Columns: round, dataset, part (image, instruction or answer), vector (the mean embedding).
    """
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
    """The table of task vectors with the rows of this round's task appended; the columns are those of `start_tasks`.

    The base model without any adapter embeds at most `task_samples` of the samples that arrived in this round, drawn by
    seed. A part that the task does not have (images, in a dataset of text) has no row. If nothing has arrived, as in a
    round on a past pool, no row is appended.
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
    """The cosine of every pair of tasks, for each part that both tasks have.

    Columns: round, dataset, other_round, other (dataset), part, cosine. `ValueError` names a missing column.
    """
    require_columns(task_vectors, "task_vectors", ["round", "dataset", "part", "vector"])
    rows = []
    for part, tasks in task_vectors.groupby("part", sort=False):
        vectors = torch.tensor(np.stack(tasks["vector"].tolist())).float()
        cosines = cosine_similarity(vectors[:, None], vectors[None], dim=-1)
        names = list(zip(tasks["round"], tasks["dataset"], strict=True))
        for i, (round, dataset) in enumerate(names):
            for j, (other_round, other) in enumerate(names):
                pair = {"round": round, "dataset": dataset, "other_round": other_round, "other": other}
                rows.append({**pair, "part": part, "cosine": float(cosines[i, j])})
    return pd.DataFrame(rows)
