"""Sets MKL's reproducible mode, so that a row of a matrix product does not depend on the other rows.

Torch multiplies matrices on x86 processors with Intel's MKL. On Intel processors MKL chooses by the number of rows how
it adds up a product, so that a row alone differs in its last bits from the same row among many. Its "conditional
numerical reproducibility" forbids that: in the mode `AUTO,STRICT` the order of additions depends on the width alone
(Intel oneMKL developer guide, "Obtaining Numerically Reproducible Results"). MKL reads the variable at the first
product of the process, so it must be set before then; nothing heavy is imported here.

On other processors nothing is set: there MKL multiplies two and more rows alike, and the mode may cost speed.
"""

import os
import platform
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "MKL_CBWR"
STRICT = "AUTO,STRICT"
CPUINFO = Path("/proc/cpuinfo")


def ask_for_strict_products(environment: MutableMapping[str, str] = os.environ, cpuinfo: Path = CPUINFO) -> None:
    """Set MKL's reproducible mode on Intel processors, for this process and those that it starts.

    A value that is set already stays. Without effect where this process has multiplied matrices before: whether the
    law holds is found out by `features.batch_invariance`, not assumed.
    """
    if is_intel(cpuinfo):
        environment.setdefault(VARIABLE, STRICT)


def is_intel(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor is Intel's: by Linux's list of processors, elsewhere by what the platform calls it."""
    try:
        with cpuinfo.open() as lines:
            vendor = next((line for line in lines if line.startswith("vendor_id")), "")
    except OSError:
        vendor = platform.processor()
    return "GenuineIntel" in vendor
