"""What each column of a training run's rows is called, and what it is."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from ffengine.intervals import interval_of
from ffengine.results import SHARES, EpochRow, TrainResult
from service.results.text_tables import Column, TextTable

# names of files and fields -> what a page calls them
LABELS: dict[str, str] = {
    "seed": "seed",
    "layer": "layer",
    "epoch": "epoch",
    "split": "split",
    "samples": "samples",
    "dead_samples": "dead samples",
    "dead_units": "dead units",
    "sparsity": "sparsity S",
    "zero_fraction": "zero fraction",
    "treves_rolls": "Treves-Rolls sparseness",
    "gini": "Gini index",
    "kurtosis": "excess kurtosis",
    "goodness": "goodness G",
    "loss": "loss",
    "theorem1_ratio": "theorem 1, ratio",
    "theorem1_undecided": "theorem 1, undecided",
    "theorem2_ratio": "theorem 2 along the training step, ratio",
    "theorem2_undecided": "theorem 2, undecided",
    "observed_increase_ratio": "S rose in the training step",
    "agreement": "agreement of predicted and observed sign",
    "mask_flip_rate": "masks that flip",
    "near_zero_rate": "pre-activations near 0",
    "eta": "step size η",
    "coefficient_sum": "sum of the samples' weights",
    "input_norm": "length of the inputs",
    "tau": "flow time τ",
    "act": "act",
    "active_share": "active share p",
    "kappa": "evenness κ",
    "kappa_gap": "κ gap",
    "theorem2_margin": "theorem 2, size of margins",
    "theorem2_sd": "theorem 2, spread over batches",
    "theorem2_difference_ratio": "theorem 2 along the step on G(negative) - G(positive), ratio",
    "theorem2_expected_ratio": "theorem 2 averaged over all wrong labels, ratio",
    "log_goodness": "ln of mean |G|",
    "effective_units": "effective units",
    "effective_rank": "effective rank",
    "basins": "basins",
    "theorem2_total_ratio": "theorem 2, total condition, ratio",
    "joint_increase_ratio": "S rose in the joint step",
    "total_agreement": "agreement of the total condition",
    "local_agreement": "agreement of the local condition",
    "log_weight_norm": "ln of the weights' norm",
    "log_spectral_norm": "ln of the weights' spectral norm",
    "log_activation": "ln of mean |h|",
    "inherited_goodness": "goodness of other layers that is added",
    "gradient_share": "gradient beside that of the layer's own goodness",
    "used_units": "used units",
    "weight_sparsity": "sparsity S of the weights",
    "weight_gini": "Gini index of the weights",
    "excitatory_share": "share of positive weights",
    "entropy_rank": "entropy rank of the weights",
    "position_sparsity": "sparsity S of a position's channels",
    "pooled_sparsity": "sparsity S of sums over positions",
    "dead_positions": "dead positions",
    "theorem1_position_ratio": "theorem 1 of a position's channels, ratio",
    "theorem1_map_ratio": "theorem 1 of whole maps, ratio",
    "theorem1_pooled_ratio": "theorem 1 of sums over positions, ratio",
    "theorem2_position_ratio": "theorem 2 of a position's channels, ratio",
    "theorem2_pooled_ratio": "theorem 2 of sums over positions, ratio",
}
PLACE = ("seed", "layer", "epoch", "split")
MEANINGS = {
    "seed": "the number from which the run's randomness follows",
    "layer": "0 sees the data",
    "split": "positive or negative samples",
    "samples": "monitored samples of this split",
}
COLUMNS = (
    Column("figure", is_number=False),
    Column("column", "its name in curves.csv and in the API", is_number=False),
    Column("positive", "mean over seeds, positive samples"),
    Column("negative", "mean over seeds, negative samples"),
    Column("what it is", is_number=False),
)


def meaning_of(column: str) -> str:
    """What a column is, in a sentence without a capital."""
    meaning = MEANINGS.get(column) or EpochRow.model_fields[column].description or ""
    return meaning.replace("`", "")


def figure_tables(result: TrainResult) -> Iterator[TextTable]:
    """Every column of a training run after the last epoch of each layer, with its meaning."""
    layers: dict[int, list[EpochRow]] = defaultdict(list)
    for row in result.curves:
        rows = layers[row.layer]
        if rows and rows[0].epoch < row.epoch:
            rows.clear()
        if not rows or rows[0].epoch == row.epoch:
            rows.append(row)
    for layer, rows in sorted(layers.items()):
        of_layer = f", layer {layer}" if len(layers) > 1 else ""
        yield TextTable(
            f"All figures after epoch {rows[0].epoch:,}{of_layer}",
            COLUMNS,
            [
                [LABELS[name], name, *_values(rows, name), meaning_of(name)]
                for name in EpochRow.model_fields
                if name not in PLACE and any(getattr(row, name) is not None for row in rows)
            ],
            folded=True,
        )


def _values(rows: Sequence[EpochRow], name: str) -> Iterator[str]:
    for split in ("positive", "negative"):
        yield _value([row for row in rows if row.split == split], name)


def _value(rows: Sequence[EpochRow], name: str) -> str:
    if name == "act":
        acts = Counter(row.act for row in rows if row.act)
        return acts.most_common(1)[0][0] if acts else "–"
    found = interval_of(rows, name)
    if found is None or not math.isfinite(found.mean):
        return "–"
    return f"{found.mean:.4f}" if name in SHARES else f"{found.mean:,.5g}"
