"""The files of a study: table.csv (all numbers), summary.csv, study.md, and study.html, which needs no other file."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from adapt_infinity.benchmarks.measures import FORMULAS
from adapt_infinity.study import figures, tables
from adapt_infinity.study.results import LAST, SCORES, Outcome, Plan, curves, long_table

MEASURES = list(FORMULAS)
PLAIN = "finetune"  # the method with which other methods are compared
GROUPS = ["all skills", "stream skills", "rare skills", "base skills"]
SCORE_NOTES = (
    "Points are hundredths; ± is the half-width of a 95 % t interval over seeds. Differences are paired by seed, with "
    "the same method; p is the p value of a paired t test, p (Holm) is corrected for the number of strategies "
    "compared. With three seeds a t interval is wide: a difference that is not significant does not show that two "
    "strategies are equal. All cells have the same stream, base model, adapter, steps and pool size, with three "
    "exceptions: a strategy with @, whose budget is multiplied; a strategy with +, which has the parameters that the "
    "command gives it; and the reference baselines multitask (keeps and trains on everything), independent (trains on "
    "one dataset), zero_shot (is not trained) and skill_balanced (uses the true skills)."
)
COST_NOTES = (
    "With N weights in the decoder's layers and T tokens: forward 2 N T, backward 2 N T and the adapter's share. "
    "Training is forward and backward of the training samples, and what the method adds. Selection is the probe's "
    "forward pass, a second one without pictures if it is used, and the backward pass down to the lowest probed "
    "layer. Evaluation, which belongs to neither, is forward of the test items' questions and answers. Vision tower, "
    "head, the quadratic part of attention, k-means and pruning are left out of the FLOPs, but included in the "
    "seconds. Features that were reused from another cell count in full. 'As much as' is the budget with which random "
    "selection, which reads nothing, costs the same."
)
STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #6b6b6b; --line: #ddd; --paper: #fff; --mark: #0072B2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #a5a5a5; --line: #444; --paper: #1b1b1b; --mark: #56B4E9; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 72rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p, dd { color: var(--soft); max-width: 60rem; } code { font-size: 0.9em; overflow-wrap: anywhere; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 0.28rem 0.7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
th { cursor: pointer; user-select: none; } th:hover { color: var(--mark); }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; background: #fff; }
"""
SORTING = """
document.querySelectorAll("th").forEach(head => head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], place = [...head.parentNode.children].indexOf(head);
  const down = head.dataset.down = head.dataset.down === "1" ? "" : "1";
  const key = row => { const text = row.children[place].textContent, value = parseFloat(text.replace(/,/g, ""));
    return isNaN(value) ? text : value; };
  [...body.rows].sort((a, b) => { const x = key(a), y = key(b);
    const order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1;
    return down ? -order : order; }).forEach(row => body.append(row));
}));
"""


