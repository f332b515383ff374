"""The summary of a sweep names the split, and compares nothing across splits."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.stats import t as student_t

from segdistill.reporting.sweep import __main__ as command
from segdistill.reporting.sweep.comparison import refusal, study
from segdistill.reporting.sweep.jobs import STATUS, read_jobs
from segdistill.reporting.sweep.rows import read_rows, write_rows
from segdistill.reporting.sweep.summary import summarise, sweep_figure
from segdistill.utils.io import write_json

STUDY = {
    "none": {"0": 0.360, "1": 0.372, "2": 0.366},
    "cwd": {"0": 0.390, "1": 0.400, "2": 0.397},
    "kl": {"0": 0.350, "1": 0.380, "2": 0.360},
}
ON_VAL = {"split": "val", "selected_on": True}


def job(sweep_dir: Path, name: str, overrides: dict[str, str], **noted: Any) -> None:
    folder = sweep_dir / name
    (folder / ".hydra").mkdir(parents=True)
    listed = [f"{key}={value}" for key, value in overrides.items()]
    (folder / ".hydra" / "overrides.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(listed)))
    write_json(folder / STATUS, {"status": "finished", "overrides": overrides, **noted})


def make_study(sweep_dir: Path, noted: dict[str, dict[str, Any]], teachers: tuple[float, ...] = (0.46,)) -> Path:
    """Three seeds of each method; `noted` by method, and the teachers' scores in turn."""
    for method, by_seed in STUDY.items():
        for seed, score in by_seed.items():
            teacher = {} if method == "none" else {"test/teacher_miou": teachers[int(seed) % len(teachers)]}
            tested = {"test/miou": score, **teacher}
            job(sweep_dir, f"{method}{seed}", {"seed": seed, "distill": method}, tested=tested, **noted.get(method, {}))
    return sweep_dir


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_sweep_on_val_says_so_wherever_it_names_its_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = summarise(make_study(tmp_path, dict.fromkeys(STUDY, ON_VAL)))
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 100
    assert words(output).startswith("val mean IoU (selected on) in %, best first")
    assert "warning: the scores are optimistic: the checkpoint was chosen on val" in words(output)
    page = (tmp_path / "summary.html").read_text()
    assert "test mean IoU" not in page
    for text in ("9 jobs; val mean IoU (selected on) in %", "points of val mean IoU (selected on)", "are optimistic"):
        assert text in page
    records = json.loads((tmp_path / "summary.json").read_text())
    assert {(record["split"], record["selected_on"], record["verdict"]) for record in records} == {
        ("val", True, "better"),
        ("val", True, "within the noise"),
        ("val", True, None),
    }
    with (tmp_path / "summary.csv").open(newline="") as file:
        assert {(row["split"], row["selected_on"]) for row in csv.DictReader(file)} == {("val", "True")}
    line = sweep_figure(jobs.by_setting(), jobs.swept)
    assert line is not None
    assert line.axes[0].get_ylabel() == "val mean IoU (selected on), %"


def test_jobs_without_a_split_were_tested_on_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summarise(make_study(tmp_path, {}))
    output = words(capsys.readouterr().out)
    assert output.startswith("test mean IoU in %, best first")
    assert "warning" not in output


def test_scores_of_different_splits_are_shown_apart_and_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "summary.png").touch()  # of a time when all jobs were of one split
    jobs = summarise(make_study(tmp_path, {"cwd": ON_VAL}))
    reason = "nothing is compared: some jobs report test mean IoU and some val mean IoU (selected on)"
    assert refusal(jobs) == reason
    assert study(jobs) is None
    output = capsys.readouterr().out
    assert f"warning: {reason}" in words(output)
    rows = [line.split()[:2] for line in output.splitlines() if line.startswith((" none", " kl", " cwd"))]
    assert rows == [["none", "test"], ["kl", "test"], ["cwd", "val"]]
    page = (tmp_path / "summary.html").read_text()
    assert f"N{reason[1:]}." in page
    assert "Against the student alone" not in page
    assert "verdict" not in json.loads((tmp_path / "summary.json").read_text())[0]
    assert not (tmp_path / "summary.png").exists()


def test_a_seed_on_another_split_is_no_repetition(tmp_path: Path) -> None:
    job(tmp_path, "0", {"seed": "0"}, tested={"test/miou": 0.3})
    job(tmp_path, "1", {"seed": "1"}, tested={"test/miou": 0.5}, **ON_VAL)
    found = [(setting.score_label, setting.scores) for setting in read_jobs(tmp_path).by_setting()]
    assert found == [("test mean IoU", [0.3]), ("val mean IoU (selected on)", [0.5])]


