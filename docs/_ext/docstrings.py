"""From a docstring of the package to reStructuredText, for napoleon to go on with.

The docstrings are plain text: names and code in single backticks, formulas in indented blocks,
asterisks that multiply. Here backticks become links or literals, indented blocks become literal
blocks, and what reStructuredText would take for markup is escaped.
"""

import re

_SECTION = re.compile(r"(Args|Attributes|Example|Raises|References|Returns):")
_SPAN = re.compile(r"`([^`]+)`")
_CALL = re.compile(r"([A-Za-z_][\w.]*)(\(.*\))?")
_ARGUMENTS = re.compile(r"^ +\*{0,2}\w+(?:, \*{0,2}\w+)*:", re.M)
_STARRED = r"^ +\*{1,2}(?=\w+[,:])"  # napoleon escapes an argument of that name
_MARKUP = re.compile(rf"({_STARRED})|([\\*|]|(?<=\w)_(?!\w))", re.M)
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")


def described(lines):
    """The names that a docstring describes itself: its arguments and attributes."""
    return {
        name
        for section, paragraph in _sections(lines)
        if section in ("Args", "Attributes")
        for names in _ARGUMENTS.findall("\n".join(paragraph))
        for name in re.findall(r"\w+", names)
    }


def convert(lines, link=lambda name: None):
    """The lines in reStructuredText; `link(name)` is the entry that a name leads to, or None."""
    out = []
    for section, paragraph in _sections(lines):
        if section == "Example":
            out += paragraph
        elif section is None and paragraph[0].startswith(" "):
            out += [".. code-block:: text", "", *paragraph]
        elif paragraph[0] == "Returns:":  # napoleon would take what is before a colon for a type
            out += [":returns:", *_prose("\n".join(paragraph[1:]), link).split("\n")]
        else:
            out += _prose("\n".join(paragraph), link).split("\n")
        out.append("")
    return out


def _sections(lines):
    """Each paragraph, and the section that it is in."""
    section, paragraph = None, []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            if head := _SECTION.fullmatch(paragraph[0]):
                section = head[1]
            elif not paragraph[0].startswith(" "):
                section = None
            yield section, paragraph
            paragraph = []


def _prose(text, link):
    out = []
    for i, part in enumerate(_SPAN.split(text)):
        if i % 2:
            out.append(_code(re.sub(r"\s+", " ", part), link))
        else:
            glued = i and part[:1].isalnum()  # `Rule`s
            out.append("\\ " * glued + _plain(part))
    return "".join(out)


def _plain(text):
    text = _MARKUP.sub(lambda match: match[1] or f"\\{match[2]}", text)
    return _ARXIV.sub(r"`arXiv \1 <https://arxiv.org/abs/\1>`__", text)


def _code(code, link):
    call = _CALL.fullmatch(code)
    target = link(call[1]) if call else None
    return f":py:obj:`{code} <{target}>`" if target else f"``{code}``"
