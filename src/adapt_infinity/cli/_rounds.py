"""Running rounds of a stream one after another, each in a Kedro session of its own: for `lifelong` and `study`."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adapt_infinity import strategies
from adapt_infinity.manifest import manifest_path, read_manifest
from adapt_infinity.parameters import parameters_hash


class MadeOtherwiseError(ValueError):
    """A round is complete, and was made with other parameters or by another strategy."""


def run_rounds(
    project: Path,
    env: str | None,
    strategy: str,
    params: Mapping[str, Any],
    rounds: range,
    again: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Run what of these rounds is not complete; `params` name stream and seed, as `--params` would.

    A strategy's presets go under them. `MadeOtherwiseError` for a complete round of other parameters, unless `again`.
    """
    from adapt_infinity.session import open_session

    given = strategies.merged(strategies.presets(strategy), params)
    pipeline, stream = strategies.pipeline_name(strategy), str(given["stream"])
    for round in rounds:
        asked = {**given, "round": round}
        finished = read_manifest(manifest_path(project, stream, round))
        if finished is not None and not again:
            now = parameters_hash(open_session(project, env, asked).load_context().config_loader["parameters"])
            if (finished.parameters_hash, finished.pipeline) != (now, pipeline):
                raise MadeOtherwiseError(
                    f"round {round} of {stream} is complete, but was made with other parameters or another strategy"
                )
            say(f"round {round} of {stream} is complete")
            continue
        with open_session(project, env, asked) as session:
            session.run(pipeline_names=[pipeline])


def default_stream(name: str, strategy: str, seed: int) -> str:
    """The stream's own name; another strategy or seed makes another stream, with files of its own."""
    words = re.sub(r"[^\w.]", "_", strategy)
    return name + (f"-{words}" if strategy != "adapt_inf" else "") + (f"-seed{seed}" if seed else "")
