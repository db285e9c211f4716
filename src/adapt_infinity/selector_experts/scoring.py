"""The table of scores: what this round's reading says of every sample, and what comparisons add to it.

    sample_id, the columns of the features' scores, trained_nll, a column for each comparison that competes

`trained_nll` is a sample's loss in the first reading after it was last trained on, NaN if it never was: from there its
loss can only be remembered or forgotten.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from adapt_infinity import registry
from adapt_infinity.data.tables import align_rows
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.selector_experts import choices, comparisons
from adapt_infinity.selector_experts.context import ScoringContext


@dataclass(frozen=True, kw_only=True)
class SelectorParams:
    """params:selector_experts."""

    experts: list[str]  # columns of the scores, or comparisons; of equally good ones the first listed is chosen
    choice: str  # of a cluster's expert: a file of selection/choices
    bins: int
    range: float  # the bins divide [-range, range] standard deviations; the outer ones take the tails
    neighbours: int  # of a sample, that density looks at
    reference: str  # folder of the LoRA adapter that learnability compares with, in PEFT's layout
    targets_per_skill: int  # validation samples a skill that influence reads
    seed: int

    def __post_init__(self) -> None:
        if not self.experts:
            raise ValueError("selector_experts.experts must name at least one score, got none")
        if len(set(self.experts)) < len(self.experts):
            raise ValueError(f"selector_experts.experts must name each score once, got {self.experts}")
        if self.choice not in choices.names():
            known = ", ".join(choices.names())
            raise ValueError(f"selector_experts.choice must be one of {known}, got {self.choice!r}")
        if self.bins < 2:
            raise ValueError(f"selector_experts.bins must be at least 2, got {self.bins}")
        if not self.range > 0 or not np.isfinite(self.range):
            raise ValueError(f"selector_experts.range must be a number above 0, got {self.range}")
        for name in ("neighbours", "targets_per_skill"):
            if getattr(self, name) < 1:
                raise ValueError(f"selector_experts.{name} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"selector_experts.seed must be at least 0, got {self.seed}")
        if "learnability" in self.experts and not self.reference:
            raise ValueError(
                "selector_experts.experts names 'learnability': selector_experts.reference says against what"
            )

    @property
    def competing(self) -> tuple[str, ...]:
        """The experts that are listed, and one that the choice itself brings."""
        added = getattr(registry.module(choices.__name__, self.choice), "ADDS", None)
        return (*self.experts, *([added] if added and added not in self.experts else []))


def start_record() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and subset of round 0, in which nothing was judged and nothing chosen."""
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
    """The table of scores, by ascending sample_id.

    `reference_scores` and `targets` are empty unless an expert needs them (selection/reading.py). `ValueError` for an
    expert that is neither a column of the features' scores nor a comparison.
    """
    order = np.argsort(features.scores["sample_id"].to_numpy(), kind="stable")
    in_order = bool((order == np.arange(len(order))).all())
    scores = features.scores if in_order else features.scores.iloc[order].reset_index(drop=True)
    added = [name for name in params.competing if name not in scores.columns]
    unknown = [name for name in added if name not in comparisons.names()]
    if unknown:
        there = [*scores.columns.drop("sample_id"), *comparisons.names()]
        raise ValueError(f"selector_experts.experts names {unknown}, but the scores are {there}")
    ids = scores["sample_id"].to_numpy(np.int64)
    before = _known(previous_scores, ids, "nll")
    evidence = ScoringContext(
        scores=scores,
        cluster=align_rows(clusters, ids)["cluster"].to_numpy(),
        gradients=features.gradients if in_order else features.gradients[order],
        embeddings=features.embeddings if in_order else features.embeddings[order],
        previous_nll=before,
        reference_nll=_known(reference_scores, ids, "nll"),
        targets=_directions(targets, features.gradients.shape[1]),
        experts=tuple(name for name in params.experts if name in features.scores.columns),
        neighbours=params.neighbours,
    )
    table = scores.assign(trained_nll=_trained_nll(evidence, previous_scores, previous_subset, ids))
    return table.assign(**{name: comparisons.load(name)(evidence) for name in added})


def _trained_nll(
    evidence: ScoringContext, previous_scores: pd.DataFrame, previous_subset: pd.DataFrame, ids: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Loss now of what the last round trained on; of the rest, what the last round knew."""
    selected = previous_subset.loc[previous_subset["selected"], "sample_id"].to_numpy()
    return np.where(np.isin(ids, selected), evidence.nll, _known(previous_scores, ids, "trained_nll"))


def _known(table: pd.DataFrame, ids: Int[np.ndarray, " n"], column: str) -> Float[np.ndarray, " n"]:
    """A column of a table that has some of the samples; NaN for the others."""
    there = pd.Series(table[column].to_numpy(dtype=np.float64), table["sample_id"].to_numpy(np.int64))
    return there.reindex(ids).to_numpy()


def _directions(targets: pd.DataFrame, dim: int) -> Float[np.ndarray, "skills dim"]:
    rows = [np.asarray(row, dtype=np.float32) for row in targets["direction"]]
    return np.stack(rows) if rows else np.zeros((0, dim), dtype=np.float32)
