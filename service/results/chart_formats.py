"""The formats of charts, and how they look on paper. The charting library is not needed here."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Theme = Literal["light", "dark"]
ChartFormat = Literal["png", "svg", "pdf", "json", "html", "csv"]
FORMATS: tuple[ChartFormat, ...] = ("png", "svg", "pdf", "json", "html", "csv")
MEDIA_TYPES: dict[ChartFormat, str] = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
}
NARROWEST_MM, WIDEST_MM = 40.0, 400.0  # a small column; a sheet of A2
SMALLEST_PT, LARGEST_PT = 4.0, 24.0
COLUMN_MM, COLUMN_FONT_PT = 84.0, 8.0  # what journals ask for
LABEL_PX = 11.0  # of the numbers on axes: what `font_pt` is the size of
MM_PER_INCH, PT_PER_INCH = 25.4, 72.0
LEAST_PX = 160.0  # below, an axis has no room for its labels

TitleLook = Literal["none"]


class ChartLook(BaseModel):
    """How a chart is drawn for a paper; by default as on pages.

    width_mm: the width of the picture; without it, the chart's own.
    font_pt: the size of the numbers on axes; lines and all other text keep their proportion to it.
    Without it, COLUMN_FONT_PT where there is a width, and else the chart's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: TitleLook | None = Field(
        None, description="none: without title and caption, which the paper has in its own words"
    )
    width_mm: float | None = Field(None, ge=NARROWEST_MM, le=WIDEST_MM, allow_inf_nan=False)
    font_pt: float | None = Field(None, ge=SMALLEST_PT, le=LARGEST_PT, allow_inf_nan=False)

    @property
    def is_plain(self) -> bool:
        """Whether the chart is drawn as on pages."""
        return self == ChartLook()

    @property
    def pt_per_px(self) -> float | None:
        """How large a pixel of the chart's layout is; None: as large as on a screen."""
        size = self.font_pt or (COLUMN_FONT_PT if self.width_mm else None)
        return size / LABEL_PX if size else None

    @property
    def width_px(self) -> float | None:
        """How many pixels of the chart's layout its width is."""
        if self.width_mm is None or self.pt_per_px is None:
            return None
        return self.width_mm / MM_PER_INCH * PT_PER_INCH / self.pt_per_px

    @property
    def name(self) -> str:
        """What the look adds to the name of a file, such as `-84mm`."""
        parts = (
            f"{self.width_mm:g}mm" if self.width_mm else "",
            f"{self.font_pt:g}pt" if self.font_pt else "",
            "no-title" if self.title else "",
        )
        return "".join(f"-{part}" for part in parts if part)

    @model_validator(mode="after")
    def _has_room(self) -> "ChartLook":
        """Refuse a width that has no room for text of the size."""
        if (room := self.width_px) is not None and room < LEAST_PX:
            assert self.width_mm and self.font_pt  # noqa: S101, PT018 - narrows the types
            raise ValueError(
                f"{self.width_mm:g} mm have no room for a chart with text of {self.font_pt:g} pt: "
                f"use at least {_rounded_up(self.width_mm * LEAST_PX / room):g} mm, or text of at "
                f"most {int(self.font_pt * room / LEAST_PX * 10) / 10:g} pt"
            )
        return self


def _rounded_up(value: float) -> float:
    return float(-(-value // 1))


SCREEN = ChartLook()
