from __future__ import annotations

from pathlib import Path

import pytest

from segdistill import machine


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
