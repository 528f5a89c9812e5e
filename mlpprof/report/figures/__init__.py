"""Pictures: the only package that knows matplotlib; `mlpprof.report.figures.gallery` says which there are."""
