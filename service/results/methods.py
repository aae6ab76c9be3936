"""The methods paragraph of a paper, written from a spec and how its result was obtained.

Each sentence is about something that the spec uses, and true of every run that it is said of.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from pydantic import JsonValue

from ffengine.attempts import stretches
from ffengine.baselines import Baseline
from ffengine.datasets import DATASETS
from ffengine.entry import Entry, is_constant, meaning_of
from ffengine.findings.wording import listed
from ffengine.inits import INITS
from ffengine.label_codes import OneHot
from ffengine.layer_kinds import layer_in_words
from ffengine.negatives import AnyNegatives
from ffengine.objectives import MultiClass, Objective, Polar, Thresholded
from ffengine.optimizers import SCHEDULES, AnyOptimizer
from ffengine.references import (
    EVERY_LAYER_SOURCE,
    INTERVALS_SOURCE,
    REFERENCES,
    SAMPLERS,
    SOURCES,
    THEOREMS_SOURCE,
)
from ffengine.results import Provenance
from ffengine.search import searched
from ffengine.search_spec import Range
from ffengine.spec import (
    PREPROCESS_MEANING,
    CheckSpec,
    DatasetSpec,
    ForecastSpec,
    NetworkSpec,
    RecordedSpec,
    StoredSpec,
    StudySpec,
    TrainedWeights,
    TrainSpec,
    UnreadSpec,
    UploadedWeights,
)
from ffengine.spec_values import value_in_words
from ffengine.study import Cell, expand
from ffengine.theorems import DIRECTIONS
from service.encoding.latex import for_latex
from service.results.run_labels import labels_of, run_keys

Form = Literal["txt", "md", "tex"]
FORMS: tuple[Form, ...] = ("txt", "md", "tex")
CITATION = re.compile(r"⟦([a-z0-9,]+)⟧")  # stands behind what a sentence cites
WITH_SOURCE = re.compile(r" \([^()]*(?:\d{4}|arXiv)[^()]*\)")
AS_ANOTHER = ("negative_threshold",)  # fields that where they are null say what another one says
COSTS = re.compile(r"; costs? .*")
OPENING = re.compile(r"[A-Z][a-z]|A ")  # of a sentence, unlike a letter of the theory
MOST_NAMED = 4  # runs that a sentence names
CHARACTERS = 400  # of a list that a sentence holds
LISTED = 12  # seeds that are listed one by one
MEASURES = {"accuracy": "accuracy by goodness", "auc": "AUC of the goodness", "loss": "loss"}
MEASURED = {
    "gini": "Sparsity is also measured by the Gini index⟦hurley2009⟧.",
    "kurtosis": "Sparsity is also measured by the excess kurtosis.",
    "spectral_norm": "The spectral norm of each layer's weights is measured, too.",
    "weights": "Of each layer's weights Hoyer's sparsity, the Gini index⟦hurley2009⟧, the share of "
    "positive ones and the entropy of the singular values⟦roy2007⟧ are measured, too.",
    "readings": "Sparsity and the theorems are also measured of the channels at each position, and "
    "of their sums over positions.",
}


class Statement(NamedTuple):
    """A sentence about one topic of a run."""

    topic: str
    text: str


def methods(
    spec: StoredSpec,
    provenance: Sequence[Provenance],
    cells: Sequence[Cell] | None = None,
    *,
    form: Form,
) -> str:
    """The methods paragraph.

    **Arguments:**

    - `spec`: what was computed.
    - `provenance`: of its result, or of the results of a study's runs; none before there is one.
    - `cells`: of a study, its runs; None: all that its spec says.
    - `form`: plain text, Markdown with citations as Pandoc has them, or LaTeX.
    """
    sentences = sentences_of(spec, provenance, cells)
    if form == "tex":
        return "\n".join(_latex(sentence) for sentence in sentences) + "\n"
    cited = "[@{}]" if form == "md" else ""
    text = " ".join(CITATION.sub(lambda found: _cited(found[1], cited), one) for one in sentences)
    return f"{text}\n"


def _cited(keys: str, form: str) -> str:
    return " " + form.format("; @".join(keys.split(","))) if form else ""


def _latex(sentence: str) -> str:
    parts = CITATION.split(sentence)
    found = [rf"~\cite{{{part}}}" if at % 2 else _spaced(part) for at, part in enumerate(parts)]
    return "".join(found)


def _spaced(part: str) -> str:
    """A part of a sentence in LaTeX, with the blanks around it."""
    before = " " if part.startswith(" ") else ""
    after = " " if part.endswith(" ") and part.strip() else ""
    return f"{before}{for_latex(part)}{after}"


def sentences_of(
    spec: StoredSpec, provenance: Sequence[Provenance], cells: Sequence[Cell] | None = None
) -> list[str]:
    """The sentences, with the keys of what they cite behind the words."""
    if isinstance(spec, RecordedSpec):
        by = f"by {spec.program}" if spec.program else "by another program"
        return [f"The run was computed {by}, not by fflab, which recorded its curves."]
    if isinstance(spec, UnreadSpec):
        return ["Another version of fflab computed the run; this one cannot read its spec."]
    if isinstance(spec, StudySpec):
        runs = expand(spec) if cells is None else cells
        return [*_study(spec, runs), *_computed(provenance)]
    first = provenance[0] if provenance else None
    return [one.text for one in statements(spec, first)] + _computed(provenance)


def _study(spec: StudySpec, cells: Sequence[Cell]) -> list[str]:
    """What the runs of a study share, and what is true of some of them."""
    labels = [
        label or key.label
        for label, key in zip(labels_of(cells, spec), run_keys(cells), strict=True)
    ]
    said: dict[str, list[Statement]] = {}
    runs: dict[Statement, list[str]] = {}
    for cell, label in zip(cells, labels, strict=True):
        for statement in statements(cell.spec, None):
            runs.setdefault(statement, []).append(label or _kind(cell))
    for statement in runs:
        said.setdefault(statement.topic, []).append(statement)
    sources = _sources("presets", spec.preset or "")
    preset = f", the preset {spec.preset}{sources}," if spec.preset else ""
    kinds = Counter(cell.spec.kind for cell in cells)
    counted = " and ".join(f"{count} of kind {kind}" for kind, count in kinds.items())
    opening = f"The study{preset} has {len(cells)} run{'s' * (len(cells) != 1)}: {counted}."
    return [
        opening,
        *_search(spec),
        *(
            _of_some(statement, runs[statement], len(cells))
            for topic in said.values()
            for statement in topic
        ),
    ]


def _search(spec: StudySpec) -> Iterator[str]:
    """How the trials of a search were chosen, and from what."""
    found = searched(spec)
    if found is None:
        return
    search = found.search
    sampler = f"{search.sampler} of Optuna" if search.method == "optuna" else "uniformly at random"
    keys = SAMPLERS[search.sampler] if search.method == "optuna" else ()
    cited = f" ⟦{','.join(keys)}⟧" if keys else ""
    space = "; ".join(f"{field} {_choice(choice)}" for field, choice in search.space.items())
    pruned = f", with trials pruned by {search.prune}" if search.prune else ""
    yield (
        f"The runs are the trials of a search, at most {search.trials}, which are chosen "
        f"{'by ' if keys else ''}{sampler}{cited} with seed {search.seed} to {search.direction} "
        f"{_plain(str(found.objective.key))}{pruned}, from {_plain(space)}."
    )


def _choice(choice: Range | list[JsonValue]) -> str:
    """What a field of a space may be, in words."""
    if isinstance(choice, Range):
        scale = ", on a logarithmic scale" if choice.log else ""
        return f"between {choice.low:g} and {choice.high:g}{scale}"
    return f"of {', '.join(value_in_words(one) for one in choice)}"


def _kind(cell: Cell) -> str:
    if isinstance(cell.spec, CheckSpec):
        return f"theorem {cell.spec.theorem}"
    return cell.part or cell.spec.kind


def _of_some(statement: Statement, labels: Sequence[str], all_of_them: int) -> str:
    """A sentence, with the runs that it is about where it is not about all."""
    if len(labels) == all_of_them:
        return statement.text
    named = _plain("; ".join(labels))
    few = len(labels) <= MOST_NAMED and len(named) <= CHARACTERS
    which = named if few else f"{len(labels):,} of {all_of_them:,} runs"
    return f"{statement.text[:-1]} (in {which})."


def _plain(text: str) -> str:
    """A user's text without the signs that mark citations."""
    return text.replace("⟦", "[").replace("⟧", "]")


