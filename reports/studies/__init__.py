"""Studies of the fast rungs: goals, sweep over shapes, memory and scaling; each a program of its own, `python -m`."""
