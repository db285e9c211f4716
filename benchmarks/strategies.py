"""Data strategies side by side on the embedded stream: the table in README.

    python benchmarks/strategies.py --strategies sequential,random,adapt_inf --seeds 0,1,2 --last 5

Each cell is one `kedro lifelong`, so complete rounds are skipped and the study can be resumed. Every strategy has the
same stream, base model, budget, steps and pool size; test items are the same in all cells. Printed are means over seeds
with the half-width of a 95 % t interval, and what each strategy cost: samples probed and seconds in the stages.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from mlflow import MlflowClient
from scipy import stats

from adapt_infinity.cli import default_stream
from adapt_infinity.manifest import manifest_path, planned_rounds, read_manifest, round_folder
from adapt_infinity.measures import measure

PROJECT = Path(__file__).parents[1]
STORE = f"sqlite:///{PROJECT / 'mlflow.db'}"


def main() -> None:
    """Run what is missing, then print the tables."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--strategies", default="sequential,random,adapt_inf")
    asked.add_argument("--seeds", default="0,1,2")
    asked.add_argument("--last", type=int, default=5)
    asked.add_argument("--items", type=int, default=100, help="test items a skill")
    asked.add_argument("--workers", type=int, default=2, help="cells at a time, one thread each")
    options = asked.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    strategies = options.strategies.split(",")
    cells = [(strategy, seed) for seed in seeds for strategy in strategies]
    if not (PROJECT / "data/embedded_stream/datasets.json").is_file():
        subprocess.run([sys.executable, "-m", "kedro", "run", "--pipelines=embedded_stream"], cwd=PROJECT, check=True)
    MlflowClient(tracking_uri=STORE).search_experiments()  # made before several workers would make it at once
    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(lambda cell: run(cell[0], cell[1], options.last, options.items), cells))
    sources = yaml.safe_load((PROJECT / "conf/base/globals.yml").read_text())["sources"]
    scores = {cell: score_matrix(*cell, options.last) for cell in cells}
    print(table({strategy: [summary(scores[strategy, seed], sources) for seed in seeds] for strategy in strategies}))
    print()
    print(table({strategy: [cost(strategy, seed) for seed in seeds] for strategy in strategies}))
    print()
    print(table({strategy: [last_scores(scores[strategy, seed]) for seed in seeds] for strategy in strategies}))


def stream_name(strategy: str, seed: int) -> str:
    """A stream of the table's own, so that it never mixes with a user's."""
    return default_stream("table", strategy, seed)


def run(strategy: str, seed: int, last: int, items: int) -> None:
    """One strategy's stream from genesis to the last round."""
    words = ["lifelong", f"--last={last}", f"--strategy={strategy}", f"--seed={seed}"]
    words += [f"--stream={stream_name(strategy, seed)}", f"--params=benchmarks.items_per_skill={items}"]
    log = PROJECT / f"data/benchmarks/{stream_name(strategy, seed)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "kedro", *words]
        subprocess.run(command, cwd=PROJECT, env=environment, stdout=output, stderr=output, check=True)


def score_matrix(strategy: str, seed: int, last: int) -> pd.DataFrame:
    """R of a finished stream, at the version that its last manifest names."""
    stream = stream_name(strategy, seed)
    manifest = read_manifest(manifest_path(PROJECT, stream, last))
    assert manifest is not None
    name, version = "score_matrix.parquet", manifest.versions["score_matrix"]
    return pd.read_parquet(PROJECT / round_folder(stream, last) / name / version / name)


def summary(scores: pd.DataFrame, sources: list[dict]) -> dict[str, float]:
    """The measures of a stream, in points (hundredths)."""
    planned = planned_rounds(sources)
    arrivals = {source["name"]: place for place, source in enumerate(sources, start=1) if source.get("train")}
    rare = {skill for source in sources for skill in source.get("rare", [])}
    found = measure(scores, arrivals, planned).set_index(["view", "measure"])["value"]
    last = scores[scores["round"] == scores["round"].max()].set_index("skill")["score"]
    own = pd.Series(
        {skill: scores.query("round == @start and skill == @skill")["score"].item() for skill, start in planned.items()}
    )
    zero = scores[scores["round"] == 0].set_index("skill")["score"]
    return {
        "mean of all skills": 100 * last.mean(),
        "MFN, skills of the stream": 100 * found["skill", "MFN"],
        "MFN, rare skills": 100 * last[[skill for skill in last.index if skill in rare]].mean(),
        "MFN, base skills": 100 * found["untrained skill", "MFN"],
        "forgetting, skills of the stream": 100 * found["skill", "forgetting"],
        "MAA, skills of the stream": 100 * found["skill", "MAA"],
        "lift in own round, smallest": 100 * (own - zero[own.index]).min(),
        "lift in own round, mean": 100 * (own - zero[own.index]).mean(),
    }


def cost(strategy: str, seed: int) -> dict[str, float]:
    """What a stream cost over all its rounds, from its MLflow run."""
    client = MlflowClient(tracking_uri=STORE)
    experiment = client.get_experiment_by_name("adapt-infinity")
    assert experiment is not None
    mine = f"tags.`adapt_infinity.stream` = '{stream_name(strategy, seed)}' and tags.`adapt_infinity.level` = 'stream'"
    (parent,) = client.search_runs([experiment.experiment_id], mine)

    def total(*metrics: str) -> float:
        """Summed over rounds; of a round that was run again, the last run counts."""
        histories = [client.get_metric_history(parent.info.run_id, metric) for metric in metrics]
        return sum(sum({entry.step: entry.value for entry in history if entry.step}.values()) for history in histories)

    selecting = ("features", "pseudo_skills", "selector_experts", "subset", "pruning")
    return {
        "samples probed": total("cost/samples_probed"),
        "seconds, choosing (features … pruning)": total(*(f"cost/seconds/{stage}" for stage in selecting)),
        "seconds, training": total("cost/seconds/training"),
        "seconds, benchmarks": total("cost/seconds/benchmarks"),
    }


def last_scores(scores: pd.DataFrame) -> dict[str, float]:
    """Each skill's score after the last round, in points."""
    last = scores[scores["round"] == scores["round"].max()]
    return {f"{row.dataset}: {row.skill}": 100 * row.score for row in last.itertuples()}


def table(columns: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: a row a measure, a column a strategy, mean ± half-width of the 95 % interval over seeds."""
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name in next(iter(columns.values()))[0]:
        cells = [interval(np.array([seed[name] for seed in seeds])) for seeds in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def interval(values: np.ndarray) -> str:
    """Mean ± t interval, or the one value."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.1f} ± {half:.1f}"


if __name__ == "__main__":
    main()
