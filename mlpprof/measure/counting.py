"""The counts pass: one step of a fresh instance, every operation seen, nothing timed."""

from __future__ import annotations

from typing import cast

from mlpprof.catalog import variant_code
from mlpprof.instrument.counts import Recorder, TooManyOperations, counted_module
from mlpprof.instrument.useful import mark_useful
from mlpprof.measure.prepare import Prepared
from mlpprof.model import Variant
from mlpprof.model.gradcheck import close
from mlpprof.results import Operation


def count_step(it: Prepared, m: int) -> tuple[tuple[Operation, ...], tuple[str, ...]]:
    """The operations of the second step at batch size m, and what could not be counted.

    The first step may make arrays that later ones use again. No operations where there are too many to count.
    Raises VariantCrash where the variant's code raises.
    """
    network = it.request.network
    recorder = Recorder(str(it.module.__file__))
    indices = it.subject.walk(m)
    with variant_code(it.entry):
        copy = counted_module(it.module, it.source, recorder)
        counted = cast(type[Variant], getattr(copy, it.cls.__name__))
        instance = counted(network, network.initial_parameters(it.request.seed, it.subject.X.dtype))
        recorder.watch(instance)
        try:
            instance.train_step(it.subject.X, it.subject.Y, next(indices))
            recorder.start()
            instance.train_step(it.subject.X, it.subject.Y, next(indices))
        except TooManyOperations as reason:
            return (), (str(reason),)
        finally:
            recorder.recording = False
            close(instance)
    return mark_useful(recorder.operations(), network, m), tuple(recorder.uncounted)
