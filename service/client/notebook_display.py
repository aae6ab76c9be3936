"""What notebooks show: charts as pictures, a job as a line with its progress.

Every text from elsewhere is escaped.
"""

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence

from service.encoding.escaping import for_html
from service.jobs import Job
from service.schemas import ChartLine

PIXELS_PER_UNIT = 2  # the service draws PNG at twice the size, for dense screens
FORMATS = ("png", "svg")  # formats that a notebook is given
Load = Callable[[str], bytes]  # the bytes of "NAME.FORMAT"


class Picture:
    """A chart of a job that a notebook shows; it is downloaded once, at the first look."""

    def __init__(self, name: str, meaning: str, load: Load) -> None:
        self.name, self.meaning = name, meaning
        self._load, self._held = load, dict[str, bytes]()

    @property
    def png(self) -> bytes:
        """The chart as PNG."""
        return self._bytes("png")

    @property
    def svg(self) -> str:
        """The chart as SVG."""
        return self._bytes("svg").decode()

    def __repr__(self) -> str:
        return f"<chart {self.name}: {self.meaning}>"

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, str], dict[str, dict[str, int]]]:  # the signature that Jupyter expects
        size = {"width": self._side(16), "height": self._side(20)}
        return {"image/png": b64encode(self.png).decode(), "image/svg+xml": self.svg}, {
            "image/png": size
        }

    def _side(self, offset: int) -> int:
        """Return a side of the picture on the page, read from the head of the PNG."""
        return int.from_bytes(self.png[offset : offset + 4], "big") // PIXELS_PER_UNIT

    def _bytes(self, fmt: str) -> bytes:
        if fmt not in self._held:
            self._held[fmt] = self._load(f"{self.name}.{fmt}")
        return self._held[fmt]


class Charts(Mapping[str, Picture]):
    """The charts that a job has so far, by name; a notebook shows all of them."""

    def __init__(self, lines: Sequence[ChartLine], load: Load) -> None:
        self._pictures = {line.name: Picture(line.name, line.meaning, load) for line in lines}

    def __getitem__(self, name: str) -> Picture:
        if name not in self._pictures:
            raise KeyError(
                f"{name!r} is not a chart of this job; there are "
                f"{', '.join(self._pictures) or 'none (yet)'}"
            )
        return self._pictures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    def __repr__(self) -> str:
        return f"<charts: {', '.join(self) or 'none'}>"

    def _repr_html_(self) -> str:
        return "".join(map(_figure, self.values()))


def _figure(picture: Picture) -> str:
    source, meaning = (
        f"data:image/png;base64,{b64encode(picture.png).decode()}",
        for_html(picture.meaning),
    )
    return (
        f'<figure><img alt="{meaning}" style="max-width: 100%" '
        f'src="{source}"><figcaption>{meaning}</figcaption></figure>'
    )


def job_html(job: Job, url: str) -> str:
    """Return a job as a line of HTML: name, state, progress, message, and a link to its page."""
    address = f"{url}/jobs/{job.id}"
    bar = (
        f'<progress value="{job.progress.fraction:.4f}" max="1"></progress> '
        f"{job.progress.fraction:.0%}"
    )
    reason = (
        f" &middot; {for_html(job.error.title)} {for_html(job.error.detail)}" if job.error else ""
    )
    return (
        f"<div><b>{for_html(job.name or job.kind)}</b> {for_html(job.state.value)} {bar} "
        f"{for_html(job.progress.message)}{reason}"
        f' &middot; <a href="{for_html(address)}">{for_html(job.id)}</a></div>'
    )
