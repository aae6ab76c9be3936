"""`fflab weights`: weights of networks that other programs trained."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from ffengine.activations import ActivationName
from ffengine.arrays import DatasetError
from ffengine.spec import DatasetSpec, EvaluationSpec, LabelPlace, Normalize, Preprocess
from ffengine.text import bytes_in_words
from service.cli.options import (
    EXIT_USAGE,
    JsonOption,
    as_typed,
    fail,
    load_settings,
    make_client,
    require_extra,
    show_json,
)
from service.cli.output import table
from service.cli.uploads import sending
from service.specs.files import SpecError

weights_app = typer.Typer(no_args_is_help=True, help="Weights of networks trained elsewhere.")


def _one_of(values: object) -> str:
    return ", ".join(get_args(values))


@weights_app.command(
    "convert",
    epilog="Example: fflab weights convert mine.safetensors mine-fflab.safetensors --data mnist",
)
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A safetensors file, or an .npz.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Where the weights go.")],
    data: Annotated[
        str, typer.Option(metavar="NAME", help="The data set that the network was trained on.")
    ],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WEIGHT[,BIAS]",
            help="The tensors of a layer; once for each, the first one first. Default: by their "
            "names.",
        ),
    ] = None,
    activation: Annotated[str, typer.Option(help=_one_of(ActivationName))] = "relu",
    normalize: Annotated[
        str, typer.Option(help=f"Of the input of every layer but the first: {_one_of(Normalize)}")
    ] = "none",
    normalize_first: Annotated[
        bool, typer.Option("--normalize-first", help="Of the first layer's input, too.")
    ] = False,
    preprocess: Annotated[
        str, typer.Option(help=f"How pixels were scaled: {_one_of(Preprocess)}")
    ] = "unit",
    labels: Annotated[
        str, typer.Option(help=f"Where the label stood: {_one_of(LabelPlace)}, or none")
    ] = "overlay",
    inputs_first: Annotated[
        bool, typer.Option("--inputs-first", help="Matrices are (inputs, outputs).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write weights that another program trained as a file of fflab.

    `fflab run --weights FILE` checks it. Layers are dense. Nothing in the file is unpickled.
    """
    with require_extra("worker"):
        from ffengine import LayerNames, convert_weights, export_weights
    labelled = labels != "none"
    try:
        with file.open("rb") as source:
            weights = convert_weights(
                source,
                dataset=DatasetSpec.model_validate(
                    {
                        "name": data,
                        "preprocess": preprocess,
                        **({"labels": labels} if labelled else {}),
                    }
                ),
                network={
                    "activation": activation,
                    "normalize": normalize,
                    "normalize_first": normalize_first,
                },
                layers=[LayerNames(*one.split(",", 1)) for one in layer] if layer else None,
                layout="in_out" if inputs_first else "out_in",
                labelled=labelled,
                datasets=load_settings().datasets,
            )
    except OSError as error:
        fail(f"{file}: cannot be read ({error.strerror or error})", EXIT_USAGE)
    except (ValueError, DatasetError) as error:
        raise SpecError(f"{file}: {' '.join(str(error).split())}") from error
    output.write_bytes(export_weights(weights))
    shapes = [list(one.shape[1:]) for one in weights.layers]
    if as_json:
        show_json({"layers": shapes, "bias": weights.spec.network.bias, "file": str(output)})
        return
    bias = ", the last input the bias" if weights.spec.network.bias else ""
    typer.echo(f"{output}: {', '.join(f'{n} x {m}' for n, m in shapes)} (units x inputs{bias})")


