"""Genesis makes round 0: no pool, no clusters, a warmed-up adapter, the test items, zero-shot grades."""

from kedro.pipeline import Pipeline

from adapt_infinity.pipelines.stages import node, stage


def create_pipeline() -> Pipeline:
    """Round 0 of a stream. Everything that later rounds compare themselves with is fixed here."""
    from adapt_infinity.benchmarks.answering import answer_zero_shot, grade_zero_shot, pick_items
    from adapt_infinity.benchmarks.task_similarity import start_tasks
    from adapt_infinity.intake.arrivals import read_warm_up
    from adapt_infinity.pool.pool import start_pool
    from adapt_infinity.pseudo_skills.matching import start_clusters
    from adapt_infinity.selector_experts.scoring import start_record
    from adapt_infinity.training.round import warm_up_adapter

    return Pipeline(
        [
            stage("pool", node(start_pool, "kept_pool")),
            stage("pseudo_skills", node(start_clusters, "clusters")),
            stage("selector_experts", node(start_record, ["scores", "subset"])),
            stage(
                "training",
                node(read_warm_up, ["warm_up_records", "warm_up_rejects"]),
                node(
                    warm_up_adapter,
                    ["adapter", "training_log", "method_state"],
                    first_arrivals="warm_up_records",
                    params="params:training",
                    warm_up="params:warm_up",
                ),
            ),
            stage(
                "benchmarks",
                node(
                    pick_items,
                    ["benchmark_items", "benchmark_rejects"],
                    intake="params:intake",
                    params="params:benchmarks",
                ),
                node(answer_zero_shot, "answers", params="params:benchmarks"),
                node(grade_zero_shot, "score_matrix"),
                node(start_tasks, "task_vectors"),
            ),
        ]
    )
