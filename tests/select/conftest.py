"""Limits of the search set lower, so that small arrays take the paths of large ones.

What runs then must not be a program that was compiled before.
"""

import pytest

from jaxprune.select import _select, _thresholds


@pytest.fixture
def sample(monkeypatch):
    """Sets how many keys a sample has; more are many, and not searched evenly."""

    def of(size):
        monkeypatch.setattr(_thresholds, "_SAMPLE_ALONE", size)
        monkeypatch.setattr(_thresholds, "_SAMPLE_SENT", size)

    return of


@pytest.fixture(params=["even", "sampled"])
def search_kind(request, sample):
    """Both searches."""
    if request.param == "sampled":
        sample(8)


@pytest.fixture(params=[("sampled", 1), ("sampled", 2), ("even", 2)], ids=str)
def engine(request, sample, monkeypatch):
    """What small arrays do not come to: a search from a sample, and totals of two limbs."""
    search, limbs = request.param
    if search == "sampled":
        sample(8)
    if limbs == 2:
        monkeypatch.setattr(_select, "_MOST", 0)
    return search, limbs
