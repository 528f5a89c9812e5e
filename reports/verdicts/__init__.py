"""How often verdicts err: simulated over modelled and recorded noise (`simulated`), and counted on a real machine.

`noise` models what timings do, and loads the timings that `record_noise` took on a real machine; `real_trials` counts
the outcomes of complete assertions. `bias` measures where the bias of processes comes from, and `elsewhere` decides the
same timings by other procedures.
"""
