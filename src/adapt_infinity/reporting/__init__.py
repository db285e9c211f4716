"""Reporting: what a finished round shows to a person.

table.py     the closing table on the terminal
metrics.py   names and values of a round's metrics
tracking.py  rounds as MLflow runs
figures/     figures of a round
"""
