"""Settings for all tests."""

from hypothesis import HealthCheck, settings

# A busy machine is no fault of a test: no deadlines, and slow input generation is not an error.
settings.register_profile("busy-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy-machine")
