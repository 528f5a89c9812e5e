"""Showing results on the terminal and as files: every report is made from records, and measures nothing."""
