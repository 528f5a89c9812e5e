"""Measuring: what runs in the worker processes, and what tells them to."""
