"""How well the model answers what it has not been trained on."""
