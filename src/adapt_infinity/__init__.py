"""adapt-infinity: lifelong instruction tuning of vision-language models, round after round."""

__version__ = "0.1.0"
