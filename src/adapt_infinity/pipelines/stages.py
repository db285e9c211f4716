"""How the nodes of a round are declared: inputs by argument name, and one box per stage in Kedro-Viz."""

import inspect
from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node, Pipeline

VALUES = ("round", "seed", "planned_skills")  # arguments that read the parameter of the same name


def stage(name: str, *nodes: Node) -> Pipeline:
    """The nodes as one box named after the stage in Kedro-Viz. Catalog entries and parameters keep their names."""
    return Pipeline(list(nodes), namespace=name, prefix_datasets_with_namespace=False)


def node(function: Callable[..., Any], outputs: str | list[str], *, name: str = "", **inputs: str) -> Node:
    """A node that reads what the arguments of `function` are named after, and is named after `function`.

    An argument `x_params` reads `params:x`, an argument in `VALUES` the parameter of its name, and any other argument
    the catalog entry of its name. `inputs` says what an argument with another name reads. `ValueError` when `inputs`
    names an argument that the function does not have.
    """
    arguments = inspect.signature(function).parameters
    for unknown in inputs.keys() - arguments.keys():
        raise ValueError(f"{function.__name__} has no argument {unknown!r}; it has {', '.join(arguments) or 'none'}")
    read = {argument: inputs.get(argument, entry_of(argument)) for argument in arguments}
    return Node(function, inputs=read or None, outputs=outputs, name=name or function.__name__)


def entry_of(argument: str) -> str:
    """The catalog entry or parameter that an argument of this name reads."""
    if argument in VALUES:
        return f"params:{argument}"
    if argument.endswith("_params"):
        return f"params:{argument.removesuffix('_params')}"
    return argument
