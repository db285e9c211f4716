"""Batch invariance: whether a row of a matrix product depends on the number of rows, checked on the model itself.

The probe promises the same bytes for every batch size. On the CPU, this depends on the library that multiplies matrices
(see `reproducibility.py`): the environment, the processor or another build of torch may change it.
"""

import os

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adapt_infinity.model.checkpoint import Vlm
from adapt_infinity.reproducibility import STRICT, VARIABLE, is_intel

FEW = range(2, 9)  # rows that are compared; a single row is always duplicated (`batching.TokenBudget`)
MANY = 64  # rows that they are compared with


def batch_dependence(vlm: Vlm) -> str:
    """A warning with a remedy, where rows of a product depend on their number; "" where they do not.

    Few rows are multiplied with one weight of each shape among the model's linear modules, as in a forward and in a
    backward pass, and compared bit by bit with the same rows among many. On a GPU and with several threads nothing is
    promised, so nothing is checked.
    """
    if vlm.device.type != "cpu" or torch.get_num_threads() != 1:
        return ""
    for weight in _one_of_each_shape(vlm.base):
        for matrix in (weight.T, weight):
            counts = _dependent_counts(matrix)
            if counts:
                return _warning(counts, matrix)
    return ""


def _one_of_each_shape(model: nn.Module) -> list[Tensor]:
    weights = [module.weight.detach() for module in model.modules() if isinstance(module, nn.Linear)]
    return list({(weight.shape, weight.dtype): weight for weight in weights}.values())


def _dependent_counts(matrix: Float[Tensor, "inside out"]) -> list[int]:
    """The numbers of rows whose product differs from that of the same rows among many."""
    rows = torch.randn(MANY, len(matrix), generator=torch.Generator().manual_seed(0)).to(matrix.dtype)
    whole = rows @ matrix
    return [count for count in FEW if not torch.equal(rows[:count] @ matrix, whole[:count])]


def _warning(counts: list[int], matrix: Float[Tensor, "inside out"]) -> str:
    listed, shape = ", ".join(map(str, counts)), " x ".join(map(str, matrix.shape))
    dtype = str(matrix.dtype).removeprefix("torch.")
    return (
        f"features may differ in their last bits from batch to batch: a product of {listed} rows with a {dtype} matrix "
        f"of {shape} is not the same as that of these rows among {MANY}; {_remedy(dtype)}"
    )


def _remedy(dtype: str) -> str:
    if dtype != "float32":
        return "model.dtype=float32 may help"
    if not is_intel():
        return "no remedy is known on this processor; probe.token_budget, window and shard are then part of the result"
    now = os.environ.get(VARIABLE, "")
    early = ", before anything multiplies matrices" if now == STRICT else f" (it is {now or 'not set'})"
    return f"start Python with {VARIABLE}={STRICT} in the environment{early}"
