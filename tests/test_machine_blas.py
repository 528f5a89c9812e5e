"""The pinned kernel of a BLAS, the environment of a worker, and the lines that describe BLAS and machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpprof.errors import UsageError
from mlpprof.machine.blas import (
    KERNEL_VARIABLES,
    KERNELS,
    THREAD_VARIABLES,
    VectorRank,
    blas_environment,
    blas_line,
    cpu_rank,
    kernel_rank,
    machine_line,
    pinned_kernel_warning,
    worker_environment,
)

ZEN_3 = ["sse2", "ssse3", "sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2"]
SKYLAKE_X = [*ZEN_3, "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"]
KNIGHTS_LANDING = [*ZEN_3, "avx512f", "avx512cd"]
EXCAVATOR = [*ZEN_3, "fma4"]
SANDY_BRIDGE = ["sse2", "ssse3", "sse4_1", "sse4_2", "avx"]


def library(kernel="Haswell", vendor="openblas", threads=4, version="0.3.31.188.0", loaded_by="numpy"):
    return {
        "vendor": vendor,
        "version": version,
        "kernel": kernel,
        "threads": threads,
        "threading_layer": "pthreads",
        "library": "lib.so",
        "loaded_by": loaded_by,
    }


def described(simd, environment, *libraries, **others):
    return {
        "cpu_simd": simd,
        "numpy_simd": {"baseline": ["X86_V2"], "found": ["X86_V3"]},
        "blas_environment": environment,
        "blas": list(libraries),
        **others,
    }


def test_the_warning_names_the_pin_both_widths_and_what_to_do():
    description = described(SKYLAKE_X, {"OPENBLAS_CORETYPE": "Haswell"}, library("Haswell"))
    assert pinned_kernel_warning(description) == (
        "OPENBLAS_CORETYPE=Haswell pins OpenBLAS to its Haswell kernel, AVX2, where this CPU has AVX-512: matrix "
        "products are slower than they could be (unset it, or use --native-blas)"
    )


@pytest.mark.parametrize(
    ("simd", "pin", "kernel", "widths"),
    [
        (ZEN_3, "Prescott", "Katmai", "SSE, where this CPU has AVX2:"),
        (ZEN_3, "SANDYBRIDGE", "Sandybridge", "AVX, where this CPU has AVX2:"),
        (SKYLAKE_X, "zen", "Zen", "AVX2, where this CPU has AVX-512:"),
        (SANDY_BRIDGE, "Nehalem", "Nehalem", "SSE, where this CPU has AVX:"),
        (SKYLAKE_X, "haswell", None, "AVX2, where this CPU has AVX-512:"),  # the library does not say: the pin counts
        (ZEN_3, "Haswell", "Haswell", None),
        (ZEN_3, "Zen", "Haswell", None),  # a build that aliases the two
        (ZEN_3, "Haswell", "Zen", None),
        (KNIGHTS_LANDING, "Haswell", "Haswell", None),  # no AVX512VL: OpenBLAS itself chooses Haswell
        (EXCAVATOR, "Excavator", "Excavator", None),  # lists AVX2, and this is OpenBLAS's own choice
        (SANDY_BRIDGE, "Sandybridge", "Sandybridge", None),
        ([*SKYLAKE_X, "avx512_bf16", "amx_tile"], "SkylakeX", "SkylakeX", None),  # float32 code is the same
        (SKYLAKE_X, "nonsense", "SkylakeX", None),  # OpenBLAS ignores an unknown name
        (SKYLAKE_X, "Haswell", "SkylakeX", None),  # a build that does not obey
        (SKYLAKE_X, "FutureCore", "FutureCore", None),
        (SKYLAKE_X, None, "Haswell", None),  # not pinned
    ],
)
def test_a_pinned_openblas_gives_a_warning_if_its_vectors_are_narrower_than_the_cpus(simd, pin, kernel, widths):
    environment = {"OPENBLAS_NUM_THREADS": "1"} | ({} if pin is None else {"OPENBLAS_CORETYPE": pin})
    warning = pinned_kernel_warning(described(simd, environment, library(kernel)))
    assert (warning is None) is (widths is None)
    assert widths is None or f", {widths}" in warning


MKL, BLIS = library(None, vendor="mkl"), library(None, vendor="blis")


@pytest.mark.parametrize(
    ("environment", "libraries", "model", "warns_of"),
    [
        ({"OPENBLAS_CORETYPE": "Haswell"}, [MKL, library("Haswell", loaded_by="scipy")], "", "OpenBLAS"),
        ({"OPENBLAS_CORETYPE": "Haswell"}, [MKL], "", None),  # not loaded
        ({"OPENBLAS_CORETYPE": "Haswell"}, [], "", None),
        ({"BLIS_ARCH_TYPE": "3"}, [library("haswell", vendor="blis")], "", "BLIS"),
        ({"BLIS_ARCH_TYPE": "3"}, [BLIS], "", None),  # a number says nothing
        ({"MKL_ENABLE_INSTRUCTIONS": "AVX2"}, [MKL], "Intel(R) Xeon(R)", "MKL"),
        ({"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}, [MKL], "Intel(R) Xeon(R)", "MKL"),
        ({"MKL_ENABLE_INSTRUCTIONS": "AVX512_E1"}, [MKL], "Intel(R) Xeon(R)", None),
        ({"MKL_ENABLE_INSTRUCTIONS": "AVX2"}, [MKL], "AMD EPYC", None),  # without effect there
        ({"MKL_CBWR": "BRANCH=AVX2,STRICT"}, [MKL], "Intel(R) Xeon(R)", "MKL"),
        ({"MKL_CBWR": "COMPATIBLE"}, [MKL], "Intel(R) Xeon(R)", "MKL"),
        ({"MKL_CBWR": "AUTO"}, [MKL], "Intel(R) Xeon(R)", None),
        ({"MKL_DEBUG_CPU_TYPE": "5"}, [MKL], "Intel(R) Xeon(R)", None),
    ],
)
def test_a_pin_matters_only_to_the_library_that_obeys_it(environment, libraries, model, warns_of):
    warning = pinned_kernel_warning(described(SKYLAKE_X, environment, *libraries, cpu_model_name=model))
    assert (warning is None) is (warns_of is None)
    assert warns_of is None or f"pins {warns_of} to" in warning


@pytest.mark.parametrize("simd", [["asimd", "sve"], [], None])
def test_a_cpu_that_is_not_ranked_gets_no_warning(simd):
    description = described(simd, {"OPENBLAS_CORETYPE": "ARMV8"}, library("armv8")) | {"numpy_simd": None}
    assert pinned_kernel_warning(description) is None


@pytest.mark.parametrize(
    ("found", "rank"),
    [
        (["X86_V3", "X86_V4"], VectorRank.AVX512),
        (["SSSE3", "AVX", "F16C", "FMA3", "AVX2", "AVX512F", "AVX512CD", "AVX512_SKX"], VectorRank.AVX512),
        (["X86_V3"], VectorRank.AVX2),
        (["SSSE3", "AVX", "FMA3", "AVX2"], VectorRank.AVX2),
        ([], VectorRank.SSE),
    ],
)
def test_numpys_features_stand_in_where_there_is_no_cpuinfo(found, rank):
    assert cpu_rank({"cpu_simd": None, "numpy_simd": {"baseline": ["SSE2", "X86_V2"], "found": found}}) is rank


def test_numpys_features_do_not_lower_what_cpuinfo_says():
    assert cpu_rank({"cpu_simd": SKYLAKE_X, "numpy_simd": {"found": ["X86_V3"]}}) is VectorRank.AVX512


def test_no_kernel_has_two_ranks_and_case_does_not_matter():
    names = [name for kernels in KERNELS.values() for name in kernels]
    assert len(names) == len(set(names))
    assert kernel_rank("SkylakeX") is kernel_rank("SKYLAKEX") is VectorRank.AVX512
    assert kernel_rank("neoversev1") is None


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"blas": None, "blas_environment": None, "cpu_simd": None, "numpy_simd": None},
        {"blas": ["x", 3, {}], "blas_environment": {"OPENBLAS_CORETYPE": 3}, "cpu_simd": ZEN_3, "cpu_caches": [1, {}]},
        {"numpy_simd": {"baseline": 3, "found": None}, "cpu_count": "many", "mem_total_bytes": "much"},
    ],
)
def test_a_description_with_holes_is_read_without_error(broken):
    assert pinned_kernel_warning(broken) is None
    assert blas_line(broken)
    assert machine_line(broken)


BASE = {
    "PATH": "/bin",
    "PYTHONPATH": "src",
    "PYTHONHASHSEED": "7",
    "OMP_NUM_THREADS": "3,2",
    "OPENBLAS_NUM_THREADS": "8",
    "OPENBLAS_CORETYPE": "Haswell",
    "MKL_DOMAIN_NUM_THREADS": "MKL_DOMAIN_BLAS=6",
    "BLIS_IC_NT": "2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "MALLOC_ARENA_MAX": "1",
}


def test_threads_are_set_for_every_vendor_and_nothing_outranks_them():
    environment = worker_environment(BASE, threads=2, native_blas=False)
    assert {environment[name] for name in THREAD_VARIABLES} == {"2"}
    vendors = {
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    }
    assert vendors <= set(THREAD_VARIABLES)
    assert "MKL_DOMAIN_NUM_THREADS" not in environment
    assert "BLIS_IC_NT" not in environment
    kept = ("PATH", "PYTHONPATH", "PYTHONHASHSEED", "OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS", "MALLOC_ARENA_MAX")
    assert {name: environment[name] for name in kept} == {name: BASE[name] for name in kept}


def test_without_threads_and_native_blas_the_environment_is_a_copy():
    environment = worker_environment(BASE, threads=None, native_blas=False)
    assert environment == BASE
    assert environment is not BASE


def test_native_blas_removes_what_pins_a_kernel_and_nothing_else():
    base = BASE | dict.fromkeys(KERNEL_VARIABLES, "x")
    environment = worker_environment(base, threads=None, native_blas=True)
    assert set(base) - set(environment) == set(KERNEL_VARIABLES)
    assert environment.items() <= base.items()


@given(
    st.dictionaries(st.sampled_from([*BASE, *KERNEL_VARIABLES, "HOME"]), st.sampled_from(["", "1", "Haswell"])),
    st.none() | st.integers(1, 64),
    st.booleans(),
)
def test_building_a_worker_environment_twice_changes_nothing_and_leaves_the_base_alone(base, threads, native_blas):
    before = dict(base)
    once = worker_environment(base, threads, native_blas)
    assert worker_environment(once, threads, native_blas) == once
    assert base == before


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_thread_is_refused_with_its_number(threads):
    with pytest.raises(UsageError, match=f"^{threads} BLAS threads"):
        worker_environment({}, threads, native_blas=False)


def test_only_variables_that_affect_blas_are_recorded():
    steering = {"OPENBLAS_CORETYPE": "Haswell", "OMP_PROC_BIND": "true", "NPY_DISABLE_CPU_FEATURES": "X86_V4"}
    others = {"HOME": "/home/someone", "AWS_SECRET": "x", "KMP_DUPLICATE_LIB_OK": "True"}
    assert blas_environment(steering | others) == steering


def test_every_variable_that_a_worker_may_lose_or_get_is_recorded():
    names = {*THREAD_VARIABLES, *KERNEL_VARIABLES}
    assert set(blas_environment(dict.fromkeys(names, "1"))) == names


ALIKE = library(version="0.3.30", loaded_by="scipy")
OTHER = library("SkylakeX", version="0.3.30", threads=1, loaded_by="scipy")


@pytest.mark.parametrize(
    ("libraries", "line"),
    [
        ([library(threads=1)], "NumPy 2.4.6 · OpenBLAS 0.3.31 kernel Haswell · 1 thread"),
        ([ALIKE, library()], "NumPy 2.4.6 · OpenBLAS 0.3.31 kernel Haswell · 4 threads"),
        (
            [OTHER, library()],
            "NumPy 2.4.6 · OpenBLAS 0.3.31 kernel Haswell · 4 threads"
            " · SciPy: OpenBLAS 0.3.30 kernel SkylakeX, 1 thread",
        ),
        ([], "NumPy 2.4.6 · accelerate, kernel and threads not known"),
    ],
)
def test_the_blas_line_shows_numpys_library_and_another_one_that_differs(libraries, line):
    assert blas_line({"numpy_version": "2.4.6", "numpy_blas": "accelerate", "blas": libraries}) == line


MACHINE = {
    "cpu_model_name": "AMD EPYC",
    "cpu_architecture": "x86_64",
    "cpu_count": 4,
    "cpu_core_count": 4,
    "cpu_affinity_count": 4,
    "cpu_quota": None,
    "mem_total_bytes": 25276076032,
    "mem_limit_bytes": None,
    "cpu_caches": [
        {"level": 1, "type": "Data", "size_bytes": 32768},
        {"level": 2, "type": "Unified", "size_bytes": 524288},
        {"level": 3, "type": "Unified", "size_bytes": 33554432},
    ],
    "load_avg_1min": 0.28,
}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "AMD EPYC, 4 cores, 23.5 GiB, L2 512 KiB, L3 32 MiB, load 0.3"),
        ({"cpu_quota": 1.5}, "AMD EPYC, 4 cores (quota 1.5), 23.5 GiB, L2 512 KiB, L3 32 MiB, load 0.3"),
        (
            {"cpu_count": 8, "cpu_affinity_count": 2, "cpu_quota": 1, "cpu_caches": None},
            "AMD EPYC, 4 cores and 8 CPUs (affinity 2, quota 1.0), 23.5 GiB, load 0.3",
        ),
        (
            {"cpu_core_count": None, "mem_limit_bytes": 1 << 30, "cpu_caches": None, "load_avg_1min": None},
            "AMD EPYC, 4 CPUs, 1.0 of 23.5 GiB",
        ),
        (
            dict.fromkeys(MACHINE) | {"cpu_architecture": "arm64", "cpu_count": 1, "cpu_core_count": 1},
            "arm64, 1 core",
        ),
        (dict.fromkeys(MACHINE), "CPU not known"),
    ],
)
def test_the_machine_line_shows_the_known_facts_only(changes, line):
    assert machine_line(MACHINE | changes) == line
