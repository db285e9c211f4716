"""Pseudo-skills: clusters of samples that lie in the same direction (METHOD section 3; arXiv:2410.10636).

params.py      params:pseudo_skills
spaces/        what a sample's row is: gradients, embeddings, questions; one or several
rows.py        unit rows, piece by piece, the same on any number of threads
seeding.py     first centroids: greedy k-means++
kmeans.py      spherical k-means, streaming; engines/ finds the nearest centroid
sweep.py       how many clusters there are, where nobody says
following.py   which cluster was which in the round before
pseudo_skills.py   all of that: from features to the clusters table
words.py, cards.py  what a cluster is about, for a reader
"""
