"""Access tokens, with a real issuer on loopback and real signatures."""

import asyncio
import base64
import hmac
import json
import ssl
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import trustme
from joserfc.jwk import OKPKey
from tests.unit.services.issuer import AUDIENCE, EC_KEY, OTHER_KEY, RSA_KEY, issuer

from posthouse.base.clock import FakeClock
from posthouse.base.errors import TryLater
from posthouse.config.settings import Oidc, Settings
from posthouse.runtime.https import MAX_BYTES, is_acceptable
from posthouse.services.oidc import ACTIVE_SECONDS, KEYS_SECONDS, MAX_TOKEN, REFETCH_SECONDS, OidcTokens

ALICE = "alice@example.test"


@pytest.fixture(scope="module")
def running():
    with issuer() as one:
        yield one


@pytest.fixture
def realm(running):
    """The issuer as it should be, whatever the test before made of it."""
    running.keys = [EC_KEY]
    running.answers.clear()
    running.opaque.clear()
    running.asked.clear()
    running.authorizations.clear()
    return running


@asynccontextmanager
async def tokens(realm, clock=None, seconds=30.0, data_dir="", **changes):
    oidc = Oidc(**{"issuer": realm.url, "audience": AUDIENCE, **changes})
    clock = clock or FakeClock(datetime.now(UTC))
    source = OidcTokens(Settings(data_dir=data_dir, oidc=oidc), clock=clock, fetch_seconds=seconds)
    try:
        yield source
    finally:
        await source.close()


def check(realm, token, login="", **options):
    async def run():
        async with tokens(realm, **options) as source:
            return await source.check(token, login)

    return asyncio.run(run())


def encoded(value):
    return base64.urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).rstrip(b"=")


def test_a_good_token_is_its_accounts(realm):
    assert check(realm, realm.token()) == ALICE
    assert check(realm, realm.token(), "Alice@Example.test") == ALICE
    assert check(realm, realm.token(), "bob@example.test") is None
    assert check(realm, realm.token(aud=AUDIENCE, email=None, upn="Bob@example.test"), account_claim="upn") == (
        "bob@example.test"
    )
    now = int(time.time())
    assert check(realm, realm.token(exp=now - 30, nbf=now + 30)) == ALICE  # clocks differ a little


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "EdDSA", "Ed25519"])
def test_whatever_asymmetric_algorithm_an_issuer_uses(realm, algorithm):
    key = RSA_KEY if algorithm[1] == "S" else OKPKey.generate_key("Ed25519", auto_kid=True)
    realm.keys = [EC_KEY, key]
    assert check(realm, realm.token(key, algorithm)) == ALICE


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": int(time.time()) - 61},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"nbf": int(time.time()) + 3600},
        {"aud": "other"},
        {"aud": None},
        {"aud": [["mail.example.test"]]},
        {"iss": "http://127.0.0.1/other"},
        {"iss": None},
        {"email": None},
        {"email": ["alice@example.test"]},
        {"email": "no address"},
        {"email_verified": False},
        {"email_verified": "false"},
    ],
)
def test_a_token_for_others_or_another_time_is_not_good(realm, changes):
    assert check(realm, realm.token(**changes)) is None


def test_a_signature_has_to_be_the_issuers(realm):
    """RFC 8725 §3.1: no algorithm ``none``, no shared secret made of a public key, no key for another algorithm."""
    head, body, signature = realm.token().split(".")
    other = realm.token(email="bob@example.test").split(".")[1]
    public = EC_KEY.as_pem(private=False)
    for secret in (public, public.strip(), EC_KEY.as_der(private=False)):
        signed = encoded({"alg": "HS256", "kid": EC_KEY.kid}) + b"." + body.encode()
        mac = encoded(hmac.digest(secret, signed, "sha256"))
        assert check(realm, f"{signed.decode()}.{mac.decode()}") is None
    none = encoded({"alg": "none", "kid": EC_KEY.kid}).decode()
    for bad in (
        f"{head}.{other}.{signature}",
        f"{head}.{body}.",
        f"{none}.{body}.",
        f"{none}.{body}.{signature}",
        realm.token(OTHER_KEY, header={"kid": EC_KEY.kid}),
        realm.token(header={"crit": ["x-of-their-own"]}),
    ):
        assert check(realm, bad) is None, bad


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "é.é.é",
        "x" * (MAX_TOKEN + 1),
        encoded(b"[" * 9000).decode() + ".e30.",
        encoded({"alg": ["ES256"]}).decode() + ".e30.",
        encoded({"alg": "ES256", "kid": {}}).decode() + ".e30.",
        encoded({"alg": "ES256", "jwk": {"kty": "oct", "k": ""}}).decode() + ".bm8.AA",
        "opaque-token",
    ],
    ids=range(11),
)
def test_nonsense_is_no_token(realm, token):
    assert check(realm, token) is None


