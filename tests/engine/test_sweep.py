"""Sweeps: no job takes another down or runs twice, and the summary counts seeds as repetitions."""

from __future__ import annotations

import csv
import gc
import json
import math
import statistics
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from helpers.composed import composed as composed_config
from helpers.runs import CROPS, NO_REPORT, ROOT, TINY
from helpers.settings import trainer_config
from helpers.sweep_jobs import job
from omegaconf import DictConfig, OmegaConf
from scipy.stats import ttest_rel

from segdistill.engine import pipeline as run
from segdistill.engine import sweep
from segdistill.engine.sweep_plan import settings_of
from segdistill.reporting.sweep.comparison import study
from segdistill.reporting.sweep.jobs import STATUS, read_jobs
from segdistill.reporting.sweep.summary import summarise, sweep_figure
from segdistill.utils.errors import UserError
from segdistill.utils.io import write_json


@pytest.fixture
def sweep_dir(tmp_path: Path) -> Path:
    scores = {("1", "0"): 0.30, ("1", "1"): 0.34, ("10", "0"): 0.41, ("10", "1"): 0.43, ("2", "0"): 0.50}
    for index, ((temperature, seed), score) in enumerate(scores.items()):
        overrides = ["experiment=smoke", f"distill.temperature={temperature}", f"seed={seed}"]
        job(tmp_path, str(index), overrides, tested={"test/miou": score})
    job(tmp_path, "11", ["experiment=smoke", "distill.temperature=2", "seed=1"], status="failed", error="no <teacher>")
    (tmp_path / "foreign").mkdir()
    broken = job(tmp_path, "12", ["experiment=smoke"], tested={"test/miou": 0.9})
    (broken / STATUS).write_text("{half")
    return tmp_path


def test_seeds_are_repetitions_and_the_best_setting_comes_first(sweep_dir: Path) -> None:
    jobs = read_jobs(sweep_dir)
    assert [each.name for each in jobs.jobs] == ["0", "1", "2", "3", "4", "11"]
    assert jobs.swept == ["distill.temperature"]
    assert jobs.described(jobs.jobs[2]) == "distill.temperature=10, seed=0"
    found = [(s.values["distill.temperature"], s.scores, s.mean, s.deviation) for s in jobs.by_setting()]
    assert found == [
        ("2", [0.50], 0.50, None),
        ("10", [0.41, 0.43], pytest.approx(0.42), pytest.approx(statistics.stdev([0.41, 0.43]))),
        ("1", [0.30, 0.34], pytest.approx(0.32), pytest.approx(statistics.stdev([0.30, 0.34]))),
    ]


def test_the_summary_is_written_in_every_form_and_names_what_is_skipped(
    sweep_dir: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep_dir / "2" / "report.html").touch()
    summarise(sweep_dir)
    assert {record.args[0] for record in caplog.records if record.args} == {sweep_dir / "foreign", sweep_dir / "12"}  # type: ignore[index] # a tuple here
    records = json.loads((sweep_dir / "summary.json").read_text())
    assert records[1] == {
        "distill.temperature": "10",
        "split": "test",
        "selected_on": False,
        "seeds": 2,
        "miou_mean": pytest.approx(0.42),
        "miou_std": pytest.approx(math.sqrt(0.0002)),
        "jobs": ["2", "3"],
    }
    with (sweep_dir / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["distill.temperature"] for row in rows] == ["2", "10", "1"]
    assert rows[1]["jobs"] == "2 3"
    page = (sweep_dir / "summary.html").read_text()
    assert '<a href="2/report.html">2</a>' in page
    assert "no &lt;teacher&gt;" in page
    assert "foreign: skipped" in page
    assert (sweep_dir / "summary.png").stat().st_size > 1000
    assert "42.00" in capsys.readouterr().out


def test_one_swept_key_is_a_line_in_order_of_its_numbers_two_are_a_heat_map(sweep_dir: Path, tmp_path: Path) -> None:
    jobs = read_jobs(sweep_dir)
    line = sweep_figure(jobs.by_setting(), jobs.swept)
    assert line is not None
    assert [label.get_text() for label in line.axes[0].get_xticklabels()] == ["1", "2", "10"]
    for index, (temperature, alpha) in enumerate([("1", "0.5"), ("1", "0.8"), ("4", "0.5")]):
        job(
            tmp_path / "two",
            str(index),
            [f"distill.temperature={temperature}", f"distill.alpha={alpha}"],
            tested={"test/miou": 0.2},
        )
    two = read_jobs(tmp_path / "two")
    heat = sweep_figure(two.by_setting(), two.swept)
    assert heat is not None
    assert heat.axes[0].images[0].get_array().shape == (2, 2)  # type: ignore[union-attr] # an image has one
    assert len(heat.axes[0].texts) == 3  # nothing is written where there is no job
    assert sweep_figure(two.by_setting(), []) is None


