"""Instruments that watch a training step. Each disturbs, so each is used in a pass of its own (see `profile.passes`)."""
