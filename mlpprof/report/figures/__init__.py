"""Figures: only this package imports matplotlib; `mlpprof.report.figures.gallery` lists them."""
