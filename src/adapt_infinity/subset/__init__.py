"""Which samples to train on: the expert of each cluster, the budget over them, the samplers in them."""
