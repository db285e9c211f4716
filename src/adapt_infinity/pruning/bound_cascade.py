"""Cascades of upper bounds of cosines: cheap bounds first, so that few cosines need be computed exactly.

A level of a cascade (`Bounds`) holds a coarse copy of a cluster's rows and a number `slack` such that for all rows
x and y

    cosine(x, y)  ≤  ⟨coarse x, coarse y⟩ as computed  +  slack

Pairs that a bound leaves open are computed exactly (cosines.py); decisions never rest on a bound alone.

`none`        the rows themselves, in double precision: exact, slack 0.
`single`      the rows themselves, in single precision. The computed sum of d products is off by at most γ_d |x| |y|,
              γ_k = k u / (1 − k u), u = 2⁻²⁴, in any order of additions (Higham 2002, section 3.1).
`half`        the rows rounded to half precision, h = x − r. ⟨x, y⟩ − ⟨h, h'⟩ = ⟨r, h'⟩ + ⟨x, r'⟩ ≤ |r| |h'| + |x| |r'|;
              the |r| are measured. Products of halves are exact in single precision; their sum is off by γ_d as above,
              on a GPU with u = 2⁻²², because tensor cores truncate instead of rounding (Fasi et al. 2021).
`projection`  coordinates z along a few orthonormal directions Q, and as one more coordinate the length of the
              remainder r = x − Q z: ⟨x, y⟩ ≤ ⟨z, z'⟩ + |r| |r'| (Cauchy-Schwarz), one product of short rows. Q
              approximates the leading directions of a sample of the rows. Q is orthonormal, and r orthogonal to it,
              only up to rounding; that costs δ |z| |z'| + |z| ε' + |z'| ε, with δ = ‖QᵀQ − 1‖ and ε = |Qᵀr| measured.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from adapt_infinity.pruning.cosines import products

CASCADES = {  # by pruning.screening: what a bound leaves open goes to the next, finer one; the last is exact
    "none": ("none",),
    "single": ("single", "none"),
    "half": ("half", "none"),
    "projection": ("projection", "single", "none"),
}
DIRECTIONS = 128
DIRECTION_ROWS = 1024  # rows from which the directions are computed
CHUNK = 4096  # rows that are converted at a time
NOISE = 1e-9  # more than the rounding error of double precision in the computation of slack itself


@dataclass(frozen=True)
class Bounds:
    """One level of a cascade: a coarse copy of a cluster's rows, on the device that multiplies them."""

    name: str
    rows: Float[Tensor, "members width"]
    slack: float

    @property
    def exact(self) -> bool:
        """Whether the products are the cosines themselves."""
        return self.name == "none"

    def upper_bounds(
        self, rows: Int[np.ndarray, " rows"], candidates: Int[np.ndarray, " candidates"], block: int
    ) -> Float[Tensor, "rows candidates"]:
        """Upper bounds without `slack`, which the caller adds in double precision."""
        return products(self.rows, rows, candidates, self.exact, block)


def choose_device(wanted: str) -> torch.device:
    """The device that `pruning.device` names; `ValueError` for a GPU that does not exist."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"pruning.device is {wanted}, but torch sees {torch.cuda.device_count()} such devices")
    return device


def build_cascade(rows: Float32[np.ndarray, "members hidden"], screening: str, device: torch.device) -> list[Bounds]:
    """The cascade that `pruning.screening` names for these rows (on the grid of cosines.py), the coarsest level first.

    `auto` is the cascade that was measured to be fastest: half on a GPU, single on a CPU (docs/decisions.md).
    """
    if screening == "auto":
        screening = "half" if device.type == "cuda" else "single"
    assert torch.get_float32_matmul_precision() == "highest", "the bounds assume products in true single precision"
    on_device = torch.from_numpy(rows).to(device)
    return [_BUILDERS[name](on_device) for name in CASCADES[screening]]


def _exact(rows: Float32[Tensor, "members hidden"]) -> Bounds:
    return Bounds("none", rows, 0.0)


def _single(rows: Float32[Tensor, "members hidden"]) -> Bounds:
    return Bounds("single", rows, _gamma(rows.shape[1], 2.0**-24) * _longest(rows) ** 2)


def _half(rows: Float32[Tensor, "members hidden"]) -> Bounds:
    half = rows.half()
    lost = max(_longest(part - low.float()) for part, low in zip(rows.split(CHUNK), half.split(CHUNK), strict=True))
    unit = 2.0**-22 if rows.is_cuda else 2.0**-24
    longest = _longest(rows)
    return Bounds("half", half, lost * (2 * longest + lost) + _gamma(rows.shape[1], unit) * (longest + lost) ** 2)


def _projection(rows: Float32[Tensor, "members hidden"]) -> Bounds:
    basis = _directions(rows)
    coordinates = torch.empty((len(rows), basis.shape[1] + 1), dtype=torch.float32, device=rows.device)
    within = along = beyond = 0.0
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK].double()
        short = (part @ basis).float()  # its rounding error does no harm: the remainder is taken from the rounded value
        rest = part - short.double() @ basis.T
        length = torch.linalg.vector_norm(rest, dim=1)
        coordinates[start : start + CHUNK, :-1] = short
        coordinates[start : start + CHUNK, -1] = torch.nextafter(length.float(), torch.tensor(torch.inf))
        within, beyond = max(within, _longest(short)), max(beyond, float(length.max()))
        along = max(along, _longest(rest @ basis))
    skew = float(torch.linalg.matrix_norm(basis.T @ basis - torch.eye(basis.shape[1]).to(basis)))
    summing = _gamma(coordinates.shape[1] + 1, 2.0**-24) * (within**2 + beyond**2)
    return Bounds("projection", coordinates, skew * within**2 + 2 * within * along + summing + NOISE)


_BUILDERS = {"none": _exact, "single": _single, "half": _half, "projection": _projection}


def _directions(rows: Float32[Tensor, "members hidden"]) -> Float64[Tensor, "hidden directions"]:
    """The approximate leading directions of evenly spaced rows of the cluster: subspace iteration from random ones.

    Approximate is enough (Halko et al. 2011, section 4.5): the bound holds for any orthonormal directions, and is
    tighter for the leading ones.
    """
    sample = rows[:: -(-len(rows) // DIRECTION_ROWS)].double()
    count = min(DIRECTIONS, *sample.shape)
    basis = torch.randn(sample.shape[1], count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis = basis.to(rows.device)
    for _ in range(3):
        basis = torch.linalg.qr(sample.T @ (sample @ basis)).Q
    return basis


def _gamma(terms: int, unit: float) -> float:
    assert terms * unit < 0.5
    return terms * unit / (1 - terms * unit)


def _longest(rows: Float[Tensor, "n width"]) -> float:
    """The length of the longest row, rounded up by more than the error of single precision."""
    return float(torch.linalg.vector_norm(rows.double(), dim=1).max()) * (1 + 1e-6) if len(rows) else 0.0
