"""Training: the current adapter learns from the chosen subset."""