def statements(
    spec: TrainSpec | CheckSpec | ForecastSpec, provenance: Provenance | None
) -> Iterator[Statement]:
    """Yield what is to be said of one run, in the order of a methods section."""
    yield Statement("data", _data(spec.dataset, provenance))
    yield Statement("inputs", f"Inputs are {_inputs(spec.dataset)}.")
    if isinstance(spec, TrainSpec):
        yield from _training(spec)
    elif isinstance(spec, CheckSpec):
        yield from _check(spec)
    else:
        yield from _forecast(spec)
    yield from _seeds(spec)


def _data(dataset: DatasetSpec, provenance: Provenance | None) -> str:
    name = f"{_plain(dataset.name)}{_sources('datasets', dataset.name)}"
    if provenance is not None:
        found = provenance.dataset
        held_out = f", {found.validation_samples:,} validation" * bool(found.validation_samples)
        return (
            f"The data set is {name}: {found.train_samples:,} training{held_out} and "
            f"{found.test_samples:,} test samples (SHA-256 {found.digest})."
        )
    facts = DATASETS.get(dataset.name)
    if facts is None:
        return f"The data set is {name}, an upload."
    held_out = f", {dataset.validation_samples:,} validation" * bool(dataset.validation_samples)
    return (
        f"The data set is {name}: {dataset.train_count(facts):,} training{held_out} and "
        f"{dataset.test_count(facts):,} test samples."
    )


