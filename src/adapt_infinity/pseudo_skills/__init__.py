"""Pseudo-skills: clusters of samples whose vectors point in the same direction (docs/method.md, section 3).

params.py          the parameters of this stage
feature_source.py  the interface of the probe's features
spaces/            the vector that stands for a sample: gradient, embedding or question
unit_rows.py       vectors of length 1, read in pieces; the result is the same at any number of threads
seeding.py         first centroids: greedy k-means++
kmeans.py          spherical k-means on rows that need not fit in memory
backends/          libraries that find the nearest centroid of each row
k_sweep.py         choice of the number of clusters where `pseudo_skills.k` is auto
matching.py        matching of clusters with those of the previous round
finding.py         the whole stage: from features to the table of clusters
words.py           words that are typical of a cluster
cards.py           a description of each cluster for readers
"""
