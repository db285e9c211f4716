"""Pruning: the most redundant samples of each cluster leave the pool permanently (docs/method.md, section 7).

removals.py       which samples leave, so that the pool keeps its size
rules/            which rows of one cluster leave, one file per rule
search.py         the search that all rules use
nearest.py        exact nearest neighbours among the rows of one cluster
bound_cascade.py  cheap upper bounds of cosines, so that few cosines are computed exactly
cosines.py        exact cosines: the same at any block size, thread count, row order or device
protection.py     samples that must not be pruned
preview.py        tables and lines that describe removals, for a person who decides about them
"""
