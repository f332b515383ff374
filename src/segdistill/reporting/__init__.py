"""Reports for the readers of a run: results.json, tables, figures and pages."""