def write(folder: Path, outcomes: Sequence[Outcome], plan: Plan, against: str, facts: Mapping[str, Any]) -> list[Path]:
    """Write all files of a study to `folder`; returns their paths.

    `against` is the strategy with which others are compared; `facts` has command, date, versions, cells and missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = long_table(outcomes, plan)
    summary = tables.summary(table)
    sections = list(_sections(table, summary, plan, against))
    drawn = _figures(table, summary, outcomes, plan)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=150)
    table.to_csv(folder / "table.csv", index=False)
    summary.to_csv(folder / "summary.csv", index=False)
    (folder / "study.md").write_text(markdown(sections, facts), encoding="utf-8")
    (folder / "study.html").write_text(web_page(sections, drawn, facts), encoding="utf-8")
    names = ["table.csv", "summary.csv", "study.md", "study.html", *(f"{name}.png" for name in drawn)]
    return [folder / name for name in names]


Section = tuple[str, str, pd.DataFrame]  # title, notes, table


def _sections(table: pd.DataFrame, summary: pd.DataFrame, plan: Plan, against: str) -> list[Section]:
    sections: list[Section] = [("Mean scores after the last round", SCORE_NOTES, tables.wide(summary, SCORES, GROUPS))]
    if against in set(table["strategy"]) and table["strategy"].nunique() > 1:
        sections.append((f"Differences from {against}", "", _differences(tables.differences(table, against))))
    if PLAIN in set(table["method"]) and table["method"].nunique() > 1:
        of_methods = tables.differences(table, PLAIN, of="method")
        sections.append((f"Differences from {PLAIN}", "With the same strategy.", _differences(of_methods)))
    for view, name in (("skill", "skills of the stream"), ("dataset", "datasets"), ("untrained skill", "base skills")):
        if (summary["view"] == view).any():
            sections.append((f"Measures: {name}", _formulas(table, view), tables.wide(summary, view, MEASURES)))
    sections.append(("Costs", COST_NOTES, tables.cost_table(summary)))
    rare = f"Rare: {', '.join(plan.rare)}." if plan.rare else ""
    sections.append(("Every skill after the last round", rare, tables.wide(summary, LAST)))
    undefined = summary[summary["undefined"] != ""][["strategy", "method", "view", "measure", "undefined"]]
    if len(undefined):
        sections.append(("Undefined values and reasons", "", undefined))
    return sections


def _differences(found: pd.DataFrame) -> pd.DataFrame:
    """Differences in mean scores and in forgetting: one row per strategy, method and measure."""
    wanted = found[(found["view"] == SCORES) | ((found["view"] == "skill") & (found["measure"] == "forgetting"))]
    rows = [
        {
            "strategy": row["strategy"],
            "method": row["method"],
            "of": row["measure"],
            "difference": tables.format_mean(row, sign=True),
            "p": _p(row["p"]),
            "p (Holm)": _p(row["p_holm"]),
            "seeds": row["seeds"],
        }
        for row in wanted.to_dict("records")
    ]
    return pd.DataFrame(rows)


def _p(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"


def _formulas(table: pd.DataFrame, view: str) -> str:
    part = table[table["view"] == view].drop_duplicates("measure")
    return "; ".join(f"{row['measure']} = {row['formula']}" for row in part.to_dict("records")) + ". Rates in percent."


def _figures(table: pd.DataFrame, summary: pd.DataFrame, outcomes: Sequence[Outcome], plan: Plan) -> dict[str, Figure]:
    drawn = {"cost": figures.cost_map(summary), "forgetting": figures.forgetting_lines(curves(outcomes, plan))}
    rows, panel = figures.compared(table)
    if rows == "method":
        return {**drawn, "skills": figures.skill_map(summary, table[panel].iloc[0], plan.rare)}
    for method in table["method"].unique():
        drawn[f"skills_{method}"] = figures.skill_map(summary, method, plan.rare)
        if table.loc[table["method"] == method, "strategy"].nunique() >= 3:
            drawn[f"ranks_{method}"] = figures.rank_line(tables.skill_ranks(table, method), method)
    return drawn


def markdown(sections: Sequence[Section], facts: Mapping[str, Any]) -> str:
    """The tables of the study as Markdown."""
    parts = ["# Study", f"`{facts['command']}`", _describe_run(facts)]
    for title, notes, table in sections:
        lines = ["| " + " | ".join(map(str, table.columns)) + " |"]
        lines.append("|" + "|".join("---" if column < 2 else "---:" for column in range(len(table.columns))) + "|")
        lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in table.itertuples(index=False)]
        parts += [f"## {title}", notes, "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def web_page(sections: Sequence[Section], drawn: Mapping[str, Figure], facts: Mapping[str, Any]) -> str:
    """The study as one HTML file, with style, script for sorting, and figures inside."""
    body = [
        f"<h1>Study</h1><p><code>{html.escape(facts['command'])}</code></p><p>{html.escape(_describe_run(facts))}</p>"
    ]
    for number, (title, notes, table) in enumerate(sections):
        note = f"<p>{html.escape(notes)}</p>" if notes else ""
        body.append(f'<h2>{html.escape(title)}</h2>{note}<div class="table">{_html_table(table)}</div>')
        if number == 0:
            body += [_picture(name, figure) for name, figure in drawn.items()]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Study</title>'
    style, script = f"<style>{STYLE}</style>", f"<script>{SORTING}</script>"
    return f"<!doctype html><html lang=en><head>{head}{style}</head><body>{''.join(body)}{script}</body></html>"


def _describe_run(facts: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    missing = f"; {facts['missing']} of {facts['cells']} cells are not complete" if facts["missing"] else ""
    return f"{facts['date']}; {versions}; {facts['cells']} cells{missing}."


def _html_table(table: pd.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table.columns)
    rows = [
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in table.itertuples(index=False)
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _picture(name: str, figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<figure><img alt="{html.escape(name)}" src="data:image/png;base64,{data}"></figure>'
