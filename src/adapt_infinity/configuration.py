"""Every key that the parameters may have, and the check of them all before anything runs.

Which sections there are follows from the pipelines: a node whose argument is a dataclass of parameters
(`subset_params: SubsetParams`, read from `params:subset`) makes `subset` one of them. A new section needs no other
registration. What is read around a round, and not by a node, is listed here.
"""

from typing import Any

from kedro.framework.project import pipelines
from kedro.validation import TypeExtractor

from adapt_infinity.parameters import Seed, check_sections


def sections() -> dict[str, Any]:
    """Key of the parameters → its dataclass, the type of a single value, or (of `methods`) keys of its own."""
    from adapt_infinity.reporting.tracking import TrackingParams
    from adapt_infinity.training import methods

    registered = dict(pipelines)
    read = {name for pipeline in registered.values() for name in pipeline.inputs() if name.startswith("params:")}
    return {
        **{name.removeprefix("params:"): Any for name in sorted(read)},
        **TypeExtractor(registered).extract_types_from_pipelines(),
        "tracking": TrackingParams,
        "methods": {name: methods.load(name).Params for name in methods.names()},
        "round": int,
        "seed": Seed,
        "stream": str,
        "data": str,  # folder of the stream's data, if it is not that of globals.yml
        "planned_skills": dict[str, int],
    }


def check_parameters(given: dict[str, Any]) -> None:
    """`ValueError`, in one line, for the first key or value of the parameters that is wrong."""
    check_sections(given, sections())
