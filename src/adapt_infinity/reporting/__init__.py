"""Reporting: the results of a finished round, for people.

- `results`: the list of a round's figures and tables, and the functions that draw the figures from the catalog
- `table`: the closing table on the terminal, also as Markdown
- `metrics`: names and values of a round's metrics
- `tracking`: rounds as MLflow runs
- `figures/`: figures of a round
"""
