from __future__ import annotations

from pathlib import Path

import pytest

from segdistill.utils import hardware as machine


def test_memory_that_files_take_within_a_container_counts_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    whole = machine.available_memory()
    assert whole > 10**6
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("4900\n")
    (tmp_path / "memory.stat").write_text("anon 700\ninactive_file 300\nactive_file 1000\n")
    assert machine.available_memory() == 5000 - 4900 + 1300
    (tmp_path / "memory.current").write_text("9000\n")
    assert machine.available_memory() == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_memory() == pytest.approx(whole, rel=0.2)


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process of group /batch/job on a machine of eight cores; returns the root of the groups, which is empty."""
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "own").write_text("4:memory:/\n3:cpu,cpuacct:/batch/job\n0::/batch/job\n")
    return tmp_path / "cgroup"


def limit(group: Path, **files: str) -> None:
    group.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (group / name.replace("cpu_", "cpu.", 1)).write_text(text + "\n")


def test_cpu_count_without_a_quota_is_that_of_the_affinity(cgroup: Path) -> None:
    assert machine.cpu_count() == 8
    limit(cgroup / "batch/job", cpu_max="max 100000")
    assert machine.cpu_count() == 8
    limit(cgroup / "batch/job", cpu_max="no numbers")
    assert machine.cpu_count() == 8


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("150000 100000", 2), ("20000 50000", 1), ("9900000 100000", 8)]
)
def test_cpu_count_keeps_to_the_quota_of_version_2(cgroup: Path, quota: str, cores: int) -> None:
    limit(cgroup / "batch/job", cpu_max=quota)
    assert machine.cpu_count() == cores


def test_cpu_count_keeps_to_the_quota_of_version_1(cgroup: Path) -> None:
    limit(cgroup / "cpu/batch/job", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    assert machine.cpu_count() == 8
    limit(cgroup / "cpu/batch/job", cpu_cfs_quota_us="250000", cpu_cfs_period_us="100000")
    assert machine.cpu_count() == 3


def test_cpu_count_keeps_to_the_smallest_quota_of_the_groups_above(cgroup: Path) -> None:
    limit(cgroup / "batch/job", cpu_max="600000 100000")
    limit(cgroup / "batch", cpu_max="400000 100000")
    assert machine.cpu_count() == 4


def test_cpu_count_finds_a_containers_group_at_the_root(cgroup: Path) -> None:
    limit(cgroup, cpu_max="300000 100000")
    assert machine.cpu_count() == 3
    limit(cgroup / "cpu", cpu_cfs_quota_us="100000", cpu_cfs_period_us="100000")
    assert machine.cpu_count() == 1


def test_cpu_count_works_where_there_are_no_groups(cgroup: Path, tmp_path: Path) -> None:
    (tmp_path / "own").unlink()
    assert machine.cpu_count() == 8


CPU_INFO = """processor : 0
model name : Some CPU @ 2 GHz
flags : fpu avx2 {}
processor : 1
model name : Some CPU @ 2 GHz
"""


@pytest.mark.parametrize(
    ("flags", "limit", "name", "bf16"),
    [
        ("", None, "Some CPU @ 2 GHz, AVX2", False),
        ("avx_vnni", None, "Some CPU @ 2 GHz, AVX-VNNI", False),
        ("avx512f avx512_vnni", None, "Some CPU @ 2 GHz, AVX-512 VNNI", False),
        ("avx512f avx512_vnni avx512_bf16 amx_tile", None, "Some CPU @ 2 GHz, AMX", True),
        ("avx512f amx_bf16 amx_tile", "AVX2", "Some CPU @ 2 GHz, AMX", False),
        ("avx512f amx_bf16 amx_tile", "avx512_core_amx", "Some CPU @ 2 GHz, AMX", True),
    ],
)
def test_the_processor_is_told_with_its_instructions(
    flags: str, limit: str | None, name: str, bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_cpu_info", lambda: CPU_INFO.format(flags))
    monkeypatch.delenv(machine.ONEDNN_LIMIT, raising=False)
    if limit is not None:
        monkeypatch.setenv(machine.ONEDNN_LIMIT, limit)
    assert machine.cpu_name() == name
    assert machine.cpu_multiplies_bf16() == bf16


def test_the_processor_is_told_where_the_system_keeps_no_list_of_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpu_info", lambda: "")
    monkeypatch.delenv(machine.ONEDNN_LIMIT, raising=False)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert machine.cpu_name() == "arm64"
    assert not machine.cpu_multiplies_bf16()
