"""adapt-infinity: lifelong instruction tuning of vision-language models, round after round."""

from adapt_infinity.reproducibility import ask_for_strict_products

__version__ = "0.1.0"

ask_for_strict_products()  # here, since every process that uses the package comes by before it multiplies anything
