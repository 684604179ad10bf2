"""Which leaves are pruned, and how: rules by path, and a default for what no rule names.

A leaf that no rule matches is left dense if one of these holds, in this order:

1. it is not floating;
2. fewer than two of its axes are longer than 1;
3. its name says bias, norm scale, embedding, position table or learned tokens (`bias`, `scale`,
   `embedding`, `pos_embedding`, `wte`, `cls` ...), also when it has two axes or more: a bias of
   attention is (heads, dim), and `nn.scan` or `vmap` stack a norm's scale to (layers, features).
   A single `b` is a bias where a `w` lies beside it;
4. it lies in a module named after a norm or an embedding, is not called `kernel`, and has no bias
   beside it such as a linear layer has;
5. its neighbours say so: it has the shape of the bias beside it, as a stacked norm's weight has,
   or, under a name that says nothing, the shape of an array beside it without one axis that is
   not the first, as a stacked bias has.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxprune._checks import check_sparsity, is_traced

__all__ = ["Decision", "Rule", "decide"]

_WEIGHT = re.compile(r"kernel|weights?|[wW]\d*|[wW]_.*|.*_(kernel|weight|w)")
_BIAS = re.compile(r"bias(es|_.*)?|.*_bias|b_.*|beta|offset|A_log")
_NORM = re.compile(
    r"scale|gamma|gain|mean|var|.*_(scale|gamma)|.*norm|ln_?\d*|ls_?\d*|lambda_?\d*", re.I
)
_TABLE = re.compile(
    r".*embed.*|(.*_)?emb|w[tp]e|pe|cls|.*tokens?|latents?|queries|codebooks?"
    r"|(.*_)?(rel_?)?pos((_|emb|enc|ition).*)?|(cos|sin)_cached?|freqs_cis|inv_freq",
    re.I,
)
_NORM_MODULE = re.compile(r".*norm(?!al).*|(.*_)?(ln|bn|rms)(_?\d+|_.*)?", re.I)
_TABLE_MODULE = re.compile(r"(?!.*patch)(.*embed.*|(.*_)?emb|w[tp]e|(.*_)?pos(ition.*|_.*)?)", re.I)


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the leaves at some paths are pruned.

    The first rule whose `path` matches the whole path of a leaf decides; what it leaves None comes
    from the arguments of `prune` or `prune_params`, or, for `dense`, from the default: a rule for
    `head/.*` leaves the bias there alone.

    Args:
      path: regular expression for whole paths such as `encoder/layers_0/mlp/kernel`.
      dense: True leaves these leaves alone, False prunes them whatever the default says.
      sparsity: their own sparsity, 0 <= s < 1, each by itself, outside any ranking with others.
        A number follows the curve of the schedule to that number; a schedule is followed itself.
      pattern: their pattern.
      score: their criterion.
      min_sparsity, max_sparsity: bounds on the sparsity of each leaf that a ranking or an
        allocation gives.

    Raises:
      TypeError, ValueError: an argument is of the wrong kind or out of range.

    Example:
      >>> from jaxprune import Rule
      >>> rules = [Rule("stem/.*", dense=True), Rule(".*/head/.*", sparsity=0.8)]
    """

    path: str
    dense: bool | None = None
    sparsity: Any = None
    pattern: Any = None
    score: Any = None
    min_sparsity: float | None = None
    max_sparsity: float | None = None

    def __post_init__(self):
        if not isinstance(self.path, str):
            raise TypeError(f"Rule: path={self.path!r} must be a regular expression as a string.")
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(
                f"Rule: path={self.path!r} is not a regular expression: {error}."
            ) from error
        if not (self.dense is None or isinstance(self.dense, bool)):
            raise TypeError(f"Rule({self.path!r}): dense={self.dense!r} must be True or False.")
        rest = ("sparsity", "pattern", "score", "min_sparsity", "max_sparsity")
        given = [name for name in rest if getattr(self, name) is not None]
        if self.dense and given:
            raise ValueError(f"Rule({self.path!r}): dense=True leaves no use for {given[0]}.")
        bounds = [name for name in given if name in ("min_sparsity", "max_sparsity")]
        if self.sparsity is not None and bounds:
            raise ValueError(
                f"Rule({self.path!r}): sparsity={self.sparsity} is the leaf's own and no ranking "
                f"changes it, which leaves no use for {bounds[0]}; give one of them."
            )
        for name in ("sparsity", "min_sparsity", "max_sparsity"):
            value = getattr(self, name)
            if is_traced(value):
                raise TypeError(
                    f"Rule({self.path!r}): {name} is traced; only the sparsity of the whole may "
                    "be. Pass a Python float."
                )
            if value is not None and not (name == "sparsity" and callable(value)):
                checked = check_sparsity(value, name, where=f"Rule({self.path!r})")
                object.__setattr__(self, name, checked)

    def matches(self, path: str) -> bool:
        """Whether the rule is about the leaf at `path`."""
        return re.fullmatch(self.path, path) is not None

    def __str__(self):
        return f"Rule({self.path!r})"