def _inputs(dataset: DatasetSpec) -> str:
    known = dataset.name in DATASETS
    meaning = PREPROCESS_MEANING[dataset.preprocess]
    if dataset.preprocess == "unit":
        meaning = meaning.split("; ")[0] if known else "bytes / 255, floats as they are"
    return f"preprocessed as {dataset.preprocess}: {meaning}"


def _labels(dataset: DatasetSpec) -> Statement:
    code, strength = dataset.label_code, dataset.label_strength
    cited = _sources("label_codes", code.name)
    if code.added:
        amplitude = f"amplitude {strength:g}" if strength else "a tenth of the length of a sample"
        return Statement(
            "labels",
            f"A label is the code {code.name}{cited}: {_meaning(code)}, with {amplitude}, "
            f"after preprocessing.",
        )
    place = {
        "overlay": "replaces the first inputs of a sample",
        "append": "stands in front of the inputs of a sample",
        "every_layer": "stands in front of the inputs of a sample and, the same for each layer and "
        f"not normalised, of the activations that each layer above receives⟦{EVERY_LAYER_SOURCE}⟧",
    }[dataset.labels]
    given = f", with {strength:g} in place of 1" if strength else ""
    if code == OneHot():
        return Statement("labels", f"The one-hot code of a label {place}{given}.")
    return Statement(
        "labels",
        f"A label is the code {code.name}{cited}: {_meaning(code)}{_parameters(code)}; it {place}"
        f"{given}.",
    )


def _sources(catalogue: str, name: str, *more: str) -> str:
    """The mark of the sources of an entry; "" where it has none."""
    keys = [*SOURCES[catalogue].get(name, ()), *more]
    return f"⟦{','.join(dict.fromkeys(keys))}⟧" if keys else ""


def _meaning(entry: Entry) -> str:
    """What an entry does, without the source in words and without what it costs."""
    found = COSTS.sub("", WITH_SOURCE.sub("", meaning_of(type(entry)))).strip().rstrip(".")
    return found[0].lower() + found[1:] if OPENING.match(found) else found


def _parameters(entry: Entry, *left_out: str) -> str:
    """The parameters of an entry with their values, in brackets; "" where it has none."""
    values = [
        f"{name} {_value(name, getattr(entry, name))}"
        for name, field in type(entry).model_fields.items()
        if name not in left_out
        and not is_constant(field.annotation)
        and not (name in AS_ANOTHER and getattr(entry, name) is None)
    ]
    return f" ({', '.join(values)})" if values else ""


