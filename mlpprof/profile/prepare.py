"""Inside a worker: from a request to a loaded variant on loaded data, ready to be run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np

from mlpprof import catalog
from mlpprof.data import Dataset, DataSource, Stream, StreamedSet, load_stream
from mlpprof.data import load as load_data
from mlpprof.errors import UsageError, VariantError
from mlpprof.instrument.clocks import LabelClock, instrumented_module, stray_labels
from mlpprof.model import Array, Variant
from mlpprof.model.gradcheck import EQUIVALENCE_TOLERANCE, Case, close, first_gradients, layer_deviations
from mlpprof.process import Progress
from mlpprof.profile.check import load_pair
from mlpprof.profile.passes import Subject
from mlpprof.profile.request import Request
from mlpprof.profile.streams import StreamRequest, require_streaming
from mlpprof.results import CheckResult

DTYPES: dict[str, type] = {"float32": np.float32, "float64": np.float64}
OWN_CASE_ROWS = 64
"""The gradients are compared on this many rows of the user's data before anything is timed."""


class SharedArrays:
    """Samples that one worker has made ready for the next ones, as .npy files in a folder that lives as long as a race.

    To read them takes a tenth of the time of making them again. Every worker still gets arrays in memory of its own, so
    that processes stay independent replicates.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: object) -> tuple[Array, Array] | None:
        """The pair of arrays that an earlier worker has kept under the key."""
        paths = self._paths(key)
        if not all(path.is_file() for path in paths):
            return None
        X, Y = (np.load(path, allow_pickle=False) for path in paths)
        return X, Y

    def keep(self, key: object, arrays: tuple[Array, Array]) -> None:
        """Keep them for later workers; without room on the disk, these make their own."""
        for path, array in zip(self._paths(key), arrays, strict=True):
            # not write_atomically: waiting for the disk takes longer than making the arrays
            part = path.with_suffix(".part")
            try:
                with part.open("wb") as file:
                    np.save(file, array, allow_pickle=False)
                part.replace(path)
            except OSError:
                part.unlink(missing_ok=True)

    def _paths(self, key: object) -> tuple[Path, Path]:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return self._folder / f"X-{digest}.npy", self._folder / f"Y-{digest}.npy"


@dataclass(frozen=True)
class Prepared:
    """A variant and its data, loaded. warnings: about the file, for the user."""

    request: Request
    entry: catalog.Entry
    cls: type[Variant]
    parent: type[Variant] | None
    module: ModuleType
    source: str
    load_data: Callable[[], Dataset | StreamedSet]
    subject: Subject
    warnings: tuple[str, ...]

    @property
    def data(self) -> Dataset | StreamedSet:
        """The data set; it is loaded only when it is needed, since an earlier worker may have made the arrays ready."""
        return self.load_data()

    @property
    def whole_data(self) -> Dataset:
        """The data set, for those who never stream it."""
        data = self.data
        assert isinstance(data, Dataset)
        return data

    @property
    def dtype(self) -> str:
        """float32 or float64."""
        return str(self.subject.X.dtype.name)

    def own_case(self) -> Case:
        """The network to be measured, in float64, on the first rows of its data."""
        network, stream = self.request.network, self.subject.stream
        if stream is None:
            X, Y = (values[:OWN_CASE_ROWS].astype(np.float64) for values in (self.subject.X, self.subject.Y))
        else:
            head = stream.data.head(OWN_CASE_ROWS, network.layers[-1], stream.X.dtype)
            X, Y = (values.astype(np.float64) for values in head)
        return Case(network, network.initial_parameters(self.request.seed), X, Y, np.arange(len(X)))

    def require_batch(self, batch: int) -> None:
        """Raise UsageError if the data has fewer samples than the batch, or a part of a stream has."""
        samples, stream = self.subject.samples, self.subject.stream
        if batch > samples:
            raise UsageError(f"batch {batch} is larger than the {samples} samples; use --batch {samples} or fewer")
        if stream is not None and batch > stream.plan.smallest_part:
            most = stream.plan.smallest_part
            raise UsageError(f"batch {batch} is larger than a part of the stream of {most} rows; use --batch {most}")
        if stream is not None and batch % stream.plan.shares:
            shares = stream.plan.shares
            raise UsageError(
                f"with --stream, each of the {shares} ranks reads its own rows of a batch, but batch {batch} cannot be "
                f"divided by {shares}; use --batch {max(1, batch // shares) * shares}"
            )


class Loader:
    """Loads variants and data; variants with the same data and dtype share its arrays.

    shared: the arrays that other workers of the race have made ready.
    """

    def __init__(self, shared: SharedArrays | None = None) -> None:
        self.shared = shared
        self._data: dict[DataSource, Dataset | StreamedSet] = {}
        self._streams: dict[StreamRequest, Stream] = {}
        self._arrays: dict[tuple[DataSource, int, int, str], tuple[Array, Array]] = {}

    def prepare(self, request: Request, report: Progress) -> Prepared:
        """Load the variant and its data, and refuse them if they do not fit together.

        Raises any MlpprofError of the catalog, of the data, or of the variant's constructor (UnsupportedNetwork).
        """
        report("loading the variant", 0.0)
        entry = catalog.find(request.variant)
        entry = replace(entry, name=request.name or entry.name)
        cls, parent = load_pair(entry, catalog.ladder())
        source = entry.source()
        warnings = label_warnings(entry, source)
        module = catalog.module_of(cls)
        report("loading the data", 0.05)
        network = request.network
        dtype = DTYPES[request.dtype] if request.dtype is not None else _own_dtype(entry, cls)

        def make() -> Variant:
            with catalog.variant_code(entry):
                return cls(network, network.initial_parameters(request.seed, dtype))

        def make_labelled(clock: LabelClock) -> Variant:
            with catalog.variant_code(entry):
                copy = instrumented_module(module, source, clock)
                labelled = cast(type[Variant], getattr(copy, cls.__name__))
                return labelled(network, network.initial_parameters(request.seed, dtype))

        with catalog.own_modules(entry):
            instance = make()  # a network that this variant cannot do is refused here
            shares = getattr(getattr(instance, "ranks", None), "size", 1)
            close(instance)
        stream = self._stream_for(request, dtype, shares)
        X, Y = self._arrays_for(request, dtype) if stream is None else (stream.X, stream.Y)
        if stream is not None and shares == 1:
            with catalog.variant_code(entry):
                require_streaming(entry.name, cls, network, X.dtype)
        subject = Subject(X, Y, request.seed, make, make_labelled, stream)
        load = partial(self._load, request.source)
        return Prepared(request, entry, cls, parent, module, source, load, subject, tuple(warnings))

    def _load(self, source: DataSource) -> Dataset | StreamedSet:
        if source not in self._data:
            self._data[source] = load_data(source) if source.part_rows is None else load_stream(source)
        return self._data[source]

    def _stream_for(self, request: Request, dtype: type, shares: int) -> Stream | None:
        """The stream that all variants of this dtype share; None if the set is read into memory.

        shares: the number of MPI's ranks, each of which reads its own rows.
        """
        if request.source.part_rows is None:
            return None
        asked = StreamRequest(request.source, request.network.layers[-1], np.dtype(dtype).name, request.seed, shares)
        if asked not in self._streams:
            data = self._load_fitting(request)
            assert isinstance(data, StreamedSet)
            self._streams[asked] = asked.open_here(data)
        return self._streams[asked]

    def _arrays_for(self, request: Request, dtype: type) -> tuple[Array, Array]:
        source, layers = request.source, request.network.layers
        key = (source, layers[0], layers[-1], np.dtype(dtype).name)
        if key not in self._arrays:
            found = None if self.shared is None else self.shared.get(key)
            self._arrays[key] = found or self._make_arrays(request, dtype)
            if self.shared is not None and found is None:
                self.shared.keep(key, self._arrays[key])
        return self._arrays[key]

    def _make_arrays(self, request: Request, dtype: type) -> tuple[Array, Array]:
        data = self._load_fitting(request)
        assert isinstance(data, Dataset)
        return data.arrays(request.network.layers[-1], dtype)

    def _load_fitting(self, request: Request) -> Dataset | StreamedSet:
        layers, data = request.network.layers, self._load(request.source)
        if data.features != layers[0]:
            raise UsageError(
                f"the network {request.network.text} takes {layers[0]} inputs, but {data.name} has samples of "
                f"{data.features}; use --layers {data.features}-..."
            )
        return data


def check_agreement(ours: Prepared, theirs: Prepared) -> CheckResult:
    """Whether two variants have the same gradients on the network and data to be measured, in float64."""
    case = ours.own_case()
    with catalog.variant_code(ours.entry):
        _, our_gradients = first_gradients(ours.cls, case)
    with catalog.variant_code(theirs.entry):
        _, their_gradients = first_gradients(theirs.cls, case)
    found = layer_deviations("gradients against the parent", our_gradients, their_gradients, EQUIVALENCE_TOLERANCE)
    worst = max(found, key=lambda deviation: deviation.severity)
    ok = worst.severity <= 1
    names = f"{ours.entry.name}: layer {worst.layer}: gradients deviate from those of {theirs.entry.name}"
    message = "" if ok else f"{names} by {worst.size:.1e}, at most {worst.tolerance:.0e} is allowed"
    return CheckResult(ours.entry.name, ok, worst.size, worst.tolerance, worst.layer, worst.what, None, message)


def label_warnings(entry: catalog.Entry, source: str) -> list[str]:
    """Warnings about labels that end no statement; in the catalog's own files, such a label is an error."""
    messages = [
        f"{entry.path.name}:{stray.line}: the label '{stray.label}' ends no statement, so nothing is timed under it"
        for stray in stray_labels(source)
    ]
    if messages and entry.own:
        raise VariantError(messages[0])
    return messages


def _own_dtype(entry: catalog.Entry, cls: type[Variant]) -> type:
    try:
        name = np.dtype(cls.DTYPE).name
    except TypeError:  # it may be anything
        name = repr(cls.DTYPE)
    if name not in DTYPES:
        raise VariantError(f"{entry.path.name}: DTYPE {name} is not measured; expected float32 or float64")
    return DTYPES[name]
