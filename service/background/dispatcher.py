"""The wake-up message for workers, sent through Celery's broker.

A message names a job for the log. The worker that receives it takes the first jobs of the queue.
"""

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
    """Sends wake-up messages to workers.

    A call may block for a few seconds: do not call it while answering a request.
    """

    def __init__(self, broker_url: str) -> None:
        self._celery = Celery("fflab", broker=broker_url, set_as_current=False)
        timeouts = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
        # the reconciler's next tick is the retry
        once = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
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
        """How many messages wait in the broker. Raises BrokerAway."""
        try:
            length = self._redis.llen(QUEUE)
        except (RedisError, OSError) as error:
            raise BrokerAway(str(error)) from error
        return int(length)

    def close(self) -> None:
        """Close the connections."""
        self._celery.close()
        self._redis.close()
