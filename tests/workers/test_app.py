"""The queue's mode, and what the worker's command refuses."""

import argparse

import pytest
from pydantic import SecretStr

from service.background.dispatcher import QUEUE, TASK
from service.settings import Settings
from workers.__main__ import device
from workers.app import NoBroker, configuration, create_app


@pytest.fixture
def with_broker(settings: Settings) -> Settings:
    return settings.model_copy(update={"redis_url": SecretStr("redis://:secret@127.0.0.1:1/0")})


def test_nothing_depends_on_delivery(with_broker: Settings) -> None:
    app = create_app(with_broker, "cpu")
    assert TASK in app.tasks
    assert app.conf.task_default_queue == QUEUE
    assert app.conf.task_acks_late is False
    assert app.conf.task_ignore_result is True
    assert app.conf.result_backend is None
    assert app.conf.accept_content == ["json"]
    assert app.conf.worker_disable_prefetch is True
    assert app.conf.worker_concurrency == 1
    assert app.conf.broker_connection_max_retries is None


def test_a_worker_without_a_broker_says_what_to_set(settings: Settings) -> None:
    with pytest.raises(NoBroker, match=r"FFLAB_REDIS_URL is not set.* `fflab up`") as refused:
        configuration(settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda:0", "cuda:11"])
def test_devices_are_known_by_form(text: str) -> None:
    assert device(text) == text


@pytest.mark.parametrize("text", ["cuda", "gpu", "cuda:x", "cpu;", ""])
def test_other_devices_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="cuda:N"):
        device(text)
