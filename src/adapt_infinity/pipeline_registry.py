"""The pipelines by name. `round` is the default; `round_<strategy>` is the same round under another data strategy."""

from kedro.pipeline import Pipeline


def register_pipelines() -> dict[str, Pipeline]:
    """genesis, round, round_<strategy> for each file in strategies/, embedded_stream, embedded_model."""
    from adapt_infinity import strategies
    from adapt_infinity.pipelines import embedded, genesis, round

    whole = round.create_pipeline("adapt_inf")
    return {
        "__default__": whole,
        "round": whole,
        **{f"round_{name}": round.create_pipeline(name) for name in strategies.names()},
        "genesis": genesis.create_pipeline(),
        "embedded_stream": embedded.create_stream_pipeline(),
        "embedded_model": embedded.create_model_pipeline(),
    }
