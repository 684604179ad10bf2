"""Whether patterns and bounds leave room for what a ranking of several leaves is to keep."""


def dense_cost(targets) -> int:
    """What all units of targets cost; where all cost the same, how many there are."""
    return sum(t.units * t.cost for t in targets)


def _asked(setup, sparsity):
    return f"sparsity={sparsity:g}" + ("" if setup.costs is None else " of the cost")


def _scope(setup, targets):
    return f"scope {setup.labels[targets[0].group]}"


def _first(targets):
    """How many units of each rank before the others; None unless there are such in all."""
    first = [t.pattern.first_units(t.shape) for t in targets]
    return None if None in first else first


def check_pattern(setup, targets, kept, sparsity):
    """What is ranked together and kept in the end has the pattern."""
    first = _first(targets)
    if first is None:
        return
    most = sum(f * t.cost for f, t in zip(first, targets, strict=True))
    if kept > most:
        needed = 1 - most / dense_cost(targets)
        raise ValueError(
            f"{_asked(setup, sparsity)} keeps more than {targets[0].pattern} allows in "
            f"{_scope(setup, targets)}; the pattern needs a sparsity of at least {needed:g}."
        )


def check_room(setup, targets, bounds, kept, sparsity):
    """The bounds of the targets, on units, allow what is kept."""
    pairs = list(zip(targets, bounds, strict=True))
    fewest, most = (sum(bound[side] * t.cost for t, bound in pairs) for side in (0, 1))
    if not fewest <= kept <= most:
        total = dense_cost(targets)
        side = "max_sparsity" if kept < fewest else "min_sparsity"
        raise ValueError(
            f"{_asked(setup, sparsity)} is out of reach in {_scope(setup, targets)}: {side} allows "
            f"{1 - most / total:.6g} to {1 - fewest / total:.6g}. Change one of them."
        )
    _check_room_in_pattern(setup, targets, bounds, kept, sparsity)


def _check_room_in_pattern(setup, targets, bounds, kept, sparsity):
    """Where some units rank before all others, bounds must leave room among those, too."""
    first = _first(targets)
    if first is None or not any(t.bounded for t in targets):
        return
    parts = list(zip(targets, bounds, first, strict=True))
    if kept <= sum(f * t.cost for t, _, f in parts):
        fewest, most = (sum(min(b[side], f) * t.cost for t, b, f in parts) for side in (0, 1))
        fits = fewest <= kept <= most
    else:
        fits = all(bound[1] >= f for _, bound, f in parts)
    if not fits:
        raise ValueError(
            f"{_asked(setup, sparsity)} is out of reach in {_scope(setup, targets)}: "
            f"min_sparsity or max_sparsity leaves no room for it within {targets[0].pattern}. "
            "Change one of them."
        )
