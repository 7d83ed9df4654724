"""The lease on a prefix: one holder, told who and until when; it runs out by itself, and whoever lost it knows."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.steel_data.store.server import Lab

from steel_data.errors import InputError
from steel_data.store import bucket as requests
from steel_data.store import lease as leases
from steel_data.store.bucket import OtherVersionError
from steel_data.store.lease import Lease, leased, refuse_lost


def test_a_second_holder_is_refused_and_told_who_holds_it_until_when(lab: Lab) -> None:
    out = lab.root / "mix"
    with (
        leased(out),
        pytest.raises(
            InputError, match=r"s3://.*/mix: another build .* process \d+, until 20\d\d-.* UTC, .* Fix: wait"
        ),
        leased(out),
    ):
        pass
    with leased(out), leased(lab.root / "another"):
        assert {*lab.bucket.list("").objects} == {".mix.lock", ".another.lock"}
    with leased(out):  # given back
        pass


class Clock:
    """The time, which passes when it is told to."""

    strftime, gmtime = staticmethod(time.strftime), staticmethod(time.gmtime)

    def __init__(self) -> None:
        self.now = time.time()
        self.meanwhile: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


class Passing:
    """An event that is waited for in vain so many times, while the clock goes on."""

    def __init__(self, clock: Clock, times: int) -> None:
        self.clock, self.left = clock, times

    def wait(self, seconds: float) -> bool:
        self.left -= 1
        self.clock.now += seconds if self.left >= 0 else 0
        return self.left < 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(leases, "time", made)
    return made


def test_a_lease_that_ran_out_is_taken(lab: Lab, clock: Clock) -> None:
    dead, other = Lease(lab.root / "mix"), Lease(lab.root / "mix")
    assert dead.take() == ""
    clock.now += leases.SECONDS
    assert dead.lost
    assert "process" in other.take()  # clocks differ
    clock.now += leases.GRACE
    assert other.take() == ""
    with pytest.raises(OtherVersionError):
        dead.renew()
    dead.give_back()  # takes nothing from who has it now
    assert not other.lost
    assert "process" in Lease(lab.root / "mix").take()


def test_a_lease_is_renewed_while_its_holder_lives(lab: Lab, clock: Clock) -> None:
    lease = Lease(lab.root / "mix")
    assert lease.take() == ""
    leases._renew(lease, Passing(clock, 20))  # type: ignore[arg-type]
    assert not lease.lost
    assert "process" in Lease(lab.root / "mix").take()


def test_who_cannot_renew_it_tries_on_and_then_knows(lab: Lab, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "TRIES", 1)
    renew, out = leases._renew, lab.root / "mix"
    monkeypatch.setattr(leases, "_renew", lambda *_: None)  # its thread
    with leased(out):
        lease = leases._held[out]
        lab.server.fail(1, ("503",))
        renew(lease, Passing(clock, 3))  # type: ignore[arg-type]
        refuse_lost(out)
        renew(lease, Passing(clock, 1))  # type: ignore[arg-type]
        lab.server.fail(0)
        with pytest.raises(InputError, match=r"its lease has run out .* Fix: run again"):
            refuse_lost(out)
        renew(lease, Passing(clock, 1))  # type: ignore[arg-type]
        refuse_lost(out)  # nobody has taken it meanwhile
        clock.now += leases.SECONDS + leases.GRACE
        assert Lease(out).take() == ""
        renew(lease, Passing(clock, 1))  # type: ignore[arg-type]
        assert lease.lost
    assert "process" in Lease(out).take()


def test_waiting_for_it(lab: Lab, clock: Clock) -> None:
    first = Lease(lab.root / "mix")
    assert first.take() == ""
    clock.meanwhile = first.give_back
    with leased(lab.root / "mix", wait=True):
        assert first.lost
    assert clock.now - time.time() < leases.SECONDS


def test_a_write_whose_answer_was_lost_is_its_own(lab: Lab) -> None:
    """The second try meets what the first one wrote: that is no other holder."""
    lease = Lease(lab.root / "mix")
    lab.server.fail(2, ("lost",))  # each write is the second request: it is read first
    assert lease.take() == ""
    assert lab.server.failed["lost"] >= 1
    lab.server.fail(2, ("500", "lost"))
    lease.renew()
    lab.server.fail(0)
    assert not lease.lost
    assert "process" in Lease(lab.root / "mix").take()


def test_what_is_no_lease_is_one_that_is_over(lab: Lab) -> None:
    lab.bucket.put(".mix.lock", b"\x00 not ours")
    with leased(lab.root / "mix"):
        pass


def test_a_whole_bucket_is_no_place_of_a_mixture() -> None:
    with pytest.raises(InputError, match=r"s3://lab: is a whole bucket\. Fix: s3://bucket/folder"):
        Lease(Path("s3://lab"))
