"""The published sources, each run with its author's claims beside what is measured here."""
