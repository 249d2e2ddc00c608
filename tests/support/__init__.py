"""What tests share: waiting for an effect, and real servers that end with the run."""

from tests.support.waiting import wait_until

__all__ = ["wait_until"]
