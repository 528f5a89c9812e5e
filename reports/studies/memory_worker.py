"""The worker of the memory study: a fresh process for one rung, which reports the peak of its memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psutil

from mlpprof import catalog
from mlpprof.model.gradcheck import close
from mlpprof.process import Progress, serve
from mlpprof.profile.prepare import Loader
from mlpprof.profile.request import Request

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
STEPS = 6


def peak_bytes() -> int:
    """The peak of this process's resident memory since its start, or since `forget_peak`."""
    # /proc is read because ru_maxrss begins with the peak of the process that started this one.
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"))
    return 1024 * int(found.group(1)) if found else 0


def forget_peak() -> None:
    """Start the peak anew from the memory that is resident now."""
    CLEAR.write_text("5", encoding="utf-8")


def steps(report: Progress, request: dict[str, Any], batch: int) -> dict[str, int]:
    """Resident bytes after the libraries and the variant are loaded, after the data are loaded, and the steps' peak.

    Reading the data has a peak of its own, which does not count for the rung.
    """
    report("loading", 0.0)
    asked = Request.from_json(request)
    catalog.load(catalog.find(asked.variant))
    libraries = psutil.Process().memory_info().rss
    it = Loader().prepare(asked, report)
    data = it.subject.X.nbytes + it.subject.Y.nbytes
    with_data = psutil.Process().memory_info().rss
    forget_peak()
    report("training", 0.3)
    instance = it.subject.make()
    try:
        with catalog.variant_code(it.entry):
            walk = it.subject.walk(batch)
            if hasattr(instance, "train"):
                instance.train(it.subject.X, it.subject.Y, [next(walk) for _ in range(STEPS)])
            else:
                for _ in range(STEPS if batch * STEPS <= len(it.subject.X) else 3):
                    instance.train_step(it.subject.X, it.subject.Y, next(walk))
        return {"libraries": libraries, "data": data, "with_data": with_data, "peak": peak_bytes()}
    finally:
        close(instance)


def main() -> None:
    """Serve the study until it ends."""
    serve({"steps": steps})
