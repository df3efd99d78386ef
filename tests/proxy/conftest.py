"""One noburn, one double, one recorder and one proxy for all tests of the proxy in this process.

Django's applications are loaded after this file, so it imports what needs them late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from proxy import keys
from tests.doubles.provider import ProviderDouble
from tests.proxy.recorder import Recorder
from tests.proxy.running import Proxy
from tests.sdk.conftest import double as double
from tests.sdk.conftest import plane as plane
from tests.sdk.conftest import running_double as running_double
from tests.sdk.conftest import served as served

if TYPE_CHECKING:
    from tests.sdk.plane import Plane, Served
    from tests.support.world import World

PROVIDER_KEY = "sk-of-the-proxy-itself"
CALLERS_KEY = "sk-of-the-caller"
Start = Callable[..., Proxy]


class Keys:
    """Virtual keys of the proxy that all tests share, by what they may."""

    def __init__(self) -> None:
        self.made = {name: keys.make() for name in ("acme", "open", "narrow", "fitting")}

    def tables(self) -> list[dict[str, Any]]:
        """The same as the configuration has them."""
        may: dict[str, dict[str, Any]] = {
            "acme": {"customer": "house-acme", "tags": {"team": "blue"}},
            "open": {"may": ["customer", "user", "run", "tags", "cost_usd", "fit", "cut", "wait_ms"]},
            "narrow": {"customer": "house-narrow", "may": [], "upstreams": ["openai"], "models": ["gpt-4o*"]},
            "fitting": {"may": ["customer"], "fit": True},
        }
        return [{"name": name, "hash": keys.hash_of(key), **may[name]} for name, key in self.made.items()]

    def __getitem__(self, name: str) -> str:
        return self.made[name]


@pytest.fixture(scope="session")
def virtual() -> Keys:
    return Keys()


@pytest.fixture(scope="session")
def recorder_server() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    made.close()


@pytest.fixture
def recorder(recorder_server: Recorder) -> Recorder:
    recorder_server.reset()
    return recorder_server


@pytest.fixture(scope="session")
def house(_world: World, served: Served) -> Plane:
    """The tenant whose key the shared proxy holds."""
    from tests.sdk.plane import Plane

    _world.recover()
    return Plane(served.url, _world.account("house"))


def upstreams(double: ProviderDouble, recorder: Recorder) -> dict[str, dict[str, Any]]:
    """The double as both providers, and the recorder as one that speaks like OpenAI."""
    own = {"private": True, "key_env": "PROVIDER_KEY"}
    recorded = f"http://127.0.0.1:{recorder.port}"
    return {
        "openai": {"base_url": double.openai_url, "provider": "openai", **own},
        "anthropic": {"base_url": f"{double.anthropic_url}/v1", **own},
        "recorder": {
            "base_url": f"{recorded}/base/v1",
            "provider": "openai",
            "cost_usd": {"openai.images": "0.04", "openai.transcriptions": "0.02"},
            **own,
        },
        "recorder-claude": {"api": "anthropic", "base_url": f"{recorded}/v1", **own},
    }


@pytest.fixture(scope="session")
def starting(
    served: Served, house: Plane, running_double: ProviderDouble, recorder_server: Recorder, virtual: Keys
) -> Iterator[Callable[[Path, dict[str, Any]], Proxy]]:
    """Starts proxies; all of them have ended when the tests have."""
    made: list[Proxy] = []

    def start(folder: Path, settings: dict[str, Any]) -> Proxy:
        usual = {
            "noburn": {"url": served.url},
            "callers": {"accept": ["virtual", "tenant"]},
            "upstreams": upstreams(running_double, recorder_server),
            "keys": virtual.tables(),
            "metrics": {"token_env": "METRICS"},
        }
        environment = {
            "NOBURN_API_KEY": house.secret,
            "PROVIDER_KEY": PROVIDER_KEY,
            "METRICS": "metrics-token",
        }
        made.append(Proxy(folder, {**usual, **settings}, environment))
        return made[-1]

    yield start
    for one in made:
        one.stop()


@pytest.fixture(scope="session")
def shared_proxy(
    starting: Callable[[Path, dict[str, Any]], Proxy], tmp_path_factory: pytest.TempPathFactory
) -> Proxy:
    return starting(tmp_path_factory.mktemp("proxy"), {})


@pytest.fixture
def proxy(shared_proxy: Proxy) -> Iterator[Proxy]:
    """The shared proxy, which must not have failed by itself when the test is over."""
    shared_proxy.lines.clear()
    yield shared_proxy
    assert shared_proxy.failures() == []


@pytest.fixture
def start(starting: Callable[[Path, dict[str, Any]], Proxy], tmp_path: Path) -> Iterator[Start]:
    """Starts a proxy with settings of its own; it has ended when the test has."""
    made: list[Proxy] = []

    def started(**settings: Any) -> Proxy:
        made.append(starting(tmp_path, settings))
        return made[-1]

    yield started
    for one in made:
        one.stop()
        assert one.failures() == []
