"""The reading of /proc, /sys and cgroups, on made-up trees: right, missing and garbage."""

import os
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpprof.machine import linux
from mlpprof.machine.linux import cpu_list, cpu_list_text

GIB = 1 << 30
CPU = "sys/devices/system/cpu"

XEON = """\
processor\t: {cpu}
model name\t: Intel(R)  Xeon(R) Gold 6130   CPU @ 2.10GHz
cpu MHz\t\t: {mhz}
flags\t\t: fpu sse sse2 ssse3 avx avx2 fma avx512f avx512vl hypervisor

"""
XEONS = {
    "proc/cpuinfo": "".join(
        XEON.format(cpu=cpu, mhz=mhz) for cpu, mhz in enumerate(("2100.4", "2099.6", "3700.0", "?", "2100"))
    )
    + "model name : other\n"
}
POWER = {"proc/cpuinfo": "processor : 0\ncpu : POWER9, altivec supported\nclock : 2300.000000MHz\n"}
BOARD = {"proc/cpuinfo": "processor : 0\nFeatures : fp asimd\n\nModel : Raspberry Pi 5\n"}
SERVER = {"proc/cpuinfo": "processor : 0\nFeatures : fp asimd sve\nCPU part : 0xd40\n"}


def cache(index: int, level: str, kind: str, size: str, shared: str) -> dict[str, str]:
    named = {"level": level, "type": kind, "size": size, "shared_cpu_list": shared, "coherency_line_size": "64"}
    return {f"{CPU}/cpu0/cache/index{index}/{name}": text for name, text in named.items()}


def in_version_1(name: str, quota_us: str, period_us: str) -> dict[str, str]:
    folder = f"sys/fs/cgroup/{name}"
    return {f"{folder}/cpu.cfs_quota_us": quota_us, f"{folder}/cpu.cfs_period_us": period_us}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        # The cgroup of this process, in version 2.
        ({"proc/self/cgroup": "0::/job/7\n", "sys/fs/cgroup/job/7/cpu.max": "150000 100000\n"}, 1.5),
        # The smallest limit of all cgroups above.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/cpu.max": "max 100000\n",
            },
            0.5,
        ),
        # Not that of a sibling.
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/b/cpu.max": "50000 100000\n"}, None),
        # A container sees its own cgroup as the top, while /proc names the path outside.
        ({"proc/self/cgroup": "4:cpu,cpuacct:/docker/01\n"} | in_version_1("cpu,cpuacct", "200000", "50000"), 4.0),
        # Version 1 without a limit.
        ({"proc/self/cgroup": "2:cpu:/\n"} | in_version_1("cpu", "-1", "100000"), None),
        # Both versions at once.
        ({"proc/self/cgroup": "2:cpu:/w\n0::/w\n"} | in_version_1("cpu/w", "100000", "100000"), 1.0),
        # No list of cgroups: the top counts.
        ({"sys/fs/cgroup/cpu.max": "100000 100000"}, 1.0),
        # A path that climbs out of the mount: the top alone counts.
        (
            {
                "proc/self/cgroup": "0::/../../etc\n",
                "sys/fs/etc/cpu.max": "10000 100000",
                "sys/fs/cgroup/cpu.max": "300000 100000",
            },
            3.0,
        ),
        # A folder where the file should be.
        ({"sys/fs/cgroup/cpu.max/inside": ""}, None),
        *(
            ({"sys/fs/cgroup/cpu.max": text}, None)
            for text in ("max", "", "x y", "100000", "0 1000", "1 0", "-1 -1", "\0")
        ),
    ],
)
def test_the_quota_is_the_smallest_of_this_processs_cgroups(tmp_path, files, quota):
    assert linux.cpu_quota(tree(tmp_path, files)) == quota


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        (
            {
                "proc/self/cgroup": "5:memory:/docker/01\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            },
            2 * GIB,
        ),
        ({"proc/self/cgroup": "0::/w\n", "sys/fs/cgroup/unified/w/memory.max": f"{GIB}\n"}, GIB),
        (
            {
                "proc/self/cgroup": "3:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
        ),
        *(({"sys/fs/cgroup/memory.max": text}, None) for text in ("max", "", "0", "-5", "lots")),
    ],
)
def test_the_memory_limit_is_that_of_this_processs_cgroup(tmp_path, files, limit):
    assert linux.memory_limit_bytes(tree(tmp_path, files)) == limit


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 5 * GIB),
        ({f"{V2}/memory.max": f"{3 * GIB}", f"{V2}/memory.current": f"{GIB}"}, 2 * GIB),
        # What the system keeps of files can be had back.
        (
            {
                f"{V2}/memory.max": f"{3 * GIB}",
                f"{V2}/memory.current": f"{2 * GIB}",
                f"{V2}/memory.stat": f"anon {GIB}\ninactive_file {GIB // 2}\n",
            },
            GIB + GIB // 2,
        ),
        (
            {
                f"{V1}/memory.limit_in_bytes": f"{3 * GIB}",
                f"{V1}/memory.usage_in_bytes": f"{2 * GIB}",
                f"{V1}/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}\n",
            },
            2 * GIB,
        ),
        ({f"{V1}/memory.limit_in_bytes": "9223372036854771712", f"{V1}/memory.usage_in_bytes": "1"}, 5 * GIB),
        ({f"{V2}/memory.max": f"{GIB}", f"{V2}/memory.current": f"{2 * GIB}"}, 0),
        ({f"{V2}/memory.max": f"{9 * GIB}", f"{V2}/memory.current": "1"}, 5 * GIB),
    ],
)
def test_free_memory_is_what_the_machine_has_or_what_a_cgroup_leaves_of_it(tmp_path, files, free):
    assert linux.free_memory_bytes(tree(tmp_path, files), available=5 * GIB) == free


