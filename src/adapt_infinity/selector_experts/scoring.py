"""The table of scores: the probe's scores of every sample, and the comparisons that compete as experts.

Columns: sample_id, the columns of the probe's scores, trained_nll, and one column per comparison.

`trained_nll` is the loss of a sample in the first reading after it was last trained on, and NaN if it was never trained
on. Compared with the present loss it shows whether the sample has been forgotten since.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
from annotated_types import Ge
from jaxtyping import Float, Int

from adapt_infinity.data.tables import align_rows, require_columns
from adapt_infinity.parameters import Distinct, NotEmpty, OneOf, PositiveFloat, PositiveInt, Seed, check
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.selector_experts import choices, comparisons
from adapt_infinity.selector_experts.context import ScoringContext


@dataclass(frozen=True, kw_only=True)
class SelectorParams:
    """params:selector_experts."""

    SECTION: ClassVar[str] = "selector_experts"

    # columns of the scores, or comparisons; of equally good ones the first listed is chosen
    experts: Annotated[list[str], NotEmpty, Distinct] = field(
        default_factory=lambda: ["perplexity", "el2n", "entropy", "grand", "image_grounding"]
    )
    choice: Annotated[str, OneOf(choices.names)] = "entropy"  # rule for a cluster's expert: a file in `choices`
    bins: Annotated[int, Ge(2)] = 50  # of the histogram of a score
    range: PositiveFloat = 4.0  # the bins divide [-range, range] standard deviations; the outer ones take the tails
    neighbours: PositiveInt = 10  # nearest ones of a sample that density averages over
    reference: str = ""  # folder of the LoRA adapter that learnability compares with, in PEFT's layout
    targets_per_skill: PositiveInt = 20  # validation samples per skill that influence reads
    seed: Seed = 0

    def __post_init__(self) -> None:
        check(self)
        needing = comparisons.needing("reference_scores", self.experts)
        if needing and not self.reference:
            raise ValueError(
                f"selector_experts.experts names {needing[0]!r}, which compares with the adapter "
                "selector_experts.reference; give its folder"
            )

    @property
    def competing(self) -> tuple[str, ...]:
        """The listed experts, and the one that the choice adds, if it adds one."""
        added = choices.added_expert(self.choice)
        return (*self.experts, *([added] if added and added not in self.experts else []))


def start_record() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of scores and of the subset of round 0, without rows."""
    scores = {"sample_id": np.zeros(0, np.int64), "nll": np.zeros(0), "trained_nll": np.zeros(0)}
    subset = {
        "sample_id": np.zeros(0, np.int64),
        "cluster": np.zeros(0, np.int32),
        "expert": pd.Series([], dtype="str"),
        "selected": np.zeros(0, dtype=bool),
    }
    return pd.DataFrame(scores), pd.DataFrame(subset)


def score_samples(
    features: Features,
    clusters: pd.DataFrame,
    previous_scores: pd.DataFrame,
    previous_subset: pd.DataFrame,
    reference_scores: pd.DataFrame,
    targets: pd.DataFrame,
    params: SelectorParams,
) -> pd.DataFrame:
    """The table of scores (see the module), ordered by sample_id.

    features: the probe's features of the pool; clusters: sample_id, cluster.
    previous_scores, previous_subset: the tables of the previous round (`start_record()` before the first).
    reference_scores (sample_id, nll), targets (column direction): the tables of reference_reading.py; without rows
    unless an expert needs them.

    `ValueError` for a missing column, for an expert that is neither a column of the probe's scores nor a comparison,
    and for a comparison whose reading has no rows.
    """
    require_columns(features.scores, "features.scores", ("sample_id", "nll"))
    require_columns(clusters, "clusters", ("sample_id", "cluster"))
    require_columns(previous_scores, "previous_scores", ("sample_id", "nll", "trained_nll"))
    require_columns(previous_subset, "previous_subset", ("sample_id", "selected"))
    require_columns(reference_scores, "reference_scores", ("sample_id", "nll"))
    require_columns(targets, "targets", ("direction",))
    order = np.argsort(features.scores["sample_id"].to_numpy(), kind="stable")
    in_order = bool((order == np.arange(len(order))).all())
    scores = features.scores if in_order else features.scores.iloc[order].reset_index(drop=True)
    added = [name for name in params.competing if name not in scores.columns]
    unknown = [name for name in added if name not in comparisons.names()]
    if unknown:
        known = [*scores.columns.drop("sample_id"), *comparisons.names()]
        raise ValueError(f"selector_experts.experts names {unknown}, but the scores are {known}")
    for reading, table in (("reference_scores", reference_scores), ("targets", targets)):
        needing = comparisons.needing(reading, added)
        if needing and table.empty and len(scores):
            raise ValueError(f"selector_experts.experts names {needing[0]!r}, but the table {reading} has no rows")
    ids = scores["sample_id"].to_numpy(np.int64)
    context = ScoringContext(
        scores=scores,
        cluster=align_rows(clusters, ids)["cluster"].to_numpy(),
        gradients=features.gradients if in_order else features.gradients[order],
        embeddings=features.embeddings if in_order else features.embeddings[order],
        previous_nll=_values_of(previous_scores, ids, "nll"),
        reference_nll=_values_of(reference_scores, ids, "nll"),
        targets=_directions(targets, features.gradients.shape[1]),
        experts=tuple(name for name in params.experts if name in features.scores.columns),
        neighbours=params.neighbours,
    )
    scores = scores.assign(trained_nll=_trained_nll(context, previous_scores, previous_subset, ids))
    return scores.assign(**{name: comparisons.load(name)(context) for name in added})


def _trained_nll(
    context: ScoringContext, previous_scores: pd.DataFrame, previous_subset: pd.DataFrame, ids: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The loss now of samples that the last round trained on; that of the previous table for the others."""
    selected = previous_subset.loc[previous_subset["selected"], "sample_id"].to_numpy()
    return np.where(np.isin(ids, selected), context.nll, _values_of(previous_scores, ids, "trained_nll"))


def _values_of(table: pd.DataFrame, ids: Int[np.ndarray, " n"], column: str) -> Float[np.ndarray, " n"]:
    """A column of a table for these samples; NaN for samples that the table does not have."""
    values = pd.Series(table[column].to_numpy(dtype=np.float64), table["sample_id"].to_numpy(np.int64))
    return values.reindex(ids).to_numpy()


def _directions(targets: pd.DataFrame, dim: int) -> Float[np.ndarray, "skills dim"]:
    rows = [np.asarray(row, dtype=np.float32) for row in targets["direction"]]
    return np.stack(rows) if rows else np.zeros((0, dim), dtype=np.float32)