def _value(name: str, value: object) -> str:
    if value is None:
        return "the width of the layer" if name == "threshold" else "null"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _network(network: NetworkSpec) -> Iterator[Statement]:
    widths, several = network.widths, len(network.widths) > 1
    alike = len(set(widths)) == 1
    sizes = f"{widths[0]:,}" if alike else ", ".join(f"{width:,}" for width in widths)
    layers = f"{len(widths)} fully connected layers" if several else "one fully connected layer"
    each = " each" if several and alike else ""
    bias = "with" if network.bias else "without"
    if network.layers:
        described = "; ".join(map(layer_in_words, network.layers))
        yield Statement(
            "network",
            f"The network has, from the input on, {described}. "
            f"Its layers have {network.activation} activations"
            f"{_sources('activations', network.activation)}, {bias} biases. Figures of a "
            f"convolution are of its whole map: all channels at all positions; a unit is a "
            f"channel, dead where it is zero everywhere.",
        )
    else:
        yield Statement(
            "network",
            f"The network has {layers} of {sizes} {network.activation} "
            f"units{each}{_sources('activations', network.activation)}, {bias} biases.",
        )
    yield _init(network.init)
    if network.normalize != "none" and (several or network.normalize_first):
        which = {
            (True, True): "every layer",
            (True, False): "every layer but the first",
            (False, True): "the layer",
        }[several, network.normalize_first]
        done = {
            "l2": "scaled to length 1",
            "rms": "scaled to root mean square 1",
            "layer": "brought to mean 0 and variance 1 within the sample",
            "halves": "scaled so that each half of the units has length 1",
            "group": "brought to mean 0 and variance 1 within the channels of each class",
            "instance": "brought to mean 0 and variance 1 within each channel",
        }[network.normalize]
        if network.normalize == "halves" and network.normalize_first:  # no halves below
            above = " is scaled to length 1, and that of every layer above" if several else ""
            which = f"the {'first ' if several else ''}layer{above}"
            done = done if several else "scaled to length 1"
        yield Statement("normalize", f"The input of {which} is {done}.")
    if network.label_gains:
        gains = ", ".join(f"{gain:g}" for gain in network.label_gains)
        yield Statement(
            "label gains",
            f"In front of the layers above the first the label is multiplied by {gains}.",
        )
    if network.pass_dead_units:
        yield Statement(
            "dead units",
            "Learning takes the slope of every unit as 1, so that dead units can "
            f"recover{_sources('inits', '', 'loewe2023')}.",
        )


def _init(name: str) -> Statement:
    known = (init.meaning for key, init in INITS.items() if key == name)
    found = next(known, "that of a plug-in")
    meaning = WITH_SOURCE.sub("", found).removesuffix(", the theory's")
    return Statement(
        "init",
        f"Weights are initialised by {name}{_sources('inits', name)}: {meaning}, where a layer has "
        "m inputs and n units.",
    )


def _training(spec: TrainSpec) -> Iterator[Statement]:
    yield from _network(spec.network)
    if spec.negatives.labelled:
        yield _labels(spec.dataset)
    yield from _learning(spec)
    if len(spec.network.widths) > 1:
        order = (
            "one after the other"
            if spec.layers == "greedy"
            else "together, all of them in each step"
        )
        yield Statement("layers", f"Layers learn {order} ({spec.layers}).")
    each = " for each layer" if len(spec.stages) > 1 else ""
    yield Statement(
        "epochs",
        f"Training takes {_counted(spec.epochs, 'epoch')}{each} in batches of {spec.batch_size:,} "
        "positives and as many negatives.",
    )
    if spec.stop is not None:
        yield Statement(
            "stop",
            f"A seed stops learning a stage once the {MEASURES[spec.measure]} on the validation "
            f"samples has not improved for {_counted(spec.stop.patience, 'measured epoch')}.",
        )
    if spec.select == "best_validation":
        yield Statement(
            "select",
            f"Layers keep the weights of the measured epoch with the best {MEASURES[spec.measure]} "
            f"on the validation samples.",
        )
    if spec.phases.alternate:
        up, down = spec.phases.positive_steps, spec.phases.negative_steps
        whose = spec.phases.unit.capitalize()
        rate = spec.phases.lr_ratio
        yield Statement(
            "phases",
            f"{whose} take one side at a time: {up:,} on positives, then {down:,} on "
            "negatives⟦hinton2022forward⟧."
            + (f" Steps on negatives have {rate:g} times the learning rate." if rate != 1 else "")
            + " Both have a state of the optimiser of their own." * spec.phases.own_states,
        )
    if spec.precision != "float32":
        yield Statement("precision", f"Matrix products of training are in {spec.precision}.")
    yield from _monitored(spec)
    yield from _evaluated(spec)


