"""A study: data strategies and training methods side by side on one stream, over seeds, by one set of measures.

    grid.py        which cells there are           statistics.py  intervals, paired tests, critical differences
    ledger.py      what a round costs              results.py     cells' matrices and costs → one long table
    tables.py      the long table → comparisons    page.py        Markdown, and one HTML file that needs no other

Who runs the cells is in `cli/`; nothing here knows Kedro or MLflow.
"""
