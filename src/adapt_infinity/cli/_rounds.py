"""Running rounds of a stream one after another, each in its own Kedro session; used by `lifelong` and `study`."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adapt_infinity import strategies
from adapt_infinity.manifest import manifest_path, read_manifest
from adapt_infinity.parameters import parameters_hash


class OtherParametersError(ValueError):
    """A round is complete, but was run with other parameters or another strategy."""


def run_rounds(
    project: Path,
    env: str | None,
    strategy: str,
    params: Mapping[str, Any],
    rounds: range,
    again: bool = False,
    report: Callable[[str], None] = print,
) -> None:
    """Run the rounds that are not complete. `params` are as for `--params`, and contain `stream` and `seed`.

    They override the presets of the strategy. A complete round is skipped, with a message to `report`, or run once more
    if `again`. OtherParametersError if it was run with other parameters or another strategy (and not `again`).
    """
    from adapt_infinity.session import open_session

    given = strategies.merged(strategies.presets(strategy), params)
    pipeline, stream = strategies.pipeline_name(strategy), str(given["stream"])
    for round in rounds:
        round_params = {**given, "round": round}
        finished = read_manifest(manifest_path(project, stream, round))
        if finished is not None and not again:
            session = open_session(project, env, round_params)
            now = parameters_hash(session.load_context().config_loader["parameters"])
            if (finished.parameters_hash, finished.pipeline) != (now, pipeline):
                session.check_parameters()  # a wrong name is the likelier reason
                raise OtherParametersError(
                    f"round {round} of {stream} is complete, but was run with other parameters or another strategy"
                )
            report(f"round {round} of {stream} is complete")
            continue
        with open_session(project, env, round_params) as session:
            session.run(pipeline_names=[pipeline])


def default_stream(name: str, strategy: str, seed: int) -> str:
    """The name of a stream for a strategy and a seed: `name` itself for adapt_inf and seed 0, else a longer one."""
    suffix = re.sub(r"[^\w.]", "_", strategy)
    return name + (f"-{suffix}" if strategy != "adapt_inf" else "") + (f"-seed{seed}" if seed else "")
