"""Ablation of the selection: the last round of the embedded stream, with the subset selected in many ways.

    python benchmarks/ablation.py --seeds 0,1,2

For each seed, the stream is run once to its last round with adapt_inf. Then the last round is run again with every
variant. All variants have the same pool, adapter, features, budget and number of steps; only the selected samples
differ. The effect of pruning is not measured, because it only shows in later rounds.

The cells are run by worker processes with one thread each, one seed after another; complete cells are not run again.
The table has means over seeds with the half-width of a 95 % t interval, as differences from random selection with the
same seed, and the agreement of the clusters with the true skills.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from adapt_infinity.study.statistics import estimate

PROJECT = Path(__file__).parents[1]
LAST = 5
EXPERTS = (
    *("perplexity", "el2n", "entropy", "grand", "image_grounding"),
    *("forgetting", "influence", "density", "uniqueness"),
)
Params = dict[str, Any]

# name of a variant → strategy, parameters
VARIANTS: dict[str, tuple[str, Params]] = {
    "random": ("random", {}),
    "skill_balanced (oracle)": ("skill_balanced", {}),
    "adapt_inf": ("adapt_inf", {}),
    "space: embeddings": ("adapt_inf", {"pseudo_skills": {"space": "embeddings"}}),
    "space: questions": ("adapt_inf", {"pseudo_skills": {"space": "questions"}}),
    "space: gradients + questions": ("adapt_inf", {"pseudo_skills": {"space": ["gradients", "questions"]}}),
    "space: gradients + embeddings": ("adapt_inf", {"pseudo_skills": {"space": ["gradients", "embeddings"]}}),
    "no clusters": ("adapt_inf", {"pseudo_skills": {"k": 1}}),
    "twice the clusters": ("adapt_inf", {"pseudo_skills": {"k": 48}}),
    **{f"shares: {rule}": ("adapt_inf", {"subset": {"shares": rule}}) for rule in ("density", "score_std", "loss")},
    "shares: forgetting": ("adapt_inf", {"subset": {"shares": "forgetting"}}),
    **{
        f"sampler: {name}": ("adapt_inf", {"subset": {"sampler": name}})
        for name in ("random", "top", "middle", "bottom", "k_center", "facility_location")
    },
    "sampler: ccs, tails cut": ("adapt_inf", {"subset": {"cut_tails": True}}),
    **{
        f"choice: {name}": ("adapt_inf", {"selector_experts": {"choice": name}})
        for name in ("rank_average", "random", "validation")
    },
    **{f"only {name}": ("adapt_inf", {"selector_experts": {"choice": "fixed", "experts": [name]}}) for name in EXPERTS},
}


def main() -> None:
    """Run the missing cells, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--items", type=int, default=40, help="test items per skill")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="names of variants, separated by semicolons; default: all")
    parser.add_argument("--table", action="store_true", help="run nothing, print the table of complete cells")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    chosen = [name for name in VARIANTS if not options.only or name in options.only.split(";")]
    if not options.table:
        os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        if not (PROJECT / "data/embedded_stream/datasets.json").is_file():
            command = [sys.executable, "-m", "kedro", "run", "--pipelines=embedded_stream"]
            subprocess.run(command, cwd=PROJECT, check=True)
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
            for running in [pool.submit(run_shared_rounds, seed, options.items) for seed in seeds]:
                running.result()
            cells = [pool.submit(run_cell, name, seed, options.items) for seed in seeds for name in chosen]
            since = time.time()
            for number, cell in enumerate(as_completed(cells), start=1):
                cell.result()
                print(f"{number} of {len(cells)} cells, {(time.time() - since) / 60:.0f} minutes", file=sys.stderr)
    print(table(chosen, seeds))


def stream_name(name: str, seed: int) -> str:
    """The stream of a variant; "" stands for the rounds that all variants of a seed share."""
    suffix = "".join(letter if letter.isalnum() else "-" for letter in name)
    return f"ablation-{suffix or 'past'}-seed{seed}"


def run_shared_rounds(seed: int, items: int) -> None:
    """Run the stream of a seed to its last round with adapt_inf."""
    from adapt_infinity.manifest import manifest_path, read_manifest

    for round in range(1, LAST + 1):
        if read_manifest(manifest_path(PROJECT, stream_name("", seed), round)) is None:
            run_round("", "adapt_inf", {}, round, seed, items)


