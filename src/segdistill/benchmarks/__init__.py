"""`segdistill benchmark training | inference | soak`: times as ratios within one run."""
