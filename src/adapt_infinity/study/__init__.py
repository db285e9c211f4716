"""A study: data strategies and training methods side by side on one stream, over seeds, by one set of measures.

    grid.py        the cells of a study            statistics.py  intervals, paired tests, critical differences
    costs.py       the cost of passes in FLOPs     round_cost.py  the cost of one finished round
    results.py     cells' matrices and costs → one long table
    tables.py      the long table → comparisons    figures.py     its figures
    page.py        Markdown, and one HTML file that needs no other

The commands in `cli/` run the cells; nothing here knows Kedro or MLflow.
"""
