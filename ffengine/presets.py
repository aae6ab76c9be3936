"""Ready-made studies: the paper's experiments."""

from typing import NamedTuple

from ffengine.spec import CheckSpec, DatasetSpec, MonitorSpec, NetworkSpec, StudyPart, StudySpec, TrainSpec


class Preset(NamedTuple):
    """A named study, with what it shows."""

    name: str
    meaning: str
    spec: StudySpec


PAPER = StudySpec(
    parts={
        "theorem-1": StudyPart(
            base=CheckSpec(theorem=1, widths=(64, 256, 512, 1000), samples=None, batch_size=None, seeds=(0, 1, 2, 3, 4)),
        ),
        "theorem-2": StudyPart(
            base=CheckSpec(theorem=2, widths=(64, 256, 512, 1000), samples=5_000, batch_size=500, seeds=(0, 1, 2, 3, 4)),
        ),
        "training": StudyPart(
            base=TrainSpec(network=NetworkSpec(widths=(500,)), epochs=10, seeds=(0, 1, 2, 3, 4), monitor=MonitorSpec(samples=2_000)),
        ),
    }
)

QUICK = StudySpec(
    parts={
        "theorem-1": StudyPart(base=CheckSpec(theorem=1, widths=(64, 256), samples=1_000, batch_size=None, seeds=(0, 1))),
        "theorem-2": StudyPart(base=CheckSpec(theorem=2, widths=(64, 256), samples=1_000, seeds=(0, 1))),
        "training": StudyPart(
            base=TrainSpec(
                dataset=DatasetSpec(train_samples=1_000, test_samples=500),
                network=NetworkSpec(widths=(128,)),
                epochs=3,
                batch_size=100,
                seeds=(0, 1),
                monitor=MonitorSpec(samples=500),
            )
        ),
    }
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("paper", "arXiv 2311.05667: theorem 1 and 2 at initialisation, theorem 2 and sparsity while training.", PAPER),
        Preset("quick", "The same three experiments on 1 000 samples and small layers: a check of the installation in seconds.", QUICK),
    )
}
