"""The bank of pairs whose negatives are drawn once: what it holds, and in how much memory."""

import pytest
import torch

from ffengine.bank import Bank
from ffengine.monitor import paired
from ffengine.network import Network
from ffengine.pairs import Pairs, RelabelledPairs
from ffengine.random_streams import Draws
from ffengine.samples import Samples, load_samples
from ffengine.spec import TrainSpec
from tests.engine.specs import spec_of

CPU = torch.device("cpu")


def bank_of(spec: TrainSpec) -> tuple[Bank, Network, Samples, Draws]:
    train, draws = load_samples(spec.dataset, CPU).train, Draws(spec.seeds)
    network = Network.initial(spec.network, train.labelled.shape[1], draws, CPU)
    return Bank(spec, network, train, draws), network, train, draws


@pytest.mark.parametrize("negatives", [{}, {"image": "any"}, {"strategy": "mix"}])
@pytest.mark.parametrize("normalize", ["none", "l2"])
@pytest.mark.parametrize("seeds", [(0,), (1, 2, 3)])
@pytest.mark.parametrize("preprocess", ["unit_norm", "center"])
def test_a_bank_holds_the_pairs_that_its_strategy_makes(
    negatives: dict[str, str], normalize: str, seeds: tuple[int, ...], preprocess: str
) -> None:
    spec = spec_of(
        negatives={"redraw": "once", **negatives},
        network={
            "widths": [9, 7],
            "bias": True,
            "normalize": normalize,
            "normalize_first": normalize != "none",
        },
        dataset={"train_samples": 130, "test_samples": 1, "preprocess": preprocess},
        seeds=list(seeds),
    )
    bank, network, train, draws = bank_of(spec)
    everything = torch.arange(130).expand(len(seeds), -1)
    x = paired(spec, train, everything, draws, ("negatives-once", 0), None)
    index = torch.stack([torch.randperm(130) for _ in seeds])
    for layer in (0, 1):
        expected = network.layer_input(layer, x).unflatten(1, (2, -1))
        for chosen in (index[:, :31], index):
            pairs = bank.batch(layer, chosen)
            found = torch.stack(pairs.split(), dim=1)
            # all samples come in their own order
            rows = chosen if chosen.shape[1] < 130 else everything
            for replica, own in enumerate(rows):
                assert torch.allclose(found[replica], expected[replica][:, own], atol=1e-5)


def test_relabelled_positives_are_held_once_for_all_seeds() -> None:
    spec = spec_of(negatives={"redraw": "once"}, seeds=[1, 2, 3])
    bank, *_ = bank_of(spec)
    pairs = bank.batch(0, torch.arange(120).expand(3, -1))
    assert isinstance(pairs, RelabelledPairs)
    held = sum(tensor.untyped_storage().nbytes() for tensor in pairs)
    assert held == 4 * 120 * (784 + 3 * 10)  # both copies of each seed are 4 * 3 * 240 * 784


def test_memory_of_the_layer_below_is_used_again_where_it_fits() -> None:
    spec = spec_of(
        negatives={"redraw": "once", "image": "any"}, network={"widths": [784, 784], "bias": False}
    )
    bank, *_ = bank_of(spec)
    index = torch.arange(120).unsqueeze(0)
    first, second = bank.batch(0, index), bank.batch(1, index)
    assert isinstance(first, Pairs)
    assert first.x.data_ptr() == second.x.data_ptr()