def test_a_failed_job_does_not_make_a_sweep_mixed(tmp_path: Path) -> None:
    make_study(tmp_path, dict.fromkeys(STUDY, ON_VAL))
    write_json(tmp_path / "kl0" / STATUS, {"status": "failed", "error": "disk full", "overrides": {"distill": "kl"}})
    assert refusal(read_jobs(tmp_path)) is None


def test_two_baselines_leave_gains_out_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for lr in ("1", "2"):
        job(tmp_path, lr, {"distill": "none", "optimizer.lr": lr}, tested={"test/miou": 0.3})
    job(tmp_path, "3", {"distill": "kl", "optimizer.lr": "1"}, tested={"test/miou": 0.4})
    summarise(tmp_path)
    reason = "no gains: 2 settings have distill=none, choose one: segdistill report-sweep --baseline"
    assert f"warning: {reason}" in words(capsys.readouterr().out)
    summarise(tmp_path, {"distill": "none", "optimizer.lr": "1"})
    assert "gain over distill=none, optimizer.lr=1 in points" in words(capsys.readouterr().out)
    summarise(tmp_path, {"distill": "cwd"})
    assert "warning: no gains: 0 settings have distill=cwd, the baseline must be one" in words(capsys.readouterr().out)


def test_of_two_undistilled_settings_the_one_that_begins_without_the_teacher_is_the_baseline(tmp_path: Path) -> None:
    for init in ("pretrained", "teacher"):
        for method in ("none", "kl"):
            settings = {"distill": method, "student.init": init}
            job(tmp_path, f"{init}{method}", settings, tested={"test/miou": 0.3})
    compared = study(read_jobs(tmp_path))
    assert compared is not None
    assert compared.baseline.values == {"distill": "none", "student.init": "pretrained"}
    assert len(compared.gains) == 3