def _learning(spec: TrainSpec | ForecastSpec) -> Iterator[Statement]:
    objective = spec.objective
    if isinstance(objective, MultiClass):
        yield Statement(
            "objective",
            "Each layer learns by itself, from labelled samples without negatives and with the "
            f"objective {objective.name}{_sources('objectives', objective.name)}: "
            f"{_meaning(objective)}{_parameters(objective)}.",
        )
    else:
        yield from _comparing(spec.negatives, objective)
    yield from _steps(spec.optimizer)


def _comparing(negatives: AnyNegatives, objective: Objective) -> Iterator[Statement]:
    yield Statement(
        "negatives",
        f"Negatives are made by {negatives.strategy}"
        f"{_sources('negatives', negatives.strategy)}: {_meaning(negatives)}"
        f"{_parameters(negatives)}.",
    )
    peers = ("peer_normalization", "peer_momentum")
    yield Statement(
        "objective",
        "Learning is by the Forward-Forward algorithm⟦hinton2022forward⟧ with the objective "
        f"{objective.name}{_sources('objectives', objective.name)}: {_meaning(objective)}"
        + (
            f", with {_likelihood(objective)}."
            if isinstance(objective, Polar)
            else f"{_parameters(objective, 'goodness', 'collaboration', *peers)}."
        ),
    )
    goodness = objective.goodness
    whose = " of either half of a layer" if isinstance(objective, Polar) else ""
    yield Statement(
        "goodness",
        f"The goodness G{whose} is {goodness.name}{_sources('goodness', goodness.name)}: "
        f"{_meaning(goodness)}{_parameters(goodness)}.",
    )
    if isinstance(objective, Thresholded) and objective.collaboration:
        others = {"earlier": "the layers below", "others": "all other layers"}
        yield Statement(
            "collaboration",
            f"To the goodness in a layer's loss, {objective.collaboration.weight:g} times the sum "
            f"of the goodness in {others[objective.collaboration.of]} is added, a constant of the "
            "step⟦lorberbom2023⟧.",
        )
    if objective.peer_normalization:
        yield Statement(
            "peers",
            f"Peer normalisation⟦hinton2022forward⟧ has weight {objective.peer_normalization:g} "
            f"and momentum {objective.peer_momentum:g}.",
        )


def _steps(optimizer: AnyOptimizer) -> Iterator[Statement]:
    scaled = " divided by the width of the layer" if optimizer.scale_lr_by_width else ""
    usual = ("lr", "scale_lr_by_width", "schedule", "weight_decay")
    yield Statement(
        "optimizer",
        f"The optimiser is {optimizer.name}{_sources('optimizers', optimizer.name)}"
        f"{_parameters(optimizer, *usual)} with the learning rate {optimizer.lr:g}{scaled}.",
    )
    if optimizer.schedule != "constant":
        meaning = WITH_SOURCE.sub("", SCHEDULES[optimizer.schedule].meaning)
        yield Statement(
            "schedule",
            f"Its schedule is {optimizer.schedule}{_sources('schedules', optimizer.schedule)}: "
            f"{meaning}.",
        )
    if optimizer.weight_decay:
        yield Statement("weight decay", f"Its weight decay is {optimizer.weight_decay:g}.")


def _likelihood(objective: Polar) -> str:
    """p of an objective of two halves, from their goodness."""
    if objective.form == "symmetric":
        return "p = (G(P) + 1e-6) / (G(P) + G(N) + 2e-6), P and N being the halves"
    return f"p = sigmoid({objective.alpha:g} (G(P) - G(N))), P and N being the halves"


