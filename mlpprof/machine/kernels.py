"""How BLAS kernels rank against the vector instructions of a CPU.

A BLAS picks its kernel by the CPU when it is loaded; an environment variable can pin another. What the pin costs is
mostly the width of the vectors that the matrix product uses, so kernels are ranked by that alone:

- SSE: 4 float32 in a vector. AVX: 8. AVX2: 8 with fused multiply-add, twice the arithmetic of AVX. AVX-512: 16.
- Zen, Zen 2 and Zen 3 run OpenBLAS's Haswell code under either name (builds often alias the two), so equal rank.
- Cooperlake and SapphireRapids differ from SkylakeX in bfloat16 products, which no variant uses, so equal rank.
- Bulldozer to Excavator ran 128-bit units with FMA4; OpenBLAS's own choice for all of them is their kernel, also
  where the CPU lists AVX2, so a CPU with FMA4 ranks as AVX. (Zen dropped FMA4.)
- AVX-512 means AVX512VL, as in OpenBLAS: Knights Landing lacks it and gets Haswell.
- ARM, POWER and the rest are not ranked: their kernels differ in tuning more than in width, and the width of SVE
  is not among a CPU's flags. No rank, no warning.

Source: OpenBLAS, driver/others/dynamic.c and kernel/x86_64/KERNEL.*; BLIS, config_registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from mlpprof.machine.keys import Json


class VectorRank(IntEnum):
    """Width of the vectors that a kernel uses or a CPU offers, narrow to wide."""

    SSE = 1
    AVX = 2
    AVX2 = 3
    AVX512 = 4

    @property
    def text(self) -> str:
        """As it is written: 'AVX-512'."""
        return "AVX-512" if self is VectorRank.AVX512 else self.name


KERNELS = {
    VectorRank.SSE: (
        # builds without old kernels show Prescott's as Katmai, the first of its aliases
        *("katmai", "coppermine", "northwood", "prescott", "banias", "atom", "core2", "penryn", "dunnington"),
        *("nehalem", "athlon", "opteron", "opteron_sse3", "barcelona", "nano", "bobcat"),
        "generic",
    ),
    VectorRank.AVX: ("sandybridge", "bulldozer", "piledriver", "steamroller", "excavator"),
    VectorRank.AVX2: ("haswell", "zen", "zen2", "zen3"),
    VectorRank.AVX512: ("skylakex", "cooperlake", "sapphirerapids", "skx", "knl", "zen4", "zen5"),
}
"""Rank -> names of kernels in lower case: OpenBLAS's, and BLIS's where it has its own."""

CPU_FLAGS = (
    (VectorRank.AVX512, "avx512vl"),
    (VectorRank.AVX2, "avx2"),
    (VectorRank.AVX, "avx"),
    (VectorRank.SSE, "sse2"),
)
"""The flag in /proc/cpuinfo that tells a rank, widest first."""

NUMPY_FEATURES = (
    (VectorRank.AVX512, ("X86_V4", "AVX512_SKX")),
    (VectorRank.AVX2, ("X86_V3", "AVX2")),
    (VectorRank.AVX, ("AVX",)),
    (VectorRank.SSE, ("X86_V2", "SSE2")),
)
"""NumPy's names for the same, where there is no /proc/cpuinfo; the first is the one since NumPy 2.4."""


def kernel_rank(kernel: str) -> VectorRank | None:
    """The rank of a kernel by its name in any case, or None if it is not ranked."""
    return next((rank for rank, names in KERNELS.items() if kernel.lower() in names), None)


def cpu_rank(description: Mapping[str, Json]) -> VectorRank | None:
    """The widest kernel a BLAS would choose for the described CPU by itself, or None if not known."""
    flags = description.get("cpu_simd")
    if isinstance(flags, list):
        rank = next((rank for rank, flag in CPU_FLAGS if flag in flags), None)
        return VectorRank.AVX if rank is VectorRank.AVX2 and "fma4" in flags else rank
    simd = description.get("numpy_simd")
    if not isinstance(simd, dict):
        return None
    features = {*_texts(simd.get("baseline")), *_texts(simd.get("found"))}
    return next((rank for rank, names in NUMPY_FEATURES if features.intersection(names)), None)


def _texts(value: Json) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
