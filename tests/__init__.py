# SPDX-License-Identifier: Apache-2.0
"""Parley's tests."""

import os

from hypothesis import HealthCheck, settings

# A busy machine is not a fault: no deadlines. `make test` tries the same examples each time, `make test-long` new ones.
settings.register_profile(
    "parley",
    deadline=None,
    derandomize=not os.environ.get("PARLEY_TEST_LONG"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("parley")
