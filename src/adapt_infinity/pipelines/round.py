"""One round of lifelong instruction tuning (docs/method.md, section 1).

    pool_t     = kept_{t-1} ∪ D_t            intake, pool
    features   = model_{t-1} reads pool_t    features
    clusters   = spherical k-means           pseudo_skills
    expert_c   = highest-entropy score       selector_experts
    subset_t   = `budget` samples            subset
    model_t    = model_{t-1} + LoRA          training
    kept_t     = pool_t − redundant rows     pruning
    R[t, s]    = score on every skill        benchmarks

A data strategy replaces the choice of the subset and of what is kept. Stages that a strategy does not read are not
part of its round: random replay pays for no probe.
"""

from inspect import signature
from types import ModuleType

from kedro.pipeline import Node, Pipeline

from adapt_infinity.pipelines.stages import node, stage

RESULTS = ["rejects", "adapter", "method_state", "kept_pool"]  # of every round, beside what it shows


def create_pipeline(strategy: str = "adapt_inf") -> Pipeline:
    """The round under a data strategy (a file name in `strategies/`)."""
    from adapt_infinity import strategies
    from adapt_infinity.benchmarks.answering import answer_items, grade_round
    from adapt_infinity.benchmarks.measures import measure_round
    from adapt_infinity.benchmarks.task_similarity import compare_tasks, describe_task
    from adapt_infinity.features.probe import probe_pool
    from adapt_infinity.intake.arrivals import find_arrival_overlaps, read_arrivals
    from adapt_infinity.pipelines.nodes import join_arrivals, list_must_keep
    from adapt_infinity.pool.pool import index_pool
    from adapt_infinity.pruning.protection import prune_after_training
    from adapt_infinity.pseudo_skills.cards import describe_clusters
    from adapt_infinity.pseudo_skills.finding import cluster_questions, find_pseudo_skills
    from adapt_infinity.pseudo_skills.matching import match_clusters
    from adapt_infinity.reporting.results import STAGES, shown_in_round
    from adapt_infinity.selector_experts.choosing import choose_experts
    from adapt_infinity.selector_experts.reference_reading import read_reference, read_targets
    from adapt_infinity.selector_experts.scoring import score_samples
    from adapt_infinity.subset.constraints import list_requests
    from adapt_infinity.training.round import train_adapter

    chosen = strategies.load(strategy)
    prunes_first = hasattr(chosen, "shortlist")  # the strategy prunes before the probe reads
    joined = "joined_pool" if prunes_first else "pool"
    must_keep = node(list_must_keep, "must_keep", pool=joined)
    start = getattr(chosen, "START", "previous")  # whose adapter and method state the round starts from
    round = Pipeline(
        [
            stage(
                "intake",
                node(read_arrivals, ["arrivals", "rejects"]),
                node(find_arrival_overlaps, "overlaps"),
            ),
            stage(
                "pool",
                node(join_arrivals, joined),
                *([must_keep, *shortlist_nodes(chosen)] if prunes_first else []),
                node(index_pool, "pool_rows"),
            ),
            stage("features", node(probe_pool, "features", params="params:probe")),
            stage(
                "pseudo_skills",
                node(find_pseudo_skills, ["clusters", "k_sweep"], params="params:pseudo_skills"),
                node(cluster_questions, "question_clusters", params="params:pseudo_skills"),
                node(match_clusters, "cluster_links"),
                node(describe_clusters, "cluster_cards", params="params:pseudo_skills"),
            ),
            stage(
                "selector_experts",
                node(read_reference, "reference_scores", params="params:selector_experts"),
                node(read_targets, "targets", params="params:selector_experts"),
                node(score_samples, "scores", params="params:selector_experts"),
                node(choose_experts, "cluster_experts", params="params:selector_experts"),
            ),
            stage(
                "subset",
                node(list_requests, "requests", params="params:subset"),
                node(chosen.select, "subset", name="select_subset"),
            ),
            stage(
                "training",
                node(
                    train_adapter,
                    ["adapter", "training_log", "method_state"],
                    params="params:training",
                    method_params="params:methods",
                    previous_adapter=f"{start}_adapter",
                    previous_method_state=f"{start}_method_state",
                ),
            ),
            stage(
                "pruning",
                *([] if prunes_first else [must_keep]),
                node(chosen.keep, "removals", name="choose_removals"),
                node(prune_after_training, "kept_pool", name="prune_pool"),
            ),
            stage(
                "benchmarks",
                node(answer_items, "answers", params="params:benchmarks"),
                node(grade_round, "score_matrix"),
                node(measure_round, "measures"),
                node(describe_task, "task_vectors", params="params:benchmarks"),
                node(compare_tasks, "task_similarity"),
            ),
        ]
    )
    round += Pipeline([stage(name, *figures_of(name)) for name in STAGES])
    read = {name for function in (chosen.select, chosen.keep) for name in signature(function).parameters}
    return round.to_outputs(*RESULTS, *shown_in_round(of_clusters="clusters" in read))


def figures_of(stage: str) -> list[Node]:
    """The nodes that draw a stage's figures."""
    from adapt_infinity.reporting.results import FIGURES

    return [node(figure.draw, name, name=f"draw_{name}") for name, figure in FIGURES.items() if figure.stage == stage]


def shortlist_nodes(chosen: ModuleType) -> list[Node]:
    """For a strategy that prunes first: a cheap reading of the joined pool, and what leaves it before the probe."""
    from adapt_infinity.features.modalities import embed_modalities_of_pool
    from adapt_infinity.pool.pool import index_pool
    from adapt_infinity.pruning.protection import remove_from_pool

    return [
        node(index_pool, "joined_rows", name="index_joined_pool", pool="joined_pool"),
        node(embed_modalities_of_pool, "joined_parts"),
        node(chosen.shortlist, "shortlist_removals", name="shortlist_pool"),
        node(remove_from_pool, "pool", name="prune_first", pool="joined_pool", removals="shortlist_removals"),
    ]