def _monitored(spec: TrainSpec) -> Iterator[Statement]:
    monitor = spec.monitor
    every = "each epoch" if monitor.every_epochs == 1 else f"every {monitor.every_epochs:,} epochs"
    yield Statement(
        "monitor",
        f"At initialisation and after {every}, Hoyer's sparsity S⟦hoyer2004sparseness⟧ is measured "
        f"on at most {monitor.samples:,} fixed "
        + (
            "samples of the training partition."
            if spec.learns_classes
            else "positives of the training partition and as many negatives."
        ),
    )
    for theorem in sorted(monitor.theorems):
        if theorem == 1 and spec.learns_classes:
            continue
        step = (
            DIRECTIONS["training_step"].removeprefix("along ")
            if spec.learns_classes
            else "a step that lowers the goodness of a whole batch"
            if theorem == 1
            else f"{DIRECTIONS['training_step'].removeprefix('along ')}, and along that on "
            "G(negative) - G(positive)"
        )
        yield Statement(
            f"theorem {theorem}",
            f"Beside it stands the share of samples with active units that satisfy the exact "
            f"first-order condition of theorem {theorem}⟦{THEOREMS_SOURCE}⟧ along {step}.",
        )
    if monitor.decomposition:
        epochs = ", ".join(map(str, monitor.decomposition))
        yield Statement(
            "decomposition",
            f"At epochs {epochs} the margins of theorem 2 are split by the pairs that push.",
        )
    if spec.follows_accuracy:
        where = " and on all validation samples" if spec.dataset.validation_samples else ""
        told = "accuracy and loss" if spec.learns_classes else "accuracy by goodness, AUC and loss"
        yield Statement(
            "accuracy by epoch",
            f"At each measured epoch {told} of the layers are measured on the monitored "
            f"samples{where}.",
        )
    for measure in monitor.measures:
        yield Statement(f"measure {measure}", MEASURED[measure])


def _evaluated(spec: TrainSpec) -> Iterator[Statement]:
    evaluation = spec.evaluation
    if spec.learns_classes:
        yield Statement(
            "accuracy",
            "Test accuracy is the share of test samples whose own label has the largest logit, "
            "summed over layers.",
        )
    elif spec.negatives.labelled:
        yield Statement(
            "accuracy",
            "Test accuracy is the share of test samples whose own label has the largest goodness "
            "of all labels, summed over layers.",
        )
    if evaluation.measures:
        separation = "" if spec.learns_classes else ", separation of positives and negatives"
        yield Statement(
            "held out",
            "On held-out samples sparsity (Hoyer's, Treves and Rolls's⟦treves1991⟧, the Gini "
            f"index⟦hurley2009⟧){separation} and dead units are "
            "measured for each layer.",
        )
    if evaluation.linear_classifier:
        layers = evaluation.linear_layers.replace("_", " ")
        penalties = ", ".join(f"{penalty:g}" for penalty in evaluation.linear_penalties)
        chosen = (
            ", the best on the validation samples" if len(evaluation.linear_penalties) > 1 else ""
        )
        yield Statement(
            "linear classifier",
            f"A linear classifier (layers: {layers}; L2 penalty {penalties}{chosen}) is trained on "
            "the activations of samples with a neutral label⟦hinton2022forward⟧.",
        )
    if evaluation.ensembles:
        yield Statement(
            "ensembles", "Ensembles of active units are found for each class⟦tosato2023⟧."
        )
    yield from _suite(spec)
    for place, baseline in enumerate(evaluation.baselines):
        yield Statement(
            f"baseline {place}",
            f"The baseline {baseline.name} is {_meaning(baseline)}"
            f"{_sources('baselines', baseline.name)}{_settings_of_baseline(baseline)}.",
        )


def _suite(spec: TrainSpec) -> Iterator[Statement]:
    """What is measured of units, and of what is left once some are removed."""
    if spec.evaluation.usage:
        yield Statement(
            "usage",
            "On held-out samples the units of each layer are counted whose mean activation is "
            "above 1 % of the largest⟦terres2024⟧, and Hoyer's sparsity is measured over units and "
            "over samples⟦willmore2001⟧.",
        )
    if spec.evaluation.selectivity:
        inputs = "with a neutral label" if spec.negatives.labelled else "without a label"
        yield Statement(
            "selectivity",
            f"The class selectivity of units⟦morcos2018⟧ is measured on held-out samples {inputs}.",
        )
    if spec.evaluation.layer_range:
        yield Statement(
            "range of layers",
            "For each seed the layers whose scores are summed, first to last, are those with the "
            "best accuracy on the validation samples; their test accuracy is measured once, after "
            "the choice.",
        )
    if held_out := spec.dataset.held_out_classes:
        yield Statement(
            "held_out_classes",
            f"No sample of {'class' if len(held_out) == 1 else 'the classes'} "
            f"{listed([str(one) for one in sorted(held_out)])} is learnt from; the test samples of "
            f"{'it' if len(held_out) == 1 else 'these'} are measured apart⟦tosato2023⟧.",
        )
    if (other := spec.evaluation.ood) is not None:
        yield Statement(
            "ood",
            f"Test samples are told from {other.count():,} samples of "
            f"{other.dataset}{_sources('datasets', other.dataset)} by the goodness and by the "
            f"sparsity of layers under the predicted label: the area under the receiver operating "
            f"characteristic, its interval over samples after DeLong et al. (1988), and the share "
            f"of other samples that pass where 95 % of the test samples do.",
        )
    if (lesions := spec.evaluation.lesions) is not None:
        shares = listed([f"{100 * share:g} %" for share in sorted(lesions.shares)])
        parts = listed(list(lesions.remove))
        weights = {"weights", "usage"} <= {*lesions.remove, *lesions.by}
        yield Statement(
            "lesions",
            f"Test accuracy is also measured once {shares} of the {parts} are removed at "
            f"once⟦nikov2025⟧ ({', '.join(lesions.by)})"
            f"{', weights by |w| times their mean input⟦sun2023⟧' if weights else ''}.",
        )


