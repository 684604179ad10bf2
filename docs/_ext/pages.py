"""Pages that are read as plain Markdown too: what the site shows otherwise."""

from docutils import nodes
from sphinx.transforms import SphinxTransform


class DropOwnContents(SphinxTransform):
    """The list of sections at the top of a page, which the side bar shows."""

    default_priority = 300  # before references are resolved

    def apply(self, **kwargs):
        """Removes the list."""
        del kwargs
        section = next(self.document.findall(nodes.section), None)
        for node in section.children if section is not None else ():
            if isinstance(node, nodes.section):
                return
            if isinstance(node, nodes.bullet_list) and all(map(_leads_here, node)):
                section.remove(node)
                return


def _leads_here(item):
    """Whether an item of a list begins with a link to a section of the page."""
    link = next(item.findall(nodes.Inline), None)
    target = "" if link is None else link.get("reftarget", link.get("refuri", ""))
    return target.startswith("#")


def setup(app):
    """Registers the transform."""
    app.add_transform(DropOwnContents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