@pytest.mark.parametrize(
    ("files", "model", "simd"),
    [
        (
            XEONS,
            "Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz",
            ["sse2", "ssse3", "avx", "fma", "avx2", "avx512f", "avx512vl"],
        ),
        (POWER, "POWER9, altivec supported", None),
        (BOARD, "Raspberry Pi 5", ["asimd"]),
        (SERVER, None, ["asimd", "sve"]),
        ({}, None, None),
    ],
)
def test_model_and_vector_flags_are_those_of_the_first_cpu(tmp_path, files, model, simd):
    root = tree(tmp_path, files)
    assert (linux.model_name(root), linux.simd(root)) == (model, simd)


@pytest.mark.parametrize(
    ("files", "cpus", "text"),
    [
        (XEONS, [0, 1, 2, 3, 4], "0-1,4=2100 MHz; 2=3700 MHz"),
        (XEONS, [2], "2=3700 MHz"),
        (XEONS, [3, 9], None),
        ({f"{CPU}/cpu1/cpufreq/scaling_cur_freq": "2800000\n"}, [0, 1], "1=2800 MHz"),
    ],
)
def test_clocks_are_grouped_as_pyperf_writes_them(tmp_path, files, cpus, text):
    assert linux.frequency(tree(tmp_path, files), cpus) == text


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (
            {
                f"{CPU}/cpu0/cpufreq/scaling_driver": "acpi-cpufreq\n",
                f"{CPU}/cpu0/cpufreq/scaling_governor": "performance\n",
                f"{CPU}/cpu1/cpufreq/scaling_governor": "powersave\n",
                f"{CPU}/cpufreq/boost": "0\n",
            },
            "0=driver:acpi-cpufreq, governor:performance; 1=governor:powersave; boost:off",
        ),
        # Intel's driver has the opposite flag.
        ({f"{CPU}/intel_pstate/no_turbo": "0"}, "boost:on"),
        ({f"{CPU}/intel_pstate/no_turbo": "1"}, "boost:off"),
        ({f"{CPU}/intel_pstate/no_turbo": "?"}, None),
    ],
)
def test_governor_and_boost_are_shown_by_cpu(tmp_path, files, text):
    assert linux.configuration(tree(tmp_path, files), [0, 1, 2]) == text


