"""Pruning: the most redundant samples of each cluster leave the pool for good (docs/method.md, section 7).

removals.py       which samples leave, so that the pool keeps its size
rules/            which rows of one cluster leave, one file per rule
search.py         the search that the rules share
nearest.py        exact nearest neighbours in one cluster
bound_cascade.py  cheap upper bounds of cosines, so that few are computed exactly
cosines.py        cosines that are the same at any block size, thread count, row order or device
protection.py     samples that must not be pruned
preview.py        what the removals amount to, for a person who decides
"""
