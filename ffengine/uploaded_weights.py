"""Networks that users bring: weights trained elsewhere, kept once under a name, never changed.

Each is a folder with a file of weights as `export_weights` writes it, and its facts. The folders
are beside those of uploaded data sets: every machine that reads the ones reads the others.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from ffengine import uploads
from ffengine.arrays import DatasetError, described
from ffengine.datasets import Datasets
from ffengine.durable import make_folder, sync, sync_files
from ffengine.entry import SpecFieldError
from ffengine.spec import CheckSpec, DatasetSpec, TrainSpec, UploadedWeights, digest
from ffengine.text import STORED, user_text

if TYPE_CHECKING:  # it reads safetensors, which the client does without
    from ffengine.weights import Weights

MAX_WEIGHT_BYTES = 2**28  # of an upload's numbers as float32
LARGEST_EXPONENT = 2**20  # of weights beyond float32
NO_LABEL = "none"
FLOAT_BYTES = 4
FILE, FACTS = "network.safetensors", "facts.json"


class BadWeights(ValueError):
    """A file of weights cannot be used."""


class WeightsNameTaken(BadWeights):
    """Another network has that name already."""


class WeightsMissing(SpecFieldError):
    """A check names uploaded weights that are not there: `path` leads to the wrong field."""


class Description(NamedTuple):
    """What a network is whose file does not say it; None: it is not said.

    **Attributes:**

    - `data`: the data set that it was trained on.
    - `activation`: of its layers; None stands for relu.
    - `normalize`: of the input of every layer but the first; None stands for none.
    - `normalize_first`: whether the input of the first layer is normalised, too.
    - `preprocess`: how pixels were scaled; None stands for unit.
    - `labels`: where the label stood, or "none"; None stands for overlay.
    - `layers`: WEIGHT or WEIGHT,BIAS of each layer, the first one first; none: by their names.
    - `layout`: "out_in" or "in_out"; None stands for out_in, as PyTorch has it.
    """

    data: str | None = None
    activation: str | None = None
    normalize: str | None = None
    normalize_first: bool | None = None
    preprocess: str | None = None
    labels: str | None = None
    layers: tuple[str, ...] = ()
    layout: str | None = None


class UploadedNetwork(BaseModel):
    """What is known of an uploaded network; kept beside its weights.

    Its fields are plain, so that it can be listed where a plug-in of it is missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    meaning: str
    digest: str  # of the numbers and of what the network is
    file_digest: str  # sha256 of the file that was brought
    dataset: str
    preprocess: str
    labels: str | None  # where the label stands; None: samples carry none
    label_inputs: int = 0  # of each layer above the first, where every layer receives the label
    inputs: int
    widths: tuple[int, ...]
    bias: bool
    activation: str
    normalize: str
    normalize_first: bool
    epoch: int
    seeds: tuple[int, ...]
    by_fflab: bool  # whether a run of fflab trained it, as the file says
    uploaded_by: str | None = None
    spec: dict[str, JsonValue]  # of the run that the weights count as

    @property
    def parameters(self) -> int:
        """How many numbers one replica has."""
        below = (self.inputs, *(self.label_inputs + width for width in self.widths))
        return sum((m + self.bias) * n for m, n in zip(below, self.widths, strict=False))


class LoadedNetwork(NamedTuple):
    """The weights of an upload, verified, and its facts."""

    weights: "Weights"
    facts: UploadedNetwork