def test_caches_are_listed_from_the_inside_and_broken_entries_left_out(tmp_path):
    files = cache(0, "3", "Unified", "32M", "0-3,8-11") | cache(1, "1", "Data", "48K", "2")
    assert linux.caches(tree(tmp_path, files | cache(2, "2", "Unified", "x", "2")), 0) == [
        {"level": 1, "type": "Data", "size_bytes": 48 * 1024, "line_bytes": 64, "shared_by": 1},
        {"level": 3, "type": "Unified", "size_bytes": 32 << 20, "line_bytes": 64, "shared_by": 8},
    ]
    assert linux.caches(tmp_path, 1) is None


@pytest.mark.parametrize(
    ("text", "load"), [("0.31 0.2 0.1 3/512 777\n", (0.31, 3)), ("nan 0 0 -/- 1", (None, None)), ("", (None, None))]
)
def test_load_and_runnable_threads_are_read_from_proc_loadavg(tmp_path, text, load):
    assert linux.load_average(tree(tmp_path, {"proc/loadavg": text})) == load


@pytest.mark.parametrize(
    ("text", "policy"), [("always [madvise] never\n", "madvise"), ("[always] madvise never", "always"), ("?", None)]
)
def test_the_huge_page_policy_is_the_word_in_brackets(tmp_path, text, policy):
    tree(tmp_path, {"sys/kernel/mm/transparent_hugepage/enabled": text})
    assert linux.transparent_hugepages(tmp_path) == policy


def test_allocator_variables_are_kept_and_others_left_out():
    kept = {"MALLOC_TRIM_THRESHOLD_": "1", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0", "PYTHONMALLOC": "malloc"}
    assert linux.allocator_environment(kept | {"SECRET": "x", "MY_MALLOC_": "y"}) == kept


def test_preloaded_libraries_are_named_without_their_folders():
    environment = {"LD_PRELOAD": "/home/someone/lib/libjemalloc.so.2:/opt/x.so other.so", "DYLD_INSERT_LIBRARIES": ""}
    assert linux.preloaded_libraries(environment) == ["libjemalloc.so.2", "x.so", "other.so"]


@given(st.sets(st.integers(0, 300), min_size=1))
def test_a_cpu_list_survives_being_written_and_read(cpus):
    assert cpu_list(cpu_list_text(list(cpus))) == sorted(cpus)


@pytest.mark.parametrize("text", [None, "", "a", "3-1", "0-", "-3", "0-99999999999", "1,,2"])
def test_a_garbled_cpu_list_is_none(text):
    assert cpu_list(text) is None


READ_FILES = (
    *("proc/cpuinfo", "proc/loadavg", "proc/self/cgroup", "sys/kernel/mm/transparent_hugepage/enabled"),
    *("sys/fs/cgroup/cpu.max", "sys/fs/cgroup/memory.max", f"{CPU}/cpu0/cpufreq/scaling_cur_freq"),
    *(*in_version_1("cpu", "", ""), *cache(0, "", "", "", ""), f"{CPU}/cpufreq/boost"),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60)
    | st.sampled_from(
        [b"0::/a\0b", b"1:cpu:" + b"/x" * 100, b"cpu 1 2 3 4 5 6 7 8", b"model name", b"9" * 400, b"9" * 5000]
    )
)
def test_garbage_in_any_file_raises_nothing(tmp_path, garbage):
    for name in READ_FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(garbage)
    for read in (
        *(linux.cpu_quota, linux.memory_limit_bytes, linux.model_name, linux.simd, linux.load_average),
        linux.transparent_hugepages,
    ):
        read(tmp_path)
    linux.caches(tmp_path, 0)
    linux.frequency(tmp_path, [0])
    linux.configuration(tmp_path, [0])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_stolen_time_and_load_agree_with_other_sources_on_this_machine():
    total_s, steal_s = linux.cpu_times_s()
    load_before = os.getloadavg()[0]
    load, runnable = linux.load_average()
    load_after = os.getloadavg()[0]
    assert 0 <= steal_s < total_s
    assert total_s > os.times().user
    assert load in (pytest.approx(load_before, abs=0.006), pytest.approx(load_after, abs=0.006))
    assert runnable >= 1


def test_the_most_memory_resident_is_at_least_the_resident_memory_now():
    ballast = bytearray(32 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    assert linux.max_rss_bytes() >= 0.9 * psutil.Process().memory_info().rss >= 32 << 20
