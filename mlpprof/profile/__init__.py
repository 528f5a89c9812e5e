"""Where the time of a training step goes.

`variant` profiles a variant: its passes (`passes`) run in a worker. `program` profiles a user's program. `check` shows
before it whether a variant computes the right gradients.
"""
