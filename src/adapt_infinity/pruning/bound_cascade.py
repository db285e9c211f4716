"""Screens: cheap upper bounds of cosines, so that few of them need be computed exactly.

A screen holds a coarse copy of a cluster's rows and a number `slack` such that for all rows x and y

    cosine(x, y)  ≤  ⟨coarse x, coarse y⟩ as computed  +  slack

What a bound leaves open is computed exactly (cosines.py); decisions never rest on a bound alone.

`none`        the rows themselves, in double precision: exact, slack 0.
`single`      the rows themselves, in single precision. The computed sum of d products is off by at most γ_d |x| |y|,
              γ_k = k u / (1 − k u), u = 2⁻²⁴, in any order of additions (Higham 2002, section 3.1).
`half`        the rows rounded to half precision, h = x − r. ⟨x, y⟩ − ⟨h, h'⟩ = ⟨r, h'⟩ + ⟨x, r'⟩ ≤ |r| |h'| + |x| |r'|;
              the |r| are measured. Products of halves are exact in single precision; their sum is off by γ_d as above,
              on a GPU with u = 2⁻²², because tensor cores cut off where others round (Fasi et al. 2021).
`projection`  coordinates z along a few orthonormal directions Q, and as one more coordinate the length of what is
              left over, r = x − Q z: ⟨x, y⟩ ≤ ⟨z, z'⟩ + |r| |r'| (Cauchy-Schwarz), one product of short rows. Q spans
              about what a sample of the rows spans most. That Q is orthonormal, and r orthogonal to it, only to
              rounding costs δ |z| |z'| + |z| ε' + |z'| ε, δ = ‖QᵀQ − 1‖ and ε = |Qᵀr| measured.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from adapt_infinity.pruning.cosines import products

LADDERS = {  # what a bound leaves open goes to the next, finer one; the last is exact
    "none": ("none",),
    "single": ("single", "none"),
    "half": ("half", "none"),
    "projection": ("projection", "single", "none"),
}
DIRECTIONS = 128
SAMPLE = 1024  # rows from which directions are found
PART = 4096  # rows brought into coordinates at a time
NOISE = 1e-9  # more than what double precision loses where slack itself is computed


@dataclass(frozen=True)
class Screen:
    """A coarse copy of a cluster's rows, on the device that multiplies them."""

    name: str
    rows: Float[Tensor, "members width"]
    slack: float

    @property
    def exact(self) -> bool:
        """Whether its products are the cosines themselves."""
        return self.name == "none"

    def bounds(
        self, rows: Int[np.ndarray, " rows"], candidates: Int[np.ndarray, " candidates"], block: int
    ) -> Float[Tensor, "rows candidates"]:
        """Upper bounds but for `slack`, which the reader adds in double precision."""
        return products(self.rows, rows, candidates, self.exact, block)


def choose_device(wanted: str) -> torch.device:
    """The device that `pruning.device` names; a GPU that is not there is a `ValueError`."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"pruning.device is {wanted}, but torch sees {torch.cuda.device_count()} such devices")
    return device


def ladder(rows: Float32[np.ndarray, "members hidden"], screening: str, device: torch.device) -> list[Screen]:
    """The screens of `pruning.screening` for these rows (on the grid), the coarsest first, the exact one last.

    `auto` is what was measured to be fastest: half on a GPU, single on a CPU (docs/decisions.md).
    """
    if screening == "auto":
        screening = "half" if device.type == "cuda" else "single"
    assert torch.get_float32_matmul_precision() == "highest", "the bounds suppose products in true single precision"
    there = torch.from_numpy(rows).to(device)
    return [_MADE[name](there) for name in LADDERS[screening]]


def _exact(rows: Float32[Tensor, "members hidden"]) -> Screen:
    return Screen("none", rows, 0.0)


def _single(rows: Float32[Tensor, "members hidden"]) -> Screen:
    return Screen("single", rows, _gamma(rows.shape[1], 2.0**-24) * _longest(rows) ** 2)


def _half(rows: Float32[Tensor, "members hidden"]) -> Screen:
    half = rows.half()
    lost = max(_longest(part - low.float()) for part, low in zip(rows.split(PART), half.split(PART), strict=True))
    unit = 2.0**-22 if rows.is_cuda else 2.0**-24
    longest = _longest(rows)
    return Screen("half", half, lost * (2 * longest + lost) + _gamma(rows.shape[1], unit) * (longest + lost) ** 2)


def _projection(rows: Float32[Tensor, "members hidden"]) -> Screen:
    basis = _directions(rows)
    coordinates = torch.empty((len(rows), basis.shape[1] + 1), dtype=torch.float32, device=rows.device)
    within = along = beyond = 0.0
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART].double()
        short = (part @ basis).float()  # whatever it is rounded to: what is left over is taken from it
        rest = part - short.double() @ basis.T
        length = torch.linalg.vector_norm(rest, dim=1)
        coordinates[start : start + PART, :-1] = short
        coordinates[start : start + PART, -1] = torch.nextafter(length.float(), torch.tensor(torch.inf))
        within, beyond = max(within, _longest(short)), max(beyond, float(length.max()))
        along = max(along, _longest(rest @ basis))
    crooked = float(torch.linalg.matrix_norm(basis.T @ basis - torch.eye(basis.shape[1]).to(basis)))
    summing = _gamma(coordinates.shape[1] + 1, 2.0**-24) * (within**2 + beyond**2)
    return Screen("projection", coordinates, crooked * within**2 + 2 * within * along + summing + NOISE)


_MADE = {"none": _exact, "single": _single, "half": _half, "projection": _projection}


def _directions(rows: Float32[Tensor, "members hidden"]) -> Float64[Tensor, "hidden directions"]:
    """Orthonormal directions along which evenly spaced rows of the cluster are long: subspace iteration from noise.

    They need not be the best (Halko et al. 2011, section 4.5): the bound holds along any, and is tighter along these.
    """
    sample = rows[:: -(-len(rows) // SAMPLE)].double()
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
    """The length of the longest row, as single precision has it and a little more."""
    return float(torch.linalg.vector_norm(rows.double(), dim=1).max()) * (1 + 1e-6) if len(rows) else 0.0
