"""Samplers: which rows of one cluster are taken. One file each, with

    sample(scores, sample_ids, budget, rng, params) -> (selected, stratum)

`scores` are finite and higher means harder; `stratum` is -1 for a row in no stratum. Exactly min(budget, n)
rows are selected, and the outcome depends on the ids and scores of the rows, never on the order in which they
are listed.
"""
