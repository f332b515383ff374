"""`python -m segdistill.benchmarks training | inference`: times as ratios within one run."""