def _settings_of_baseline(baseline: Baseline) -> str:
    """What a baseline does in its own way; "" where it learns as the run does."""
    parts = []
    if (own := baseline.optimizer) is not None:
        cited = _sources("optimizers", own.name)
        left_out = ("lr",) if baseline.rates else ()
        parts.append(f"the optimiser {own.name}{cited}{_parameters(own, *left_out)}")
    if baseline.epochs:
        parts.append(f"{baseline.epochs:,} epochs")
    if baseline.batch_size:
        parts.append(f"batches of {baseline.batch_size:,}")
    if baseline.tuned:
        rates = ", ".join(f"{rate:g}" for rate in sorted(baseline.rates))
        parts.append(f"the learning rate of {rates} that is best on the validation samples")
    elif baseline.rates:
        parts.append(f"the learning rate {baseline.rates[0]:g}")
    if baseline.select == "best_validation":
        parts.append("the weights of its best epoch on the validation samples")
    return f", with {listed(parts)}" if parts else ""


def _check(spec: CheckSpec) -> Iterator[Statement]:
    if isinstance(spec.at, TrainedWeights):
        yield Statement(
            "weights",
            f"The weights are those of layer {spec.at.layer} of the training job {spec.at.job} "
            f"after epoch {spec.at.epoch:,}.",
        )
    elif isinstance(spec.at, UploadedWeights):
        digest = f" (SHA-256 of the network {spec.at.digest})" if spec.at.digest else ""
        yield Statement(
            "weights",
            f"The weights are those of layer {spec.at.layer} of the uploaded network "
            f"{spec.at.weights}{digest}.",
        )
    else:
        widths = ", ".join(f"{width:,}" for width in spec.widths)
        yield Statement(
            "network",
            f"Layers of {widths} {spec.activation} units{_sources('activations', spec.activation)} "
            "without biases are checked at initialisation, their weights drawn from N(0, 1/m).",
        )
    if spec.theorem == 2:
        if spec.negatives.labelled:
            yield _labels(spec.dataset)
        yield Statement(
            "negatives",
            f"Negatives are made by {spec.negatives.strategy}"
            f"{_sources('negatives', spec.negatives.strategy)}: {_meaning(spec.negatives)}"
            f"{_parameters(spec.negatives)}.",
        )
    if spec.along == "goodness_difference":
        yield Statement(
            "goodness",
            f"The goodness G is {spec.goodness.name}{_sources('goodness', spec.goodness.name)}: "
            f"{_meaning(spec.goodness)}{_parameters(spec.goodness)}.",
        )
    step = (
        "a step that lowers the goodness of a whole batch"
        if spec.theorem == 1
        else DIRECTIONS[spec.along].removeprefix("along ")
    )
    samples = "All training samples" if spec.samples is None else f"Up to {spec.samples:,} samples"
    batches = "one batch" if spec.batch_size is None else f"batches of {spec.batch_size:,}"
    yield Statement(
        "theorem",
        f"{samples} in {batches} are judged by the exact first-order condition of theorem "
        f"{spec.theorem}⟦{THEOREMS_SOURCE}⟧ for Hoyer's sparsity S⟦hoyer2004sparseness⟧ to rise "
        f"along {step}; the figure is the share of samples with active units that satisfy it.",
    )
    if "infinite_width" in spec.methods:
        yield Statement("limit", "The limit of infinite width is computed beside it.")
    if "exact" in spec.methods:
        yield Statement(
            "trial step",
            f"The observed change of S is that of a trial step of relative size {spec.step:g}.",
        )
    if spec.decomposition:
        yield Statement("decomposition", "Margins are split by the pairs that push.")
    if spec.precision != "float32":
        yield Statement("precision", f"Weights, products and margins are in {spec.precision}.")


