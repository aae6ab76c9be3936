"""Tables, methods and bibliographies in LaTeX: what is said and escaped, and that it compiles."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ffengine.objectives import Objective
from ffengine.presets import PRESETS
from ffengine.references import REFERENCES, SOURCES, references_of
from ffengine.results import Interval, StudyCell
from ffengine.spec import AnySpec, CheckSpec, ForecastSpec, StudySpec, TrainSpec
from ffengine.study import expand, resolved
from ffengine.version import RELEASED, VERSION
from service.encoding.latex import for_latex
from service.results.bibliography import bibtex, own_entry
from service.results.latex_tables import latex
from service.results.methods import CITATION, FORMS, cited_keys, methods, sentences_of
from service.results.paper_tables import PaperTable, number, paper_tables, thinned, with_interval
from service.results.sources import GridCell, Source, StudyGrid
from service.results.text_tables import Column
from service.store import Store
from service.web.catalogue import build_catalog
from tests.needs import latex_of
from tests.over_http import refused, submit, succeed
from tests.service.samples import check_result, epoch_row, provenance, train_result

HOSTILE = (
    r"\input{/etc/passwd} \write18{ls} $x$ a_b^c ~ # % & {} \\ [2] * -- ''' ``` ,, <<>> |"
    "\"' Größe Łódź ñ ş İ θ τ Ω ≥ 数字 😀 \u202e" + 50 * "x"
)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a_b", r"a\_b"),
        ("50 % & more #1", r"50 \% \& more \#1"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("$5 ~ ^", r"\$5 \textasciitilde{} \textasciicircum{}"),
        ("0.75 [0.70, 0.80]", "0.75 {[}0.70, 0.80{]}"),
        ("own-step --x", r"own-step -{}-x"),
        ("Größe é Å ñ", r"Gr{\"{o}}\ss{}e {\'{e}} {\r{A}} {\~{n}}"),
        ("τ ≥ λ", r"$\tau$ $\geq$ $\lambda$"),
        ("−0.1 to 5", "$-$0.1 to 5"),
        ("数", "{[}U+6570{]}"),
        ("a\nb", "a b"),
        ("", ""),
    ],
)
def test_a_text_is_written_for_latex(text: str, written: str) -> None:
    assert for_latex(text) == written


def test_nothing_of_a_hostile_text_is_a_command_and_all_is_ascii() -> None:
    found = for_latex(HOSTILE)
    assert found.isascii()
    commands = set(re.findall(r"\\[A-Za-z]+", found))
    assert not commands & {r"\input", r"\write"}
    assert not re.search(r"(?<!\\)[%#&_]", found)


def test_an_interval_stands_behind_its_mean() -> None:
    assert with_interval(Interval(mean=0.75, low=0.7, high=0.8, seeds=3)) == "0.750 [0.700, 0.800]"
    assert with_interval(Interval(mean=0.75, low=None, high=None, seeds=1)) == "0.750"
    assert with_interval(None) == "–"
    assert number(0.99996, 3) == "0.99996"
    assert number(1.0, 3) == "1.000"
    assert number(-0.25, 2) == "−0.25"


def test_epochs_are_thinned_evenly_with_both_ends() -> None:
    assert thinned(range(4), 12) == {0, 1, 2, 3}
    found = sorted(thinned(range(2_001), 12))
    assert (found[0], found[-1], len(found)) == (0, 2_000, 12)


def trained() -> Source:
    rows = tuple(
        epoch_row(epoch, split, seed=seed)
        for seed in (0, 1)
        for epoch in (0, 1)
        for split in ("positive", "negative")
    )
    result = train_result((0, 1)).model_copy(update={"curves": rows})
    return Source("", result, TrainSpec(seeds=(0, 1)))


def study(runs: int = 2, name: str = "") -> StudyGrid:
    spec = StudySpec(base=TrainSpec(), grid={"epochs": [*range(1, runs + 1)]})
    summary = {
        f"sparsity[layer=0 epoch={epoch} split={split}]": Interval(
            mean=0.5, low=0.4, high=0.6, seeds=3
        )
        for epoch in (0, 1)
        for split in ("positive", "negative")
    } | {
        "accuracy[layer=all epoch=1 partition=test method=goodness]": Interval(
            mean=0.9, low=None, high=None, seeds=1
        )
    }
    cells = [
        GridCell(
            StudyCell(
                part=name,
                params=cell.params,
                kind="train",
                spec_digest="0",
                state="succeeded",
                summary=summary,
            ),
            cell.spec,
        )
        for cell in expand(spec)
    ]
    return StudyGrid("", cells)


def test_a_training_run_has_its_comparison_and_its_curves() -> None:
    tables = paper_tables([trained()])
    assert list(tables) == ["comparison", "curves"]
    curves = tables["curves"]()
    assert [column.label for column in curves.columns][:3] == ["epoch", "samples", "sparsity S"]
    assert len(curves.rows) == 4
    assert curves.rows[0][:3] == ["0", "positive", "0.500 [0.500, 0.500]"]
    for said in ("Means over 2 seeds", "95 %", "mnist-mini", "fflab", "sha256"):
        assert said in curves.caption
    text = latex(curves)
    assert r"0.500 {[}0.500, 0.500{]}" in text
    assert r"\label{tab:fflab-curves}" in text


def test_a_check_has_its_cells_with_the_interval_over_seeds() -> None:
    source = Source("", check_result((0, 1, 2)), CheckSpec(theorem=1))
    table = paper_tables([source])["cells"]()
    assert [row[0] for row in table.rows] == ["64"]
    assert "[" in table.rows[0][3]


def test_a_study_has_a_row_for_each_run_at_its_last_epoch() -> None:
    table = paper_tables([study()])["runs"]()
    assert [column.label for column in table.columns] == [
        "epochs",
        "S, positive",
        "S, negative",
        "test accuracy",
    ]
    assert table.rows[1] == ["2", "0.500 [0.400, 0.600]", "0.500 [0.400, 0.600]", "0.900"]


def test_a_long_table_goes_over_several_pages_and_says_what_it_leaves_out() -> None:
    grid = study(250)
    table = paper_tables([grid])["runs"]()
    assert len(table.rows) == 200
    assert "The first 200 of 250 rows." in table.caption
    assert r"\begin{longtable}" in latex(table)
    assert r"\begin{tabular}" in latex(paper_tables([study()])["runs"]())


def hostile_table() -> PaperTable:
    columns = (Column(HOSTILE, is_number=False), Column("[x]"), Column("", is_number=False))
    return PaperTable("runs", HOSTILE, columns, [[HOSTILE, "0.1 [0.0, 0.2]", "*"], [HOSTILE]])


@pytest.mark.slow
def test_tables_methods_and_references_compile_without_a_package(tmp_path: Path) -> None:
    tables = [hostile_table()]
    for sources in ([trained()], [study(40, HOSTILE)]):
        tables += [make() for make in paper_tables(sources).values()]
    seen = {"base": {"kind": "train"}, "grid": {"seeds": [[0], [0, 1]]}}
    spec = StudySpec.model_validate(
        {"kind": "study", "parts": {HOSTILE.replace("\u202e", ""): seen}}
    )
    text = methods(spec, [provenance((0, 1))], form="tex") + "".join(map(latex, tables))
    end = r"\bibliographystyle{plain}\bibliography{references}"
    bib = bibtex(spec, [provenance((0,))])
    assert latex_of(tmp_path, r"\usepackage{longtable}", text + end, bib=bib).is_file()


SPECS: dict[str, AnySpec] = {
    **{name: preset.spec for name, preset in PRESETS.items()},
    "train": TrainSpec(),
    "check": CheckSpec(),
    "theorem-1": CheckSpec(theorem=1),
    "forecast": ForecastSpec(),
    "trained weights": CheckSpec.model_validate(
        {
            "at": {"job": f"job_{32 * '0'}", "epoch": 3},
            "along": "training_step",
            "methods": ["exact"],
        }
    ),
    **{
        f"labels {code}": TrainSpec.model_validate({"dataset": {"label_code": code, **more}})
        for code, more in (("random", {}), ("fourier", {}), ("fourier", {"label_strength": 0.2}))
    },
    **{
        f"halves {form}": TrainSpec.model_validate(
            {
                "objective": {"name": "polar", "form": form, "goodness": "sum_squares"},
                "network": {"widths": [8] * layers, "normalize": "halves", "normalize_first": True},
            }
        )
        for form, layers in (("sigma", 2), ("symmetric", 1))
    },
    "labels at every layer": TrainSpec.model_validate(
        {
            "dataset": {"labels": "every_layer", "label_strength": 3},
            "network": {"widths": [9, 8], "normalize": "rms", "label_gains": [0.5]},
        }
    ),
    "check of labels": CheckSpec.model_validate({"dataset": {"label_code": "random"}}),
    "everything": TrainSpec.model_validate(
        {
            "dataset": {"validation_samples": 100, "label_strength": 0.5, "labels": "append"},
            "network": {"widths": [8, 16], "normalize": "l2", "bias": True, "init": "he"},
            "optimizer": {"name": "adamw", "schedule": "cosine", "weight_decay": 0.1},
            "phases": {
                "positive_steps": 2,
                "negative_steps": 1,
                "lr_ratio": 0.5,
                "own_states": True,
            },
            "objective": {"name": "softplus", "peer_normalization": 0.1},
            "evaluation": {
                "linear_classifier": True,
                "linear_penalties": [0.1, 0.2],
                "ensembles": True,
                "baselines": ["cross_entropy", "ff_objective"],
            },
            "monitor": {
                "measures": ["gini", "kurtosis", "spectral_norm", "weights"],
                "every_epochs": 2,
            },
            "seeds": [0, 1],
        }
    ),
}


OF_HALVES = ("sigma", "symmetric")


def runs_of(spec: AnySpec) -> list[Any]:
    return [cell.spec for cell in expand(spec)] if isinstance(spec, StudySpec) else [spec]


def test_the_methods_say_how_halves_are_compared_and_scaled() -> None:
    of_two, of_one = (methods(SPECS[f"halves {form}"], [], form="txt") for form in OF_HALVES)
    assert "p = sigmoid(1 (G(P) - G(N)))" in of_two
    assert "p = (G(P) + 1e-6) / (G(P) + G(N) + 2e-6)" in of_one
    assert "first layer is scaled to length 1, and that of every layer above is scaled so" in of_two
    assert "The input of the layer is scaled to length 1." in of_one


def test_the_methods_say_that_every_layer_receives_the_label() -> None:
    text = methods(SPECS["labels at every layer"], [], form="txt")
    said = "the same for each layer and not normalised, of the activations that each layer above"
    assert said in text
    assert "with 3 in place of 1" in text
    assert "karkehabadi2024" in references_of(SPECS["labels at every layer"])


@pytest.mark.parametrize("name", SPECS)
def test_the_methods_name_what_the_spec_uses_and_nothing_else(name: str) -> None:
    spec = SPECS[name]
    text = methods(spec, [], form="txt")
    runs = runs_of(spec)
    learning = [run for run in runs if not isinstance(run, CheckSpec)]
    with_negatives = [
        *learning,
        *(run for run in runs if isinstance(run, CheckSpec) and run.theorem == 2),
    ]
    used = {
        "The data set is {}": {run.dataset.name for run in runs},
        "preprocessed as {}:": {run.dataset.preprocess for run in runs},
        "Negatives are made by {}:": {run.negatives.strategy for run in with_negatives} - {"none"},
        "the objective {}:": {run.objective.name for run in learning},
        "The optimiser is {} ": {run.optimizer.name for run in learning},
        "initialised by {}:": {run.network.init for run in learning},
        "A label is the code {}:": {
            run.dataset.label_code.name for run in with_negatives if run.negatives.labelled
        }
        - {"one_hot"},
        "Its schedule is {}:": {run.optimizer.schedule for run in learning} - {"constant"},
    }
    known = {
        "The data set is {}": SOURCES["datasets"],
        "Negatives are made by {}:": SOURCES["negatives"],
        "the objective {}:": SOURCES["objectives"],
        "The optimiser is {} ": SOURCES["optimizers"],
        "initialised by {}:": SOURCES["inits"],
        "A label is the code {}:": SOURCES["label_codes"],
    }
    for form, names in used.items():
        for one in names:
            assert form.format(one) in text
        for other in set(known.get(form, ())) - names:
            assert form.format(f"{other}:" if "data set" in form else other) not in text
    for run in runs:
        seeds = ", ".join(map(str, run.seeds[:3]))
        assert seeds in text
        if isinstance(run, TrainSpec):
            assert f"takes {run.epochs:,} epoch" in text
            assert f"batches of {run.batch_size:,}" in text
    trainings = [run for run in runs if isinstance(run, TrainSpec)]
    for words, said in {
        "Steps take one side": any(run.phases.alternate for run in trainings),
        "times the learning rate": any(run.phases.lr_ratio != 1 for run in trainings),
        "a state of the optimiser of their own": any(run.phases.own_states for run in trainings),
        "the label is multiplied by": any(run.network.label_gains for run in trainings),
        "Ensembles": any(run.evaluation.ensembles for run in trainings),
        "linear classifier": any(run.evaluation.linear_classifier for run in trainings),
        "Peer normalisation": any(
            isinstance(run.objective, Objective) and run.objective.peer_normalization
            for run in learning
        ),
        "weight decay": any(run.optimizer.weight_decay for run in learning),
        "95 %": any(len(run.seeds) > 1 and not isinstance(run, ForecastSpec) for run in runs),
        "baseline": any(run.evaluation.baselines for run in trainings),
        "theorem 1": any(1 in run.monitor.theorems and not run.learns_classes for run in trainings)
        or any(isinstance(run, CheckSpec) and run.theorem == 1 for run in runs),
        "Figures are computed by": False,
    }.items():
        assert (words in text) == said, words


@pytest.mark.parametrize("name", SPECS)
def test_what_the_methods_cite_is_the_bibliography(name: str) -> None:
    spec = SPECS[name]
    found = [provenance((0,))]
    cited = cited_keys(sentences_of(spec, found))
    assert cited == set(references_of(spec))
    entries = re.findall(r"^@\w+\{([\w]+),", bibtex(spec, found), re.MULTILINE)
    assert entries == ["fflab", *references_of(spec)]
    assert set(re.findall(r"\\cite\{([^}]+)\}", methods(spec, found, form="tex"))) == {
        match for sentence in sentences_of(spec, found) for match in CITATION.findall(sentence)
    }
    assert "⟦" not in "".join(methods(spec, found, form=form) for form in FORMS)


def test_a_study_says_of_which_runs_a_sentence_is_true() -> None:
    spec = StudySpec(base=TrainSpec(), grid={"network.widths": [[8], [16]]})
    text = methods(spec, [], form="txt")
    assert "has one fully connected layer of 8 relu units, without biases (in widths 8)." in text
    assert "has one fully connected layer of 16 relu units, without biases (in widths 16)." in text
    assert text.count("Training takes 10 epochs") == 1


def test_a_preset_is_named_between_commas() -> None:
    text = methods(resolved(StudySpec(preset="quick")), [], form="txt")
    assert text.startswith("The study, the preset quick, has 3 runs: 2 of kind check and 1 of ")
    plain = StudySpec(base=TrainSpec(), grid={"network.widths": [[8], [16]]})
    assert methods(plain, [], form="txt").startswith("The study has 2 runs: 2 of kind train.")


def test_provenance_adds_counts_digest_versions_and_device() -> None:
    found = provenance((0, 1))
    text = methods(TrainSpec(seeds=(0, 1)), [found], form="md")
    for said in (
        found.dataset.digest,
        found.program,
        found.torch_version,
        found.device_name,
        found.spec_digest,
        "[@paszke2019]",
    ):
        assert said in text


def catalogued() -> Iterator[tuple[str, str]]:
    catalog = build_catalog().model_dump()
    for catalogue in SOURCES:
        if catalogue in catalog:
            yield from ((catalogue, line["name"]) for line in catalog[catalogue])


@pytest.mark.slow
def test_every_entry_of_the_catalogues_knows_its_sources() -> None:
    for catalogue, name in catalogued():
        assert name in SOURCES[catalogue], f"{catalogue}: {name}"
    keys = {key for entries in SOURCES.values() for found in entries.values() for key in found}
    assert keys <= set(REFERENCES)


def test_every_reference_has_what_bibtex_needs() -> None:
    for key, found in REFERENCES.items():
        assert re.fullmatch(r"[a-z]+\d{4}[a-z]*", key)
        fields = dict(found.more)
        assert {"article": "journal", "inproceedings": "booktitle"}.get(found.kind, "title") in {
            "title",
            *fields,
        }
        text = f"{found.author} {found.title} {' '.join(fields.values())}"
        assert text.isascii(), key
        assert text.count("{") == text.count("}"), key


def test_fflab_is_cited_in_the_version_that_computed() -> None:
    assert f"{{{VERSION}}}" in own_entry()
    assert RELEASED in own_entry()
    other = provenance((0,)).model_copy(update={"fflab_version": "0.1.0"})
    assert "{0.1.0}" in own_entry([other])
    assert RELEASED not in own_entry([other])


@pytest.mark.slow
def test_tables_methods_and_references_over_http(client: httpx.Client, store: Store) -> None:
    job = submit(client, name="a_b & c")
    address = f"/v1/jobs/{job.id}"
    refused(client.get(f"{address}/result.tex"), 409, "no-result-yet")
    assert "The data set is" in client.get(f"{address}/methods.txt").text
    succeed(store, job.id)
    table = client.get(f"{address}/result.tex?rows=curves")
    assert table.headers["content-type"] == "text/x-tex; charset=utf-8"
    assert f'{job.id}-curves.tex"' in table.headers["content-disposition"]
    assert r"\begin{tabular}" in table.text
    assert client.get(f"{address}/result.tex").status_code == 200
    problem = refused(client.get(f"{address}/result.tex?rows=cells"), 409, "no-rows")
    assert "there are" in problem.detail
    refused(client.get(f"{address}/methods.pdf"), 422, "invalid")
    again = client.get(f"{address}/methods.md")
    assert "Figures are computed by" in again.text
    unchanged = client.get(
        f"{address}/methods.md", headers={"If-None-Match": again.headers["etag"]}
    )
    assert unchanged.status_code == 304
    assert client.get(f"{address}/references.bib").text.startswith("@misc{fflab,")


OVERFULL = re.compile(r"Overfull \\hbox \(([\d.]+)pt too wide")
MOST_OVERFULL = 5.0  # points
MANY: dict[str, Any] = {
    "optimizer.lr": 0.012345678901234,
    "network.widths": [1024, 512, 256, 128],
    "dataset.preprocess": "standardize",
    "negatives": {"strategy": "wrong_label", "image": "own"},
    "optimizer.schedule": "cosine",
    "dataset.label_strength": 123456.789,
    "dataset.name": "a" * 60,
}


@pytest.mark.slow
def test_tables_of_seven_parameters_stay_within_the_margins(tmp_path: Path) -> None:
    interval = Interval(mean=0.51234, low=0.41234, high=0.61234, seeds=3)
    figures = [
        f"{figure}[layer=0 epoch=3 split={split}]"
        for figure in ("sparsity", "theorem2_ratio")
        for split in ("positive", "negative")
    ]
    figures.append("accuracy[layer=all partition=test method=goodness]")
    cells = [
        GridCell(
            StudyCell(
                part="a part with a long name",
                params={**MANY, "batch_size": size},
                kind="train",
                spec_digest="0",
                state="succeeded",
                summary=dict.fromkeys(figures, interval),
            )
        )
        for size in (32, 64)
    ]
    tables = [make() for make in paper_tables([StudyGrid("", cells)]).values()]
    text = r"\setlength{\emergencystretch}{3em}" + "".join(map(latex, tables))
    packages = r"\usepackage[margin=25mm]{geometry}\usepackage{booktabs,longtable}"
    text += r"\nocite{*}\bibliographystyle{plain}\bibliography{references}"
    bib = bibtex(TrainSpec(), [provenance((0,))])
    log = (
        latex_of(tmp_path, packages, text, bib=bib).with_suffix(".log").read_text(errors="replace")
    )
    assert [width for width in OVERFULL.findall(log) if float(width) > MOST_OVERFULL] == []
