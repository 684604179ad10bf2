"""Step -> sparsity, and step -> is this an event."""

from jaxprune.schedules._ac_dc import ac_dc as ac_dc
from jaxprune.schedules._events import Events as Events
from jaxprune.schedules._events import Every as Every
from jaxprune.schedules._events import every as every
from jaxprune.schedules._events import resolve_events as resolve_events
from jaxprune.schedules._schedules import Schedule as Schedule
from jaxprune.schedules._schedules import constant as constant
from jaxprune.schedules._schedules import cosine as cosine
from jaxprune.schedules._schedules import exponential as exponential
from jaxprune.schedules._schedules import linear as linear
from jaxprune.schedules._schedules import one_shot as one_shot
from jaxprune.schedules._schedules import polynomial as polynomial
from jaxprune.schedules._schedules import steps as steps

__all__ = [
    "Events",
    "Every",
    "Schedule",
    "ac_dc",
    "constant",
    "cosine",
    "every",
    "exponential",
    "linear",
    "one_shot",
    "polynomial",
    "resolve_events",
    "steps",
]
