"""The workshop: exercises on the way from the first version to the last rung, checked on the learner's machine.

`check` examines an answer and races it, which gives the speedup that `board` shows for a class.
"""
