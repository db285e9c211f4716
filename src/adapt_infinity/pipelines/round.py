"""One round of lifelong instruction tuning, as METHOD section 1 tells it.

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

from adapt_infinity.pipelines.stages import by_signature, node, stage

OUTCOMES = [
    "rejects",
    "arrival_samples",
    "adapter",
    "training_log",
    "method_state",
    "kept_pool",
    "measures",
    "score_heat_map",
    "forgetting_curves",
    "task_similarity_map",
]
INSIGHT = ["subset_composition"]
CLUSTER_INSIGHT = [  # for a strategy that clusters
    "cluster_cards",
    "cluster_experts",
    "cluster_links",
    "cluster_map",
    "cluster_sheet",
    "k_sweep_figure",
]


def create_pipeline(strategy: str = "adapt_inf") -> Pipeline:
    """The round under a data strategy (a file name in `strategies/`)."""
    from adapt_infinity import strategies
    from adapt_infinity.benchmarks.answering import answer_items, grade_round
    from adapt_infinity.benchmarks.task_similarity import compare_tasks, describe_task
    from adapt_infinity.features.probe import probe_pool
    from adapt_infinity.pipelines import nodes
    from adapt_infinity.pool.pool import index
    from adapt_infinity.pseudo_skills.cards import describe_clusters
    from adapt_infinity.pseudo_skills.finding import cluster_questions, find_pseudo_skills
    from adapt_infinity.pseudo_skills.matching import match_clusters
    from adapt_infinity.reporting.figures import k_sweep_figure, subset_composition, task_similarity_map
    from adapt_infinity.selector_experts.choosing import choose_experts
    from adapt_infinity.selector_experts.reference_reading import read_reference, read_targets
    from adapt_infinity.selector_experts.scoring import score_samples
    from adapt_infinity.subset.constraints import list_requests
    from adapt_infinity.training.round import train_adapter

    chosen = strategies.load(strategy)
    first = hasattr(chosen, "shortlist")  # the strategy prunes before it reads
    joined = "joined_pool" if first else "pool"
    must_keep = node(nodes.list_must_keep, f"{joined} project params:pruning", "must_keep")
    start = getattr(chosen, "START", "previous")  # whose adapter, and what its method left, the round trains on
    round = Pipeline(
        [
            stage(
                "intake",
                node(
                    nodes.read_arrivals,
                    "arriving_source pictures previous_kept_pool base_model params:intake params:model params:round",
                    "arrivals rejects",
                ),
                node(
                    nodes.find_arrival_overlaps,
                    "arrivals previous_kept_pool benchmark_items params:intake",
                    "overlaps",
                ),
                node(nodes.draw_arrival_samples, "arrivals pictures params:seed", "arrival_samples"),
            ),
            stage(
                "pool",
                node(
                    nodes.join_arrivals,
                    "previous_kept_pool arrivals overlaps params:intake params:round",
                    joined,
                ),
                *([must_keep, *shortlist_nodes(chosen)] if first else []),
                node(index, "pool", "pool_rows", "index_pool"),
            ),
            stage(
                "features",
                node(
                    probe_pool,
                    "pool pictures base_model previous_adapter probe_store params:model params:probe params:round",
                    "features",
                ),
            ),
            stage(
                "pseudo_skills",
                node(
                    find_pseudo_skills,
                    "features pool previous_clusters params:pseudo_skills",
                    "clusters k_sweep",
                ),
                node(cluster_questions, "pool params:pseudo_skills", "question_clusters"),
                node(match_clusters, "clusters previous_clusters", "cluster_links"),
                node(
                    describe_clusters,
                    "features pool clusters cluster_links k_sweep params:pseudo_skills",
                    "cluster_cards",
                ),
                node(k_sweep_figure, "k_sweep", "k_sweep_figure", "draw_k_sweep"),
                node(nodes.draw_cluster_sheet, "cluster_cards pool pictures", "cluster_sheet"),
            ),
            stage(
                "selector_experts",
                node(
                    read_reference,
                    "pool pictures base_model probe_store params:model params:probe params:selector_experts "
                    "params:round",
                    "reference_scores",
                ),
                node(
                    read_targets,
                    "validation_sources pictures base_model previous_adapter probe_store params:intake params:model "
                    "params:probe params:selector_experts params:round",
                    "targets",
                ),
                node(
                    score_samples,
                    "features clusters previous_scores previous_subset reference_scores targets "
                    "params:selector_experts",
                    "scores",
                ),
                node(
                    choose_experts,
                    "clusters scores previous_scores previous_subset params:selector_experts params:round",
                    "cluster_experts",
                ),
            ),
            stage(
                "subset",
                node(list_requests, "pool project params:subset", "requests"),
                by_signature(chosen.select, "select_subset", "subset"),
                node(subset_composition, "subset", "subset_composition"),
                node(nodes.draw_cluster_map, "features clusters subset params:seed", "cluster_map"),
            ),
            stage(
                "training",
                node(
                    train_adapter,
                    f"pool subset pictures base_model {start}_adapter {start}_method_state checkpoints params:model "
                    "params:training params:methods params:round",
                    "adapter training_log method_state",
                ),
            ),
            stage(
                "pruning",
                *([] if first else [must_keep]),
                by_signature(chosen.keep, "choose_removals", "removals"),
                node(nodes.prune_pool, "pool removals must_keep training_log params:round", "kept_pool"),
            ),
            stage(
                "benchmarks",
                node(
                    answer_items,
                    "benchmark_items pictures base_model adapter params:model params:benchmarks",
                    "answers",
                ),
                node(grade_round, "answers params:round previous_score_matrix", "score_matrix"),
                node(nodes.measure_round, "score_matrix pool params:planned_skills", "measures"),
                node(
                    describe_task,
                    "pool pictures base_model previous_task_vectors params:model params:benchmarks params:round",
                    "task_vectors",
                ),
                node(compare_tasks, "task_vectors", "task_similarity"),
                node(task_similarity_map, "task_similarity score_matrix", "task_similarity_map", "draw_tasks"),
                node(nodes.draw_scores, "score_matrix pool params:planned_skills", "score_heat_map"),
                node(nodes.draw_forgetting, "score_matrix pool params:planned_skills", "forgetting_curves"),
            ),
        ]
    )
    read = {name for function in (chosen.select, chosen.keep) for name in signature(function).parameters}
    return round.to_outputs(*OUTCOMES, *INSIGHT, *(CLUSTER_INSIGHT if "clusters" in read else []))


def shortlist_nodes(chosen: ModuleType) -> list[Node]:
    """For a strategy that prunes first: a cheap reading of what has joined, and what leaves before the probe."""
    from adapt_infinity.pipelines import nodes
    from adapt_infinity.pool.pool import index

    return [
        node(index, "joined_pool", "joined_rows", "index_joined_pool"),
        node(
            nodes.embed_modalities_of_pool, "joined_pool pictures base_model params:model params:probe", "joined_parts"
        ),
        by_signature(chosen.shortlist, "shortlist_pool", "shortlist_removals"),
        node(nodes.prune_first, "joined_pool shortlist_removals must_keep params:round", "pool"),
    ]
