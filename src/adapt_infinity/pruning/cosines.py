"""Exact cosines, which are therefore the same at any block size, number of threads, order of rows or device.

Single precision rounds every sum, and a matrix product adds in a different order at every shape. Rounding the result
to six decimals hides that from most decisions, not from all. So rows are put on a grid first: divided by their length
in double precision, then rounded to whole multiples of 2⁻²⁴, which single precision holds without loss (entries are at
most 1). A product of two entries is then a multiple of 2⁻⁴⁸, and a partial sum of a row's products stays below 2
(Cauchy-Schwarz): 49 bits, of which double precision has 53. No addition rounds, so no order of additions matters.

The grid moves a cosine by about 2e-8, less than the error of a product in single precision (5e-8 at 1,024 columns).
The values that are compared are the exact sums rounded to six decimals, so that copies, and pairs that differ by less
than that, are equal.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

GRID = 2.0**24  # steps from 0 to 1
DECIMALS = 6
MAX_DOUBLES = 2**22  # numbers held in double precision at a time


def grid_rows(
    embeddings: Float[np.ndarray, "n hidden"],
    rows: Int[np.ndarray, " members"],
    sample_ids: Int[np.ndarray, " members"],
) -> Float32[np.ndarray, "members hidden"]:
    """The embeddings of one cluster's rows with length 1, on the grid; a row of zeros stays a row of zeros.

    `embeddings` has one row per pool sample; `rows` are the row numbers of the cluster's members, `sample_ids` their
    ids. Rows are read and divided in chunks; the length of a row does not depend on the other rows of its chunk.
    `ValueError` names the samples whose embedding is not finite.
    """
    unit = np.empty((len(rows), embeddings.shape[1]), dtype=np.float32)
    bad: list[int] = []
    step = max(1, MAX_DOUBLES // max(1, embeddings.shape[1]))
    for start in range(0, len(rows), step):
        part = embeddings[rows[start : start + step]].astype(np.float64)
        lengths = np.sqrt(np.square(part).sum(axis=1, keepdims=True))
        bad += sample_ids[start : start + step][~np.isfinite(lengths[:, 0])].tolist()
        if not bad:
            part /= np.where(lengths == 0, 1, lengths)
            unit[start : start + step] = np.rint(part * GRID) / GRID
    if bad:
        raise ValueError(f"embedding is not finite for {len(bad)} samples, first {sorted(bad)[:5]}")
    return unit


def pair_cosines(
    rows: Float32[np.ndarray, "members hidden"], left: Int[np.ndarray, " pairs"], right: Int[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " pairs"]:
    """The exact cosine, rounded to six decimals, of each pair of rows on the grid."""
    cosines = np.empty(len(left), dtype=np.float64)
    step = max(1, MAX_DOUBLES // max(1, rows.shape[1]))
    for start in range(0, len(left), step):
        part = slice(start, start + step)
        cosines[part] = np.multiply(rows[left[part]], rows[right[part]], dtype=np.float64).sum(axis=1)
    return rounded(cosines)


def products(
    rows: Float[Tensor, "members width"],
    left: Int[np.ndarray, " left"],
    right: Int[np.ndarray, " right"],
    double: bool,
    block: int,
) -> Float[Tensor, "left right"]:
    """Inner products of the rows `left` with the rows `right`, in double or single precision.

    `block` columns are computed at a time; `left` and `right` ascend.
    """
    table = torch.empty((len(left), len(right)), dtype=torch.float64 if double else torch.float32, device=rows.device)
    these = _rows_at(rows, left)
    for start in range(0, len(right), block):
        table[:, start : start + block] = _product(these, _rows_at(rows, right[start : start + block]), table.dtype)
    return table


def rounded(cosines: Float64[np.ndarray, " *shape"]) -> Float64[np.ndarray, " *shape"]:
    """Rounded to six decimals; two values keep their order or become equal."""
    return np.round(cosines, DECIMALS) + 0.0  # -0 becomes 0


def _rows_at(rows: Float[Tensor, "members width"], places: Int[np.ndarray, " n"]) -> Float[Tensor, "n width"]:
    """The rows at ascending places; without a copy where the places are consecutive."""
    if places[-1] - places[0] + 1 == len(places):
        return rows[int(places[0]) : int(places[-1]) + 1]
    return rows[torch.from_numpy(places).to(rows.device)]


def _product(
    left: Float[Tensor, "left width"], right: Float[Tensor, "right width"], precision: torch.dtype
) -> Float[Tensor, "left right"]:
    if left.dtype == torch.float16 and left.is_cuda:  # tensor cores: half precision in, single precision out
        return torch.mm(left, right.T, out_dtype=precision)
    return left.to(precision) @ right.to(precision).T