def _forecast(spec: ForecastSpec) -> Iterator[Statement]:
    layer = spec.network
    bias = "with" if layer.bias else "without"
    yield Statement(
        "network",
        f"A layer of {spec.units:,} {layer.activation} "
        f"units{_sources('activations', layer.activation)}, {bias} biases, is trained.",
    )
    yield _init(layer.init)
    if spec.negatives.labelled:
        yield _labels(spec.dataset)
    yield from _learning(spec)
    until = _counted(spec.epochs, "epoch") if spec.epochs else f"a flow time of {spec.until_tau:g}"
    widths = ", ".join(f"{width:,}" for width in spec.widths)
    yield Statement(
        "forecast",
        f"It learns for {until} in batches of {spec.batch_size:,} positives and as many negatives; "
        f"Hoyer's sparsity S⟦hoyer2004sparseness⟧ of layers of {widths} units, of the limit of "
        f"infinite width and theorem 2⟦{THEOREMS_SOURCE}⟧ are forecast from its units, measured on "
        f"at most {spec.samples:,} positives.",
    )
    band = (
        "the spread of whole networks"
        if spec.units_interact
        else f"a jackknife over {spec.blocks} groups of units"
    )
    yield Statement("bands", f"Bands come from {band}.")


def _seeds(spec: TrainSpec | CheckSpec | ForecastSpec) -> Iterator[Statement]:
    seeds = spec.seeds
    several = len(seeds) > 1
    listed = ", ".join(map(str, seeds[:LISTED])) + (", ..." if len(seeds) > LISTED else "")
    yield Statement(
        "seeds",
        f"{'Seeds' if several else 'The seed'} {listed} {'determine' if several else 'determines'} "
        "all that is drawn at random.",
    )
    if several and not isinstance(spec, ForecastSpec):
        yield Statement(
            "intervals",
            f"Figures are means over these {len(seeds)} seeds with 95 % intervals by Student's t; "
            "of shares of samples the wider of that and "
            f"Wilson's⟦{INTERVALS_SOURCE}⟧ over samples.",
        )


def _computed(provenance: Sequence[Provenance]) -> list[str]:
    """How the figures were computed; nothing before there are any."""
    found = dict.fromkeys(
        f"Figures are computed by {one.program}, with PyTorch {one.torch_version}⟦paszke2019⟧, "
        f"NumPy {one.numpy_version} and Python {one.python_version}, on {one.device} "
        f"({_plain(one.device_name)}, {_counted(one.threads, 'thread')}) in {one.dtype}."
        for one in provenance
    )
    plugins = dict.fromkeys(
        f"Of {plugin.package} {plugin.version} (code {plugin.code_digest[:8]}) are "
        f"{', '.join(plugin.entries)}."
        for one in provenance
        for plugin in one.plugins
    )
    found |= plugins
    found |= dict.fromkeys(_resumed(one) for one in provenance if len(one.attempts) > 1)
    if any(attempt.smaller_pieces for one in provenance for attempt in one.attempts):
        found |= {"Where memory ran out, figures were measured in smaller pieces.": None}
    digests = dict.fromkeys(one.spec_digest for one in provenance)
    if len(digests) == 1:
        return [*found, f"The spec has the SHA-256 {next(iter(digests))}."]
    return list(found)


def _resumed(provenance: Provenance) -> str:
    """Say that a run was interrupted, and on which kinds of device its rows were computed."""
    count = len(provenance.attempts)
    changed = stretches(provenance.attempts)
    if changed:
        return f"The run took {count} attempts and changed its kind of device: " + (
            f"{', '.join(changed)}."
        )
    hosts = {one.host for one in provenance.attempts}
    where = "one machine" if len(hosts) == 1 else f"{len(hosts)} machines"
    return f"The run was computed in {count} attempts on {where}, each from the last checkpoint."


def cited_keys(sentences: Sequence[str]) -> set[str]:
    """The keys of all that sentences cite."""
    return {
        key
        for sentence in sentences
        for found in CITATION.findall(sentence)
        for key in found.split(",")
        if key in REFERENCES
    }


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
