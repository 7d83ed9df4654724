"""Requests: what passes is tried again and counted, what does not is told in one line."""

import sys
from pathlib import Path

import pytest
from tests.steel_data.store.server import FAULTS, Lab

from steel_data.errors import InputError
from steel_data.store import bucket as requests
from steel_data.store.bucket import Bucket, OtherVersionError, Seen


def test_an_object_is_read_as_it_was_written(lab: Lab, tmp_path: Path) -> None:
    tag = lab.bucket.put("a/数据 1.jsonl", b"0123456789")
    (tmp_path / "f").write_bytes(b"from a file")
    lab.bucket.put("a/b/f", tmp_path / "f")
    lab.bucket.put("empty", b"")
    got = lab.bucket.get("a/数据 1.jsonl", 2, 5)
    assert got is not None
    assert (bytes(got.data), got.seen) == (b"234", Seen(10, tag))
    assert lab.bucket.get("a/nothing") is None
    assert {*lab.bucket.list("").objects} == {"a/数据 1.jsonl", "a/b/f", "empty"}
    level = lab.bucket.list("a", deep=False)
    assert ({*level.objects}, level.prefixes) == ({"a/数据 1.jsonl"}, {"a/b"})
    lab.bucket.delete(["a/b/f", "never was"])
    assert {*lab.bucket.list("a").objects} == {"a/数据 1.jsonl"}


def test_a_write_may_depend_on_what_is_there(lab: Lab) -> None:
    first = lab.bucket.put("k", b"1", over="")
    with pytest.raises(OtherVersionError):
        lab.bucket.put("k", b"2", over="")
    second = lab.bucket.put("k", b"2", over=first)
    with pytest.raises(OtherVersionError):
        lab.bucket.put("k", b"3", over=first)
    with pytest.raises(OtherVersionError):
        lab.bucket.get("k", tag=first)
    got = lab.bucket.get("k", tag=second)
    assert got is not None and bytes(got.data) == b"2"


@pytest.mark.parametrize("kind", FAULTS)
def test_what_passes_is_tried_again_and_counted(lab: Lab, kind: str) -> None:
    lab.server.fail(2, (kind,))
    for i in range(4):
        lab.bucket.put(f"k{i}", bytes(1000))
    assert sorted(lab.bucket.list("").objects) == ["k0", "k1", "k2", "k3"]
    got = lab.bucket.get("k0")
    assert got is not None and len(got.data) == 1000
    failed = lab.server.failed[kind]
    assert failed >= 2
    # an answer cut short is no fault of a write, which asks for no more of it than its head
    assert lab.bucket.asked["again"] <= failed if kind == "cut" else lab.bucket.asked["again"] == failed
    assert lab.bucket.asked["PUT"] + lab.bucket.asked["GET"] + lab.bucket.asked["LIST"] == 6 + lab.bucket.asked["again"]


def test_what_goes_on_failing_is_one_line_that_says_how_often(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "TRIES", 4)
    lab.server.fail(1, ("503",))
    with pytest.raises(
        InputError, match=r"s3://lab-.*/k: http://.* answered 503 SlowDown, 4 times over\. Fix: AWS_END"
    ):
        lab.bucket.get("k")
    assert lab.bucket.asked == {"GET": 4, "again": 3}


def test_an_address_where_nobody_is_is_told_soon(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(
        InputError, match=r"http://127.0.0.1:9 did not answer \(HTTP error.*\), 3 times over. Fix: AWS_E"
    ):
        lab.bucket.list("")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("403 AccessDenied", r"PUT is refused \(403 AccessDenied\)\. Fix: keys .* may s3:PutObject there"),
        ("403 InvalidAccessKeyId", r"403 InvalidAccessKeyId"),
        ("301 PermanentRedirect", r"in another region \(301 PermanentRedirect\)\. Fix: AWS_REGION"),
        ("501 NotImplemented", r"PUT failed: 501 NotImplemented"),
        ("400 InvalidRequest", r"PUT failed: 400 InvalidRequest"),
    ],
)
def test_what_does_not_pass_is_told_at_once(lab: Lab, answer: str, said: str) -> None:
    lab.server.answer = lambda kind, key: answer
    with pytest.raises(InputError, match=said):
        lab.bucket.put("k", b"")
    assert lab.bucket.asked["again"] == 0


def test_a_bucket_that_is_not_there_is_named(lab: Lab) -> None:
    other = Bucket("nobody-made-this")
    for ask in (lambda: other.list(""), lambda: other.get("k"), lambda: other.put("k", b"")):
        with pytest.raises(InputError, match=r"s3://nobody-made-this: no such bucket at http"):
            ask()


def test_no_credentials_are_told(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"{lab.server.address}/machine")
    with pytest.raises(
        InputError, match=r"no credentials are set, and this machine has no role\. Fix: AWS_ACCESS_KEY_ID"
    ):
        lab.bucket.get("k")


def test_keys_and_region_of_a_profile_are_used(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = me\naws_secret_access_key = it%is\n")
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert requests._profile() == {"access_key_id": "me", "secret_access_key": "it%is", "region": "eu-west-1"}
    lab.bucket.put("k", b"")
    monkeypatch.setenv("AWS_REGION", "cn-north-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    assert requests._profile() == {}


def test_the_missing_extra_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(InputError, match=r's3://lab: obstore is not installed\. Fix: pip install "steel-lab\[s3\]"\.'):
        requests.refuse_without_client("s3://lab")
