"""The probe: the current model reads the pool once and leaves gradient features, scores and embeddings."""
