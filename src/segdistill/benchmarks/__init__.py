"""`segdistill benchmark training | operators | loader | inference | soak`: times as ratios within one run."""
