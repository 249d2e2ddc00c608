from __future__ import annotations

import pytest

from api.rates import MOST_CALLERS, Rates, caller_name


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_and_then_what_comes_back() -> None:
    clock = _Clock()
    rates = Rates(2.0, 4.0, clock)
    assert [rates.take("a") for _ in range(5)] == [0, 0, 0, 0, 1]
    assert rates.take("b") == 0
    clock.now += 1.0
    assert [rates.take("a") for _ in range(3)] == [0, 0, 1]


def test_the_wait_is_as_long_as_a_token_takes() -> None:
    clock = _Clock()
    rates = Rates(0.1, 1.0, clock)
    assert rates.take("a") == 0
    assert rates.take("a") == 10
    clock.now += 9.0
    assert rates.take("a") == 1


def test_no_limit_lets_everything_pass_and_keeps_nothing_that_grows() -> None:
    rates = Rates(0.0, 0.0)
    assert not any(rates.take("a") for _ in range(100))
    assert len(rates) <= 1


def test_memory_is_bounded_and_the_silent_are_forgotten_first() -> None:
    rates = Rates(0.001, 1.0, _Clock())
    for number in range(MOST_CALLERS + 10):
        rates.take(str(number))
    assert len(rates) == MOST_CALLERS
    assert rates.take(str(MOST_CALLERS + 9)) > 0
    assert rates.take("0") == 0


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("testclient", "?"),
        (None, "?"),
    ],
)
def test_a_client_is_its_address_or_its_network(address: str | None, name: str) -> None:
    assert caller_name(address) == name
