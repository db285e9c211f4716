"""The private names of Kedro that this project uses, all of them, tried with Kedro 1.7.0.

Kedro has no public way to do these things. After an upgrade this is the only file to check.
"""

from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import _split_params as split_params
from kedro.framework.context import KedroContext
from kedro.framework.session import KedroSession
from kedro.io import AbstractVersionedDataset, DataCatalog

__all__ = [
    "conf_source",
    "config",
    "load_path",
    "project_path",
    "set_runtime_params",
    "split_params",
    "versioned_catalog",
]


def load_path(dataset: AbstractVersionedDataset[Any, Any]) -> Path:
    """The file or folder that `dataset.load()` would read."""
    return Path(dataset._get_load_path())


def versioned_catalog(
    context: KedroContext, load_versions: dict[str, str], check_parameters: bool = True
) -> DataCatalog:
    """The project's catalog with each entry at the version that `load_versions` names.

    Without `check_parameters` the entries of parameters are plain values instead of dataclasses, and no pipeline is
    imported. Kedro imports all pipelines, and with them torch, to read the types of their parameters.
    """
    if not check_parameters:
        context._pipelines_to_validate = []
    catalog = context._get_catalog(load_versions=load_versions)
    assert isinstance(catalog, DataCatalog)
    return catalog


def set_runtime_params(session: KedroSession, params: dict[str, Any]) -> None:
    """Replace what the session takes for `--params`; only before its context is loaded."""
    session._store["runtime_params"] = params


def conf_source(session: KedroSession) -> str | None:
    """The configuration folder that the session was created with."""
    source: str | None = session._conf_source
    return source


def project_path(session: KedroSession) -> Path:
    """The project's root folder."""
    return Path(session._project_path)


def config(session: KedroSession) -> Any:
    """The session's configuration loader: `config(session)["globals"]` is a mapping."""
    return session._get_config_loader()
