"""What is read from /proc, /sys and cgroups, on fake trees: right, missing and garbage."""

import os
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpprof.machine import linux as container
from mlpprof.machine import linux as cpu
from mlpprof.machine import linux as memory
from mlpprof.machine.linux import cpu_list, cpu_list_text

GIB = 1 << 30

XEON_CPU = """\
processor\t: {cpu}
model name\t: Intel(R)  Xeon(R) Gold 6130   CPU @ 2.10GHz
cpu MHz\t\t: {mhz}
flags\t\t: fpu sse sse2 ssse3 avx avx2 fma avx512f avx512vl hypervisor

"""


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def cpuinfo(*mhz: str) -> dict[str, str]:
    return {"proc/cpuinfo": "".join(XEON_CPU.format(cpu=cpu, mhz=clock) for cpu, clock in enumerate(mhz))}


# ---- cgroups


def test_a_version_2_quota_is_read_from_the_cgroup_of_this_process(tmp_path):
    tree(tmp_path, {"proc/self/cgroup": "0::/job/7\n", "sys/fs/cgroup/job/7/cpu.max": "150000 100000\n"})
    assert container.cpu_quota(tmp_path) == 1.5


def test_the_smallest_quota_of_all_cgroups_above_binds(tmp_path):
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
        "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
    }
    assert container.cpu_quota(tree(tmp_path, files)) == 0.5