def test_new_keys_are_found_but_not_looked_for_all_the_time(realm):
    async def run():
        clock = FakeClock(datetime.now(UTC))
        async with tokens(realm, clock) as source:
            assert await source.check(realm.token(), "") == ALICE
            realm.keys = [OTHER_KEY]
            new = realm.token()
            clock.advance(REFETCH_SECONDS)
            for _ in range(3):
                assert await source.check(realm.token(RSA_KEY, "RS256"), "") is None  # a kid that nobody has
            assert realm.asked.count("keys") == 2
            assert await source.check(new, "") == ALICE
            assert realm.asked.count("keys") == 2
            clock.advance(KEYS_SECONDS)
            assert await source.check(realm.token(EC_KEY, exp=int(time.time()) + 9999), "") is None  # withdrawn
            assert realm.asked.count("keys") == 3

    asyncio.run(run())


def test_a_token_without_a_key_id_is_tried_with_all(realm):
    realm.keys = [OTHER_KEY, EC_KEY]
    assert check(realm, realm.token(EC_KEY, header={"kid": None})) == ALICE
    assert check(realm, realm.token(RSA_KEY, "RS256", {"kid": None})) is None


def test_the_last_good_keys_serve_while_the_issuer_is_down(realm):
    async def run():
        clock = FakeClock(datetime.now(UTC))
        async with tokens(realm, clock) as source:
            good = realm.token(exp=int(time.time()) + 99_999)
            assert await source.check(good, "") == ALICE
            realm.answers["/realm/keys"] = (503, b"")
            clock.advance(2 * KEYS_SECONDS)
            assert await source.check(good, "") == ALICE
            with pytest.raises(TryLater, match="HTTP status 503"):  # it may be a new key's
                await source.check(realm.token(OTHER_KEY), "")
            with pytest.raises(TryLater, match="HTTP status 503"):
                await source.check(realm.token(OTHER_KEY), "")
            assert realm.asked.count("keys") == 2
            realm.answers.clear()
            realm.keys.append(OTHER_KEY)
            clock.advance(REFETCH_SECONDS)
            exp = int(time.time()) + 99_999
            assert await source.check(realm.token(OTHER_KEY, exp=exp), "") == ALICE

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "answer", "reason"),
    [
        (".well-known/openid-configuration", (404, b""), "HTTP status 404"),
        (".well-known/openid-configuration", (302, b"http://127.0.0.1/"), "HTTP status 302"),
        (".well-known/openid-configuration", (200, b"<html>"), "no JSON"),
        (".well-known/openid-configuration", (200, b"[" * 100_000), "no JSON"),
        (".well-known/openid-configuration", (200, b"[]"), "no JSON object"),
        (".well-known/openid-configuration", (200, b'{"issuer": "https://other.test"}'), "not of oidc.issuer"),
        ("keys", (200, b" " * (MAX_BYTES + 1)), "more than"),
        ("keys", (200, b'{"keys": [{"kty": "oct", "k": "AA"}, {"kty": "RSA"}, 5]}'), "no key"),
        ("keys", (200, b"drip"), "no answer in time"),
    ],
    ids=range(9),
)
def test_what_an_issuer_says_wrongly_is_trouble_and_not_a_no(realm, path, answer, reason):
    realm.answers[f"/realm/{path}"] = answer
    with pytest.raises(TryLater, match=reason):
        check(realm, realm.token(), seconds=0.2 if answer[1] == b"drip" else 30.0)


def test_an_issuer_that_is_not_there_is_trouble(realm):
    with pytest.raises(TryLater, match="Connection refused"):
        check(realm, realm.token(), issuer="http://127.0.0.1:1/realm")


