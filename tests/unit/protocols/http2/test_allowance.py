"""gateway/protocols.http2.allowance.py."""

from gateway.protocols.http2.allowance import Allowance


def test_a_burst_and_then_a_rate():
    allowance = Allowance(10, 2, 100.0)
    assert allowance.spend(10, 100.0)
    assert not allowance.spend(1, 100.0)
    assert allowance.spend(1, 101.0) and allowance.spend(1, 101.0)
    assert not allowance.spend(1, 101.0)
    assert allowance.spend(10, 1000.0) and not allowance.spend(1, 1000.0)
    assert repr(allowance) == "<Allowance 0 of 10>"


def test_work_earns_more_but_not_for_ever():
    allowance = Allowance(10, 0, 0.0)
    allowance.credit(5)
    assert allowance.spend(15, 0.0) and not allowance.spend(1, 0.0)
    allowance.credit(1000)
    assert allowance.spend(20, 0.0) and not allowance.spend(1, 0.0)
