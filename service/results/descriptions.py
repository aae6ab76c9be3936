"""A job in words, for pages and for the command line: what it is, what may be done with it, how its
figures were obtained.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from ffengine.results import Provenance
from ffengine.spec import CheckSpec, TrainedWeights, TrainSpec
from ffengine.text import visible
from service.jobs import Job


def title_of(job: Job) -> str:
    """The job's name, or what it does in a few words."""
    if job.name:
        return visible(job.name)
    spec = job.spec
    if isinstance(spec, TrainSpec):
        return (
            f"train {' x '.join(map(str, spec.network.widths))} on {spec.dataset.name}, "
            f"{spec.epochs} epochs"
        )
    if isinstance(spec, CheckSpec):
        if isinstance(spec.at, TrainedWeights):
            return (
                f"theorem {spec.theorem} on {spec.dataset.name}, layer {spec.at.layer} as "
                f"trained to epoch {spec.at.epoch}"
            )
        return (
            f"theorem {spec.theorem} on {spec.dataset.name}, width "
            f"{', '.join(map(str, spec.widths))}"
        )
    return f"study {spec.preset}" if spec.preset else "study"


def place_of(job: Job) -> str:
    """Where a run stands in its study's grid, in words."""
    params = (job.place or {}).get("params")
    if not isinstance(params, Mapping) or not params:
        return title_of(job)
    return visible(
        ", ".join(f"{field.rpartition('.')[2]} {value}" for field, value in params.items())
    )


def provenance_lines(found: Provenance | None) -> list[tuple[str, str]]:
    """How the figures were obtained, a fact a line."""
    if found is None:
        return []
    data = found.dataset
    return [
        (
            "data",
            f"{data.name} ({data.preprocess}), {data.train_samples:,} training and "
            f"{data.test_samples:,} test samples",
        ),
        ("data digest", data.digest),
        ("seeds", ", ".join(map(str, found.seeds))),
        ("engine", found.program),
        (
            "versions",
            f"Python {found.python_version}, torch {found.torch_version}, numpy "
            f"{found.numpy_version}",
        ),
        ("device", f"{found.device} ({found.device_name}), {found.threads} threads, {found.dtype}"),
        (
            "wall time",
            ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in found.wall_seconds.items()),
        ),
        ("spec digest", found.spec_digest),
    ]


def duration(seconds: float) -> str:
    """A time in its largest fitting unit."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def time_ago(at: datetime) -> str:
    """How long ago a moment is, in words."""
    seconds = (datetime.now(UTC) - at).total_seconds()
    return "just now" if seconds < 10 else f"{duration(seconds)} ago"
