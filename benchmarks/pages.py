"""Tables in pages that are otherwise written by hand.

A table stands between two comments that no reader sees:

    <!-- begin selection -->
    ...
    <!-- end selection -->
"""

import re

from benchmarks import files
from benchmarks.tables import FIGURE

_ENDS = re.compile(r"(-?[\d.]+)-(-?[\d.]+)")


def names(page):
    """The names of a page's regions, in order."""
    return re.findall(r"^<!-- begin (\S+) -->$", page.read_text(encoding="utf-8"), re.M)


def region(page, name):
    """What stands in a region.

    Raises:
      ValueError: the page has no such region, or more than one.
    """
    return _find(page, name)[1].strip()


def write(page, name, text):
    """Replaces what stands in a region, and nothing else of the page.

    Raises:
      ValueError: the page has no such region, or more than one.
    """
    before, _, after = _find(page, name)
    files.write(page, f"{before}\n\n{text.strip()}\n\n{after}")


def _find(page, name):
    """The page up to the end of the first marker, the region, and the rest."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    places = [re.findall(rf"^{re.escape(marker)}$", text, re.M) for marker in (begin, end)]
    if [len(found) for found in places] != [1, 1] or text.index(begin) > text.index(end):
        raise ValueError(f"{page} needs one line {begin!r}, and one {end!r} after it.")
    first, last = text.index(begin) + len(begin), text.index(end)
    return text[:first], text[first:last], text[last:]


def moved(old, new, share=0.25):
    """Cells of which text beside a table may now say something wrong.

    Args:
      old, new: regions with a table each.
      share: a figure without a range counts as moved when it changed by more than this share.

    Returns:
      A line for each cell whose mean moved by more than its old range over seeds, or else by more
      than `share`, and for each column of figures that only one of the tables has. Rows that only
      one has are left out, and so is all of it where one region has no table.
    """
    before, after = cells(old), cells(new)
    heads = [dict.fromkeys(column for _, column in found) for found in (before, after)]
    gone, come = ([head for head in a if head not in b] for a, b in (heads, heads[::-1]))
    changed = [f"column {head} is gone" for head in gone if after]
    changed += [f"column {head} is new" for head in come if before]
    return changed + [
        f"{', '.join(key)}: {before[key]} -> {after[key]}"
        for key in before
        if key in after and _differs(before[key], after[key], share)
    ]


def cells(text):
    """(row, column) -> cell of the tables in a text.

    A row's name is its text columns, or the first column where all are figures; rows that share a
    name are counted. A table's heading that stands twice is counted, too.
    """
    found, head, right = {}, [], []
    for line in text.splitlines():
        if not line.startswith("|"):
            head = []
            continue
        row = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if not head:
            head, names = _counted(row, {}), {}
        elif set(line) <= set("|-: "):
            right = [cell.endswith(":") for cell in row]
            right[0] = right[0] and not all(right)
        else:
            columns = list(zip(head, row, right, strict=True))
            texts = ", ".join(cell for _, cell, number in columns if not number and cell)
            (name,) = _counted([texts], names)
            found |= {(name, key): cell for key, cell, number in columns if number}
    return found


def _counted(names, seen):
    """The same names, with a number at those that were seen before."""
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return made


def _differs(old, new, share):
    a, b = _figure(old), _figure(new)
    if a is None or b is None:
        return False
    limit = a[1] if a[1] is not None else share * abs(a[0])
    return abs(a[0] - b[0]) > limit


def _figure(cell):
    """(the number, its range over seeds or None), or None for what is no number."""
    found = FIGURE.fullmatch(cell)
    if not cell or not found:
        return None
    ends = _ENDS.fullmatch(found["more"] or "")
    return float(found["mean"].replace(",", "")), float(ends[2]) - float(ends[1]) if ends else None
