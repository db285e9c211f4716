"""Pseudo-skills: clusters of samples whose rows point in the same direction (docs/method.md, section 3).

params.py          params:pseudo_skills
feature_source.py  what this folder and the later stages ask of the features
spaces/            which row stands for a sample: gradients, embeddings, questions
unit_rows.py       rows of length 1, piece by piece, the same on any number of threads
seeding.py         first centroids: greedy k-means++
kmeans.py          spherical k-means on rows that need not fit in memory
backends/          which library finds the nearest centroid
k_sweep.py         how many clusters there are, where k is auto
matching.py        which cluster was which in the round before
finding.py         all of that: from features to the clusters table
words.py           words that are typical of a cluster
cards.py           a description of each cluster for readers
"""
