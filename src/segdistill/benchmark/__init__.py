"""`python -m segdistill.benchmark training | inference`: times as ratios within one run."""
