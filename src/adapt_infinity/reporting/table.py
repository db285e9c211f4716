"""The closing table of a round on the terminal: scores, measures, selector experts, sizes, costs and file locations.

It fits in 80 columns and uses no colours. The same tables are available as Markdown.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from adapt_infinity.benchmarks.measures import FORMULAS, as_matrix

_SHOWN = 3  # number of clusters shown per expert


@dataclass(frozen=True, kw_only=True)
class RoundSummary:
    """The results of a round as tables and numbers. The defaults fit round 0, which has no probe and no training."""

    stream: str
    round: int
    score_matrix: pd.DataFrame  # later rounds than `round` are ignored
    measures: pd.DataFrame  # the result of `benchmarks.measures.measure` after this round
    own_skills: Mapping[str, int]  # skill → the first round that trains it
    rare_skills: frozenset[str] = frozenset()
    subset: pd.DataFrame | None = None
    cluster_experts: pd.DataFrame | None = None
    arrived: int = 0  # accepted samples of the round's source
    repairs: Mapping[str, int] = field(default_factory=dict)  # kind of repair → samples
    rejects: Mapping[str, int] = field(default_factory=dict)  # reason → rejected records
    overlaps: Mapping[str, int] = field(default_factory=dict)  # "scope: kind" of `intake/overlap.py` → samples
    pool_before: int = 0  # samples, including the arrivals
    pool_after: int = 0
    samples_probed: int = 0
    routing: Mapping[str, float] = field(default_factory=dict)  # of `benchmarks.routing.measure_routing`
    seconds: Mapping[str, float] = field(default_factory=dict)  # stage → wall-clock seconds, in order
    peak_memory_gb: float | None = None  # GiB; None if it was not measured
    artefacts: str = ""  # the folder of the round's files
    tracking: str = ""  # the round's MLflow run, or why there is none

    @property
    def chosen(self) -> int:
        """The number of selected samples."""
        return 0 if self.subset is None else int(self.subset["selected"].sum())


def skill_table(summary: RoundSummary) -> pd.DataFrame:
    """One row per skill, in the order of training; columns skill, rare, own, zero_shot, before, now, change.

    `own` is the first round that trains the skill, or None. A score is None if the skill was not graded.
    """
    past = summary.score_matrix[summary.score_matrix["round"] <= summary.round]
    scores, skills = as_matrix(past, "skill")
    last = len(scores) - 1
    rows = []
    for j, skill in enumerate(skills):
        zero_shot, now = _known(scores[0, j]), _known(scores[last, j])
        before = _known(scores[last - 1, j]) if last else None
        change = now - before if now is not None and before is not None else None
        own = summary.own_skills.get(skill)
        rows.append((skill, skill in summary.rare_skills, own, zero_shot, before, now, change))
    rows.sort(key=lambda row: row[2] if row[2] is not None else np.inf)
    columns = ["skill", "rare", "own", "zero_shot", "before", "now", "change"]
    return pd.DataFrame([dict(zip(columns, row, strict=True)) for row in rows], columns=columns, dtype=object)


def expert_table(summary: RoundSummary) -> pd.DataFrame:
    """One row per expert that was chosen for a cluster; columns expert, clusters, samples, where (largest clusters)."""
    columns = ["expert", "clusters", "samples", "where"]
    if summary.cluster_experts is None or summary.subset is None:
        return pd.DataFrame(columns=columns)
    won = summary.cluster_experts[summary.cluster_experts["chosen"]]
    counts = summary.subset.groupby(["cluster", "source"], sort=True).size().reset_index(name="n")
    counts = counts.sort_values("n", ascending=False, kind="stable").drop_duplicates("cluster")
    main = counts.set_index("cluster")["source"]
    rows: list[tuple[str, int, int, str]] = []
    for expert, part in won.groupby("expert", sort=True):
        largest = part.sort_values("size", ascending=False, kind="stable")["cluster"].tolist()
        where = [f"{cluster} ({main.get(cluster, 'empty')})" for cluster in largest[:_SHOWN]]
        where += [f"{len(largest) - _SHOWN} more"] if len(largest) > _SHOWN else []
        rows.append((str(expert), len(part), int(part["size"].sum()), ", ".join(where)))
    rows.sort(key=lambda row: row[1], reverse=True)
    return pd.DataFrame(rows, columns=columns)


def closing_table(summary: RoundSummary) -> Group:
    """All tables of the round, to print with `rich.console.Console`."""
    parts: list[Text | Table] = [
        Text(f"{summary.stream}, {_round_name(summary.round)}", style="bold"),
        _table("Scores", *_skill_cells(summary)),
        _table("Measures", *_measure_cells(summary.measures)),
        Text("\n".join(_notes(summary.measures))),
    ]
    if summary.cluster_experts is not None:
        parts.append(_table("Selector experts", *_expert_cells(summary)))
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(summary):
        facts.add_row(Text(name), Text(value))
    return Group(*[piece for part in parts for piece in (part, Text())], facts)


def summary_markdown(summary: RoundSummary) -> str:
    """All tables of the round as Markdown."""
    parts = [
        f"### {summary.stream}, {_round_name(summary.round)}",
        _markdown(*_skill_cells(summary)),
        _markdown(*_measure_cells(summary.measures)),
        "\n".join(f"- {line}" for line in _notes(summary.measures)),
    ]
    if summary.cluster_experts is not None:
        parts.append(_markdown(*_expert_cells(summary)))
    parts.append(_markdown(["", "value"], list(map(list, _facts(summary)))))
    return "\n\n".join(part for part in parts if part) + "\n"


Cells = tuple[list[str], list[list[str]]]  # header, rows


def _skill_cells(summary: RoundSummary) -> Cells:
    header = ["skill", "zero-shot", "before", "now", "change", "own round"]
    rows = [
        [
            f"{row['skill']} (rare)" if row["rare"] else str(row["skill"]),
            _score(row["zero_shot"]),
            _score(row["before"]),
            _score(row["now"]),
            _score(row["change"], "+.2f"),
            _own(row["own"], summary.round),
        ]
        for row in skill_table(summary).to_dict("records")
    ]
    return header, rows


def _measure_cells(measures: pd.DataFrame) -> Cells:
    """One row per measure, one column per view; the number of averaged values is in brackets."""
    views = list(dict.fromkeys(measures["view"]))
    header = ["measure", *(view.removesuffix(" skill") for view in views), "formula"]
    cells = {(row["measure"], row["view"]): _format_measure(row) for row in measures.to_dict("records")}
    names = dict.fromkeys(measures["measure"])
    return header, [[name, *(cells[name, view] for view in views), FORMULAS[name][1]] for name in names]


def _notes(measures: pd.DataFrame) -> list[str]:
    """How to read the measures, and one line per reason why measures are undefined."""
    lines = ["In brackets: n. T: the last round. F: 1 per dataset, own(j) per skill. Gain and rate in percent."]
    missing = measures[measures["undefined"] != ""]
    for reason, part in missing.groupby("undefined", sort=False):
        views = [f"{name} ({', '.join(some['view'])})" for name, some in part.groupby("measure", sort=False)]
        lines.append(f"undefined, {reason}: {', '.join(views)}")
    return lines


def _expert_cells(summary: RoundSummary) -> Cells:
    rows = [
        [str(row["expert"]), f"{row['clusters']}", f"{row['samples']:,}", str(row["where"])]
        for row in expert_table(summary).to_dict("records")
    ]
    return ["expert", "clusters", "samples", "where (cluster, main source)"], rows


def _facts(summary: RoundSummary) -> list[tuple[str, str]]:
    """Names and values of sizes, rejected records, costs and file locations."""
    pruned = summary.pool_before - summary.pool_after
    seconds = ", ".join(f"{stage} {taken:.1f}" for stage, taken in summary.seconds.items())
    memory = summary.peak_memory_gb
    return [
        ("pool", f"{summary.pool_before:,} -> {summary.pool_after:,} samples ({pruned:,} pruned)"),
        ("subset", f"{summary.chosen:,} samples trained on, {summary.samples_probed:,} probed"),
        ("arrived", f"{summary.arrived:,} samples" + _format_counts("; repaired: ", summary.repairs)),
        ("rejected records", f"{sum(summary.rejects.values()):,}" + _format_counts(": ", summary.rejects)),
        ("seen before", _format_counts("", summary.overlaps) or "none"),
        *_routing(summary.routing),
        ("seconds", f"{sum(summary.seconds.values()):.1f}" + (f": {seconds}" if seconds else "")),
        ("peak memory", "not measured" if memory is None else f"{memory:.2f} GB"),
        ("artefacts", summary.artefacts or "none"),
        ("tracking", summary.tracking or "none"),
    ]


def _routing(routing: Mapping[str, float]) -> list[tuple[str, str]]:
    if not routing:
        return []
    text = "{accuracy:.1%} of items routed to their task's expert; score {score:.3f}, with an oracle {oracle_score:.3f}"
    return [("routing", text.format(**routing))]


def _format_counts(prefix: str, counts: Mapping[str, int]) -> str:
    """Names and counts as text after `prefix`; "" if there are none."""
    return prefix + ", ".join(f"{name} {count:,}" for name, count in counts.items()) if counts else ""


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table with numbers aligned right, and the first column and columns of text aligned left."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", padding=(0, 1, 0, 0))
    for i, name in enumerate(header):
        prose = i == 0 or name == "formula" or name.startswith("where")
        table.add_column(name, justify="left" if prose else "right", overflow="fold", no_wrap=not prose)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    prose = [i == 0 or name in ("formula", "value") or name.startswith("where") for i, name in enumerate(header)]
    lines = [header, ["---" if left else "---:" for left in prose], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _known(score: float) -> float | None:
    return None if np.isnan(score) else float(score)


def _score(value: float | None, style: str = ".2f") -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:{style}}"  # + 0.0 turns -0.0 into 0.0


def _format_measure(row: Mapping[Hashable, Any]) -> str:
    """The value of a measure and n in brackets; one decimal for percentages, otherwise three."""
    if row["undefined"]:
        return "undefined"
    digits = 1 if row["formula"].startswith("100") else 3
    return f"{round(row['value'], digits) + 0.0:.{digits}f} ({row['normaliser']})"


def _own(own: int | None, now: int) -> str:
    if own is None:
        return "never"
    return f"{own}, now" if own == now else str(own)


def _round_name(number: int) -> str:
    return "round 0 (zero-shot)" if number == 0 else f"round {number}"
