"""What tests of plots share: what lies in a figure, and where."""


def named(axes):
    return {line.get_label(): line for line in axes.lines}


def assert_inside(figure):
    """All that is drawn lies within the figure."""
    figure.draw_without_rendering()
    box, width, height = figure.get_tightbbox(), *figure.get_size_inches()
    assert min(box.x0, box.y0) >= -0.02, box
    assert box.x1 <= width + 0.02, (box, width)
    assert box.y1 <= height + 0.02, (box, height)
    assert figure.canvas.manager is None  # pyplot does not know of it
