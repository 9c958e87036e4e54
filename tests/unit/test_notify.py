"""Messages that a receiver can check."""

import pytest

from paced.config import Notify
from paced.errors import ConfigError
from paced_tasks.notify import signature


def test_a_signature_is_the_standards() -> None:
    """The example of the tests of Standard Webhooks' own libraries."""
    secret, message, seconds = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
    expected = {
        "webhook-id": message, "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }  # fmt: skip
    assert signature(secret, message, seconds, '{"test": 2432232314}') == expected
    assert signature(f"whsec_{secret}", message, seconds, '{"test": 2432232314}') == expected


def test_what_cannot_sign() -> None:
    with pytest.raises(ConfigError, match=r"^webhook_secret: its value is no base64"):
        signature("hunter2!", "msg_1", 0, "{}")
    with pytest.raises(ValueError, match="webhook_secret has no effect without webhook"):
        Notify(webhook_secret="key")
