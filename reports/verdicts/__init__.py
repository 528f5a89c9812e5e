"""The error rates of the verdicts, simulated over modelled and recorded noise: `python -m reports.verdicts`.

`noise` models what timings do, `recorded` draws from timings that `recorder` took on a real machine, `trials` runs the
procedure of `mlpprof.compare` and the naive alternatives over both, `tables` shows what came out.
"""
