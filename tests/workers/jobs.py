"""Small jobs for a worker."""

from collections.abc import Callable
from pathlib import Path

from ffengine.spec import CheckSpec, DatasetSpec, ForecastSpec, MonitorSpec, NetworkSpec, TrainSpec
from service.settings import Settings
from service.store import Claim

DATA = DatasetSpec(train_samples=200, test_samples=50)
TRAIN = TrainSpec(
    dataset=DATA,
    network=NetworkSpec(widths=(16,)),
    epochs=4,
    batch_size=50,
    monitor=MonitorSpec(samples=50),
)
CHECK = CheckSpec(dataset=DATA, widths=(8, 16), samples=50, batch_size=25, seeds=(0, 1))
FORECAST = ForecastSpec(
    dataset=DATA, units=32, widths=(64,), blocks=4, batch_size=50, samples=100, until_tau=1.0
)
WORKER = "a-worker"


def worker_settings(home: Path) -> Settings:
    """A worker with its state in a folder; a lease outlasts any stall of the machine."""
    return Settings(
        home=home,
        redis_url=None,
        database_url=None,
        lease_seconds=600.0,
        checkpoint_seconds=600.0,
        stop_seconds=3.0,
    )


ClaimJob = Callable[[TrainSpec | CheckSpec | ForecastSpec], Claim]
