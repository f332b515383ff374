"""Several students in one figure and one table."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.result_rows import ROW
from matplotlib.axes import Axes
from PIL import Image

from segdistill.reporting import __main__ as command
from segdistill.reporting.compared_runs import read_runs, reference_ms
from segdistill.reporting.pareto import comparison_table, pareto_figure
from segdistill.reporting.results import Row, write_results
from segdistill.utils.console import as_markdown
from segdistill.utils.errors import UserError

FP32, INT8 = "onnxruntime-fp32", "onnxruntime-int8"


def rows(student_ms: float = 30.0, teacher_ms: float = 60.0, device: str = "fast", **changes: object) -> list[Row]:
    whole = replace(ROW, miou=0.7, latency_ms_p50=student_ms, device=device, params=800_000, file_mb=3.3)
    teacher = replace(ROW, model="teacher", miou=0.75, latency_ms_p50=teacher_ms, device=device, params=6_000_000)
    listed = [
        teacher,
        replace(teacher, engine=INT8, latency_ms_p50=teacher_ms / 3),
        whole,
        replace(whole, engine=INT8, latency_ms_p50=student_ms / 2, miou=0.69, file_mb=0.9),
        replace(whole, engine=f"{INT8}+decode", latency_ms_p50=student_ms),
        replace(whole, engine="openvino-fp32", miou=None),
    ]
    return [replace(row, **changes) for row in listed]  # type: ignore[arg-type]


def run_dir(path: Path, listed: list[Row], student: str | None = None) -> Path:
    write_results(path / "results.json", listed)
    if student is not None:
        (path / ".hydra").mkdir()
        (path / ".hydra" / "hydra.yaml").write_text(f"hydra:\n  runtime:\n    choices:\n      student: {student}\n")
    return path


def results_file(path: Path, listed: list[Row]) -> Path:
    write_results(path, listed)
    return path


def marks(axes: Axes) -> dict[str, tuple[float, float]]:
    """Place of each mark by the name beside it."""
    return {text.get_text(): text.xy for text in axes.texts if text.get_text()}  # type: ignore[attr-defined]


def test_runs_are_named_by_their_student_their_file_or_their_folder(tmp_path: Path) -> None:
    paths = [
        run_dir(tmp_path / "one", rows(), "tiny"),
        run_dir(tmp_path / "two", rows(), "slim"),
        run_dir(tmp_path / "three", rows(), "slim"),
        run_dir(tmp_path / "no_hydra", rows()) / "results.json",
        results_file(tmp_path / "kept.json", rows()),
    ]
    assert [run.name for run in read_runs(paths)] == ["tiny", "slim (two)", "slim (three)", "no_hydra", "kept"]
    twice = [run.name for run in read_runs([paths[1], run_dir(tmp_path / "far" / "two", rows(), "slim")])]
    assert twice == [str(tmp_path / "two"), str(tmp_path / "far" / "two")]


def test_several_runs_are_compared_in_multiples_of_their_own_teacher(tmp_path: Path) -> None:
    runs = read_runs(
        [
            results_file(tmp_path / "a.json", [*rows(30, 60), replace(rows()[2], engine="pytorch")]),
            results_file(tmp_path / "b.json", rows(30, 120, "slow", miou=0.6)[:4]),
        ]
    )
    figure = pareto_figure(runs)
    (axes,) = figure.axes
    assert marks(axes) == {
        f"teacher of a {FP32}": pytest.approx((1.0, 75.0)),
        f"teacher of a {INT8}": pytest.approx((1 / 3, 75.0)),
        f"teacher of b {FP32}": pytest.approx((1.0, 60.0)),
        f"teacher of b {INT8}": pytest.approx((1 / 3, 60.0)),
        f"a {FP32}": pytest.approx((0.5, 70.0)),
        f"a {INT8}": pytest.approx((0.25, 69.0)),
        f"b {FP32}": pytest.approx((0.25, 60.0)),
        f"b {INT8}": pytest.approx((0.125, 60.0)),
    }
    assert axes.get_xlabel().splitlines()[1:] == ["a: fast, 2 threads", "b: slow, 2 threads"]
    (above,) = axes.child_axes
    assert above.get_xlabel() == "ms an image on fast, 2 threads, where the teacher's float32 file takes 60.0 ms"
    assert above.get_xlim() == pytest.approx([60 * edge for edge in axes.get_xlim()], rel=1e-6)


def test_one_teacher_is_drawn_once_at_its_median_speed(tmp_path: Path) -> None:
    paths = [results_file(tmp_path / f"{ms}.json", rows(teacher_ms=ms)) for ms in (50, 60, 90)]
    runs = read_runs(paths)
    assert reference_ms(runs) == 60
    names = marks(pareto_figure(runs).axes[0])
    assert [name for name in names if name.startswith("teacher")] == [f"teacher {FP32}", f"teacher {INT8}"]


def test_a_student_without_exported_files_stays_among_several(tmp_path: Path) -> None:
    unexported = [*rows()[:2], replace(rows()[2], engine="pytorch")]
    listed = [("a", rows()), ("b", unexported)]
    names = marks(pareto_figure(read_runs([results_file(tmp_path / f"{n}.json", r) for n, r in listed])).axes[0])
    assert "b pytorch" in names


def test_one_run_is_drawn_in_ms(tmp_path: Path) -> None:
    listed = [*rows(), replace(rows()[2], engine="pytorch")]
    (axes,) = pareto_figure(read_runs([results_file(tmp_path / "a.json", listed)])).axes
    assert marks(axes)[f"a {INT8}"] == pytest.approx((15.0, 69.0))
    assert marks(axes)["a pytorch"] == pytest.approx((30.0, 70.0))
    assert axes.get_xlabel() == "p50 latency, ms an image on fast, 2 threads (log)"


def test_the_table_has_float32_beside_int8(tmp_path: Path) -> None:
    paths = [results_file(tmp_path / "a.json", rows()), results_file(tmp_path / "b.json", rows(45, 90, "slow"))]
    lines = as_markdown(comparison_table(read_runs(paths))).splitlines()
    assert lines[0] == "2 students on 143 test images"
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    heading = ["student", "runtime", "M", "MB", "INT8", "mIoU", "INT8", "p50", "INT8", "faster", "INT8", "teacher"]
    assert cells[0] == heading
    assert [row[0] for row in cells[2:]] == ["teacher", "a", "b"]
    student = ["a", "onnxruntime", "0.80", "3.3", "0.9", "70.00", "69.00", "30.0", "15.0", "2.0x", "4.0x", "60.0"]
    assert cells[3] == student
    assert lines[-3:] == ["a: fast, 2 threads", "", "b: slow, 2 threads"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (rows(images=7), r"b\.json: was scored on 7 test images, .*a\.json on 143 test images; compare runs"),
        (rows(split="val"), r"b\.json: was scored on 143 val images"),
        (rows(class_iou={"car": 0.5}), r"b\.json: has the classes car, .*a\.json has car, lane; compare"),
        (
            rows(params=5_999_999),
            r"b\.json: its teacher takes 5,999,999 parameters and 8\.125 GMACs at 269 x 484, that of .*a\.json "
            r"6,000,000 parameters and 8\.125 GMACs at 269 x 484; times are multiples of the teacher's, so compare",
        ),
        (rows(gmacs=9.5), r"b\.json: its teacher takes 6,000,000 parameters and 9\.500 GMACs at 269 x 484, that of"),
        (rows(input_size=[360, 484]), r"b\.json: its teacher takes .* at 360 x 484, that of .*a\.json .* 269 x 484; "),
        (rows()[2:], r"b\.json: has no row of teacher onnxruntime-fp32, in whose time runs are compared"),
        (rows()[:2], r"b\.json: has no row of a student with a score"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(other: list[Row], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_runs([results_file(tmp_path / "a.json", rows()), results_file(tmp_path / "b.json", other)])


def test_runs_on_other_images_are_refused_and_older_results_do_not_say(tmp_path: Path) -> None:
    older, one, same, other = (
        results_file(tmp_path / f"{name}.json", rows(fingerprint=fingerprint))
        for name, fingerprint in (("older", None), ("one", "a1"), ("same", "a1"), ("other", "b2"))
    )
    assert len(read_runs([older, one, same])) == 3
    with pytest.raises(UserError, match=r"other\.json: was scored on other images than .*one\.json, or on the same "):
        read_runs([older, one, other])


@pytest.mark.parametrize("content", ["no json", "{}", "[1]", '[{"model": "student"}]'])
def test_files_that_hold_no_results_are_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"a\.json: (cannot be read as results of a run|has no row of a student)"):
        read_runs([path])


def test_the_command_draws_and_prints_several_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(results_file(tmp_path / f"{name}.json", rows())) for name in "ab"]

    def called(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["report", *arguments])
        command.main()
        return capsys.readouterr().out

    assert called(*paths, "-o", str(tmp_path / "new" / "figure.png")) == f"{tmp_path / 'new' / 'figure.png'}\n"
    with Image.open(tmp_path / "new" / "figure.png") as figure:
        assert min(figure.size) >= 800
    printed = called(*paths, "-o", str(tmp_path / "figure.svg"), "--markdown")
    assert "| student | runtime |" in printed
    assert f">a {INT8}</text>" in (tmp_path / "figure.svg").read_text()
    assert "2 students on 143 test images" in called(*paths)
    with pytest.raises(SystemExit, match=r"error: .*absent: cannot be read"):
        called(paths[0], str(tmp_path / "absent"))
    with pytest.raises(SystemExit):
        called(*paths, "-o", "figure.jpg")
    assert "figure.jpg: must end in .png, .svg, .pdf" in capsys.readouterr().err