@dataclass(frozen=True)
class WeightUploads:
    """The networks that were uploaded to one place.

    **Attributes:**

    - `datasets`: the data sets of that place, which says where its uploads are.
    """

    datasets: Datasets

    @property
    def folder(self) -> Path:
        """Where they are kept, each in a folder of its own."""
        return self.datasets.weights_kept_in

    def all(self) -> list[UploadedNetwork]:
        """List the facts of all uploaded networks, in the alphabetical order of their names."""
        try:
            names = sorted(path.name for path in self.folder.iterdir())
        except OSError:  # there is no such folder, or it cannot be read
            return []
        return [facts for name in names if (facts := self.find(name))]

    def names(self) -> list[str]:
        """List the names of all uploaded networks, in alphabetical order."""
        return [facts.name for facts in self.all()]

    def find(self, name: str) -> UploadedNetwork | None:
        """Find the facts of an uploaded network.

        **Arguments:**

        - `name`: of the upload.

        **Returns:**

        The facts; None where no upload has that name.
        """
        return _found(name, self.folder)

    def keep(
        self,
        name: str,
        source: IO[bytes],
        description: Description,
        *,
        meaning: str = "",
        uploaded_by: str | None = None,
        max_bytes: int = MAX_WEIGHT_BYTES,
        admit: Callable[[int], None] = lambda _bytes: None,
    ) -> UploadedNetwork:
        """Read and check a file of weights, and keep them under a new name.

        **Arguments:**

        - `name`: what specs call the network.
        - `source`: a safetensors file or an .npz of another program, or a file that fflab wrote.
        - `description`: what the network is. Of a file that fflab wrote nothing is said: it has it.
        - `meaning`: one sentence about the network.
        - `uploaded_by`: who brings it.
        - `max_bytes`: how large the numbers of its layers may be as float32.
        - `admit`: is called with that size before anything is written, and may raise.

        **Returns:**

        The facts. Where the same network has that name already, those that were kept then.

        **Raises:**

        - `WeightsNameTaken`: another network has that name.
        - `BadWeights`: the name, the file or the description cannot be used.
        - `uploads.NotStored`: it cannot be written.
        """
        if not uploads.NAME.fullmatch(name):
            raise BadWeights(
                f"the name {name[:80]!r} cannot be used: lower-case letters, digits, '.', '_' and "
                f"'-', at most 63, no '.' first"
            )
        try:
            meaning = user_text(meaning, uploads.LONGEST_MEANING) if meaning else "Uploaded."
        except ValueError as error:
            raise BadWeights(f"meaning: {error}") from error
        weights, by_fflab = self._read(source, description, max_bytes)
        facts = _facts(
            weights,
            name=name,
            meaning=meaning,
            uploaded_by=uploaded_by,
            file_digest=_sha256(source),
            by_fflab=by_fflab,
        )
        if (self.folder / name).exists():
            return self._same(facts)
        admit(FLOAT_BYTES * facts.parameters * len(facts.seeds))
        return self._stored(facts, weights)

    def load(self, at: UploadedWeights) -> LoadedNetwork:
        """Read the weights that a check names.

        **Arguments:**

        - `at`: their name, and the digest that they must have.

        **Returns:**

        The weights, which are what was uploaded, and the facts of the upload.

        **Raises:**

        - `WeightsMissing`: no upload has that name, it is another one, or its files are damaged.
        """
        from ffengine.weights import import_weights

        facts = self.facts_of(at)
        path = self.folder / facts.name / FILE
        try:
            weights = import_weights(path.read_bytes())
        except (OSError, ValueError) as error:
            raise WeightsMissing(
                ("at", "weights"), f"{facts.name}: {path} cannot be read ({error})"
            ) from error
        if digest_of_network(weights) != facts.digest:
            raise WeightsMissing(
                ("at", "weights"),
                f"{facts.name}: {path} is not what was uploaded; restore it from a backup",
            )
        return LoadedNetwork(weights, facts)

    def facts_of(self, at: UploadedWeights) -> UploadedNetwork:
        """Return the facts of the network that a check names.

        **Arguments:**

        - `at`: its name, and the digest that it must have.

        **Returns:**

        The facts.

        **Raises:**

        - `WeightsMissing`: no upload has that name, or it is another network.
        """
        facts = self.find(at.weights)
        if facts is None:
            known = ", ".join(self.names()) or "none, so upload them first"
            raise WeightsMissing(
                ("at", "weights"),
                f"no uploaded weights are called {at.weights!r}; there are {known}",
            )
        if at.digest not in (None, facts.digest):
            raise WeightsMissing(
                ("at", "digest"),
                f"{at.weights} are other weights now (digest {facts.digest[:16]}...); leave the "
                f"digest out for those",
            )
        return facts

    def refuse_missing(self, check: CheckSpec) -> None:
        """Raise an error where the uploaded weights that a check names cannot be checked so.

        **Arguments:**

        - `check`: one that names uploaded weights; of others nothing is asked.

        **Raises:**

        - `SpecFieldError`: they are not there, or do not fit; its path leads to the wrong field.
        """
        if not isinstance(check.at, UploadedWeights):
            return
        facts = self.facts_of(check.at)
        try:
            trained = TrainSpec.model_validate(facts.spec, context=STORED)
            check.refuse_misfit(trained, self.datasets)
        except (DatasetError, ValidationError) as error:
            reason = str(error) if isinstance(error, DatasetError) else "a plug-in is not here"
            raise WeightsMissing(
                ("at", "weights"), f"{facts.name} cannot be used: {reason}"
            ) from error

    def pinned(self, spec: CheckSpec) -> CheckSpec:
        """Return a check with the digest of the uploaded weights that it names.

        **Arguments:**

        - `spec`: any check.

        **Returns:**

        The same check, where it names no upload, says the digest, or no upload has that name.
        """
        at = spec.at
        if not isinstance(at, UploadedWeights) or at.digest is not None:
            return spec
        facts = self.find(at.weights)
        if facts is None:
            return spec
        return spec.model_copy(update={"at": at.model_copy(update={"digest": facts.digest})})

    def trained_on(self, dataset: str) -> list[str]:
        """List the names of the networks that were trained on a data set.

        **Arguments:**

        - `dataset`: its name.

        **Returns:**

        The names, in alphabetical order.
        """
        return [facts.name for facts in self.all() if facts.dataset == dataset]

    def remove(self, name: str, needed_by: Callable[[], Sequence[str]] = tuple) -> None:
        """Remove an uploaded network, unless something needs it.

        **Arguments:**

        - `name`: of the upload.
        - `needed_by`: names what needs it, such as unfinished jobs.

        **Raises:**

        - `uploads.InUse`: something needs it.
        - `DatasetError`: no upload has that name, or the folder cannot be written.
        """
        self.recover()
        if self.find(name) is None:
            raise DatasetError(f"no uploaded weights are called {name!r}")
        if needing := needed_by():
            raise uploads.InUse(name, needing)
        uploads.remove(name, self.folder, needed_by)

    def recover(self) -> list[str]:
        """Put back the uploads whose removal a process began and did not live to finish.

        **Returns:**

        What was done, and what must be done by hand, in words.
        """
        return uploads.recover(self.folder, _found)

    def bytes_kept(self, uploaded_by: str | None = None) -> int:
        """Return how much room the uploaded networks take up.

        **Arguments:**

        - `uploaded_by`: only those that this one brought; None: all.

        **Returns:**

        Bytes.
        """
        return sum(
            uploads.bytes_of(facts.name, self.folder)
            for facts in self.all()
            if uploaded_by in (None, facts.uploaded_by)
        )

    def _read(self, source: IO[bytes], told: Description, max_bytes: int) -> tuple["Weights", bool]:
        """Read a file; whether fflab wrote it. Raises BadWeights."""
        from ffengine.foreign_weights import is_of_fflab

        try:
            if is_of_fflab(source):
                return self._of_fflab(source, told, max_bytes), True
            return self._of_another_program(source, told, max_bytes), False
        except (ValueError, OverflowError, RecursionError, DatasetError) as error:
            words = " ".join(str(error).split()) or "its numbers or lists are too large"
            raise BadWeights(words) from error

    def _of_fflab(self, source: IO[bytes], told: Description, max_bytes: int) -> "Weights":
        """Read a file that fflab wrote. Raises ValueError."""
        from ffengine.foreign_weights import read_tensors, refuse_large
        from ffengine.weights import import_weights

        given = [field for field, value in told._asdict().items() if value not in (None, ())]
        if given:
            raise ValueError(
                f"fflab wrote this file, which says itself what the network is; leave out "
                f"{', '.join(given)}"
            )
        refuse_large((one.shape for one in read_tensors(source).values()), max_bytes)
        source.seek(0)
        weights = import_weights(source.read())
        spec = weights.spec
        if spec.network.layers:
            raise ValueError(
                "checks are of fully connected layers, and this file has network.layers; "
                "fflab weights evaluate reads it"
            )
        given_inputs = spec.inputs(self.datasets.facts_of(spec.dataset.name))
        learnt = weights.layers[0].shape[-1] - spec.network.bias
        if learnt != given_inputs:
            raise ValueError(
                f"layers.0.weight has {learnt} inputs, but a sample of {spec.dataset.name} has "
                f"{given_inputs}"
            )
        carried = spec.carried_inputs(self.datasets.facts_of(spec.dataset.name).classes)
        if len(weights.layers) > 1 and weights.label_inputs != carried:
            raise ValueError(
                f"layers.1.weight has {weights.label_inputs} inputs of a label, but a label of "
                f"{spec.dataset.name} has {carried}"
            )
        if not 0 <= weights.epoch <= spec.epochs:
            raise ValueError(f"epoch {weights.epoch} is none of its run, which has {spec.epochs}")
        if any(abs(one) > LARGEST_EXPONENT for layer in weights.exponents for one in layer):
            raise ValueError(f"exponents are at most {LARGEST_EXPONENT:,}")
        return weights

    def _of_another_program(
        self, source: IO[bytes], told: Description, max_bytes: int
    ) -> "Weights":
        """Read a file of another program. Raises ValueError."""
        from ffengine.foreign_weights import LayerNames, convert_weights

        if told.data is None:
            raise ValueError(
                "data: say on which data set the network was trained; only files that fflab wrote "
                "say it themselves"
            )
        if told.layout not in (None, "out_in", "in_out"):
            raise ValueError(f"layout {told.layout[:40]!r} is not known; choose out_in or in_out")
        labelled = told.labels != NO_LABEL
        place = {"labels": told.labels} if labelled and told.labels else {}
        return convert_weights(
            source,
            dataset=_dataset({"name": told.data, "preprocess": told.preprocess or "unit", **place}),
            network={
                "activation": told.activation or "relu",
                "normalize": told.normalize or "none",
                "normalize_first": bool(told.normalize_first),
            },
            layers=[LayerNames(*one.split(",", 1)) for one in told.layers] or None,
            layout="in_out" if told.layout == "in_out" else "out_in",
            labelled=labelled,
            datasets=self.datasets,
            max_bytes=max_bytes,
        )

    def _same(self, facts: UploadedNetwork) -> UploadedNetwork:
        """Return the upload of that name; raise WeightsNameTaken where it is another network."""
        there = self.find(facts.name)
        if there is None or there.digest != facts.digest:
            was = f"with digest {there.digest[:16]}..." if there else "but its files are damaged"
            raise WeightsNameTaken(
                f"{facts.name!r} is taken, {was}; uploaded weights never change, so choose another "
                f"name"
            )
        return there

    def _stored(self, facts: UploadedNetwork, weights: "Weights") -> UploadedNetwork:
        """Put an upload into its folder by one rename, so that no reader sees half of it."""
        from ffengine.weights import export_weights

        folder, name = self.folder, facts.name
        try:
            make_folder(folder)
            fresh = Path(tempfile.mkdtemp(prefix=uploads.DRAFT, dir=folder))
            try:
                (fresh / FILE).write_bytes(export_weights(weights))
                (fresh / FACTS).write_text(facts.model_dump_json())
                fresh.chmod(0o755)
                sync_files(fresh)
                fresh.replace(folder / name)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        except OSError as error:
            if (folder / name).is_dir():  # another writer was first
                return self._same(facts)
            raise uploads.NotStored(name, folder, error) from error
        try:
            sync(folder)
        except OSError as error:
            raise uploads.NotStored(name, folder, error) from error
        return facts


