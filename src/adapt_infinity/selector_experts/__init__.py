"""Selector experts: the score that ranks the samples of each cluster (docs/method.md, section 4).

scoring.py            the table of scores: one row per sample, one column per score
comparisons/          scores that compare a sample with its past, a reference model or its neighbours
context.py            what a comparison can use
reference_reading.py  the pool read with a reference adapter, and validation samples read with the current one
choosing.py           the expert of each cluster
expert_scores.py      the score of each sample by the expert of its cluster
choices/              rules that choose it, one file each
"""
