"""Studies of the fast variants; each is a program that you run as `python -m reports.studies.NAME`."""
