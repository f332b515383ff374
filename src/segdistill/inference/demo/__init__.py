"""A page on which exported files are tried on one's own images: `segdistill demo RUN_DIR|DIR|FILE...`; no torch."""
