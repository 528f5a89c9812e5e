"""Showing a run: on the terminal and as files; every report is made from the `results.Run` alone."""