@pytest.fixture
def study_dir(tmp_path: Path) -> Path:
    """Three methods, three seeds: one is far better, one shares two seeds with the baseline, one is all over."""
    scores = {
        "none": {"0": 0.360, "1": 0.372, "2": 0.366},
        "cwd": {"0": 0.390, "1": 0.400, "2": 0.397},
        "kl": {"2": 0.350, "1": 0.380},
        "dist": {"0": 0.34, "1": 0.39, "2": 0.41},
    }
    for method, by_seed in scores.items():
        for seed, score in by_seed.items():
            tested = {"test/miou": score} | ({} if method == "none" else {"test/teacher_miou": 0.46})
            job(tmp_path, f"{method}{seed}", [f"seed={seed}", f"distill={method}"], tested=tested)
    return tmp_path


def test_gains_are_paired_over_seeds_and_their_intervals_are_students(study_dir: Path) -> None:
    jobs = read_jobs(study_dir)
    compared = study(jobs)
    assert compared is not None
    assert compared.baseline.values == {"distill": "none"}
    assert compared.teacher == pytest.approx(0.46)
    by_method = {setting.values["distill"]: compared.of(setting) for setting in jobs.by_setting()}
    assert by_method["none"] is None
    reference = ttest_rel([0.390, 0.400, 0.397], [0.360, 0.372, 0.366])
    cwd, kl, dist = by_method["cwd"], by_method["kl"], by_method["dist"]
    assert cwd is not None
    assert kl is not None
    assert dist is not None
    assert cwd.interval == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert cwd.mean == pytest.approx((0.030 + 0.028 + 0.031) / 3)
    assert cwd.gap_closed == pytest.approx(cwd.mean / (0.46 - 0.366))
    assert kl.seeds == 2
    assert kl.mean == pytest.approx((0.008 - 0.016) / 2)
    assert [gain.verdict for gain in (cwd, kl, dist)] == ["better", "within the noise", "within the noise"]


