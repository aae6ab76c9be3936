"""Small jobs for a worker."""

from collections.abc import Callable

from ffengine.spec import CheckSpec, DatasetSpec, MonitorSpec, NetworkSpec, TrainSpec
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
WORKER = "a-worker"


ClaimJob = Callable[[TrainSpec | CheckSpec], Claim]
