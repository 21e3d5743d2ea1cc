"""Settings that all tests share."""

from hypothesis import settings

# Compilation falls into the first example, whatever it draws, so that no time limit makes sense.
# The same examples every time: a test run says what a change did. To hunt, run
# `pytest tests/test_properties.py --hypothesis-profile search`.
_common = dict(deadline=None, database=None, print_blob=True)
settings.register_profile("krylearn", derandomize=True, max_examples=40, **_common)
settings.register_profile("search", max_examples=1000, **_common)
settings.load_profile("krylearn")


def pytest_configure(config):
    config.addinivalue_line("markers", "fail_slow(seconds): scipy's own, without effect here")
