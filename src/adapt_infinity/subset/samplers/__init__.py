"""Samplers: which rows of one cluster are taken. One file each, with

    sample(members, budget, rng, params) -> (selected, stratum)

`members` are the cluster's rows by ascending sample_id with their expert's scores; their vectors are read only if a
sampler asks for them. `stratum` is -1 for a row in no stratum. Exactly min(budget, n) rows are selected.
"""
