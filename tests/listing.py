"""Tests that list all that is wrong, instead of stopping at the first of many."""


def lists(find):
    """Return a test that fails with the list of all that ``find()`` yields."""

    def test():
        found = list(find())
        assert not found, "\n".join(map(str, found))

    return test
