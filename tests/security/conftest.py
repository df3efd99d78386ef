"""The gateway, the providers and the proxy of the other rooms, for tests of what is kept of a call."""

from __future__ import annotations

from tests.proxy.conftest import house as house
from tests.proxy.conftest import proxy as proxy
from tests.proxy.conftest import recorder as recorder
from tests.proxy.conftest import recorder_server as recorder_server
from tests.proxy.conftest import shared_proxy as shared_proxy
from tests.proxy.conftest import starting as starting
from tests.proxy.conftest import virtual as virtual
from tests.sdk.conftest import double as double
from tests.sdk.conftest import gate as gate
from tests.sdk.conftest import plane as plane
from tests.sdk.conftest import running_double as running_double
from tests.sdk.conftest import served as served
