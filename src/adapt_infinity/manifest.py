"""The manifest of a round: the version of every dataset that belongs to it. Only a complete round has one.

Kedro loads the newest version of each dataset. After a failed run, a round could therefore read versions of different
runs. The next round loads exactly the versions that the manifest of the previous round names.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RUNS = "data/runs"
PREVIOUS = {  # what a round loads of the previous round: catalog entry → entry that the previous round saved
    "previous_kept_pool": "kept_pool",
    "previous_adapter": "adapter",
    "previous_method_state": "method_state",
    "previous_score_matrix": "score_matrix",
    "previous_task_vectors": "task_vectors",
    "previous_clusters": "clusters",
    "previous_scores": "scores",
    "previous_subset": "subset",
}
OF_GENESIS = {"genesis_adapter": "adapter", "genesis_method_state": "method_state"}  # the same, from round 0
FIXED_AT_GENESIS = ("benchmark_items",)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is recorded of a complete round."""

    stream: str
    round: int
    pipeline: str
    versions: dict[str, str]  # dataset → version, for everything that the round loaded or saved
    parameters_hash: str  # see `parameters.parameters_hash`
    code_version: str  # package version, and the commit if there is a Git repository
    seed: int


def round_folder(stream: str, round: int | str) -> str:
    """The folder of a round's results, relative to the project. Streams share no folder.

    ValueError if `stream` is not a plain folder name.
    """
    if not stream or "/" in stream or stream.startswith("."):
        raise ValueError(f"stream must be a plain folder name, got {stream!r}")
    return f"{RUNS}/{stream}/round_{int(round)}"


def pictures_folder(stream: str) -> str:
    """The folder in which a stream saves pictures that are not files of its sources."""
    return f"{Path(round_folder(stream, 0)).parent}/pictures"


def probe_folder(stream: str) -> str:
    """The folder of the shards that a stream's probe writes."""
    return f"{Path(round_folder(stream, 0)).parent}/probe"


def previous_round(round: int | str) -> int:
    """The number of the previous round; 0 for genesis (round 0)."""
    return max(0, int(round) - 1)


def planned_rounds(sources: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """For every skill that the stream will train, the round in which its dataset arrives."""
    arriving = [source for source in sources if source.get("train")]
    return {
        str(skill): round for round, source in enumerate(arriving, start=1) for skill in source.get("graders") or {}
    }


def manifest_path(project: Path, stream: str, round: int) -> Path:
    """The manifest file of a round; it exists if and only if the round is complete."""
    return project / round_folder(stream, round) / "manifest.json"


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the manifest atomically."""
    write_json(path, asdict(manifest))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a small JSON file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_manifest(path: Path) -> Manifest | None:
    """The manifest, or None if the round is not complete."""
    return Manifest(**json.loads(path.read_text())) if path.is_file() else None


def pins(previous: Manifest) -> dict[str, str]:
    """The versions of the previous round's datasets that the next round must load: catalog entry → version."""
    made = previous.versions
    pinned = {name: made[entry] for name, entry in PREVIOUS.items() if entry in made}
    return pinned | {name: previous.versions[name] for name in FIXED_AT_GENESIS}