def test_an_issuer_has_to_be_whom_its_certificate_says(tmp_path, monkeypatch):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with issuer(context) as secure:
        with pytest.raises(TryLater, match="certificate verify failed"):
            check(secure, secure.token())
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert check(secure, secure.token()) == ALICE
        keys = json.dumps({"issuer": secure.url, "jwks_uri": "http://127.0.0.1/keys"}).encode()
        secure.answers["/realm/.well-known/openid-configuration"] = (200, keys)
        with pytest.raises(TryLater, match="its jwks_uri is no https:// URL"):
            check(secure, secure.token())


def test_only_https_or_loopback_is_asked():
    good = ["https://a.test/x", "https://a.test:8443", "http://127.0.0.1:80/", "http://[::1]/", "http://localhost/"]
    bad = [
        "http://a.test/",
        "file:///etc/passwd",
        "https://",
        "https://a@b.test/",
        "https://[::1",
        "ftp://127.0.0.1/",
    ]
    assert all(map(is_acceptable, good))
    assert not any(map(is_acceptable, bad))


@pytest.fixture
def asking(realm, tmp_path):
    """Options of a source that asks about tokens that are no JWTs."""
    (tmp_path / "client").write_text("s e:cret\n")
    return {"client_id": "post/house", "client_secret_file": "client", "data_dir": str(tmp_path)}


def test_the_issuer_is_asked_about_other_tokens_and_not_twice_a_minute(realm, asking):
    """RFC 7662 §2."""
    realm.opaque["good"] = {"active": True, "email": "alice@example.test", "aud": AUDIENCE}

    async def run():
        clock = FakeClock(datetime.now(UTC))
        async with tokens(realm, clock, **asking) as source:
            assert [await source.check("good", "") for _ in range(3)] == [ALICE] * 3
            assert await source.check("good", "bob@example.test") is None
            assert await source.check("withdrawn", ALICE) is None
            assert realm.asked.count("ask") == 2
            del realm.opaque["good"]
            clock.advance(ACTIVE_SECONDS)
            assert await source.check("good", "") is None
            assert await source.check(realm.token(), "") == ALICE  # JWTs are not asked about
            assert realm.asked.count("ask") == 3

    asyncio.run(run())
    assert realm.authorizations[0] == "Basic " + base64.b64encode(b"post%2Fhouse:s%20e%3Acret").decode()


@pytest.mark.parametrize(
    "claims",
    [
        {"active": "true"},
        {"active": 1},
        {"exp": time.time() - 100},
        {"exp": "soon"},
        {"iss": "https://other.test"},
        {"aud": "other"},
        {"aud": None},
        {"email_verified": False},
    ],
)
def test_an_answer_about_a_token_has_to_be_for_us_and_for_now(realm, asking, claims):
    realm.opaque["token"] = {"active": True, "email": "alice@example.test", "aud": AUDIENCE, **claims}
    assert check(realm, "token", **asking) is None


def test_a_jwt_cannot_pass_for_an_answer_about_a_token(realm, asking):
    """An answer may leave out what a JWT has to say; "active" may be any user's attribute there."""
    for claim in ("exp", "aud", "iss"):
        token = realm.token(active=True, **{claim: None})
        assert check(realm, token, **asking) is None
        assert check(realm, realm.token(active=True, exp=None, aud=None)) is None


@pytest.mark.parametrize("email", ["@a.test:alice@example.test", '"alice"@example.test', r'"\alice"@example.test'])
def test_an_address_in_another_spelling_is_nobodys(realm, email):
    """Whoever could register such a one with the issuer would be alice here."""
    assert check(realm, realm.token(email=email)) is None


def test_an_answer_is_not_kept_longer_than_its_token_lives(realm, asking):
    clock = FakeClock(datetime.now(UTC))
    realm.opaque["short"] = {"active": True, "email": ALICE, "aud": AUDIENCE, "exp": clock.now().timestamp() + 5}

    async def run():
        async with tokens(realm, clock, **asking) as source:
            assert await source.check("short", "") == ALICE
            clock.advance(5)
            del realm.opaque["short"]
            assert await source.check("short", "") is None

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "changes", "reason"),
    [
        ((401, b""), {}, "HTTP status 401"),
        ((200, b"drip"), {"seconds": 0.2}, "no answer in time"),
        (None, {"client_secret_file": "none"}, "oidc.client_secret_file: .*none"),
    ],
)
def test_an_issuer_that_does_not_say_whether_is_trouble(realm, asking, answer, changes, reason):
    if answer:
        realm.answers["/realm/ask"] = answer
    with pytest.raises(TryLater, match=reason):
        check(realm, "token", **{**asking, **changes})
