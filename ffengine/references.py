"""The sources of what a spec uses: papers, code and data sets behind the catalogues' entries."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ffengine.objectives import MultiClass
from ffengine.search import searched
from ffengine.search_spec import Sampler, SearchSpec
from ffengine.spec import (
    CheckSpec,
    DatasetSpec,
    ForecastSpec,
    RecordedSpec,
    RunSpec,
    StoredSpec,
    StudySpec,
    TrainSpec,
    UnreadSpec,
)
from ffengine.study import expand


class Reference(NamedTuple):
    """A source as BibTeX has it.

    **Attributes:**

    - `kind`: BibTeX's kind of entry, such as `article`.
    - `author`: its authors, with `and` between them.
    - `title`: its title.
    - `year`: when it appeared.
    - `more`: further fields by name, such as `journal`.
    """

    kind: str
    author: str
    title: str
    year: int
    more: tuple[tuple[str, str], ...] = ()


def _arxiv(author: str, title: str, year: int, number: str) -> Reference:
    more = (("eprint", number), ("archivePrefix", "arXiv"), ("note", f"arXiv:{number}"))
    return Reference("misc", author, title, year, more)


def _article(author: str, title: str, year: int, **more: str) -> Reference:
    return Reference("article", author, title, year, tuple(more.items()))


def _talk(author: str, title: str, year: int, booktitle: str, **more: str) -> Reference:
    return Reference(
        "inproceedings", author, title, year, (("booktitle", booktitle), *more.items())
    )


def _code(author: str, title: str, year: int, address: str) -> Reference:
    return Reference("misc", author, title, year, (("howpublished", address),))


REFERENCES: dict[str, Reference] = {
    "hinton2022forward": _arxiv(
        "Hinton, Geoffrey",
        "The Forward-Forward Algorithm: Some Preliminary Investigations",
        2022,
        "2212.13345",
    ),
    "yang2023sparsity": _arxiv(
        "Yang, Yukun",
        "A Theory for the Sparsity Emerged in the Forward Forward Algorithm",
        2023,
        "2311.05667",
    ),
    "hoyer2004sparseness": _article(
        "Hoyer, Patrik O.",
        "Non-negative Matrix Factorization with Sparseness Constraints",
        2004,
        journal="Journal of Machine Learning Research",
        volume="5",
        pages="1457--1469",
    ),
    "treves1991": _article(
        "Treves, Alessandro and Rolls, Edmund T.",
        "What Determines the Capacity of Autoassociative Memories in the Brain?",
        1991,
        journal="Network: Computation in Neural Systems",
        volume="2",
        number="4",
        pages="371--397",
    ),
    "hurley2009": _article(
        "Hurley, Niall and Rickard, Scott",
        "Comparing Measures of Sparsity",
        2009,
        journal="IEEE Transactions on Information Theory",
        volume="55",
        number="10",
        pages="4723--4741",
    ),
    "roy2007": _talk(
        "Roy, Olivier and Vetterli, Martin",
        "The Effective Rank: A Measure of Effective Dimensionality",
        2007,
        "European Signal Processing Conference",
        pages="606--610",
    ),
    "willmore2001": _article(
        "Willmore, Ben and Tolhurst, David J.",
        "Characterizing the Sparseness of Neural Codes",
        2001,
        journal="Network: Computation in Neural Systems",
        volume="12",
        number="3",
        pages="255--270",
    ),
    "morcos2018": _arxiv(
        "Morcos, Ari S. and Barrett, David G. T. and Rabinowitz, Neil C. and Botvinick, Matthew",
        "On the Importance of Single Directions for Generalization",
        2018,
        "1803.06959",
    ),
    "sun2023": _arxiv(
        "Sun, Mingjie and Liu, Zhuang and Bair, Anna and Kolter, J. Zico",
        "A Simple and Effective Pruning Approach for Large Language Models",
        2023,
        "2306.11695",
    ),
    "nikov2025": _article(
        "Nikov, Mitko and Strnad, Damjan and Podgorelec, David",
        "Prunability of Multi-Layer Perceptrons Trained with the Forward-Forward Algorithm",
        2025,
        journal="Mathematics",
        volume="13",
        number="16",
        pages="2668",
    ),
    "wilson1927": _article(
        "Wilson, Edwin B.",
        "Probable Inference, the Law of Succession, and Statistical Inference",
        1927,
        journal="Journal of the American Statistical Association",
        volume="22",
        number="158",
        pages="209--212",
    ),
    "chen2025self": _article(
        "Chen, Xing and Liu, Dongshu and Laydevant, J{\\'e}r{\\'e}mie and Grollier, Julie",
        "Self-Contrastive Forward-Forward Algorithm",
        2025,
        journal="Nature Communications",
        volume="16",
    ),
    "goodfellow2015": _arxiv(
        "Goodfellow, Ian J. and Shlens, Jonathon and Szegedy, Christian",
        "Explaining and Harnessing Adversarial Examples",
        2014,
        "1412.6572",
    ),
    "nair2010": _talk(
        "Nair, Vinod and Hinton, Geoffrey E.",
        "Rectified Linear Units Improve Restricted Boltzmann Machines",
        2010,
        "International Conference on Machine Learning",
        pages="807--814",
    ),
    "maas2013": _talk(
        "Maas, Andrew L. and Hannun, Awni Y. and Ng, Andrew Y.",
        "Rectifier Nonlinearities Improve Neural Network Acoustic Models",
        2013,
        "ICML Workshop on Deep Learning for Audio, Speech and Language Processing",
    ),
    "clevert2015": _arxiv(
        "Clevert, Djork-Arn{\\'e} and Unterthiner, Thomas and Hochreiter, Sepp",
        "Fast and Accurate Deep Network Learning by Exponential Linear Units ({ELUs})",
        2015,
        "1511.07289",
    ),
    "hendrycks2016": _arxiv(
        "Hendrycks, Dan and Gimpel, Kevin",
        "Gaussian Error Linear Units ({GELUs})",
        2016,
        "1606.08415",
    ),
    "elfwing2017": _arxiv(
        "Elfwing, Stefan and Uchibe, Eiji and Doya, Kenji",
        "Sigmoid-Weighted Linear Units for Neural Network Function Approximation in Reinforcement "
        "Learning",
        2017,
        "1702.03118",
    ),
    "dugas2000": _talk(
        "Dugas, Charles and Bengio, Yoshua and B{\\'e}lisle, Fran{\\c{c}}ois and Nadeau, Claude "
        "and Garcia, Ren{\\'e}",
        "Incorporating Second-Order Functional Knowledge for Better Option Pricing",
        2000,
        "Advances in Neural Information Processing Systems",
        volume="13",
    ),
    "so2021": _arxiv(
        "So, David R. and Ma{\\'n}ke, Wojciech and Liu, Hanxiao and Dai, Zihang and Shazeer, Noam "
        "and Le, Quoc V.",
        "Primer: Searching for Efficient Transformers for Language Modeling",
        2021,
        "2109.08668",
    ),
    "loewe2023": _code(
        'L{\\"o}we, Sindy',
        "Reimplementation of the Forward-Forward Algorithm",
        2023,
        "github.com/loeweX/Forward-Forward",
    ),
    "pezeshki2023": _code(
        "Pezeshki, Mohammad",
        "Implementation of the Forward-Forward Algorithm in {PyTorch}",
        2023,
        "github.com/mpezeshki/pytorch\\_forward\\_forward",
    ),
    "lee2023symba": _arxiv(
        "Lee, Heung-Chang and Song, Jeonggeun",
        "{SymBa}: Symmetric Backpropagation-Free Contrastive Learning with Forward-Forward "
        "Algorithm for Optimizing Convergence",
        2023,
        "2303.08418",
    ),
    "tosato2023": _arxiv(
        "Tosato, Niccol{\\`o} and Basile, Lorenzo and Ballarin, Emanuele and de Alteriis, Giuseppe "
        "and Cazzaniga, Alberto and Ansuini, Alessio",
        "Emergent Representations in Networks Trained with the Forward-Forward Algorithm",
        2023,
        "2305.18353",
    ),
    "lica2023": _arxiv(
        "Lic{\\u{a}}, Mircea-Tudor and Dinucu-Jianu, David",
        "Sleep Deprivation in the Forward-Forward Algorithm",
        2023,
        "2310.18647",
    ),
    "datta2026": _arxiv(
        "Datta, Joy and Saha, Puja and Rabbi, Rawhatur and others",
        "Minimizing the Effect of Sleep Deprivation in the Forward-Forward Algorithm",
        2026,
        "2609.06042",
    ),
    "gong2025mono": _arxiv(
        "Gong, James and Li, Bruce and Abdulla, Waleed",
        "Mono-Forward: Backpropagation-Free Algorithm for Efficient Neural Network Training "
        "Harnessing Local Errors",
        2025,
        "2501.09238",
    ),
    "papachristodoulou2024": _arxiv(
        "Papachristodoulou, Andreas and Kyrkou, Christos and Timotheou, Stelios and "
        "Theocharides, Theocharis",
        "Convolutional Channel-wise Competitive Learning for the Forward-Forward Algorithm",
        2023,
        "2312.12668",
    ),
    "sun2025deeper": _talk(
        "Sun, Liang and Zhang, Yang and He, Weizhao and Wen, Jiajun and Shen, Linlin and Xie, "
        "Weicheng",
        "DeeperForward: Enhanced Forward-Forward Training for Deeper and Better Performance",
        2025,
        "International Conference on Learning Representations",
    ),
    "sarode2026": _arxiv(
        "Sarode, Shalini and Moser, Brian Bernhard and Folz, Joachim and Raue, Federico and "
        "Nauen, Tobias Christian and Frolov, Stanislav and Dengel, Andreas",
        "Hyperspherical Forward-Forward with Prototypical Representations",
        2026,
        "2605.00082",
    ),
    "ghader2026": _arxiv(
        "Ghader, Mohammadnavid and Kheradpisheh, Saeed Reza and Farahani, Bahar and Fazlali, "
        "Mahmood",
        "Forward-Only Convolutional Neural Networks with Learnable Channel-Class Assignment",
        2026,
        "2606.09928",
    ),
    "lorberbom2023": _arxiv(
        "Lorberbom, Guy and Gat, Itai and Adi, Yossi and Schwing, Alex and Hazan, Tamir",
        "Layer Collaboration in the Forward-Forward Algorithm",
        2023,
        "2305.12393",
    ),
    "akkus2026": _arxiv(
        'Akku{\\c{s}}, Talha R{\\"u}zgar and Kocabay, {\\c{S}}uayp Talha and Y{\\"u}ksel, Kamer '
        "Ali and Sawaf, Hassan",
        "Selectivity and Shape in the Design of Forward-Forward Goodness Functions",
        2026,
        "2604.13081",
    ),
    "terres2024": _arxiv(
        "Terres-Escudero, Erik B. and Del Ser, Javier and Garcia-Bringas, Pablo",
        "On the Improvement of Generalization and Stability of Forward-Only Learning via Neural "
        "Polarization",
        2024,
        "2408.09210",
    ),
    "terres2024symmetric": _arxiv(
        "Terres-Escudero, Erik B. and Del Ser, Javier and Garcia-Bringas, Pablo",
        "A Contrastive Symmetric Forward-Forward Algorithm (SFFA) for Continual Learning Tasks",
        2024,
        "2409.07387",
    ),
    "scodellaro2023": _arxiv(
        r"Scodellaro, Riccardo and Kulkarni, Ajinkya and Alves, Frauke and Schr{\"o}ter, Matthias",
        "Training Convolutional Neural Networks with the {Forward-Forward} Algorithm",
        2023,
        "2312.14924",
    ),
    "karkehabadi2024": _arxiv(
        "Karkehabadi, Ali and Homayoun, Houman and Sasan, Avesta",
        "{FFCL}: Forward-Forward Net with Cortical Loops, Training and Inference on Edge Without "
        "Backpropagation",
        2024,
        "2405.12443",
    ),
    "giannitrapani2026": _arxiv("Giannitrapani", "What Does Goodness Measure?", 2026, "2607.12501"),
    "belilovsky2019": _arxiv(
        "Belilovsky, Eugene and Eickenberg, Michael and Oyallon, Edouard",
        "Greedy Layerwise Learning Can Scale to {ImageNet}",
        2018,
        "1812.11446",
    ),
    "lee2015deeply": _arxiv(
        "Lee, Chen-Yu and Xie, Saining and Gallagher, Patrick and Zhang, Zhengyou and Tu, Zhuowen",
        "Deeply-Supervised Nets",
        2014,
        "1409.5185",
    ),
    "peters2019": _arxiv(
        "Peters, Ben and Niculae, Vlad and Martins, Andr{\\'e} F. T.",
        "Sparse Sequence-to-Sequence Models",
        2019,
        "1905.05702",
    ),
    "polyak1964": _article(
        "Polyak, Boris T.",
        "Some Methods of Speeding up the Convergence of Iteration Methods",
        1964,
        journal="USSR Computational Mathematics and Mathematical Physics",
        volume="4",
        number="5",
        pages="1--17",
    ),
    "nesterov1983": _article(
        "Nesterov, Yurii E.",
        "A Method for Solving the Convex Programming Problem with Convergence Rate $O(1/k^2)$",
        1983,
        journal="Doklady Akademii Nauk SSSR",
        volume="269",
        number="3",
        pages="543--547",
    ),
    "sutskever2013": _talk(
        "Sutskever, Ilya and Martens, James and Dahl, George and Hinton, Geoffrey",
        "On the Importance of Initialization and Momentum in Deep Learning",
        2013,
        "International Conference on Machine Learning",
        pages="1139--1147",
    ),
    "kingma2015": _arxiv(
        "Kingma, Diederik P. and Ba, Jimmy",
        "Adam: A Method for Stochastic Optimization",
        2014,
        "1412.6980",
    ),
    "loshchilov2017adamw": _arxiv(
        "Loshchilov, Ilya and Hutter, Frank",
        "Decoupled Weight Decay Regularization",
        2017,
        "1711.05101",
    ),
    "loshchilov2016sgdr": _arxiv(
        "Loshchilov, Ilya and Hutter, Frank",
        "{SGDR}: Stochastic Gradient Descent with Warm Restarts",
        2016,
        "1608.03983",
    ),
    "he2015": _arxiv(
        "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
        "Delving Deep into Rectifiers: Surpassing Human-Level Performance on {ImageNet} "
        "Classification",
        2015,
        "1502.01852",
    ),
    "glorot2010": _talk(
        "Glorot, Xavier and Bengio, Yoshua",
        "Understanding the Difficulty of Training Deep Feedforward Neural Networks",
        2010,
        "International Conference on Artificial Intelligence and Statistics",
        pages="249--256",
    ),
    "lecun1998efficient": Reference(
        "incollection",
        "LeCun, Yann and Bottou, L{\\'e}on and Orr, Genevieve B. and M{\\\"u}ller, Klaus-Robert",
        "Efficient {BackProp}",
        1998,
        (("booktitle", "Neural Networks: Tricks of the Trade"), ("publisher", "Springer")),
    ),
    "saxe2013": _arxiv(
        "Saxe, Andrew M. and McClelland, James L. and Ganguli, Surya",
        "Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear Neural Networks",
        2013,
        "1312.6120",
    ),
    "paszke2019": _talk(
        "Paszke, Adam and Gross, Sam and Massa, Francisco and Lerer, Adam and Bradbury, James and "
        "Chanan, Gregory and others",
        "{PyTorch}: An Imperative Style, High-Performance Deep Learning Library",
        2019,
        "Advances in Neural Information Processing Systems",
        volume="32",
    ),
    "lecun1998mnist": _article(
        "LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick",
        "Gradient-Based Learning Applied to Document Recognition",
        1998,
        journal="Proceedings of the IEEE",
        volume="86",
        number="11",
        pages="2278--2324",
    ),
    "alpaydin1998": Reference(
        "misc",
        "Alpaydin, Ethem and Kaynak, Cenk",
        "Optical Recognition of Handwritten Digits",
        1998,
        (("howpublished", "UCI Machine Learning Repository"), ("doi", "10.24432/C50P49")),
    ),
    "xiao2017": _arxiv(
        "Xiao, Han and Rasul, Kashif and Vollgraf, Roland",
        "{Fashion-MNIST}: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
        2017,
        "1708.07747",
    ),
    "clanuwat2018": _arxiv(
        "Clanuwat, Tarin and Bober-Irizar, Mikel and Kitamoto, Asanobu and Lamb, Alex and "
        "Yamamoto, Kazuaki and Ha, David",
        "Deep Learning for Classical {Japanese} Literature",
        2018,
        "1812.01718",
    ),
    "cohen2017": _arxiv(
        "Cohen, Gregory and Afshar, Saeed and Tapson, Jonathan and van Schaik, Andr{\\'e}",
        "{EMNIST}: an Extension of {MNIST} to Handwritten Letters",
        2017,
        "1702.05373",
    ),
    "krizhevsky2009": Reference(
        "techreport",
        "Krizhevsky, Alex",
        "Learning Multiple Layers of Features from Tiny Images",
        2009,
        (("institution", "University of Toronto"),),
    ),
    "netzer2011": _talk(
        "Netzer, Yuval and Wang, Tao and Coates, Adam and Bissacco, Alessandro and Wu, Bo and Ng, "
        "Andrew Y.",
        "Reading Digits in Natural Images with Unsupervised Feature Learning",
        2011,
        "NIPS Workshop on Deep Learning and Unsupervised Feature Learning",
    ),
    "akiba2019": _talk(
        "Akiba, Takuya and Sano, Shotaro and Yanase, Toshihiko and Ohta, Takeru and Koyama, "
        "Masanori",
        "Optuna: A Next-generation Hyperparameter Optimization Framework",
        2019,
        "Proceedings of the 25th ACM SIGKDD International Conference on Knowledge Discovery and "
        "Data Mining",
    ),
    "bergstra2011": _talk(
        "Bergstra, James and Bardenet, R{\\'e}mi and Bengio, Yoshua and K{\\'e}gl, Bal{\\'a}zs",
        "Algorithms for Hyper-Parameter Optimization",
        2011,
        "Advances in Neural Information Processing Systems 24",
    ),
}

# catalogue -> entry -> keys of REFERENCES; () where an entry is fflab's own or common knowledge
SOURCES: dict[str, dict[str, tuple[str, ...]]] = {
    "datasets": {
        "mnist-mini": ("lecun1998mnist",),
        "mnist": ("lecun1998mnist",),
        "digits": ("alpaydin1998",),
        "fashion-mnist": ("xiao2017",),
        "kmnist": ("clanuwat2018",),
        "emnist-digits": ("cohen2017",),
        "cifar10": ("krizhevsky2009",),
        "cifar10-grey": ("krizhevsky2009",),
        "cifar100": ("krizhevsky2009",),
        "svhn": ("netzer2011",),
    },
    "negatives": {
        "wrong_label": ("hinton2022forward",),
        "hardest_label": ("hinton2022forward",),
        "sampled_label": ("hinton2022forward",),
        "hybrid": ("hinton2022forward",),
        "other_image": (),
        "mix": (),
        "noise": (),
        "shuffle_pixels": (),
        "masked": (),
        "adversarial": ("goodfellow2015",),
        "self_contrastive": ("chen2025self",),
        "none": (),
    },
    "label_codes": {
        "one_hot": (),
        "random": ("terres2024",),
        "fourier": ("scodellaro2023",),
    },
    "activations": {
        "relu": ("nair2010",),
        "leaky_relu": ("maas2013",),
        "elu": ("clevert2015",),
        "gelu": ("hendrycks2016",),
        "silu": ("elfwing2017",),
        "softplus": ("dugas2000",),
        "tanh": (),
        "squared_relu": ("so2021",),
        "identity": (),
    },
    "objectives": {
        "difference": ("yang2023sparsity",),
        "softplus": ("hinton2022forward",),
        "bce": ("loewe2023",),
        "symba": ("lee2023symba",),
        "swish": ("lee2023symba",),
        "linear_threshold": (),
        "polar": ("terres2024", "terres2024symmetric"),
        "mono_forward": ("gong2025mono",),
        "class_block": ("sun2025deeper", "papachristodoulou2024"),
        "prototypes": ("sarode2026",),
        "channel_assignment": ("ghader2026",),
    },
    "goodness": {
        "sum_squares": ("hinton2022forward",),
        "mean_squares": ("hinton2022forward",),
        "l2": ("tosato2023",),
        "l1": (),
        "power_sum": (),
        "power_mean": (),
        "minus_sum_squares": ("hinton2022forward",),
        "top_k": ("akkus2026",),
        "entmax": ("akkus2026", "peters2019"),
        "kurtosis": ("akkus2026",),
        "moment": ("akkus2026",),
        "whitened": ("giannitrapani2026",),
    },
    "optimizers": {
        "sgd": (),
        "momentum": ("polyak1964",),
        "nesterov": ("nesterov1983", "sutskever2013"),
        "adam": ("kingma2015",),
        "adamw": ("loshchilov2017adamw",),
    },
    "schedules": {
        "constant": (),
        "linear_cooldown": ("loewe2023",),
        "cosine": ("loshchilov2016sgdr",),
    },
    "baselines": {
        "cross_entropy": (),
        "ff_objective": (),
        "greedy_cross_entropy": ("belilovsky2019",),
        "deep_supervision": ("lee2015deeply",),
    },
    "inits": {
        "gaussian": (),
        "gaussian_fan_out": ("loewe2023",),
        "he": ("he2015",),
        "glorot": ("glorot2010",),
        "lecun": ("lecun1998efficient",),
        "orthogonal": ("saxe2013",),
        "torch": ("paszke2019",),
    },
    "presets": {
        "paper": ("yang2023sparsity",),
        "quick": ("yang2023sparsity",),
        "hinton": ("hinton2022forward",),
        "loewe": ("loewe2023",),
        "mpezeshki": ("pezeshki2023",),
        "swish": (),
        "tosato": ("tosato2023",),
        "separated-phases": ("lica2023", "datta2026"),
        "collaboration": ("lorberbom2023",),
        "label-codes": ("lica2023", "terres2024", "scodellaro2023"),
        "label-places": ("karkehabadi2024", "akkus2026"),
        "polar": ("terres2024",),
        "prunability": ("nikov2025",),
    },
}
SAMPLERS: dict[Sampler, tuple[str, ...]] = {
    "tpe": ("akiba2019", "bergstra2011"),
    "random": ("akiba2019",),
}
ALWAYS = ("paszke2019",)
MEASURE_SOURCE = "hoyer2004sparseness"
ALGORITHM_SOURCE = "hinton2022forward"
INTERVALS_SOURCE = "wilson1927"
THEOREMS_SOURCE = "yang2023sparsity"
EVERY_LAYER_SOURCE = "karkehabadi2024"


def references_of(spec: StoredSpec, runs: Sequence[RunSpec] | None = None) -> dict[str, Reference]:
    """Return the sources of what a spec uses.

    **Arguments:**

    - `spec`: a spec.
    - `runs`: of a study, its runs; None: all that it says, which is none of a search.

    **Returns:**

    The sources by their BibTeX keys, in the order of REFERENCES.
    """
    used = set(ALWAYS)
    if isinstance(spec, StudySpec):
        used |= {*SOURCES["presets"].get(spec.preset or "", ())}
        search = searched(spec)
        used |= {*_of_search(search.search)} if search else set()
        found = [cell.spec for cell in expand(spec)] if runs is None else runs
    elif isinstance(spec, RecordedSpec | UnreadSpec):
        return {}  # fflab does not know what it used
    else:
        found = [spec]
    for run in found:
        used |= {*_keys(run)}
    return {key: found for key, found in REFERENCES.items() if key in used}


def _of_search(search: SearchSpec) -> tuple[str, ...]:
    return SAMPLERS[search.sampler] if search.method == "optuna" else ()


def _keys(spec: RunSpec) -> Iterator[str]:
    yield MEASURE_SOURCE
    yield from _of_data(spec.dataset)
    if len(spec.seeds) > 1:
        yield INTERVALS_SOURCE
    if isinstance(spec, CheckSpec):
        yield from _of_check(spec)
    else:
        yield from _of_learning(spec)


def _of_data(dataset: DatasetSpec) -> tuple[str, ...]:
    return SOURCES["datasets"].get(dataset.name, ())


def _of_labels(dataset: DatasetSpec) -> Iterator[str]:
    yield from SOURCES["label_codes"][dataset.label_code.name]
    if dataset.labels == "every_layer":
        yield EVERY_LAYER_SOURCE


def _of_check(spec: CheckSpec) -> Iterator[str]:
    yield THEOREMS_SOURCE
    if spec.at == "initialization":
        yield from SOURCES["activations"].get(spec.activation, ())
    if spec.along == "goodness_difference":
        yield from SOURCES["goodness"].get(spec.goodness.name, ())
    if spec.theorem == 2 and spec.negatives.labelled:
        yield from _of_labels(spec.dataset)
    if spec.theorem == 2:
        yield from SOURCES["negatives"].get(spec.negatives.strategy, ())


def _of_learning(spec: TrainSpec | ForecastSpec) -> Iterator[str]:
    network, optimizer, objective = spec.network, spec.optimizer, spec.objective
    if not isinstance(objective, MultiClass):
        yield ALGORITHM_SOURCE
    if spec.negatives.labelled:
        yield from _of_labels(spec.dataset)
    yield from SOURCES["activations"].get(network.activation, ())
    yield from SOURCES["inits"].get(network.init, ())
    yield from SOURCES["negatives"].get(spec.negatives.strategy, ())
    yield from SOURCES["objectives"].get(objective.name, ())
    if not isinstance(objective, MultiClass):
        yield from SOURCES["goodness"].get(objective.goodness.name, ())
    yield from SOURCES["optimizers"].get(optimizer.name, ())
    yield from SOURCES["schedules"][optimizer.schedule]
    if isinstance(spec, ForecastSpec):
        yield THEOREMS_SOURCE
        return
    if spec.monitor.theorems:
        yield THEOREMS_SOURCE
    if spec.network.pass_dead_units:
        yield "loewe2023"
    if objective.collaborates:
        yield "lorberbom2023"
    if "gini" in spec.monitor.measures or spec.evaluation.measures:
        yield from ("hurley2009", "treves1991")
    if "weights" in spec.monitor.measures:
        yield from ("hurley2009", "roy2007")
    for baseline in spec.evaluation.baselines:
        yield from SOURCES["baselines"].get(baseline.name, ())
        if own := baseline.optimizer:
            yield from (*SOURCES["optimizers"][own.name], *SOURCES["schedules"][own.schedule])
    if spec.evaluation.ensembles:
        yield "tosato2023"
    if spec.evaluation.usage:
        yield from ("terres2024", "willmore2001")
    if spec.evaluation.selectivity:
        yield "morcos2018"
    if spec.evaluation.lesions is not None:
        yield "nikov2025"
        if {"weights", "usage"} <= {*spec.evaluation.lesions.remove, *spec.evaluation.lesions.by}:
            yield "sun2023"
