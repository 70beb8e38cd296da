import pytest

from octavo.errors import InputError
from octavo.serve.http.settings import ApiSettings


def test_a_blank_key_would_let_everybody_in():
    with pytest.raises(InputError, match="blank"):
        ApiSettings(api_keys=("one", " "))


@pytest.mark.parametrize("setting", ["max_body_bytes", "max_inputs", "timeout_s", "body_timeout_s"])
def test_limits_are_above_zero(setting):
    with pytest.raises(InputError, match=f"{setting} is 0 and must be above 0"):
        ApiSettings(**{setting: 0})
