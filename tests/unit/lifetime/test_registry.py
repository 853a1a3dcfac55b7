from __future__ import annotations

import logging

import pytest

from gateway.lifetime.registry import Differently, Keep, close_all


class Kept:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_same_key_and_fingerprint_give_the_same_object():
    keep = Keep()
    draft = keep.draft()
    one = draft.keep(("a",), 1, Kept)
    assert draft.keep(("a",), 1, Kept) is one
    assert draft.commit() == []
    assert keep.draft().keep(("a",), 1, Kept) is one
    assert list(keep) == [one]
    assert repr(keep) == "<Keep 1 objects>"


def test_another_fingerprint_makes_another_object_and_drops_the_first():
    keep = Keep()
    draft = keep.draft()
    one = draft.keep(("a",), 1, Kept)
    draft.commit()
    draft = keep.draft()
    two = draft.keep(("a",), 2, Kept)
    assert two is not one
    assert draft.commit() == [one]
    assert one.closed == 0, "the old snapshot may still use it"


def test_what_nobody_asked_for_again_is_dropped():
    keep = Keep()
    draft = keep.draft()
    one = draft.keep(("a",), None, Kept)
    draft.commit()
    assert keep.draft().commit() == [one]
    assert list(keep) == []


def test_discarding_closes_only_what_was_made_for_nothing():
    keep = Keep()
    draft = keep.draft()
    old = draft.keep(("a",), None, Kept)
    draft.commit()
    draft = keep.draft()
    assert draft.keep(("a",), None, Kept) is old
    new = draft.keep(("b",), None, Kept)
    draft.discard()
    assert (old.closed, new.closed) == (0, 1)
    assert list(keep) == [old]


def test_closing_goes_on_after_a_failure(caplog):
    class Bad:
        def close(self) -> None:
            raise OSError("disk")

    good = Kept()
    with caplog.at_level(logging.ERROR):
        close_all([Bad(), object(), good])
    assert good.closed == 1
    assert "disk" in caplog.text


def test_close_closes_everything():
    keep = Keep()
    draft = keep.draft()
    one = draft.keep(("a",), None, Kept)
    draft.commit()
    keep.close()
    keep.close()
    assert one.closed == 1


class Adopting:
    def __init__(self) -> None:
        self.adopted: list[int] = []

    def adopt(self, settings: int) -> None:
        self.adopted.append(settings)


def test_settings_are_adopted_when_the_draft_is_committed_and_not_before():
    keep = Keep()
    draft = keep.draft()
    one = draft.keep(("a",), None, Adopting, 1)
    assert draft.keep(("a",), None, Adopting, 1) is one
    with pytest.raises(Differently):
        draft.keep(("a",), None, Adopting, 2)
    draft.commit()
    assert one.adopted == [1]
    refused = keep.draft()
    refused.keep(("a",), None, Adopting, 3)
    refused.discard()
    draft = keep.draft()
    draft.keep(("a",), None, Adopting, 2)
    assert one.adopted == [1]
    draft.commit()
    assert one.adopted == [1, 2]
