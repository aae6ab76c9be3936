"""What is said of skipped tests, and that nothing is skipped where all is required."""

import pytest

from tests import needs


def test_one_line_says_how_many_were_skipped_and_what_to_install() -> None:
    reasons = ["Skipped: without Chromium: none is installed"] * 2 + [
        "without PostgreSQL: no initdb",
        "without a GPU: torch sees none",
        "else",
    ]
    assert needs.summary(reasons) == (
        "4 tests skipped: 2 without Chromium, 1 without PostgreSQL, 1 without a GPU. To run them: "
        "apt-get install chromium postgresql"
    )
    assert needs.summary(["without a GPU: torch sees none"]) == "1 tests skipped: 1 without a GPU."
    assert needs.summary(["without Redis: none", "without programs of soak tests: none"]) == (
        "2 tests skipped: 1 without Redis, 1 without programs of soak tests. To run them: "
        "apt-get install redis-server && make soak-programs"
    )
    assert needs.summary(["without programs of soak tests: there is no .venv-soak/"]) == (
        "1 tests skipped: 1 without programs of soak tests. To run them: make soak-programs"
    )
    assert needs.summary(["something else"]) is None


def test_where_everything_is_required_what_is_lacking_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(needs, "REQUIRED", True)
    with pytest.raises(pytest.fail.Exception, match="without Chromium: none"):
        needs.lacking("Chromium", "none")
    monkeypatch.setattr(needs, "REQUIRED", False)
    with pytest.raises(pytest.skip.Exception, match="without Chromium: none"):
        needs.lacking("Chromium", "none")
