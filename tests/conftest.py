"""What all tests share: how Hypothesis searches."""

from hypothesis import HealthCheck, settings

# Examples come from a seed that a failure prints; no deadline, since the machine may be shared; whole histories are slow to draw.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=False,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("ci")
