"""`segdistill benchmark training | loader | inference | soak`: times as ratios within one run."""