def digest_of_network(weights: "Weights") -> str:
    """Return the digest of a network: of its numbers, and of what the network is.

    **Arguments:**

    - `weights`: its weights and spec.

    **Returns:**

    SHA-256 in hexadecimal digits: the same in every version of fflab, and whichever file the
    numbers come from.
    """
    found = hashlib.sha256(f"{digest(weights.spec)} {weights.epoch}".encode())
    for number, layer in enumerate(weights.layers):
        found.update(described(f"layers.{number}", layer.dtype, layer.shape))
        found.update(layer.tobytes())
    found.update(json.dumps(weights.exponents).encode())
    return found.hexdigest()


def _found(name: str, folder: Path) -> UploadedNetwork | None:
    """Find the facts of an upload in a folder; None where no upload has that name."""
    if not uploads.NAME.fullmatch(name):
        return None
    try:
        return UploadedNetwork.model_validate_json((folder / name / FACTS).read_bytes())
    except (OSError, ValidationError):
        return None


def _facts(weights: "Weights", *, by_fflab: bool, **told: Any) -> UploadedNetwork:
    """Return the facts of a network; `told` are those that its weights do not say."""
    spec = weights.spec
    return UploadedNetwork(
        digest=digest_of_network(weights),
        dataset=spec.dataset.name,
        preprocess=spec.dataset.preprocess,
        labels=spec.dataset.labels if spec.negatives.labelled else None,
        label_inputs=weights.label_inputs,
        inputs=weights.layers[0].shape[-1] - spec.network.bias,
        widths=spec.network.widths,
        bias=spec.network.bias,
        activation=str(spec.network.activation),
        normalize=spec.network.normalize,
        normalize_first=spec.network.normalize_first,
        epoch=weights.epoch,
        seeds=spec.seeds,
        by_fflab=by_fflab,
        spec=spec.model_dump(mode="json"),
        **told,
    )


def _dataset(document: dict[str, Any]) -> DatasetSpec:
    """Return the data set of a description; raise ValueError where a field of it is wrong."""
    try:
        return DatasetSpec.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = {"name": "data"}.get(str(first["loc"][0]), str(first["loc"][0]))
        raise ValueError(f"{field}: {first['msg']}") from error


def _sha256(source: IO[bytes]) -> str:
    """Return the digest of a file that is open."""
    source.seek(0)
    return hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]