def test_verdicts_go_by_the_paired_t_test_after_holm(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = {method: 0.4 + 0.01 * rng.random(6) + shift for method, shift in (("none", 0), ("kl", 0.01), ("cwd", 0.0))}
    scores["dist"] = scores["none"] + 0.003 + 0.003 * rng.standard_normal(6)
    for method, values in scores.items():
        for seed, value in enumerate(values):
            job(tmp_path, f"{method}{seed}", {"distill": method, "seed": str(seed)}, tested={"test/miou": value})
    compared = study(read_jobs(tmp_path))
    assert compared is not None
    gains = {method: gain for (method,), gain in compared.gains.items()}
    plain = {}
    for method, gain in gains.items():
        differences = scores[method] - scores["none"]
        error = differences.std(ddof=1) / np.sqrt(6)
        reach = student_t.ppf(0.975, 5) * error
        assert gain.interval == pytest.approx((differences.mean() - reach, differences.mean() + reach))
        plain[method] = 2 * student_t.sf(abs(differences.mean() / error), 5)
    first, second, third = sorted(plain, key=lambda method: plain[method])
    assert gains[first].p == pytest.approx(3 * plain[first])
    assert gains[second].p == pytest.approx(max(3 * plain[first], 2 * plain[second]))
    assert gains[third].p == pytest.approx(max(gains[second].p or 0, plain[third]))
    for gain in gains.values():
        assert gain.p is not None
        assert gain.verdict == ("within the noise" if gain.p >= 0.05 else "better" if gain.mean > 0 else "worse")


def test_rows_keep_a_sweep_in_one_file(tmp_path: Path) -> None:
    make_study(tmp_path / "sweep", {"kl": {"split": "test", "selected_on": False}})
    job(tmp_path / "sweep", "x", {"distill": "x", "seed": "0"}, tested={"test/miou": 0.5, "test/iou_car": None})
    job(tmp_path / "sweep", "failed", {"distill": "y", "seed": "0"}, tested={}, error="disk full")
    job(tmp_path / "sweep", "z", {"distill": "z", "cache_dir": "/of/mine"}, tested={"test/miou": 0.5})
    jobs = read_jobs(tmp_path / "sweep")
    write_rows(jobs, tmp_path / "rows.csv")
    assert "/of/mine" not in (tmp_path / "rows.csv").read_text()
    kept = read_rows(tmp_path / "rows.csv")
    assert {each.name for each in jobs.jobs} - {each.name for each in kept.jobs} == {"failed"}
    assert {s.values["distill"]: sorted(s.scores) for s in kept.by_setting()} == {
        s.values["distill"]: sorted(s.scores) for s in jobs.by_setting()
    }
    before, after = study(jobs), study(kept)
    assert before is not None
    assert after is not None
    assert sorted(gain.mean for gain in after.gains.values()) == pytest.approx(
        sorted(gain.mean for gain in before.gains.values())
    )
    write_rows(kept, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text().splitlines()[1:] == (tmp_path / "rows.csv").read_text().splitlines()[1:]


def test_rows_tell_a_deleted_key_from_one_that_is_left_as_it_is(tmp_path: Path) -> None:
    for name, deleted in (("jittered", {}), ("plain", {"~augment.jitter": ""})):
        job(tmp_path / "sweep", name, {"seed": "0", **deleted}, tested={"test/miou": 0.5})
    write_rows(read_jobs(tmp_path / "sweep"), tmp_path / "rows.csv")
    assert "plain,0,(deleted),test" in (tmp_path / "rows.csv").read_text()
    kept = read_rows(tmp_path / "rows.csv")
    assert [each.settings for each in kept.jobs] == [{"seed": "0"}, {"seed": "0", "~augment.jitter": ""}]
    assert len(kept.by_setting()) == 2


def test_the_command_prints_the_table_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.csv"
    arguments = ["report-sweep", str(make_study(tmp_path / "sweep", {})), "--rows", str(rows)]
    monkeypatch.setattr(sys, "argv", arguments)
    command.main()
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["report-sweep", str(rows), "--markdown", "--baseline", "distill=kl"])
    command.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "test mean IoU in %, best first"
    assert lines[2].startswith("| distill | mean | std | seeds | gain |")
    assert [line.split("|")[1].strip() for line in lines[4:7]] == ["cwd", "none", "kl"]
    assert lines[6].split("|")[2].strip() == f"{100 * np.mean([0.35, 0.38, 0.36]):.2f}"
    assert "gain over distill=kl in points" in " ".join(lines)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    monkeypatch.setattr(sys, "argv", ["report-sweep", str(tmp_path / "other.csv")])
    with pytest.raises(SystemExit, match=r"error: .*other\.csv: holds no rows of a sweep"):
        command.main()


def test_sweeps_of_other_budgets_are_joined_and_paired_by_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, (alone, taught) in enumerate([(0.50, 0.56), (0.54, 0.61), (0.52, 0.60)]):
        settings = {"seed": str(seed), "epochs": "50", "cache_dir": "a"}
        job(tmp_path / "alone", f"none{seed}", settings | {"distill": "none"}, tested={"test/miou": alone})
        settings |= {"epochs": "5", "cache_dir": "b"}
        job(tmp_path / "taught", f"kl{seed}", settings | {"distill": "kl"}, tested={"test/miou": taught})
    (tmp_path / "taught" / "notes").mkdir()
    rows = tmp_path / "rows.csv"
    arguments = ["report-sweep", str(tmp_path / "alone"), str(tmp_path / "taught"), "--rows", str(rows), "--markdown"]
    monkeypatch.setattr(sys, "argv", arguments)
    command.main()
    printed = capsys.readouterr()
    gain = next(line for line in printed.out.splitlines() if line.startswith("| 5 | kl |"))
    assert gain.split("|")[6].strip() == "+7.00"
    assert "notes: skipped" in printed.err
    monkeypatch.setattr(sys, "argv", ["report-sweep", str(rows), str(tmp_path / "taught")])
    with pytest.raises(SystemExit, match=r"error: .*/kl0: has the settings and the seed of .*/rows\.csv/kl0; keep one"):
        command.main()


def test_another_metric_of_the_test_can_be_the_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lanes = {"none": [0.10, 0.12, 0.11], "kl": [0.21, 0.22, 0.23]}
    for method, values in lanes.items():
        for seed, lane in enumerate(values):
            tested = {"test/miou": 0.5, "test/iou_lane": lane, "test/teacher_iou_lane": 0.33}
            job(tmp_path / "sweep", f"{method}{seed}", {"distill": method, "seed": str(seed)}, tested=tested)
    arguments = ["report-sweep", str(tmp_path / "sweep"), "--markdown", "--score"]
    monkeypatch.setattr(sys, "argv", [*arguments, "test/iou_lane"])
    command.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "test iou_lane in %, best first"
    best = [cell.strip() for cell in lines[4].split("|")[1:-1]]
    assert (best[0], best[1], best[4]) == ("kl", "22.00", "+11.00")
    assert best[8] == "50"  # of the 22 points that the teacher leads by
    assert not (tmp_path / "sweep" / "summary.html").exists()
    monkeypatch.setattr(sys, "argv", [*arguments, "test/iou_sky"])
    with pytest.raises(SystemExit, match=r"--score=test/iou_sky: no job has measured it; there are test/iou_lane, "):
        command.main()


def test_joined_sweeps_whose_jobs_share_their_names_have_one_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, (alone, taught) in enumerate([(0.50, 0.56), (0.54, 0.61), (0.52, 0.60)]):
        fixed = {"experiment": "few_labels", "seed": str(seed)}
        job(tmp_path / "alone", f"seed={seed}", fixed | {"distill": "none"}, tested={"test/miou": alone})
        job(tmp_path / "taught", f"seed={seed}", fixed, tested={"test/miou": taught})
    arguments = ["report-sweep", str(tmp_path / "alone"), str(tmp_path / "taught"), "--markdown"]
    monkeypatch.setattr(sys, "argv", arguments)
    command.main()
    first, second = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(("| none", "| (default)"))
    )
    assert (first[0], first[4], first[-1]) == ("(default)", "+7.00", "better")
    assert second[0] == "none"
    assert second[4:] == ["-", "-", "-", "-", "-", "baseline"]