def test_a_sibling_cgroups_quota_does_not_count(tmp_path):
    tree(tmp_path, {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/b/cpu.max": "50000 100000\n"})
    assert container.cpu_quota(tmp_path) is None


def test_a_container_that_sees_its_cgroup_as_the_top_is_found_though_proc_names_the_path_outside(tmp_path):
    files = {
        "proc/self/cgroup": "4:cpu,cpuacct:/docker/0123abcd\n5:memory:/docker/0123abcd\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "50000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
    }
    tree(tmp_path, files)
    assert container.cpu_quota(tmp_path) == 4.0
    assert container.memory_limit_bytes(tmp_path) == 2 * GIB


def test_version_1_without_limits_gives_none(tmp_path):
    files = {
        "proc/self/cgroup": "2:cpu:/\n3:memory:/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    tree(tmp_path, files)
    assert container.cpu_quota(tmp_path) is None
    assert container.memory_limit_bytes(tmp_path) is None


def test_a_hybrid_hierarchy_is_searched_in_both_versions(tmp_path):
    files = {
        "proc/self/cgroup": "2:cpu:/w\n0::/w\n",
        "sys/fs/cgroup/cpu/w/cpu.cfs_quota_us": "100000\n",
        "sys/fs/cgroup/cpu/w/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/unified/w/memory.max": f"{GIB}\n",
    }
    tree(tmp_path, files)
    assert container.cpu_quota(tmp_path) == 1.0
    assert container.memory_limit_bytes(tmp_path) == GIB


def test_a_missing_list_of_cgroups_leaves_the_top_to_be_read(tmp_path):
    assert container.cpu_quota(tree(tmp_path, {"sys/fs/cgroup/cpu.max": "100000 100000"})) == 1.0


def test_a_cgroup_path_that_climbs_out_of_the_mount_reads_the_top_alone(tmp_path):
    files = {
        "proc/self/cgroup": "0::/../../etc\n",
        "sys/fs/etc/cpu.max": "10000 100000",
        "sys/fs/cgroup/cpu.max": "300000 100000",
    }
    assert container.cpu_quota(tree(tmp_path, files)) == 3.0


@pytest.mark.parametrize(
    "text", ["max", "max 100000", "", "\n", "x y", "100000", "0 100000", "1 0", "-1 -1", "1e5 9", "\0"]
)
def test_a_quota_that_is_none_or_garbage_is_none(tmp_path, text):
    assert container.cpu_quota(tree(tmp_path, {"sys/fs/cgroup/cpu.max": text})) is None


@pytest.mark.parametrize("text", ["max", "", "0", "-5", "lots"])
def test_a_memory_limit_that_is_none_or_garbage_is_none(tmp_path, text):
    assert container.memory_limit_bytes(tree(tmp_path, {"sys/fs/cgroup/memory.max": text})) is None


def test_a_folder_in_place_of_a_file_is_none(tmp_path):
    (tmp_path / "sys/fs/cgroup/cpu.max").mkdir(parents=True)
    assert container.cpu_quota(tmp_path) is None


# ---- processor


def test_the_model_is_the_first_cpus_with_single_blanks(tmp_path):
    files = {"proc/cpuinfo": cpuinfo("2100.0", "2100.0")["proc/cpuinfo"] + "model name : other\n"}
    assert cpu.model_name(tree(tmp_path, files)) == "Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz"


def test_power_and_arm_boards_name_their_model_under_other_keys(tmp_path):
    power, board, server = tmp_path / "p", tmp_path / "b", tmp_path / "s"
    tree(power, {"proc/cpuinfo": "processor : 0\ncpu : POWER9, altivec supported\nclock : 2300.000000MHz\n"})
    tree(board, {"proc/cpuinfo": "processor : 0\nFeatures : fp asimd\n\nModel : Raspberry Pi 5\n"})
    tree(server, {"proc/cpuinfo": "processor : 0\nFeatures : fp asimd sve\nCPU part : 0xd40\n"})
    assert [cpu.model_name(root) for root in (power, board, server)] == [
        "POWER9, altivec supported",
        "Raspberry Pi 5",
        None,
    ]
    assert [cpu.simd(root) for root in (power, board, server)] == [None, ["asimd"], ["asimd", "sve"]]


def test_the_vector_flags_are_the_known_ones_in_a_fixed_order(tmp_path):
    assert cpu.simd(tree(tmp_path, cpuinfo("2100"))) == ["sse2", "ssse3", "avx", "fma", "avx2", "avx512f", "avx512vl"]


def test_clocks_are_grouped_as_pyperf_writes_them(tmp_path):
    root = tree(tmp_path, cpuinfo("2100.4", "2099.6", "3700.0", "garbage", "2100"))
    assert cpu.frequency(root, [0, 1, 2, 3, 4]) == "0-1,4=2100 MHz; 2=3700 MHz"
    assert cpu.frequency(root, [2]) == "2=3700 MHz"
    assert cpu.frequency(root, [3, 9]) is None


def test_the_clock_comes_from_sys_where_cpuinfo_has_none(tmp_path):
    tree(tmp_path, {"sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2800000\n"})
    assert cpu.frequency(tmp_path, [0, 1]) == "1=2800 MHz"


def test_the_governor_and_boost_are_told_by_cpu(tmp_path):
    folder = "sys/devices/system/cpu"
    files = {
        f"{folder}/cpu0/cpufreq/scaling_driver": "acpi-cpufreq\n",
        f"{folder}/cpu0/cpufreq/scaling_governor": "performance\n",
        f"{folder}/cpu1/cpufreq/scaling_governor": "powersave\n",
        f"{folder}/cpufreq/boost": "0\n",
    }
    text = "0=driver:acpi-cpufreq, governor:performance; 1=governor:powersave; boost:off"
    assert cpu.configuration(tree(tmp_path, files), [0, 1, 2]) == text


@pytest.mark.parametrize(("no_turbo", "expected"), [("0", "boost:on"), ("1", "boost:off"), ("?", None)])
def test_intels_no_turbo_is_boost_turned_round(tmp_path, no_turbo, expected):
    tree(tmp_path, {"sys/devices/system/cpu/intel_pstate/no_turbo": no_turbo})
    assert cpu.configuration(tmp_path, [0]) == expected


def test_caches_are_listed_from_the_inside_and_broken_entries_left_out(tmp_path):
    folder = "sys/devices/system/cpu/cpu2/cache"

    def cache(index: int, level: str, kind: str, size: str, shared: str) -> dict[str, str]:
        names = {"level": level, "type": kind, "size": size, "shared_cpu_list": shared, "coherency_line_size": "64"}
        return {f"{folder}/index{index}/{name}": text for name, text in names.items()}

    files = (
        cache(0, "3", "Unified", "32M", "0-3,8-11")
        | cache(1, "1", "Data", "48K", "2")
        | cache(2, "2", "Unified", "x", "2")
    )
    assert cpu.caches(tree(tmp_path, files), 2) == [
        {"level": 1, "type": "Data", "size_bytes": 48 * 1024, "line_bytes": 64, "shared_by": 1},
        {"level": 3, "type": "Unified", "size_bytes": 32 << 20, "line_bytes": 64, "shared_by": 8},
    ]
    assert cpu.caches(tmp_path, 0) is None


def test_stolen_time_is_the_eighth_column_and_guests_are_not_counted_twice(tmp_path):
    tree(tmp_path, {"proc/stat": "cpu  100 20 30 400 5 6 7 32 1000 1000\ncpu0 1 1 1 1 1 1 1 1 1 1\n"})
    tick_hz = os.sysconf("SC_CLK_TCK")
    assert cpu.cpu_times_s(tmp_path) == (600 / tick_hz, 32 / tick_hz)


@pytest.mark.parametrize("text", ["", "cpu 1 2 3\n", "cpu  a b c d e f g h i j\n", "cpu0 1 2 3 4 5 6 7 8\n"])
def test_a_stat_file_of_another_form_gives_no_times(tmp_path, text):
    assert cpu.cpu_times_s(tree(tmp_path, {"proc/stat": text})) == (None, None)


def test_the_load_and_the_runnable_threads_are_read(tmp_path):
    assert cpu.load_average(tree(tmp_path, {"proc/loadavg": "0.31 0.2 0.1 3/512 777\n"})) == (0.31, 3)


def test_a_load_that_is_no_number_is_none(tmp_path):
    assert cpu.load_average(tree(tmp_path, {"proc/loadavg": "nan 0 0 -/- 1"})) == (None, None)


# ---- memory


@pytest.mark.parametrize(
    ("text", "policy"),
    [("always [madvise] never\n", "madvise"), ("[always] madvise never", "always"), ("?", None), ("", None)],
)
def test_the_huge_page_policy_is_the_word_in_brackets(tmp_path, text, policy):
    tree(tmp_path, {"sys/kernel/mm/transparent_hugepage/enabled": text})
    assert memory.transparent_hugepages(tmp_path) == policy


def test_allocator_variables_are_told_as_set_and_others_left_out():
    settings_ = {
        "MALLOC_MMAP_THRESHOLD_": "4294967296",
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
        "PYTHONMALLOC": "malloc",
    }
    assert memory.allocator_environment(settings_ | {"SECRET": "x", "MY_MALLOC_": "y"}) == settings_


def test_preloaded_libraries_are_told_without_their_folders():
    environment = {"LD_PRELOAD": "/home/someone/lib/libjemalloc.so.2:/opt/x.so other.so", "DYLD_INSERT_LIBRARIES": ""}
    assert memory.preloaded_libraries(environment) == ["libjemalloc.so.2", "x.so", "other.so"]


# ---- lists of CPUs, and garbage everywhere


@given(st.sets(st.integers(0, 300), min_size=1))
def test_a_cpu_list_survives_being_written_and_read(cpus):
    assert cpu_list(cpu_list_text(list(cpus))) == sorted(cpus)


@pytest.mark.parametrize("text", [None, "", "a", "3-1", "0-", "-3", "0-99999999999", "1,,2"])
def test_a_garbled_cpu_list_is_none(text):
    assert cpu_list(text) is None


READ_FILES = (
    "proc/cpuinfo",
    "proc/stat",
    "proc/loadavg",
    "proc/self/cgroup",
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us",
    "sys/fs/cgroup/memory.max",
    "sys/devices/system/cpu/cpu0/cache/index0/level",
    "sys/devices/system/cpu/cpu0/cache/index0/type",
    "sys/devices/system/cpu/cpu0/cache/index0/size",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
    "sys/devices/system/cpu/cpufreq/boost",
    "sys/kernel/mm/transparent_hugepage/enabled",
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    container.cpu_quota(tmp_path)
    container.memory_limit_bytes(tmp_path)
    cpu.model_name(tmp_path)
    cpu.simd(tmp_path)
    cpu.caches(tmp_path, 0)
    cpu.frequency(tmp_path, [0])
    cpu.configuration(tmp_path, [0])
    cpu.load_average(tmp_path)
    cpu.cpu_times_s(tmp_path)
    memory.transparent_hugepages(tmp_path)


# ---- the real machine


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_stolen_time_agrees_with_psutil():
    before = psutil.cpu_times()
    total_s, steal_s = cpu.cpu_times_s()
    after = psutil.cpu_times()
    assert before.steal <= steal_s <= after.steal
    assert before.user + before.idle < total_s


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_load_agrees_with_the_c_library():
    before = os.getloadavg()[0]
    load, runnable = cpu.load_average()
    after = os.getloadavg()[0]
    assert load in (pytest.approx(before, abs=0.006), pytest.approx(after, abs=0.006))
    assert runnable >= 1


def test_the_most_memory_resident_is_at_least_what_is_resident_now():
    ballast = bytearray(32 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    assert memory.max_rss_bytes() >= 0.9 * psutil.Process().memory_info().rss >= 32 << 20
