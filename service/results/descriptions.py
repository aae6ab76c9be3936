"""A job in words, for pages and for the command line: what it does, which actions it allows, how
its figures were obtained.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from ffengine.layer_kinds import layer_in_short
from ffengine.plugins import REGISTRY
from ffengine.results import AttemptProvenance, PluginUse, Provenance
from ffengine.spec import (
    CheckSpec,
    ForecastSpec,
    RecordedSpec,
    TrainedWeights,
    TrainSpec,
    UnreadSpec,
    UploadedWeights,
)
from ffengine.spec_values import params_in_words
from ffengine.text import visible
from service.jobs import Job
from service.results.run_labels import cell_of

Fact = Literal[
    "data",
    "data_digest",
    "seeds",
    "engine",
    "versions",
    "plugins",
    "device",
    "attempts",
    "wall_time",
    "spec_digest",
]
PROVENANCE_LABELS: dict[Fact, str] = {
    "data": "data",
    "data_digest": "data digest",
    "seeds": "seeds",
    "engine": "engine",
    "versions": "versions",
    "plugins": "plug-ins",
    "device": "device",
    "attempts": "attempts",
    "wall_time": "wall time",
    "spec_digest": "spec digest",
}


def title_of(job: Job) -> str:
    """The job's name, or what it does in a few words; of a run of a study also what it varies."""
    return visible(" / ".join(filter(None, (job.name or _what_it_does(job), job.label))))


def _what_it_does(job: Job) -> str:
    spec = job.spec
    if isinstance(spec, TrainSpec):
        network = spec.network
        layers = ", ".join(map(layer_in_short, network.layers))
        return (
            f"train {layers or ' x '.join(map(str, network.widths))} on {spec.dataset.name}, "
            f"{spec.epochs:,} epoch{'' if spec.epochs == 1 else 's'}"
        )
    if isinstance(spec, CheckSpec):
        if isinstance(spec.at, TrainedWeights):
            return (
                f"theorem {spec.theorem} on {spec.dataset.name}, layer {spec.at.layer} as "
                f"trained to epoch {spec.at.epoch:,}"
            )
        if isinstance(spec.at, UploadedWeights):
            return (
                f"theorem {spec.theorem} on {spec.dataset.name}, layer {spec.at.layer} of "
                f"{spec.at.weights}"
            )
        return (
            f"theorem {spec.theorem} on {spec.dataset.name}, width "
            f"{', '.join(map(str, spec.widths))}"
        )
    if isinstance(spec, ForecastSpec):
        widths = ", ".join(map(str, spec.widths))
        return f"forecast on {spec.dataset.name}, width {widths} from {spec.units:,} units"
    if isinstance(spec, RecordedSpec):
        return f"recorded: {visible(spec.program)}" if spec.program else "recorded elsewhere"
    if isinstance(spec, UnreadSpec):
        return f"{visible(spec.stored_kind)} of another version of fflab"
    return f"study {spec.preset}" if spec.preset else "study"


def place_of(job: Job) -> str:
    """The label of a study's run: its varied fields, or its part where nothing is varied, or its
    title.
    """
    cell = cell_of(job)
    return visible((params_in_words(cell.params) or cell.part) if cell else "") or title_of(job)


def provenance_facts(found: Provenance | None) -> dict[Fact, str]:
    """How the figures of a job were obtained; empty for a job without provenance."""
    if found is None:
        return {}
    data = found.dataset
    phases = found.wall_seconds.items()
    facts: dict[Fact, str] = {
        "data": f"{data.name} ({data.preprocess}), {data.train_samples:,} training and "
        f"{data.test_samples:,} test samples",
        "data_digest": data.digest,
        "seeds": ", ".join(map(str, found.seeds)),
        "engine": found.program,
        "versions": f"Python {found.python_version}, torch {found.torch_version}, "
        f"numpy {found.numpy_version}",
        "device": f"{found.device} ({found.device_name}), {found.threads} threads, {found.dtype}"
        + (f"; {found.gpu_software}" if found.gpu_software else ""),
        "wall_time": ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in phases),
        "spec_digest": found.spec_digest,
    }
    if len(found.attempts) > 1 or any(one.smaller_pieces for one in found.attempts):
        facts["attempts"] = "; ".join(map(attempt_in_words, found.attempts))
    if found.plugins:
        facts["plugins"] = "; ".join(map(_plugin_in_words, found.plugins))
    return {fact: facts[fact] for fact in PROVENANCE_LABELS if fact in facts}


def attempt_in_words(one: AttemptProvenance) -> str:
    """Say where an attempt ran, what it brought, and how it ended."""
    processor = f" ({one.device_name})" if one.device_name else ""
    threads = f", {one.threads} threads" if one.threads else ""
    where = f"{one.host or 'a host that is not known'}, {one.device or 'a device'}{processor}"
    pieces = ", in smaller pieces" if one.smaller_pieces else ""
    brought = f", {one.epochs}" if one.epochs else ""
    return visible(f"{one.number}: {where}{threads}{pieces}{brought}, {one.ended_as}")


def _plugin_in_words(used: PluginUse) -> str:
    """Name a plug-in and what was used of it, and say where the same is not installed any more."""
    here = {plugin.package: plugin for plugin in REGISTRY.plugins}.get(used.package)
    text = f"{used.package} {used.version} ({', '.join(used.entries)})"
    if here is None:
        return f"{text}, which is not installed here: the job cannot be run again"
    if here.identity == used.identity:
        return text
    other = "with other code" if here.version == used.version else here.version
    return f"{text}; installed here is {other}"


def provenance_lines(found: Provenance | None) -> list[tuple[str, str]]:
    """The same, each fact with its label."""
    return [(PROVENANCE_LABELS[fact], text) for fact, text in provenance_facts(found).items()]


def short_digest(digest: str) -> str:
    """The beginning of a SHA-256 digest, where the whole of it does not fit."""
    return f"sha256 {digest[:16]}…"


def duration(seconds: float) -> str:
    """A duration in the largest unit that fits, a part of a second with one digit."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    if 0 < seconds < 0.95:
        return f"{max(seconds, 0.001):.1g} s"
    return f"{seconds:.0f} s"


def details_in_words(details: Mapping[str, Any]) -> str:
    """What a line of the audit log knows beside who did what: `kind train, runs 3`."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_value_in_words(value)}"
        for name, value in details.items()
        if value not in (None, False, [])
    )


def _value_in_words(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "yes" if value is True else str(value)


def time_ago(at: datetime) -> str:
    """How long ago a moment is, in words."""
    seconds = (datetime.now(UTC) - at).total_seconds()
    return "just now" if seconds < 10 else f"{duration(seconds)} ago"
