"""What pytest has to know before the conformance suite is imported."""

import pytest

pytest.register_assert_rewrite("tests.conformance")
