"""Pruning and training in rounds: the caller trains, or says how good a pruned network is."""

from jaxprune.iterate._evolution import LegrState as LegrState
from jaxprune.iterate._legr import Ranking as Ranking
from jaxprune.iterate._legr import legr as legr
from jaxprune.iterate._lottery import controls as controls
from jaxprune.iterate._lottery import lottery_tickets as lottery_tickets
from jaxprune.iterate._progressive import Progress as Progress
from jaxprune.iterate._progressive import progressive as progressive
from jaxprune.iterate._rounds import Round as Round
from jaxprune.iterate._rounds import report as report

__all__ = [
    "LegrState",
    "Progress",
    "Ranking",
    "Round",
    "controls",
    "legr",
    "lottery_tickets",
    "progressive",
    "report",
]