@weights_app.command(
    "evaluate", epilog="Example: fflab weights evaluate mine-fflab.safetensors --linear-classifier"
)
def evaluate(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Weights as `convert` or a job gives them.")
    ],
    linear_classifier: Annotated[
        bool, typer.Option("--linear-classifier", help="On the activations, too.")
    ] = False,
    ensembles: Annotated[
        bool, typer.Option("--ensembles", help="Of each class, too (with --json).")
    ] = False,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda or cuda:N.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Measure accuracy, sparsity and dead units of weights, as at the end of a training run."""
    with require_extra("worker"):
        from ffengine import evaluate_weights, import_weights
    try:
        weights = import_weights(file.read_bytes())
    except OSError as error:
        fail(f"{file}: cannot be read ({error.strerror or error})", EXIT_USAGE)
    except ValueError as error:
        raise SpecError(f"{file}: {' '.join(str(error).split())}") from error
    asked = EvaluationSpec(linear_classifier=linear_classifier, ensembles=ensembles)
    spec = weights.spec.model_copy(update={"evaluation": asked})
    try:
        found = evaluate_weights(
            replace(weights, spec=spec), device=device, datasets=load_settings().datasets
        )
    except (DatasetError, ValueError) as error:
        raise SpecError(f"{file}: {error}") from error
    if as_json:
        names = ("accuracy", "measures", "ensembles")
        rows = {name: [row.model_dump() for row in getattr(found, name)] for name in names}
        show_json(rows)
        return
    table(
        ("partition", "layers", "method", "seed", "accuracy"),
        [
            [
                row.partition,
                " ".join(map(str, row.layers)),
                row.method,
                str(row.seed),
                f"{row.accuracy:.4f}",
            ]
            for row in found.accuracy
        ],
        right=(4,),
    )
    for one in found.measures:
        sparsity = "undefined" if one.sparsity is None else f"{one.sparsity:.4f}"
        area = "" if one.auc is None else f", AUC {one.auc:.4f}"
        typer.echo(
            f"layer {one.layer}, {one.partition}, seed {one.seed}: S {sparsity}, "
            f"{one.dead_units} dead units{area}"
        )


@weights_app.command(
    "upload",
    epilog="Example: fflab weights upload mine.safetensors --name mine --data mnist "
    "--activation relu --normalize l2",
)
def upload(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A safetensors file, or an .npz.")],
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What checks call it; default: the file's.", callback=as_typed
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The data set that the network was trained on. A file that fflab wrote says it, "
            "and the options below, itself.",
            callback=as_typed,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WEIGHT[,BIAS]",
            help="The tensors of a layer; once for each, the first one first. Default: by their "
            "names.",
        ),
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help=f"{_one_of(ActivationName)}; default: relu")
    ] = None,
    normalize: Annotated[
        str | None,
        typer.Option(
            help=f"Of the input of every layer but the first: {_one_of(Normalize)}; default: none"
        ),
    ] = None,
    normalize_first: Annotated[
        bool, typer.Option("--normalize-first", help="Of the first layer's input, too.")
    ] = False,
    preprocess: Annotated[
        str | None,
        typer.Option(help=f"How pixels were scaled: {_one_of(Preprocess)}; default: unit"),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help=f"Where the label stood: {_one_of(LabelPlace)}, or none; default: overlay"
        ),
    ] = None,
    inputs_first: Annotated[
        bool, typer.Option("--inputs-first", help="Matrices are (inputs, outputs).")
    ] = False,
    meaning: Annotated[
        str, typer.Option(metavar="TEXT", help="One sentence about it.", callback=as_typed)
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Upload a network to the service at FFLAB_URL: checks name it by `at: {weights: NAME}`.

    The same network under the same name once more changes nothing.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        fail(f"{file}: cannot be read ({error.strerror or error})", EXIT_USAGE)
    with make_client() as client, sending(len(content)) as sent:
        found = client.upload_weights(
            name or file.stem,
            content,
            data=data,
            activation=activation,
            normalize=normalize,
            normalize_first=normalize_first or None,
            preprocess=preprocess,
            labels=labels,
            layers=layer or (),
            layout="in_out" if inputs_first else None,
            meaning=meaning or "",
            on_sent=sent,
        )
        url = client.url
    if as_json:
        show_json(found)
        return
    typer.echo(f"{_in_words(found)}, at {url} ({bytes_in_words(len(content))} sent)")


@weights_app.command("list", epilog="Example: fflab weights list")
def list_uploaded(as_json: JsonOption = False) -> None:
    """List the networks that were uploaded to the service at FFLAB_URL."""
    with make_client() as client:
        found = client.uploaded_weights()
    if as_json:
        show_json(found)
        return
    table(
        ("name", "layers", "activation", "normalize", "data", "meaning"),
        [
            [
                one["name"],
                " ".join(map(str, one["widths"])),
                one["activation"],
                one["normalize"],
                one["dataset"],
                one["meaning"],
            ]
            for one in found
        ],
    )


@weights_app.command("delete", epilog="Example: fflab weights delete mine")
def delete_uploaded(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the upload.", callback=as_typed)],
    as_json: JsonOption = False,
) -> None:
    """Remove uploaded weights from the service, unless unfinished jobs need them."""
    with make_client() as client:
        client.delete_weights(name)
    if as_json:
        show_json({"name": name, "removed": True})
    else:
        typer.echo(f"{name}: removed")


def _in_words(found: dict[str, Any]) -> str:
    """What was uploaded, in one line."""
    widths = " - ".join(str(one) for one in (found["inputs"], *found["widths"]))
    bias = "with biases" if found["bias"] else "without biases"
    return f"{found['name']}: {widths} {found['activation']} {bias}, of {found['dataset']}"
