"""What the steps of a program do: every array operation with its values, its place in memory and its time."""
