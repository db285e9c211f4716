"""The manifest of a round: which version of every dataset belongs together. Written only when the round is complete.

Kedro picks the newest version of each dataset by itself, so that after a failure a round could read a mixture of runs.
The next round reads exactly what the previous manifest names.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RUNS = "data/runs"
PREVIOUS = {  # what a round reads of the round before, under which name
    "previous_kept_pool": "kept_pool",
    "previous_adapter": "adapter",
    "previous_method_state": "method_state",
    "previous_score_matrix": "score_matrix",
    "previous_task_vectors": "task_vectors",
    "previous_clusters": "clusters",
    "previous_scores": "scores",
    "previous_subset": "subset",
}
OF_GENESIS = {"genesis_adapter": "adapter", "genesis_method_state": "method_state"}  # for rounds that begin anew
FIXED_AT_GENESIS = ("benchmark_items",)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One complete round."""

    stream: str
    round: int
    pipeline: str
    versions: dict[str, str]  # dataset → version, of everything the round read or made
    parameters_hash: str  # see `parameters_hash`
    code_version: str  # package version, and the commit where there is one
    seed: int


def round_folder(stream: str, round: int | str) -> str:
    """Where a round's results lie, below the project. Paths carry the stream's name: experiments never share files."""
    if not stream or "/" in stream or stream.startswith("."):
        raise ValueError(f"stream must be a plain folder name, got {stream!r}")
    return f"{RUNS}/{stream}/round_{int(round)}"


def pictures_folder(stream: str) -> str:
    """Where the stream keeps pictures that have no file of their own."""
    return f"{Path(round_folder(stream, 0)).parent}/pictures"


def probe_folder(stream: str) -> str:
    """Where the stream's probe puts its shards."""
    return f"{Path(round_folder(stream, 0)).parent}/probe"


def previous_round(round: int | str) -> int:
    """The round before; genesis (0) has none before it."""
    return max(0, int(round) - 1)


def planned_rounds(sources: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Skill → the round in which its own dataset is to arrive, for every skill that the stream will train."""
    arriving = [source for source in sources if source.get("train")]
    return {str(skill): place for place, source in enumerate(arriving, start=1) for skill in source["graders"]}


def manifest_path(project: Path, stream: str, round: int) -> Path:
    """The file that says that a round is complete."""
    return project / round_folder(stream, round) / "manifest.json"


def parameters_hash(params: Mapping[str, Any]) -> str:
    """SHA-256 of everything that decides a round's outcome: all parameters but where it is tracked."""
    deciding = {name: value for name, value in params.items() if name != "tracking"}
    return hashlib.sha256(json.dumps(deciding, default=str, sort_keys=True).encode()).hexdigest()


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Put the manifest in its place, whole or not at all."""
    write_json(path, asdict(manifest))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A small file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_manifest(path: Path) -> Manifest | None:
    """The manifest, or None when the round is not complete."""
    return Manifest(**json.loads(path.read_text())) if path.is_file() else None


def pins(previous: Manifest) -> dict[str, str]:
    """The versions that the next round has to load, of what the previous one made."""
    made = previous.versions
    pinned = {name: made[entry] for name, entry in PREVIOUS.items() if entry in made}
    return pinned | {name: previous.versions[name] for name in FIXED_AT_GENESIS}