def run_cell(name: str, seed: int, items: int) -> None:
    """Run the last round with one variant, on a copy of the shared rounds made of hard links, which take no space."""
    runs = PROJECT / "data/runs"
    done = runs / stream_name(name, seed) / "done"
    if done.exists():
        return
    shutil.rmtree(done.parent, ignore_errors=True)
    shutil.copytree(runs / stream_name("", seed), done.parent, copy_function=os.link)
    (done.parent / f"round_{LAST}/manifest.json").unlink()
    strategy, params = VARIANTS[name]
    run_round(name, strategy, params, LAST, seed, items)
    done.touch()


def run_round(name: str, strategy: str, params: Params, round: int, seed: int, items: int) -> None:
    """Run one round in its own session; its output goes to a log file."""
    import contextlib

    import torch

    from adapt_infinity.session import open_session

    torch.set_num_threads(1)
    os.chdir(PROJECT)
    given = {**params, "round": round, "seed": seed, "stream": stream_name(name, seed)}
    given |= {"tracking": {"enabled": False}, "benchmarks": {"items_per_skill": items}}
    log = PROJECT / f"data/benchmarks/{stream_name(name, seed)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("a"))
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(output))
        session = stack.enter_context(open_session(PROJECT, None, given))
        session.run(pipeline_names=["round" if strategy == "adapt_inf" else f"round_{strategy}"])


def measured(name: str, seed: int) -> dict[str, float]:
    """Scores of a variant in points (hundredths), and the agreement of its clusters with the true skills."""
    from adapt_infinity.benchmarks.measures import measure
    from adapt_infinity.manifest import manifest_path, planned_rounds, read_manifest, round_folder
    from adapt_infinity.pseudo_skills.finding import agreement

    stream = stream_name(name, seed)
    manifest = read_manifest(manifest_path(PROJECT, stream, LAST))
    assert manifest is not None

    def entry(entry_name: str) -> pd.DataFrame:
        version = manifest.versions[entry_name]
        file = f"{entry_name}.parquet"
        return pd.read_parquet(PROJECT / round_folder(stream, LAST) / file / version / file)

    sources = yaml.safe_load((PROJECT / "conf/base/globals.yml").read_text())["sources"]
    scores, subset = entry("score_matrix"), entry("subset")
    planned = planned_rounds(sources)
    arrivals = {source["name"]: round for round, source in enumerate(sources, start=1) if source.get("train")}
    found = measure(scores, arrivals, planned).set_index(["view", "measure"])["value"]
    last = scores[scores["round"] == LAST].set_index("skill")["score"]
    rare = [skill for source in sources for skill in source.get("rare", [])]
    chosen = subset[subset["selected"]]
    clustered = bool((subset["cluster"] >= 0).all())
    agree = agreement(subset, subset["skill"]) if clustered else {}
    return {
        "all skills": 100 * last.mean(),
        "rare skills": 100 * last[rare].mean(),
        "base skills": 100 * found["untrained skill", "MFN"],
        "forgetting": 100 * found["skill", "forgetting"],
        "rare share": 100 * float(chosen["skill"].isin(rare).mean()),
        "NMI": float(agree.get("nmi", np.nan)),
        "ARI": float(agree.get("ari", np.nan)),
    }


def table(names: list[str], seeds: list[int]) -> str:
    """A Markdown table with the first variant's values, and the differences of the others from it, paired by seed."""
    done = [seed for seed in seeds if all((PROJECT / f"data/runs/{stream_name(n, seed)}/done").exists() for n in names)]
    rows = {name: pd.DataFrame([measured(name, seed) for seed in done]) for name in names}
    columns = list(rows[names[0]].columns)
    lines = [f"Seeds {done}; differences from {names[0]}, in points.", ""]
    lines += ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, values in rows.items():
        cells = []
        for column in columns:
            compared = column in columns[:4] and name != names[0]
            numbers = values[column] - rows[names[0]][column] if compared else values[column]
            cells.append(interval(numbers.to_numpy(), sign=compared, digits=2 if column in ("NMI", "ARI") else 1))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def interval(values: np.ndarray, sign: bool, digits: int) -> str:
    """Mean ± half-width of the 95 % t interval; "" if a value is NaN."""
    if np.isnan(values).any():
        return ""
    found = estimate(values)
    mean = f"{found.mean:{'+' if sign else ''}.{digits}f}"
    return mean if found.count == 1 else f"{mean} ± {found.half:.{digits}f}"


if __name__ == "__main__":
    main()
