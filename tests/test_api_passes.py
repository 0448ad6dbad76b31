import pytest

from api.passes import DAY_S, PicturePasses

PATH = "/v1/collections/shop/documents/p1/image"


def at(seconds, secret=b"s" * 32):
    return PicturePasses(secret, clock=lambda: seconds)


def test_a_pass_opens_its_picture_for_one_to_two_days():
    issued = at(100.25 * DAY_S).issue(PATH)
    assert at(100.25 * DAY_S).accepts(PATH, issued)
    assert at(101.99 * DAY_S).accepts(PATH, issued)
    assert not at(102 * DAY_S).accepts(PATH, issued)


def test_a_pass_is_the_same_all_day_so_that_browsers_keep_the_picture():
    assert at(100.01 * DAY_S).issue(PATH) == at(100.99 * DAY_S).issue(PATH)
    assert at(100.99 * DAY_S).issue(PATH) != at(101.01 * DAY_S).issue(PATH)


@pytest.mark.parametrize("path", [PATH.replace("p1", "p2"), PATH.replace("shop", "other"), PATH + "/image", ""])
def test_a_pass_opens_nothing_else(path):
    assert not at(0).accepts(path, at(0).issue(PATH))


def test_a_pass_of_another_secret_opens_nothing():
    assert not at(0, b"t" * 32).accepts(PATH, at(0).issue(PATH))


@pytest.mark.parametrize("given", ["", ".", "1", "x.y", "9999999999.aa", "-1.aa", "²." + "0" * 32, "1.é", "1.", "0x1.aa"])
def test_nonsense_is_no_pass(given):
    assert not at(0).accepts(PATH, given)


def test_the_day_cannot_be_moved():
    _, _, signature = at(0).issue(PATH).partition(".")
    assert not at(0).accepts(PATH, f"9.{signature}")


def test_equal_signers_issue_equal_passes():
    morning, evening, next_day = at(100.01 * DAY_S), at(100.99 * DAY_S), at(101.01 * DAY_S)
    assert morning.signer()[1] == evening.signer()[1] != next_day.signer()[1]
    assert morning.signer() != at(100.01 * DAY_S, b"t" * 32).signer()
