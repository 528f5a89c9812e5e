"""Instruments that watch a training step. Each disturbs it, so each has a pass of its own (see `profile.passes`)."""
