"""What the API answers with, beside jobs and results. The service writes these models and the client reads them."""

from pydantic import BaseModel


class WorkerInfo(BaseModel):
    """What a worker says of itself."""

    id: str
    host: str
    pid: int
    device: str
    device_name: str | None
    memory_bytes: int | None
    version: str
    job: str | None


class WorkerLine(WorkerInfo):
    """A live worker."""

    silent_seconds: float