def test_the_summary_of_a_study_says_what_is_within_the_noise(
    study_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summarise(study_dir)
    records = {record["distill"]: record for record in json.loads((study_dir / "summary.json").read_text())}
    assert records["none"]["gain"] is None
    assert records["dist"]["gain_low"] < 0 < records["dist"]["gain_high"]
    assert records["cwd"]["verdict"] == "better"
    page = (study_dir / "summary.html").read_text()
    assert "The teacher has 46.00" in page
    assert page.count("<td>within the noise</td>") == 2
    output = capsys.readouterr().out
    assert "baseline" in output
    assert max(len(line) for line in output.splitlines()) <= 100


def test_a_setting_without_a_seed_of_the_baseline_is_told_from_the_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method, seed in (("none", 0), ("none", 1), ("kl", 2)):
        job(tmp_path, f"{method}{seed}", [f"distill={method}", f"seed={seed}"], tested={"test/miou": 0.3 + seed / 50})
    summarise(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith((" kl", " none"))] == ["seed", "baseline"]


def test_one_seed_says_nothing_and_no_teacher_leaves_no_gap(tmp_path: Path) -> None:
    for method, score in (("none", 0.3), ("kl", 0.4)):
        job(tmp_path, method, [f"distill={method}"], tested={"test/miou": score})
    compared = study(read_jobs(tmp_path))
    assert compared is not None
    (gain,) = compared.gains.values()
    assert (gain.interval, gain.gap_closed, gain.verdict) == (None, None, "one seed: unknown")


def test_a_sweep_without_a_baseline_is_no_study(sweep_dir: Path) -> None:
    assert study(read_jobs(sweep_dir)) is None


def test_a_sweep_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        summarise(tmp_path / "absent")


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    """A configuration that is taken as it is."""
    monkeypatch.setattr(sweep, "parse", lambda cfg: Parsed())
    monkeypatch.setattr(sweep, "plan", lambda config: "nothing")
    return OmegaConf.create({"seed": 0, "resume": None, "cache_dir": "here"})


class Parsed:
    resume = None


TASK = ["distill.temperature=4", "seed=0"]
TESTED = run.RunResult({"test/miou": 0.25}, "test")
Answers = Callable[..., list[run.RunResult | Exception]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Lets each run give, or raise, the next of some answers."""

    def given(*listed: run.RunResult | Exception) -> list[run.RunResult | Exception]:
        left = list(listed)

        def next_answer(config: object, folder: Path) -> run.RunResult:
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(run, "run", next_answer)
        return left

    return given


def test_a_finished_job_is_not_run_again_and_a_failed_one_is(
    composed: DictConfig, tmp_path: Path, answers: Answers
) -> None:
    left = answers(UserError("disk full"), ValueError("a defect"), TESTED)
    assert math.isnan(sweep.run_job(composed, tmp_path, TASK))
    assert json.loads((tmp_path / STATUS).read_text())["error"] == "disk full"
    assert math.isnan(sweep.run_job(composed, tmp_path, TASK))
    assert json.loads((tmp_path / STATUS).read_text())["error"] == "ValueError: a defect"
    assert sweep.run_job(composed, tmp_path, TASK) == 0.25
    assert sweep.run_job(composed, tmp_path, TASK) == 0.25  # no answer is left: it was not run
    assert left == []


def test_a_job_that_failed_with_other_settings_leaves_nothing_to_resume_from(
    composed: DictConfig, tmp_path: Path, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(UserError("disk full"))
    sweep.run_job(OmegaConf.merge(composed, {"seed": 1}), tmp_path, TASK)  # type: ignore[arg-type]
    left = [tmp_path / name for name in ("checkpoints/last.ckpt", "csv/version_0/metrics.csv", "results.json")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = []

    def killed(config: Parsed, folder: Path) -> run.RunResult:
        found.append((config.resume, [path.name for path in left if path.exists()]))
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            sweep.run_job(composed, tmp_path, TASK)
    assert found == [(None, [])] * 2


def test_what_a_job_held_is_freed_before_the_next_one(
    composed: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trainer:
        """Refers to itself, as trainers and their loops do."""

        def __init__(self) -> None:
            self.loop = self

    held = []

    def run_trainer(config: object, folder: Path) -> run.RunResult:
        held.append(weakref.ref(Trainer()))
        return TESTED

    monkeypatch.setattr(run, "run", run_trainer)
    gc.disable()  # whose turn may come by chance
    try:
        sweep.run_job(composed, tmp_path, TASK)
    finally:
        gc.enable()
    assert held[0]() is None


def test_a_record_tells_settings_and_split(composed: DictConfig, tmp_path: Path, answers: Answers) -> None:
    answers(run.RunResult({"test/miou": 0.25}, "val"))
    sweep.run_job(composed, tmp_path, ["+a.b=4", "~callbacks.x", "seed=0"])
    noted = json.loads((tmp_path / STATUS).read_text())
    assert noted["overrides"] == {"a.b": "4", "~callbacks.x": "", "seed": "0"}
    assert (noted["split"], noted["selected_on"]) == ("val", True)


def test_a_directory_of_other_settings_is_left_alone(
    composed: DictConfig, tmp_path: Path, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    answers(TESTED)
    sweep.run_job(composed, tmp_path, TASK)
    before = (tmp_path / STATUS).read_text()
    assert math.isnan(sweep.run_job(OmegaConf.merge(composed, {"seed": 1}), tmp_path, TASK))  # type: ignore[arg-type]
    assert "holds a job of a sweep with another seed; give another folder" in caplog.text
    assert (tmp_path / STATUS).read_text() == before


def test_a_job_that_is_resumed_by_itself_updates_its_record(
    composed: DictConfig, tmp_path: Path, answers: Answers
) -> None:
    answers(ValueError("a defect"), TESTED, UserError("no room"))
    sweep.run_job(composed, tmp_path, TASK)
    resumed = OmegaConf.merge(composed, {"resume": "run", "cache_dir": "elsewhere"})
    assert isinstance(resumed, DictConfig)
    assert sweep.run_job(resumed, tmp_path, [*TASK, "resume=run"], alone=True) == 0.25
    noted = json.loads((tmp_path / STATUS).read_text())
    assert (noted["status"], noted["overrides"]) == ("finished", {"distill.temperature": "4", "seed": "0"})
    with pytest.raises(UserError, match="no room"):  # one that is finished is measured anew
        sweep.run_job(resumed, tmp_path, TASK, alone=True)


def test_a_job_that_is_resumed_with_other_settings_is_refused(
    composed: DictConfig, tmp_path: Path, answers: Answers
) -> None:
    answers(ValueError("a defect"))
    sweep.run_job(composed, tmp_path, TASK)
    with pytest.raises(UserError, match="holds a job of a sweep with another seed"):
        sweep.run_job(OmegaConf.merge(composed, {"seed": 1}), tmp_path, TASK, alone=True)  # type: ignore[arg-type]


def multirun(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "train.py"), "-m", *TINY, *CROPS, *NO_REPORT, *overrides]
    placed = [f"hydra.sweep.dir={folder / 'sweep'}", f"cache_dir={folder / 'cache'}"]
    return subprocess.run([*command, *placed], cwd=folder, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.slow
@pytest.mark.long
def test_a_failed_job_is_named_at_the_end_and_the_next_call_runs_what_is_missing(tmp_path: Path) -> None:
    both = "optimizer.lr=1e-3,-1"  # nobody knows that a learning rate is bad but the optimizer itself
    first = multirun(tmp_path, both, "distill=none", "seed=0")
    assert first.returncode == 1
    assert "error: 1 jobs failed:" in first.stderr
    assert "optimizer.lr=-1 (optimizer.lr=-1, seed=0): optimizer=" in first.stderr
    assert [entry["seeds"] for entry in json.loads((tmp_path / "sweep" / "summary.json").read_text())] == [1]
    again = multirun(tmp_path, "optimizer.lr=1e-3,1e-4", "distill=none", "seed=0")
    assert again.returncode == 0, again.stderr
    assert "finished before" in again.stdout + again.stderr
    assert {entry["optimizer.lr"] for entry in json.loads((tmp_path / "sweep" / "summary.json").read_text())} == {
        "0.001",
        "0.0001",
    }
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").rglob("*")}
    other = multirun(tmp_path, "optimizer.lr=1e-2,1e-1", "distill=none", "seed=0")
    assert other.returncode == 1
    assert "holds a job that this sweep has not (" in other.stderr
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").rglob("*")} == files
    resumed = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), f"resume={tmp_path / 'sweep' / 'optimizer.lr=0.001'}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert not (tmp_path / "sweeps").exists()


def test_a_sweep_that_grows_by_another_key_runs_no_job_twice(tmp_path: Path) -> None:
    folders = {("kl", "0"): "distill=kl", ("kl", "1"): "distill=kl,seed=1", ("cwd", "0"): "x", ("cwd", "1"): "y"}
    for (method, seed), name in folders.items():
        task = [*TINY, *CROPS, *NO_REPORT, f"distill={method}", f"seed={seed}", f"cache_dir={tmp_path / 'cache'}"]
        config = sweep.job_identity(composed_config(*task))
        noted = {"overrides": settings_of(task), "task": task, "config": config, "tested": {"test/miou": 0.5}}
        write_json(tmp_path / "sweep" / name / STATUS, {"status": "finished", **noted})
    grown = multirun(tmp_path, "distill=kl,cwd", "seed=0,1")
    assert grown.returncode == 0, grown.stderr
    assert (grown.stdout + grown.stderr).count("finished before") == 4
    assert {path.parent.name for path in (tmp_path / "sweep").glob(f"*/{STATUS}")} == set(folders.values())
    assert [entry["seeds"] for entry in json.loads((tmp_path / "sweep" / "summary.json").read_text())] == [2, 2]


@pytest.mark.parametrize(
    ("swept", "complaint"),
    [
        ("schedule.powr=1,2", "schedule.powr: no such key; did you mean schedule.power"),
        ("schedule.power=0.9,-1", "schedule.power=-1.0: must be above 0"),
        ("distill=kl,klm", "In 'config': Could not find 'distill/klm'"),
    ],
)
def test_a_swept_key_or_value_that_is_not_allowed_stops_before_the_first_job(
    tmp_path: Path, swept: str, complaint: str
) -> None:
    ended = multirun(tmp_path, swept, "seed=0,1")
    assert ended.returncode == 1
    assert f"error: {complaint}" in ended.stderr
    assert not list((tmp_path / "sweep").glob("*/job.json"))


def test_a_full_disk_is_told_in_one_line_that_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        with Path("/dev/full").open("w") as file:
            file.write("x" * 100_000)

    monkeypatch.setattr(run, "filter_warnings", full)  # what a run begins with
    config = Mock(trainer=trainer_config("auto", "auto"), trusted_packages=[])
    with pytest.raises(UserError, match=r"the disk is full; make room and go on: python train.py resume="):
        run.run(config, tmp_path)
