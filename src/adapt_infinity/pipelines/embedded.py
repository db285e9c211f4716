"""The embedded stream and the embedded model, made from nothing: all that a laptop needs to try the project."""

from kedro.pipeline import Pipeline

from adapt_infinity.pipelines.stages import node, stage


def create_stream_pipeline() -> Pipeline:
    """Write the embedded stream's datasets (JSON and pictures)."""
    from adapt_infinity.pipelines.nodes import plan_embedded_stream

    return Pipeline([stage("embedded_stream", node(plan_embedded_stream, "embedded_stream"))])


def create_model_pipeline() -> Pipeline:
    """Pre-train the embedded model on the primitives and save it as a Hugging Face checkpoint with its card."""
    from adapt_infinity.embedded.pretraining import pretrain

    made = node(
        pretrain,
        "embedded_checkpoint",
        name="pretrain_embedded_model",
        params="params:embedded_model",
        stream="params:embedded_stream",
    )
    return Pipeline([stage("embedded_model", made)])
