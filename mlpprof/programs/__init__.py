"""A user's unchanged program: load it, find its training step, record what the step does."""
