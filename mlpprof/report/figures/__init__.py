"""Pictures: the only package that knows matplotlib; `mlpprof.report.gallery` says which there are."""
