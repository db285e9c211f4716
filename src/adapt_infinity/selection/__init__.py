"""Which samples to train on: the expert of each cluster, the budget over clusters, and the samplers inside them."""
