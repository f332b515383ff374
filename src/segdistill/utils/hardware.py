"""Available cores and memory, processor features, and reuse of freed memory."""

from __future__ import annotations

import ctypes
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# glibc's mallopt parameters (malloc.h), and the largest value they take
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1
CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
INSTRUCTION_SETS = {
    "amx_tile": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx2": "AVX2",
    "asimddp": "NEON with dot products",
}
"""A flag of the processor -> how its fastest instructions are called; the first that is there counts."""
ONEDNN_LIMIT = "ONEDNN_MAX_CPU_ISA"
"""Environment variable that holds oneDNN, which convolves for PyTorch, to fewer instructions than there are."""
WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of it that leave no bf16 dot products."""


def cpu_count() -> int:
    """Return the number of cores this process may use; a container or a quota may allow fewer than the machine has."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([affinity, *map(math.ceil, _cpu_quotas())])


def _cpu_quotas() -> Iterator[float]:
    """Yield the CPU quota, in cores, of every control group of this process, including parent groups.

    A container may see its own group at the root instead of at the path given in `/proc/self/cgroup`.
    """
    lines = OWN_CGROUPS.read_text().splitlines() if OWN_CGROUPS.is_file() else []
    for controllers, path in (line.split(":", 2)[1:] for line in lines):
        if controllers and "cpu" not in controllers.split(","):
            continue
        tree = CGROUP / "cpu" if controllers else CGROUP  # version 2 names no controllers: one tree has all of them
        own = PurePosixPath(path.lstrip("/"))
        for group in (tree / each for each in (own, *own.parents)):
            quota, period = _cpu_quota(group)
            if quota > 0 and period > 0:
                yield quota / period


def _cpu_quota(group: Path) -> tuple[int, int]:
    """Return the CPU time per period and the period, in microseconds; a quota of 0 or less means no limit."""
    names = ("cpu.max",) if (group / "cpu.max").is_file() else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    try:
        words = " ".join((group / name).read_text() for name in names).split()
        return (0, 0) if words[0] == "max" else (int(words[0]), int(words[1]))
    except (OSError, ValueError, IndexError):
        return 0, 0


def cpu_name() -> str:
    """Return the name of the processor as reported by the system, and its fastest kind of instructions."""
    told: dict[str, str] = {}
    for line in _cpu_info().splitlines():
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    flags = (told.get("flags") or told.get("Features", "")).split()
    name = told.get("model name") or platform.processor() or platform.machine()
    kinds = [kind for flag, kind in INSTRUCTION_SETS.items() if flag in flags]
    return ", ".join([name, *kinds[:1]])


def cpu_multiplies_bf16() -> bool:
    """Return whether bf16 dot products can be used; emulated ones are slower than float32."""
    flags, limit = _cpu_info(), os.environ.get(ONEDNN_LIMIT, "").upper()
    return limit not in WITHOUT_BF16 and ("avx512_bf16" in flags or "amx_bf16" in flags)


def _cpu_info() -> str:
    """Return the contents of /proc/cpuinfo on Linux; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    return info.read_text() if info.is_file() else ""


def available_memory() -> int:
    """Return the bytes of memory this process may still take; a container may allow less than the machine has."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    entries = dict(line.split(":") for line in meminfo.read_text().splitlines())
    available = int(entries["MemAvailable"].split()[0]) * 1024
    limit, used, details = (CGROUP / name for name in ("memory.max", "memory.current", "memory.stat"))
    if all(path.is_file() for path in (limit, used, details)) and (most := limit.read_text().strip()).isdigit():
        parts = dict(line.split() for line in details.read_text().splitlines())
        files = int(parts["active_file"]) + int(parts["inactive_file"])  # freed by the kernel when memory is needed
        return min(available, max(0, int(most) - int(used.read_text()) + files))
    return available


def keep_freed_memory() -> None:
    """Make glibc reuse large blocks instead of returning them to the system; does nothing elsewhere.

    On a CPU, every training step allocates the same gigabytes of activations again. Returned blocks come back as new
    pages, which the kernel has to clear every time: about a third of a step.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        if libc.mallopt(M_MMAP_THRESHOLD, LARGEST):  # an old glibc refuses; then it is better left alone
            libc.mallopt(M_TRIM_THRESHOLD, LARGEST)
