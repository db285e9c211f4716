"""How a stage becomes a box: nodes under the stage's name, datasets and parameters under their own."""

import inspect
from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node, Pipeline

PARAMETERS = {
    "round": "params:round",
    "subset_params": "params:subset",
    "pruning_params": "params:pruning",
    "shortlist_params": "params:shortlist",
    "pseudo_skills_params": "params:pseudo_skills",
}


def stage(name: str, *nodes: Node) -> Pipeline:
    """The nodes as one named box in Kedro-Viz; nothing else is renamed."""
    return Pipeline(list(nodes), namespace=name, prefix_datasets_with_namespace=False)


def node(function: Callable[..., Any], inputs: str, outputs: str, name: str = "") -> Node:
    """A node named after its function; inputs and outputs are catalog names, separated by blanks."""
    made = outputs.split()
    return Node(
        function,
        inputs=inputs.split(),
        outputs=made[0] if len(made) == 1 else made,
        name=name or function.__name__,
    )


def by_signature(function: Callable[..., Any], name: str, outputs: str) -> Node:
    """A node whose inputs are the function's argument names: a strategy pays for what it names, and no more."""
    inputs = [PARAMETERS.get(argument, argument) for argument in inspect.signature(function).parameters]
    return node(function, " ".join(inputs), outputs, name)
