"""Clustering, subset selection and pruning, compared with other tools, on synthetic features with known duplicates.

    pip install "adapt-infinity[cpu]" && python benchmarks/selection.py kmeans --rows 100000 --dim 1024 --k 100 --runs 5
    python benchmarks/selection.py prune --rows 100000 --dim 1024 --k 20
    python benchmarks/selection.py subset --rows 2000000 --k 1000
    python benchmarks/selection.py place --rows 4000 --dim 256
    python benchmarks/selection.py costs

kmeans   ours on the half-precision file; scikit-learn's MiniBatchKMeans and faiss's Kmeans on float32 in memory
prune    greedy and semdedup; SemDeDup as published, with the full cosine matrix of each cluster
subset   choice of experts, equal shares and CCS, vectorised; and a plain loop over clusters that does the same
place    facility location in one cluster: ours; submodlib (pip install numba submodlib-py), with a dense kernel
costs    exponents of the time in n, k and dim, for k-means (5 iterations) and pruning

Each row of the features is its skill's direction plus noise of the same size; a fifth of the rows are near-copies of
another row of their skill. The sizes of skills are very unequal (Zipf), the smallest half a per cent or less. For
pruning they are equal, so that equal budgets are about the number of originals. Every contender runs in its own
process, interleaved, with `--threads` threads. The table has medians of seconds, and the maximum of memory with imports
and rows.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BLOCK = 65_536
COPIES = 0.2
SIZES = ("rows", "dim", "k", "threads", "iterations", "restarts", "tolerance")
CONTENDERS = {
    "kmeans": ("ours", "ours, mini-batch", "scikit-learn", "faiss"),
    "prune": ("greedy", "semdedup", "dense"),
    "subset": ("ours", "loop"),
    "place": ("ours", "submodlib"),
}
Options = argparse.Namespace
Found = dict[str, float | str]


def main() -> None:
    """Make the features, run every contender in its own process, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=(*CONTENDERS, "costs"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="names of contenders, separated by commas; default: all")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "adapt_infinity_selection")
    parser.add_argument("--child", default="")
    options = parser.parse_args()
    if options.child:
        measured = child(options)
        print(json.dumps({**measured, "gigabytes": peak_memory()}))
    elif options.task == "costs":
        costs(options)
    else:
        compare(options)


def compare(options: Options) -> None:
    """Run all contenders of a task and print the table."""
    make(options)
    chosen = [name for name in CONTENDERS[options.task] if not options.only or name in options.only.split(",")]
    found: dict[str, list[Found]] = {name: [] for name in chosen}
    for _ in range(options.runs):
        for name in chosen:
            found[name].append(measure(name, options))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, python {platform.python_version()}"
    )
    print(f"{options.task}: {options.rows:,} rows, dim {options.dim}, k {options.k}, {options.runs} runs\n")
    print(table(found))


