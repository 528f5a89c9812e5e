"""Races and verdicts: which entrant is faster, by how much, and how certain that is.

An entrant (`entrants`) is a subject in an environment. One replicate (`replicate`) keeps all entrants ready in their
workers and times them in interleaved blocks (`race`); a live race (`live_race`) adds replicates until the loop that
decides (`verdict`) has enough of them. The statistics (`decide`, `error_bounds`) are pure functions; their error rates
are checked by `python -m reports.verdicts.simulated`. A ratio is the old time divided by the new one: above 1, new is
faster.

`variant_comparison` compares variants, and `variant_difference` shows where they differ. `programs` compares a user's
programs after `same_training`, and `program_difference` shows where they differ. `ladder`, `peers` and `autotune` make
tables of races, and `verify` computes a stored race again.
"""