@pytest.mark.parametrize(
    ("teachers", "whose"),
    [((0.46,), "one teacher"), ((0.46, 0.460001), "one teacher"), ((0.46, 0.47, 0.48), "the 3 teachers of these jobs")],
)
def test_a_study_says_that_its_intervals_cover_seeds_of_the_student(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], teachers: tuple[float, ...], whose: str
) -> None:
    summarise(make_study(tmp_path, {}, teachers))
    coverage = f"he intervals cover seeds of the student, for {whose}; another teacher may change the verdict"
    assert f"t{coverage}" in words(capsys.readouterr().out)
    assert f"T{coverage}." in (tmp_path / "summary.html").read_text()


def test_the_gap_of_a_setting_is_that_to_its_own_teachers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teachers = {"small": 0.60, "big": 0.80, None: None}
    for teacher, score in teachers.items():
        for method, gain in (("none", 0.0), ("kl", 0.08)):
            tested = {"test/miou": 0.40 + gain} | ({} if method == "none" else {"test/teacher_miou": score})
            chosen = {} if teacher is None else {"teacher": teacher}
            if method == "kl" or teacher is None:
                job(tmp_path, f"{teacher}{method}", {"distill": method, "seed": "0", **chosen}, tested=tested)
    jobs = summarise(tmp_path)
    compared = study(jobs)
    assert compared is not None
    assert compared.teacher is None
    closed = {values: gain.gap_closed for values, gain in compared.gains.items()}
    assert closed[("kl", "small")] == pytest.approx(0.08 / 0.20)
    assert closed[("kl", "big")] == pytest.approx(0.08 / 0.40)
    assert closed[("kl", "(default)")] is None
    output = words(capsys.readouterr().out)
    assert "gap: how much of the lead of a setting's own teachers is closed" in output
    assert "the teacher has" not in output
    page = (tmp_path / "summary.html").read_text()
    assert "The teacher has" not in page
    assert "the share of the lead that a setting's own teachers have" in page
    (tmp_path / "bigkl" / STATUS).unlink()
    compared = study(read_jobs(tmp_path))
    assert compared is not None
    assert compared.gains[("kl", "(default)")].gap_closed == pytest.approx(0.08 / 0.20)


def test_a_collapsed_job_is_marked_and_the_classes_of_the_means_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ious = {"test/iou_road": 0.9, "test/iou_car": 0.0, "test/iou_lane": None}
    job(tmp_path, "a", {"x": "1"}, tested={"test/miou": 0.45, "test/classes_predicted": 1.0, **ious})
    job(tmp_path, "b", {"x": "2"}, tested={"test/miou": 0.5, "test/classes_predicted": 2.0, **ious})
    assert [each.collapsed for each in read_jobs(tmp_path).jobs] == [True, False]
    summarise(tmp_path)
    output = words(capsys.readouterr().out)
    assert "mean IoU over 2 of 3 classes" in output
    assert "warning: a single class is predicted everywhere by job a" in output
    page = (tmp_path / "summary.html").read_text()
    assert page.count("predicts a single class") == 1
    job(tmp_path, "c", {"x": "3"}, tested={"test/miou": 0.5, **ious, "test/iou_lane": 0.0})
    summarise(tmp_path)
    assert "mean IoU over 2 of 3 classes or 3 classes, depending on the job" in words(capsys.readouterr().out)


def test_swept_values_are_not_taken_for_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("0", "[bold]"), ("1", "[a,b]")):
        job(tmp_path, name, {"x": value}, tested={"test/miou": 0.5})
    summarise(tmp_path)
    output = capsys.readouterr().out
    assert "[bold]" in output
    assert "[a,b]" in output
