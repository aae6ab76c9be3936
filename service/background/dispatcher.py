"""The queue's one message: a doorbell with a job's id, rung through Celery's broker."""

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

TASK = "fflab.run"
QUEUE = "fflab"
TIMEOUT_SECONDS = 2.0


class BrokerAway(Exception):
    """The broker does not answer."""


class Dispatcher:
    """Rings for jobs.

    Every call may block for a few seconds at the most; never use it inside a request.
    """

    def __init__(self, broker_url: str) -> None:
        self._celery = Celery("fflab-doorbell", broker=broker_url, set_as_current=False)
        timeouts = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
        once = {
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
        }  # the next tick is the retry
        self._celery.conf.update(
            task_publish_retry=False,
            task_ignore_result=True,
            broker_transport_options=timeouts | once,
        )
        self._redis = Redis.from_url(broker_url, **timeouts)

    def dispatch(self, job_ids: list[str]) -> None:
        """Send one message for each job. Raises BrokerAway."""
        try:
            with self._celery.producer_pool.acquire(
                block=True, timeout=TIMEOUT_SECONDS
            ) as producer:
                for job_id in job_ids:
                    self._celery.send_task(
                        TASK,
                        args=(job_id,),
                        queue=QUEUE,
                        producer=producer,
                        retry=False,
                        ignore_result=True,
                    )
        except (OperationalError, RedisError, OSError) as error:
            raise BrokerAway(str(error)) from error

    def queue_length(self) -> int:
        """How many messages no worker has taken yet. Raises BrokerAway."""
        try:
            length = self._redis.llen(QUEUE)
        except (RedisError, OSError) as error:
            raise BrokerAway(str(error)) from error
        return int(length)

    def close(self) -> None:
        """Close the connections."""
        self._celery.close()
        self._redis.close()