@dataclasses.dataclass(frozen=True)
class Decision:
    """What the rules say about one leaf: the rule that matched, and why it is dense, if it is."""

    rule: Rule | None
    dense: str | None


def decide(paths: Sequence[str], leaves: Sequence[Any], rules: Sequence[Rule]) -> list[Decision]:
    """What the rules, and the default after them, say about each leaf.

    Args:
      paths: of the leaves, `a/b/kernel`.
      leaves: anything with a shape and a dtype.
      rules: in order; the first full match decides.

    Returns:
      A decision for each leaf.

    Raises:
      TypeError: a rule would prune a leaf that is not floating.
      ValueError: a rule matches no path, or only leaves that are dense by default.
    """
    decisions = []
    beside: dict[str, list[tuple[str, Any]]] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        parent, _, name = path.rpartition("/")
        beside.setdefault(parent, []).append((name, leaf))
    for path, leaf in zip(paths, leaves, strict=True):
        rule = next((rule for rule in rules if rule.matches(path)), None)
        parent, _, name = path.rpartition("/")
        reason = _dense_by_default(parent, name, leaf, beside[parent])
        if rule is not None and rule.dense is not None:
            if not rule.dense and not _is_floating(leaf):
                raise TypeError(_not_floating(rule, path, leaf))
            reason = "rule" if rule.dense else None
        decisions.append(Decision(rule, reason))
    for rule in rules:
        _check_used(rule, paths, leaves, decisions)
    return decisions


def _check_used(rule, paths, leaves, decisions):
    """Raises where a rule changes nothing, which nobody who writes one means."""
    if not any(rule.matches(path) for path in paths):
        some = ", ".join(list(paths)[:8]) + (", ..." if len(paths) > 8 else "")
        raise ValueError(
            f"{rule} matches no leaf. A rule is a regular expression for a whole path; the paths "
            f"are {some or 'none'}."
        )
    own = [i for i, decision in enumerate(decisions) if decision.rule is rule]
    if rule.dense is None and own and all(decisions[i].dense for i in own):
        path, leaf = paths[own[0]], leaves[own[0]]
        if not _is_floating(leaf):
            raise TypeError(_not_floating(rule, path, leaf))
        raise ValueError(
            f"{rule} matches only leaves that are dense by default: {path} "
            f"({decisions[own[0]].dense}). Say dense=False to prune them."
        )


def _not_floating(rule, path, leaf):
    return (
        f"{rule} would prune {path}, whose dtype is {_dtype(leaf)}; only real floating leaves can "
        f"be pruned. Narrow the path, or put Rule({path!r}, dense=True) first."
    )


def _dtype(leaf):
    return getattr(leaf, "dtype", type(leaf).__name__)


def _is_floating(leaf):
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def _dense_by_default(parent, name, leaf, neighbours) -> str | None:
    """Why a leaf is dense if no rule names it; None: it is prunable."""
    if not _is_floating(leaf):
        return f"not floating: {_dtype(leaf)}"
    shape = tuple(leaf.shape)
    if sum(n > 1 for n in shape) < 2:
        return "one axis"
    module = parent.rpartition("/")[2]
    names = {other for other, _ in neighbours}
    if _is_bias(name, names):
        return "bias, by name"
    if _NORM.fullmatch(name):
        return "norm, by name"
    if _TABLE.fullmatch(name):
        return "table, by name"
    biases = [tuple(x.shape) for other, x in neighbours if _is_bias(other, names)]
    if not name.endswith("kernel"):
        if not any(_less_an_axis(bias, shape) for bias in biases):
            if _NORM_MODULE.fullmatch(module):
                return "norm, by module"
            if _TABLE_MODULE.fullmatch(module):
                return "table, by module"
        if shape in biases:
            return "shape of the bias beside it"
    if not _WEIGHT.fullmatch(name):
        for other, x in neighbours:
            if _is_floating(x) and _less_an_axis(shape, tuple(x.shape), first=1):
                return f"shape of {other} less an axis"
    return None


def _is_bias(name, beside):
    """By name; a single b, perhaps numbered, only beside a w."""
    return _BIAS.fullmatch(name) or (re.fullmatch(r"b\d*", name) and f"w{name[1:]}" in beside)


def _less_an_axis(shape, whole, first=0):
    """Whether `shape` is `whole` without one of its axes, from `first` on."""
    return any(whole[:axis] + whole[axis + 1 :] == shape for axis in range(first, len(whole)))
