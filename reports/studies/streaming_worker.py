"""The worker of the streaming study: a process that trains from memory or from a file, if wanted in a cgroup."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import h5py
import numpy as np

from mlpprof import catalog
from mlpprof.data import load
from mlpprof.data.reading_cost import disk_speed, forget
from mlpprof.model.activations import sample_losses
from mlpprof.process import Progress, serve
from mlpprof.profile.prepare import Loader, Prepared
from mlpprof.profile.request import Request
from reports.studies.memory_worker import forget_peak, peak_bytes

EVALUATED = 10_000
"""The loss is evaluated on so many rows at a time."""


class Session:
    """What a worker has loaded."""

    def __init__(self) -> None:
        self._loader = Loader()
        self._it: Prepared | None = None
        self._instance: Any = None

    def join(self, report: Progress, folder: str) -> None:
        """Move this process into a cgroup."""
        Path(folder, "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")

    def open(self, report: Progress, request: dict[str, Any], batch: int) -> dict[str, Any]:
        """Load a variant and its data, or open the file, and train a little."""
        self._it = it = self._loader.prepare(Request.from_json(request), report)
        self._instance = it.subject.make()
        for index in islice(it.subject.walk(batch), 20):
            self._instance.train_step(it.subject.X, it.subject.Y, index)
        forget(Path(str(it.request.source.path)))
        forget_peak()
        return {"samples": it.subject.samples, "part_rows": it.request.source.part_rows}

    def turn(self, report: Progress, batch: int, limit_s: float) -> dict[str, Any]:
        """Train for an epoch, or for so long, with shuffling and with the wait for the first rows: steps a second."""
        assert self._it is not None
        subject, entry = self._it.subject, self._it.entry
        forget(Path(str(self._it.request.source.path)))
        steps, done = subject.samples // batch, 0
        with catalog.variant_code(entry):
            start, used_s = perf_counter(), process_time()
            for index in islice(subject.walk(batch), steps):
                self._instance.train_step(subject.X, subject.Y, index)
                done += 1
                if perf_counter() - start > limit_s:
                    break
            seconds, used_s = perf_counter() - start, process_time() - used_s
        record = None if subject.stream is None else subject.stream.record()
        return {
            "steps_s": done / seconds,
            "used_s": used_s / done,
            "peak": peak_bytes(),
            "hidden": None if record is None else record.hidden_share,
            "rereads": None if record is None else record.rereads,
        }

    def rows(self, report: Progress, batch: int, limit_s: float) -> float:
        """Rows a second of batches that are only taken from the file."""
        assert self._it is not None
        forget(Path(str(self._it.request.source.path)))
        done, start = 0, perf_counter()
        for index in self._it.subject.walk(batch):
            done += len(index)
            if perf_counter() - start > limit_s:
                break
        return done / (perf_counter() - start)

    def fancy_rows(self, report: Progress, path: str, batch: int, limit_s: float) -> float:
        """Rows a second of batches of random rows, each taken from the file through h5py."""
        rng, done = np.random.default_rng(0), 0
        forget(Path(path))
        with h5py.File(path) as file:
            X, Y = file["X"], file["Y"]
            start = perf_counter()
            while perf_counter() - start < limit_s:
                rows = np.sort(rng.choice(len(X), batch, replace=False))
                done += min(len(X[rows]), len(Y[rows]))
            return done / (perf_counter() - start)

    def disk(self, report: Progress, path: str) -> float:
        """Bytes a second that the disk gives."""
        return max(disk_speed(Path(path)) for _ in range(2))

    def losses(self, report: Progress, request: dict[str, Any], batch: int, epochs: int, seeds: int) -> list[float]:
        """The loss on all rows after some epochs, for each seed of weights and order."""
        found = []
        asked = Request.from_json(request)
        whole = load(replace(asked.source, part_rows=None))
        X, Y = whole.arrays(asked.network.layers[-1], np.float32)
        for seed in range(seeds):
            report(f"seed {seed}", seed / seeds)
            it = Loader().prepare(replace(asked, seed=seed), report)
            instance = it.subject.make()
            for index in islice(it.subject.walk(batch), epochs * (it.subject.samples // batch)):
                instance.train_step(it.subject.X, it.subject.Y, index)
            parts = range(0, len(X), EVALUATED)
            sums = [
                sample_losses(asked.network, instance.predict(X[i : i + EVALUATED]).T, Y[i : i + EVALUATED].T).sum()
                for i in parts
            ]
            found.append(float(sum(sums) / len(X)))
            if it.subject.stream is not None:
                it.subject.stream.close()
        return found


def main() -> None:
    """Serve the study until it ends."""
    session = Session()
    handlers = (
        session.join,
        session.open,
        session.turn,
        session.rows,
        session.fancy_rows,
        session.disk,
        session.losses,
    )
    serve({handler.__name__: handler for handler in handlers})
