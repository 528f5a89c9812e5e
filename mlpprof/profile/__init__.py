"""Where the time of a step goes: the interleaved passes of `profile`, and the check before them."""
