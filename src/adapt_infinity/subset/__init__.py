"""Subset: the samples of the pool that the round trains on (docs/method.md, section 5).

params.py        the parameters of this stage
selecting.py     selection by clusters and scores
cluster_draw.py  the draw of a number of samples from the clusters: shares, then a sampler in each cluster
uniform.py       random selection, without scores
table.py         the table of the subset
budgets.py       division of a budget into shares of groups
shares/          rules for the shares of the clusters, one file each
samplers/        rules for the samples that are taken from a cluster, one file each
constraints.py   lists, minimum and maximum numbers of samples, for every strategy
"""
