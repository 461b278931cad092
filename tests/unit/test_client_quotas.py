"""Quotas of one client by a clock of the test's, and the token files that set them."""

import contextvars

import pytest

from support.tokens import TOKEN, write_tokens
from tandem_service.access import TokenGate, bearer, client_name, count_tokens, counted_request
from tandem_service.client_quotas import Bucket, Client
from tandem_service.errors import OverloadedError, UnauthenticatedError
from tandem_service.token_file import Quotas, hash_token, read_token_file

HASH = hash_token(TOKEN).hex()


class Clock:
    """Seconds that a test moves."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def client(clock, **quotas):
    return Client("reports", Quotas(**quotas), clock)


def test_a_bucket_refills_evenly_up_to_a_minutes_worth(clock):
    bucket = Bucket(60, clock)
    bucket.take(60)
    assert bucket.wait_s() == pytest.approx(1.0)
    clock.now_s += 1
    assert bucket.wait_s() == 0
    clock.now_s += 10_000
    bucket.take(61)
    assert bucket.wait_s() == pytest.approx(2.0)


def test_requests_over_the_minutes_quota_are_told_when_the_next_may_begin(clock):
    found = client(clock, requests_per_minute=2)
    for _ in range(2):
        with found.running_request():
            pass
    with pytest.raises(OverloadedError) as caught, found.running_request():
        pass
    assert caught.value.message == "quota requests_per_minute=2 of 'reports': used up for another 30 s"
    assert caught.value.retry_delay_s == pytest.approx(30)
    clock.now_s += caught.value.retry_delay_s
    with found.running_request():
        pass


def test_no_more_requests_run_at_once_than_the_quota(clock):
    found = client(clock, concurrent_requests=1)
    refused = pytest.raises(OverloadedError, match=r"concurrent_requests=1 of 'reports': 1 requests run")
    with found.running_request(), refused, found.running_request():
        pass
    with found.running_request():
        pass


def test_a_long_answer_overdraws_the_tokens_and_the_next_request_waits_for_them(clock):
    found = client(clock, tokens_per_minute=600)
    with found.running_request():
        found.use_tokens(1199)
    with pytest.raises(OverloadedError) as caught, found.running_request():
        pass
    assert caught.value.retry_delay_s == pytest.approx(60)


def test_a_refused_request_uses_nothing(clock):
    found = client(clock, requests_per_minute=1, tokens_per_minute=60)
    found.use_tokens(60)
    with pytest.raises(OverloadedError, match="tokens_per_minute"), found.running_request():
        pass
    clock.now_s += 1
    with found.running_request():
        pass


def test_without_a_caller_nothing_is_counted():
    with counted_request():
        count_tokens(10**9)
    assert client_name() == ""


def test_a_client_keeps_its_use_when_the_file_is_read_again(tmp_path):
    path = tmp_path / "tokens.toml"
    gate = TokenGate(write_tokens(path, requests_per_minute=1))

    def calls():
        gate.admit(bearer(TOKEN))
        assert client_name() == "reports"
        with counted_request():
            pass
        path.write_text(path.read_text() + "\n# a comment\n")
        gate.admit(bearer(TOKEN))
        with pytest.raises(OverloadedError), counted_request():
            pass
        write_tokens(path, requests_per_minute=2)
        gate.admit(bearer(TOKEN))
        with counted_request():
            pass

    # The caller belongs to a call's own context.
    contextvars.copy_context().run(calls)
    assert client_name() == ""


def test_no_token_is_no_token_even_where_somebody_wrote_down_its_hash(tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(f'[[token]]\nname = "nobody"\nsha256 = "{hash_token("").hex()}"\n')
    gate = TokenGate(str(path))
    for metadata in ((), (("authorization", "Bearer "),), (("authorization", "Basic x"),)):
        with pytest.raises(UnauthenticatedError):
            gate.admit(metadata)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[token]", "not TOML"),
        ("name = 3", r"must hold \[\[token\]\] tables"),
        ("[token]\nname = 'a'", r"must hold \[\[token\]\] tables"),
        (f"[[token]]\nsha256 = '{HASH}'", "token 1: name=None must be a text"),
        ("[[token]]\nname = 'a'\nsha256 = 'abc'", "token 1: sha256 must be 64 hexadecimal digits"),
        (f"[[token]]\nname = 'a'\nsha256 = '{HASH}'\nper_day = 1", "unknown field 'per_day'"),
        (
            f"[[token]]\nname = 'a'\nsha256 = '{HASH}'\ntokens_per_minute = 0",
            "tokens_per_minute=0 must be a whole number of at least 1",
        ),
        (f"[[token]]\nname = 'a'\nsha256 = '{HASH}'\n" * 2, "two tokens have the same name"),
    ],
    ids=["no-toml", "no-table", "one-table", "no-name", "no-hash", "unknown", "zero", "twice"],
)
def test_wrong_token_files_are_refused_by_field(tmp_path, text, said):
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_token_file(str(path))


def test_a_missing_token_file_is_named():
    with pytest.raises(ValueError, match="tokens='/none': No such file"):
        read_token_file("/none")