def peak_memory() -> float:
    """Peak memory of this process in GiB; `ru_maxrss` would include that of the parent process."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 2**20


def measure(name: str, options: Options) -> Found:
    """Run one contender once in its own process."""
    threads = {key: str(options.threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    words = [f"--{key}={getattr(options, key)}" for key in SIZES]
    command = [sys.executable, __file__, options.task, *words, f"--folder={options.folder}", f"--child={name}"]
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"missing": done.stderr.strip().splitlines()[-1]}
    result: Found = json.loads(done.stdout.splitlines()[-1])
    return result


def table(found: dict[str, list[Found]]) -> str:
    """A Markdown table with medians of all numbers, and times as multiples of the first contender's."""
    first = next(iter(found.values()))
    names = [key for key in first[0] if key not in ("seconds", "gigabytes")]
    lines = ["| | seconds | ÷ first | peak memory | " + " | ".join(names) + " |", "|---|" + "---:|" * (3 + len(names))]
    base = statistics.median(float(run["seconds"]) for run in first)
    for name, runs in found.items():
        if "missing" in runs[0]:
            lines.append(f"| {name} | not run: {runs[0]['missing']} |")
            continue
        seconds = statistics.median(float(run["seconds"]) for run in runs)
        memory = max(float(run["gigabytes"]) for run in runs)
        cells = [f"{statistics.median(float(run.get(key, math.nan)) for run in runs):.5g}" for key in names]
        lines.append(f"| {name} | {seconds:.2f} | {seconds / base:.2f} | {memory:.2f} GB | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def make(options: Options) -> None:
    """Write features, skills, and for each row the row that it copies (-1: none), unless the files exist."""
    import numpy as np

    folder = folder_of(options)
    if options.task == "subset" or (folder / "skills.npy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    skills = max(20, options.k)
    sizes = np.ones(skills) if options.task == "prune" else np.maximum(1 / np.arange(1, skills + 1), 0.003)
    skill = draw.choice(skills, options.rows, p=sizes / sizes.sum()).astype(np.int32)
    directions = draw.normal(size=(skills, options.dim)).astype(np.float32)
    original = np.full(options.rows, -1)
    rows = np.lib.format.open_memmap(
        folder / "rows.npy", mode="w+", dtype=np.float16, shape=(options.rows, options.dim)
    )
    for start in range(0, options.rows, BLOCK):
        here = slice(start, min(start + BLOCK, options.rows))
        noise = draw.normal(size=(here.stop - start, options.dim)).astype(np.float32)
        block = directions[skill[here]] + noise
        copied = np.flatnonzero(draw.random(len(block)) < COPIES)
        copied = copied[copied > 0]
        source = (copied * draw.random(len(copied))).astype(np.int64)  # an earlier row of this block
        for row, of in zip(copied.tolist(), source.tolist(), strict=True):
            block[row] = block[of] + 0.02 * draw.normal(size=options.dim).astype(np.float32)
            skill[start + row], original[start + row] = skill[start + of], start + of
        rows[here] = block / np.linalg.norm(block, axis=1, keepdims=True)
    rows.flush()
    np.save(folder / "original.npy", original)
    np.save(folder / "skills.npy", skill)


def folder_of(options: Options) -> Path:
    """The folder of the features of this size."""
    kind = "even" if options.task == "prune" else "uneven"
    folder: Path = options.folder / f"{kind}_{options.rows}_{options.dim}_{max(20, options.k)}"
    return folder


def load(options: Options) -> Any:
    """The features (memory-mapped), skills and originals that `make` wrote."""
    import numpy as np

    folder = folder_of(options)
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    return rows, np.load(folder / "skills.npy"), np.load(folder / "original.npy")


def child(options: Options) -> Found:
    """Run a contender in its own process; the time starts after imports and, for other tools, after loading."""
    works: dict[tuple[str, str], Callable[[Options], Found]] = {
        ("kmeans", "ours"): our_kmeans,
        ("kmeans", "ours, mini-batch"): our_kmeans,
        ("kmeans", "scikit-learn"): their_kmeans,
        ("kmeans", "faiss"): their_kmeans,
        ("prune", "greedy"): our_pruning,
        ("prune", "semdedup"): our_pruning,
        ("prune", "dense"): dense_pruning,
        ("subset", "ours"): our_subset,
        ("subset", "loop"): loop_subset,
        ("place", "ours"): facility_location,
        ("place", "submodlib"): facility_location,
    }
    return works[options.task, options.child](options)


def our_kmeans(options: Options) -> Found:
    """The whole stage: checks, seeding, restarts on a sample, all rows, and the silhouette."""
    import numpy as np
    import pandas as pd
    from sklearn.metrics import adjusted_rand_score

    from adapt_infinity.pseudo_skills.finding import cluster_rows
    from adapt_infinity.pseudo_skills.params import PseudoSkillParams

    rows, skill, _ = load(options)
    params = PseudoSkillParams(
        k=options.k,
        candidates=[],
        sweep_rows=8192,
        space="gradients",
        iterations=options.iterations,
        tolerance=options.tolerance,
        restarts=options.restarts,
        batch=8192 if "batch" in options.child else 0,
        warm_start=False,
        backend="torch",
        device="cpu",
        threads=options.threads,
        block=16_384,
        label_rows=1,
        seed=0,
    )
    start = time.perf_counter()
    clusters, _ = cluster_rows({"gradients": rows}, np.arange(len(rows)), params, pd.DataFrame())
    seconds = time.perf_counter() - start
    within = float((2 - 2 * clusters["similarity"].to_numpy(np.float64)).sum())
    return {"seconds": seconds, "within": within, "ARI": adjusted_rand_score(skill, clusters["cluster"])}


def their_kmeans(options: Options) -> Found:
    """K-means of scikit-learn or faiss on float32 in memory; the result is measured like ours."""
    import numpy as np
    from sklearn.metrics import adjusted_rand_score

    mapped, skill, _ = load(options)
    rows = np.asarray(mapped, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    if options.child == "scikit-learn":
        from sklearn.cluster import MiniBatchKMeans

        start = time.perf_counter()
        labels = MiniBatchKMeans(options.k, random_state=0).fit_predict(rows)
        seconds = time.perf_counter() - start
    else:
        import faiss

        faiss.omp_set_num_threads(options.threads)
        start = time.perf_counter()
        clustering = faiss.Kmeans(
            options.dim, options.k, niter=options.iterations, spherical=True, seed=1, max_points_per_centroid=10**9
        )
        clustering.train(rows)
        labels = clustering.index.search(rows, 1)[1][:, 0]
        seconds = time.perf_counter() - start
    lengths = [np.linalg.norm(rows[labels == label].sum(axis=0, dtype=np.float64)) for label in range(options.k)]
    return {"seconds": seconds, "within": 2 * len(rows) - 2 * sum(lengths), "ARI": adjusted_rand_score(skill, labels)}


def pruning_quality(removed: Any, duplicate: Any, original: Any) -> Found:
    """Precision and recall: a removal is right if the row and its nearest duplicate are copies of the same row."""
    import numpy as np

    root = np.arange(len(original))
    for row in np.flatnonzero(original >= 0):  # an original is an earlier row, so its root is known
        root[row] = root[original[row]]
    copies = int((original >= 0).sum())
    right = int((root[removed] == root[duplicate]).sum())
    return {"precision": right / max(len(removed), 1), "recall": right / copies}


def our_pruning(options: Options) -> Found:
    """The whole stage, with the true skills as clusters and as many removals as there are copies."""
    import numpy as np
    import pandas as pd
    import torch

    from adapt_infinity.pruning.removals import PruningParams, choose_removals_by_cluster

    torch.set_num_threads(options.threads)
    rows, skill, original = load(options)
    ids = np.arange(len(rows))
    pool_rows = pd.DataFrame({"sample_id": ids, "source": "s"})
    clusters = pd.DataFrame({"sample_id": ids, "cluster": skill, "similarity": 0.5})
    params = PruningParams(
        pool_size=int((original < 0).sum()),
        rule=options.child,
        ranking="centroid",
        min_cluster=0,
        must_keep=[],
        screening="auto",
        device="cpu",
        block=1024,
        seed=0,
    )
    nothing = pd.DataFrame({"sample_id": np.zeros(0, np.int64)})
    start = time.perf_counter()
    removals = choose_removals_by_cluster(
        pool_rows, clusters, rows, pd.DataFrame({"sample_id": ids}), nothing, nothing, params
    )
    seconds = time.perf_counter() - start
    known = removals[removals["duplicate_of"] >= 0]
    return {
        "seconds": seconds,
        **pruning_quality(known["sample_id"].to_numpy(), known["duplicate_of"].to_numpy(), original),
    }


def dense_pruning(options: Options) -> Found:
    """SemDeDup as published, with the same budgets and the full cosine matrix of each cluster."""
    import numpy as np
    import torch

    from adapt_infinity.subset.budgets import equal_shares

    torch.set_num_threads(options.threads)
    rows, skill, original = load(options)
    _, code, sizes = np.unique(skill, return_inverse=True, return_counts=True)
    budgets = equal_shares(sizes, int((original < 0).sum()))
    removed: list[Any] = []
    duplicates: list[Any] = []
    start = time.perf_counter()
    for cluster, budget in enumerate(budgets):
        members = np.flatnonzero(code == cluster)
        if budget == len(members):
            continue
        unit = torch.nn.functional.normalize(torch.from_numpy(np.asarray(rows[members])).float(), dim=1)
        highest, nearest = torch.triu(unit @ unit.T, diagonal=1).max(dim=0)
        gone = torch.argsort(highest, descending=True)[: len(members) - budget].numpy()
        removed.append(members[gone])
        duplicates.append(members[nearest.numpy()[gone]])
    seconds = time.perf_counter() - start
    return {"seconds": seconds, **pruning_quality(np.concatenate(removed), np.concatenate(duplicates), original)}


def synthetic_scores(options: Options) -> Any:
    """Clusters of very unequal sizes, and five scores with different distributions."""
    import numpy as np
    import pandas as pd

    draw = np.random.default_rng(0)
    ids = np.arange(options.rows)
    cluster = (draw.zipf(1.3, options.rows).clip(max=options.k) - 1).astype(np.int32)
    names = ["perplexity", "el2n", "entropy", "grand", "image_grounding"]
    scores = pd.DataFrame({name: draw.gamma(1 + number, size=options.rows) for number, name in enumerate(names)})
    return ids, cluster, names, scores


def our_subset(options: Options) -> Found:
    """Choice of experts, shares and CCS as in the stages, for 25,000 samples."""
    import numpy as np
    import pandas as pd

    from adapt_infinity.selector_experts.choosing import choose_experts
    from adapt_infinity.selector_experts.scoring import SelectorParams, start_record
    from adapt_infinity.subset.params import SubsetParams
    from adapt_infinity.subset.selecting import select_subset

    ids, cluster, names, scores = synthetic_scores(options)
    scores = scores.assign(sample_id=ids, nll=scores["el2n"], trained_nll=np.nan)
    clusters = pd.DataFrame({"sample_id": ids, "cluster": cluster, "similarity": np.float32(0.5)})
    pool_rows = pd.DataFrame({"sample_id": ids, "round": 1, "source": "s", "skill": "t"})
    rows = np.zeros((len(ids), 1), np.float16)
    features: Any = SimpleNamespace(sample_ids=ids, gradients=rows, embeddings=rows, scores=scores)
    selector = SelectorParams(
        experts=names,
        choice="entropy",
        bins=50,
        range=4.0,
        neighbours=10,
        reference="",
        targets_per_skill=1,
        seed=0,
    )
    subset = SubsetParams(
        budget=25_000,
        token_budget=0,
        shares="equal",
        sampler="ccs",
        strata=50,
        cut=0.0,
        cut_tails=False,
        view="gradients",
        include=[],
        exclude=[],
        floors={},
        caps={},
        seed=0,
    )
    nothing = pd.DataFrame({"sample_id": np.zeros(0, np.int64), "include": np.zeros(0, dtype=bool)})
    start = time.perf_counter()
    experts = choose_experts(clusters, scores, *start_record(), selector, 1)
    chosen = select_subset(pool_rows, clusters, scores, features, experts, nothing, subset)
    return {"seconds": time.perf_counter() - start, "selected": int(chosen["selected"].sum())}


def loop_subset(options: Options) -> Found:
    """The same with Python loops over clusters, values and strata."""
    import numpy as np

    _, cluster, names, scores = synthetic_scores(options)
    columns = {name: scores[name].tolist() for name in names}
    labels = cluster.tolist()
    draw = np.random.default_rng(0)
    start = time.perf_counter()
    members: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        members.setdefault(label, []).append(row)
    selected: list[int] = []
    left, budget = len(members), 25_000
    for label in sorted(members, key=lambda name: len(members[name])):
        rows = members[label]
        share = min(len(rows), budget // left)
        budget, left = budget - share, left - 1
        best, expert = -1.0, names[0]
        for name in names:
            values = [columns[name][row] for row in rows]
            mean = sum(values) / len(values)
            spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) or 1.0
            counts = [0] * 50
            for value in values:
                counts[min(49, max(0, int(((value - mean) / spread + 4) / 8 * 50)))] += 1
            entropy = -sum(count / len(rows) * math.log(count / len(rows)) for count in counts if count)
            if entropy > best:
                best, expert = entropy, name
        values = [columns[expert][row] for row in rows]
        low, high = min(values), max(values)
        strata: list[list[int]] = [[] for _ in range(50)]
        for row, value in zip(rows, values, strict=True):
            strata[min(49, int((value - low) / ((high - low) or 1.0) * 50))].append(row)
        remaining = sorted((stratum for stratum in strata if stratum), key=len)
        for number, stratum in enumerate(remaining):
            count = min(len(stratum), share // (len(remaining) - number))
            selected += [stratum[pick] for pick in draw.permutation(len(stratum))[:count].tolist()]
            share -= count
    return {"seconds": time.perf_counter() - start, "selected": len(selected)}


def facility_location(options: Options) -> Found:
    """Select a tenth of the rows of one cluster; measures the mean cosine of a row with its nearest selected row."""
    import numpy as np

    mapped, _, _ = load(options)
    rows = np.asarray(mapped, dtype=np.float32)
    budget = len(rows) // 10
    if options.child == "ours":
        from adapt_infinity.subset.samplers import Members
        from adapt_infinity.subset.samplers.facility_location import sample

        members = Members(np.arange(len(rows)), np.zeros(len(rows)), lambda: rows)
        params: Any = None  # this sampler needs none
        start = time.perf_counter()
        taken = np.flatnonzero(sample(members, budget, np.random.default_rng(0), params)[0])
        seconds = time.perf_counter() - start
    else:
        from submodlib import FacilityLocationFunction

        start = time.perf_counter()
        kernel = 1 + rows @ rows.T
        greedy = FacilityLocationFunction(n=len(rows), mode="dense", sijs=kernel, separate_rep=False)
        picks = greedy.maximize(budget=budget, optimizer="LazyGreedy", show_progress=False)
        taken = np.array([row for row, _ in picks])
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "mean similarity": float((rows @ rows[taken].T).max(axis=1).mean())}


def costs(options: Options) -> None:
    """Print the exponents of the time in n, k and dim, from two doublings of each: the mean of both slopes."""
    point = {"rows": 20_000, "dim": 256, "k": 64}
    for task, name, keys in (("kmeans", "ours", ("rows", "k", "dim")), ("prune", "greedy", ("rows", "dim"))):
        exponents = {}
        for key in keys:
            seconds = []
            for factor in (1, 2, 4):
                sized = Options(**{**vars(options), **point, "task": task, key: point[key] * factor})
                sized.iterations, sized.tolerance = 5, 0.0
                make(sized)
                seconds.append(statistics.median(float(measure(name, sized)["seconds"]) for _ in range(options.runs)))
            slopes = [math.log2(seconds[1] / seconds[0]), math.log2(seconds[2] / seconds[1])]
            exponents[key] = statistics.mean(slopes)
        print(task, ", ".join(f"{key}^{value:.2f}" for key, value in exponents.items()))


if __name__ == "__main__":
    main()
