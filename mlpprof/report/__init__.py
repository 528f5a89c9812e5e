"""Showing results on the terminal and as files: every report is made from a record of `results` alone."""
