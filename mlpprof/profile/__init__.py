"""Where the time of a training step goes.

`variant` profiles a variant: its passes (`passes`) run in a worker. `program` profiles a user's program:
`program_worker` records it, and `step_table` makes the phases, expressions and operations of the result. `check` shows
before it whether a variant computes the right gradients.
"""
