import dataclasses

import numpy as np
import pytest

from mlpprof.data import DataFacts, DataSource, load
from mlpprof.errors import DataError, UsageError
from mlpprof.workloads import DEFAULT_WORKLOAD, WORKLOADS, get_workload, natural_outputs, resolve


@pytest.fixture
def npz(tmp_path):
    """A function that saves X (samples, features) of zeros with the given Y and returns the source."""

    def save(features: int, Y, samples: int | None = None) -> DataSource:
        Y = np.asarray(Y)
        np.savez(tmp_path / "data.npz", X=np.zeros((samples or len(Y), features)), Y=Y)
        return DataSource(path=str(tmp_path / "data.npz"))

    return save


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_fits_its_own_data(name):
    assert resolve(name) == WORKLOADS[name]


@pytest.mark.parametrize("name", ["tiny", "persample", "forever", "optprop", "digits"])
def test_every_workload_s_data_become_the_arrays_of_its_network(name):
    workload = get_workload(name)
    X, Y = load(workload.source).arrays(workload.network.layers[-1], np.float32)
    assert (X.shape[1], Y.shape[1]) == (workload.network.layers[0], workload.network.layers[-1])
    assert len(X) >= workload.batch


def test_the_workloads_have_the_sizes_of_their_sources():
    shown = {name: (w.network.text, w.batch) for name, w in WORKLOADS.items()}
    assert shown == {
        "digits": ("784-70-30-10", 500),
        "tiny": ("20-8-5-3", 30),
        "workshop": ("784-40-40-40-40-10", 200),
        "stepiii": ("784-70-30-10", 500),
        "persample": ("1000-900-900-900-10", 100),
        "forever": ("39-39-39-1", 10_000),
        "liu": ("784-16-16-10", 1),
        "optprop": ("12288-20-7-5-1", 209),
    }
    optprop = WORKLOADS["optprop"].network
    assert (optprop.hidden, optprop.output, optprop.loss, optprop.rate) == ("relu", "sigmoid", "cross_entropy", 0.0075)
    persample = WORKLOADS["persample"].network
    assert (persample.loss, persample.rate, persample.momentum) == ("squared_error", 0.1, 0.0)


def test_a_mistyped_workload_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"no workload 'optrop'; did you mean 'optprop'\?"):
        get_workload("optrop")


def test_without_options_it_is_the_default():
    assert resolve() == WORKLOADS[DEFAULT_WORKLOAD] == WORKLOADS["digits"]


def test_other_data_set_the_sizes_of_input_and_output_and_keep_the_hidden_layers(npz):
    workload = resolve(source=npz(7, [0, 1, 2, 3, 3, 1]))
    assert workload.network.layers == (7, 70, 30, 4)
    assert workload.source.text.endswith("data.npz")


@pytest.mark.parametrize(
    ("output", "outputs"),
    [("sigmoid", 1), ("softmax", 2)],
)
def test_two_classes_take_one_sigmoid_or_two_softmax_outputs(npz, output, outputs):
    assert resolve(source=npz(3, [0, 1, 1]), output=output).network.layers[-1] == outputs


def test_one_class_alone_still_makes_a_network():
    assert natural_outputs(DataFacts(3, 0, 2, 1), "sigmoid") == 1
    assert natural_outputs(DataFacts(3, 0, 2, 1), "softmax") == 2


def test_real_targets_take_an_output_each(npz):
    source = npz(3, [[0.5, 7.0], [1.5, 2.0]])
    assert resolve(source=source, loss="squared_error", output="identity").network.layers == (3, 70, 30, 2)


def test_cross_entropy_refuses_targets_beyond_0_and_1_and_says_what_to_use(npz):
    source = npz(3, [[0.5, 7.0], [1.5, -2.0]])
    with pytest.raises(UsageError, match=r"are from -2 to 7; use --loss squared_error --output identity"):
        resolve(source=source)


def test_layers_that_do_not_fit_the_features_are_shown_with_both_numbers(npz):
    with pytest.raises(UsageError, match=r"layers 784-10-4 have 784 inputs, but .* has 7 features.*--layers 7-10-4"):
        resolve(source=npz(7, [0, 1, 2, 3]), layers=(784, 10, 4))


def test_layers_are_checked_against_the_workload_s_own_data_too():
    with pytest.raises(UsageError, match="have 100 inputs, but the data 'digits' has 784 features"):
        resolve(layers=(100, 10))


@pytest.mark.parametrize("outputs", [1, 3])
def test_too_few_outputs_are_shown_with_both_numbers(npz, outputs):
    with pytest.raises(UsageError, match=rf"have {outputs} outputs, but .* has 4 classes; use --layers 7-9-4"):
        resolve(source=npz(7, [0, 1, 2, 3]), layers=(7, 9, outputs))


def test_more_outputs_than_classes_are_allowed(npz):
    assert resolve(source=npz(7, [0, 1, 2]), layers=(7, 9, 10)).network.layers == (7, 9, 10)


def test_targets_need_exactly_as_many_outputs(npz):
    with pytest.raises(UsageError, match=r"have 3 outputs, but .* has 2 targets per sample; use --layers 3-2"):
        resolve(source=npz(3, [[0.5, 0.1], [0.2, 0.9]]), layers=(3, 3))


def test_the_other_reading_of_forever_is_a_matter_of_layers():
    assert resolve("forever", layers=(39, 39, 39, 39)).network.layers == (39, 39, 39, 39)


def test_only_what_is_given_is_replaced():
    changed = resolve("tiny", rate=0.25, hidden=None, momentum=0.0).network
    assert changed == dataclasses.replace(WORKLOADS["tiny"].network, rate=0.25, momentum=0.0)


def test_what_makes_no_network_is_refused():
    with pytest.raises(UsageError, match="momentum"):
        resolve("tiny", momentum=1.5)
    with pytest.raises(UsageError, match="hidden activation"):
        resolve("tiny", hidden="sigmoi")


def test_a_batch_never_exceeds_other_data_and_full_batches_stay_full(npz):
    source = npz(3, np.arange(40) % 2)
    assert resolve(source=source).batch == 40
    assert resolve("tiny", source=source).batch == 30
    assert resolve("optprop", source=source).batch == 40
    assert resolve("optprop", source=npz(3, np.arange(5000) % 2)).batch == 5000


@pytest.mark.parametrize("batch", [0, -3, 41])
def test_a_batch_beyond_the_samples_is_shown_with_both_numbers(npz, batch):
    with pytest.raises(UsageError, match=f"batch {batch} is out of range; expected 1 to 40"):
        resolve(source=npz(3, np.arange(40) % 2), batch=batch)
    assert resolve(source=npz(3, np.arange(40) % 2), batch=40).batch == 40


def test_data_that_cannot_be_read_are_the_reader_s_to_explain(npz):
    with pytest.raises(DataError, match="X has 5 samples, but Y has 2"):
        resolve(source=npz(3, [0, 1], samples=5))


def test_the_real_cats_fit_the_optimized_propagation(shared_data):
    workload = resolve("optprop", source=DataSource(path=str(shared_data / "train_catvnoncat.h5")))
    assert (workload.network, workload.batch) == (WORKLOADS["optprop"].network, 209)
