# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What a sweep has found
#
# Reads the directory of a multirun, finished or not. Without one, a small sweep is run first: two methods and the
# student alone, two seeds each, at smoke size, where the figures mean nothing.

# %% tags=["parameters"]
SWEEP_DIR = None  # "sweeps/study/2026-01-31_12-00-00"
OVERRIDES = ["experiment=smoke", "distill=none,kl,dist", "seed=0,1", "callbacks=none", "logger=csv"]

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "train.py").is_file())
if SWEEP_DIR is None:
    SWEEP_DIR = Path(tempfile.mkdtemp()) / "sweep"
    command = [sys.executable, ROOT / "train.py", "-m", *OVERRIDES, f"hydra.sweep.dir={SWEEP_DIR}"]
    subprocess.run(command, cwd=ROOT, check=True)

# %% [markdown]
# ## Settings, best first
#
# Seeds repeat a setting, they are none of its own.

# %%
from segdistill.reporting.sweep.jobs import read_jobs

jobs = read_jobs(ROOT / SWEEP_DIR)
settings = jobs.by_setting()
for setting in settings:
    spread = "" if setting.deviation is None else f" +- {100 * setting.deviation:.2f}"
    print(f"{setting.values}: {100 * setting.mean:.2f}{spread} % over {len(setting.scores)} seeds")

# %% [markdown]
# ## Every seed

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for place, setting in enumerate(settings):
    axes.plot([place] * len(setting.scores), [100 * score for score in setting.scores], "o", alpha=0.6)
    axes.plot(place, 100 * setting.mean, "k_", markersize=24)
axes.set_xticks(range(len(settings)), [", ".join(setting.values.values()) for setting in settings])
axes.set_ylabel("test mean IoU, %")
plt.show()

# %% [markdown]
# ## Does distillation help?
#
# Gains over the student alone, paired over seeds, with Student's 95 % interval. An interval that holds 0 proves
# nothing.

# %%
from segdistill.reporting.sweep.comparison import study

compared = study(jobs)
if compared is None:
    print("no distill=none among the jobs: nothing to compare with")
else:
    for setting in settings:
        gain = compared.of(setting)
        if gain is not None:
            interval = (
                "" if gain.interval is None else " ({:+.2f} to {:+.2f})".format(*(100 * v for v in gain.interval))
            )
            print(f"{setting.values}: {100 * gain.mean:+.2f} points{interval}, {gain.verdict}")

# %% [markdown]
# ## The same as files
#
# `summary.{html,csv,json,png}` in the sweep's directory; `python -m segdistill.reporting.sweep DIR` writes them anew.

# %%
from segdistill.reporting.sweep.summary import summarise

summarise(ROOT / SWEEP_DIR)
