"""`mlpprof doctor`: what this machine can do, and which settings hold it back.

examine.py: the whole examination, from outside.
settings.py: which settings are worth trying on a described machine, and what cannot be known about it.
pairs.py: what a setting gives: processes with and without it take turns.
worker.py: what such a process runs.
records.py: what comes out.
"""
