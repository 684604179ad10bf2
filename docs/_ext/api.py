"""The directive `api`: what a module is, a table of its public names, and each name in full.

A name has its entry in the subpackage that exports it, under the path that users import. Names at
the top of jaxprune are rows of a table, which lead there.
"""

import inspect
import types

import public
from docstrings import convert, described
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.docutils import SphinxDirective


def linker(module, own=()):
    """What a name in backticks leads to in a docstring of `module`, but for names of its `own`."""

    def link(name):
        if name in own:
            return None
        for full in (f"{module}.{name}", f"jaxprune.{name}", name):
            found = public.entry(full)
            if found and (found not in public.modules() or "." in name):
                return found
        return None

    return link


class Api(SphinxDirective):
    """As `.. api:: jaxprune.scores`."""

    required_arguments = 1

    def run(self):
        """The nodes of the page."""
        module = self.arguments[0]
        top = module == "jaxprune"
        lines = [f".. automodule:: {module}", "   :no-members:", "", *_table(module), ""]
        for name in () if top else public.names(module):
            lines += _entry(module, name)
        box = nodes.container()
        self.state.nested_parse(StringList(lines, source=f"api of {module}"), 0, box)
        if top:
            self._note(box)
        return box.children

    def _note(self, box):
        """The rows of the names at the top are their entries."""
        domain = self.env.get_domain("py")
        rows = list(box.findall(nodes.row))
        for name, row in zip(public.names("jaxprune"), rows, strict=True):
            full = f"jaxprune.{name}"
            kind = _kind("jaxprune", name)
            if kind != "module":
                row["ids"].append(full)
                domain.note_object(full, kind, full, location=row)


def _kind(module, name):
    value = public.value(f"{module}.{name}")
    if isinstance(value, types.ModuleType):
        return "module"
    if inspect.isclass(value):
        return "class"
    constant = isinstance(value, str) or (module in public.modules() and _constant(module, name))
    return "data" if constant else "function"


def _constant(module, name):
    entry = public.entry(f"{module}.{name}") or f"{module}.{name}"
    return name in public.constants(public.home(entry))


def _table(module):
    yield from [".. list-table::", "   :widths: auto", ""]
    for name in public.names(module):
        full = public.entry(f"{module}.{name}")
        lines = public.doc(full or f"{module}.{name}").splitlines()
        first = lines[: lines.index("")] if "" in lines else lines
        text = " ".join(convert(first, linker(module, described(lines)))).strip()
        yield f"   * - {f':py:obj:`{name} <{full}>`' if full else f'``{name}``'}"
        yield f"     - {text}"


def _entry(module, name):
    kind = _kind(module, name)
    if kind == "module":
        return
    if kind == "data":
        yield from [f".. py:data:: {name}", f"   :module: {module}", ""]
        lines = convert(public.doc(f"{module}.{name}").splitlines(), linker(module))
        yield from (f"   {line}" for line in str(GoogleDocstring(lines)).splitlines())
    else:
        yield f".. auto{kind}:: {module}.{name}"
        yield from ["   :members:"] if kind == "class" else []
    yield ""


def _rewrite(app, what, name, obj, options, lines):
    """autodoc-process-docstring, before napoleon."""
    del app, obj, options
    module = public.home(name)
    own = described(lines)
    if what == "module":  # which speaks of the arguments of its functions
        own.update(*(described(public.doc(f"{name}.{n}").splitlines()) for n in public.names(name)))
    # Of a property napoleon would take what is before a colon for a type, but for an empty line.
    lines[:] = [*[""] * (what == "property"), *convert(lines, linker(module, own))]


def _skip(app, what, name, obj, skip, options):
    """autodoc-skip-member: fields of a NamedTuple, which the class describes."""
    del app, what, name, options
    return True if type(obj).__name__ == "_tuplegetter" else skip


def _resolve(app, env, node, contnode):
    """missing-reference: where a class is defined leads to where it is exported."""
    target = node.get("reftarget", "")
    found = public.entry(target) if target.startswith("jaxprune.") else None
    if node.get("refdomain") != "py" or found is None or found == target:
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found, node, contnode)


def setup(app):
    """Registers the directive and what it needs."""
    app.add_directive("api", Api)
    app.connect("autodoc-process-docstring", _rewrite, priority=400)
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
