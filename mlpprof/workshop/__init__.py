"""The workshop: exercises on the way from the first version to the last rung, checked on the learner's machine."""
