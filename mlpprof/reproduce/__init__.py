"""Published sources about the speed of such networks: what their authors claim, and what is measured here.

`sources` lists them and runs them, one module each; `rules` decides whether a claim holds.
"""
