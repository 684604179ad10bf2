"""Which weights of a layer go together, and which of them are kept."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxprune.select import top_k_mask, top_n_of_m


@dataclasses.dataclass(frozen=True)
class Cut:
    """Which weights of W [inputs, outputs] live or die together; static.

    Args:
      rows, columns: a unit is a block of `rows` consecutive inputs and `columns` consecutive
        outputs. 1 and 1 are single weights.
      nm: (n, m) keeps exactly n of every m consecutive inputs of each output; None does not.

    Raises:
      TypeError: a number is not whole.
      ValueError: a number is out of range, or nm is given with blocks.

    Example:
      >>> from jaxprune.oneshot import cores
      >>> cores.Cut(rows=4, columns=2).num_units((8, 6))
      6

    References:
      Mishra et al., Accelerating sparse deep neural networks, arXiv 2104.08378, for N:M.
    """

    rows: int = 1
    columns: int = 1
    nm: tuple[int, int] | None = None

    def __post_init__(self):
        numbers = {"rows": self.rows, "columns": self.columns}
        if self.nm is not None:
            if not isinstance(self.nm, tuple) or len(self.nm) != 2:
                raise TypeError(f"Cut: nm={self.nm!r} must be a tuple (n, m), such as (2, 4).")
            numbers |= dict(zip("nm", self.nm, strict=True))
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"Cut: {name}={value!r} must be a whole number.")
            if value < 1:
                raise ValueError(f"Cut: {name}={value} must be at least 1.")
        if self.nm is not None and self.nm[0] > self.nm[1]:
            raise ValueError(f"Cut: nm={self.nm}: keep n of every m with 1 <= n <= m.")
        if self.nm is not None and (self.rows, self.columns) != (1, 1):
            raise ValueError(
                f"Cut: nm={self.nm} with rows={self.rows}, columns={self.columns}; leave one out."
            )

    @property
    def height(self) -> int:
        """How many consecutive inputs belong together: `rows`, or m."""
        return self.rows if self.nm is None else self.nm[1]

    def grid(self, shape) -> tuple[int, int]:
        """How many units there are along inputs and along outputs.

        Raises:
          ValueError: they do not divide the shape.
        """
        inputs, outputs = shape
        if inputs % self.height or outputs % self.columns:
            what = (
                f"rows={self.rows}, columns={self.columns}"
                if self.nm is None
                else f"m={self.height}"
            )
            raise ValueError(
                f"Cut: {what} must divide W of shape {tuple(shape)}, [inputs, outputs]; choose "
                "others, or pad W and H."
            )
        return inputs // self.rows, outputs // self.columns

    def num_units(self, shape) -> int:
        """How many units W of this shape has. With nm each weight is one.

        Raises:
          ValueError: they do not divide the shape.
        """
        along_inputs, along_outputs = self.grid(shape)
        return along_inputs * along_outputs

    def sums(self, scores):
        """The sum of the scores of each unit, [units along inputs, units along outputs]."""
        a, b = self.grid(scores.shape)
        return scores.reshape(a, self.rows, b, self.columns).sum((1, 3))

    def expand(self, units):
        """Every weight of a unit has the unit's value."""
        return jnp.repeat(jnp.repeat(units, self.rows, axis=0), self.columns, axis=1)


def checked_keep(keep, cut: Cut, shape):
    """How many units to keep, clipped to what there is; 0 where `cut` fixes the number.

    Raises:
      TypeError: `keep` is no integer.
      ValueError: `cut` does not fit the shape.
    """
    most = cut.num_units(shape)
    if cut.nm is not None:
        return jnp.int32(0)
    keep = jnp.asarray(keep)
    if keep.ndim or not jnp.issubdtype(keep.dtype, jnp.integer):
        raise TypeError(
            f"keep must be a whole number of units, not {keep.dtype}{list(keep.shape)}; for a "
            "sparsity s give round(cut.num_units(shape) * (1 - s))."
        )
    return jnp.clip(keep.astype(jnp.promote_types(keep.dtype, jnp.int32)), 0, most)


def choose(scores: jax.Array, keep, cut: Cut) -> jax.Array:
    """Keeps exactly `keep` units: those with the highest sums of scores.

    Args:
      scores: float [inputs, outputs]; higher = keep. A unit with a NaN ranks lowest.
      keep: how many units, an integer or int32 scalar (it may be traced), clipped to what there
        is. Of equal sums the lower flat index is kept. Unused where `cut` has nm, which fixes the
        number.
      cut: what a unit is.

    Returns:
      bool [inputs, outputs], True = keep.

    Raises:
      TypeError: scores are not floats, or `keep` is no integer.
      ValueError: `cut` does not fit the shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.oneshot import cores
      >>> scores = jnp.array([[1.0, 4.0], [5.0, 3.0]])
      >>> cores.choose(scores, 1, cores.Cut(rows=2)).tolist()  # 6 and 7
      [[False, True], [False, True]]
    """
    return _ranked(scores, keep, cut, top_k_mask)


def choose_per_output(scores: jax.Array, keep, cut: Cut) -> jax.Array:
    """Keeps exactly `keep` units, equally many in each output: the comparison group of Wanda.

    Args:
      scores, keep, cut: as in `choose`. Where the outputs (or the groups of `columns` outputs) do
        not divide `keep`, the first ones keep one more.

    Returns:
      bool [inputs, outputs], True = keep.

    Raises:
      TypeError, ValueError: as `choose`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.oneshot import cores
      >>> scores = jnp.array([[1.0, 4.0], [2.0, 3.0]])
      >>> cores.choose_per_output(scores, 2, cores.Cut()).tolist()
      [[False, True], [True, False]]

    References:
      Sun et al., A simple and effective pruning approach for large language models, arXiv
      2306.11695.
    """

    def rank(sums, keep):
        each, more = jnp.divmod(keep, sums.shape[1])
        each = each + (jnp.arange(sums.shape[1]) < more)
        return jax.vmap(top_k_mask, (1, 0), 1)(sums, each)

    return _ranked(scores, keep, cut, rank)


def _ranked(scores, keep, cut: Cut, rank):
    """The mask of what `rank(sums of units, keep)` keeps; n of every m where the cut says so."""
    scores = jnp.asarray(scores)
    keep = checked_keep(keep, cut, scores.shape)
    if cut.nm is not None:
        return top_n_of_m(scores, *cut.nm, axis=0)
    return cut.expand(rank(cut.sums(scores), keep))


def magnitude(W: jax.Array, keep, cut: Cut) -> jax.Array:
    """Keeps the largest weights: scores |W|.

    Args:
      W: [inputs, outputs].
      keep, cut: as in `choose`.

    Returns:
      bool [inputs, outputs], True = keep.

    Raises:
      TypeError, ValueError: as `choose`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.oneshot import cores
      >>> cores.magnitude(jnp.array([[1.0], [-2.0]]), 1, cores.Cut()).tolist()
      [[False], [True]]

    References:
      Han et al., Learning both weights and connections, arXiv 1506.02626.
    """
    return choose(jnp.abs(_wide(W)), keep, cut)


def wanda(W: jax.Array, squares: jax.Array, keep, cut: Cut) -> jax.Array:
    """Keeps what weighs most in its output: scores |W_ij| * ||X_i||_2, ranked per output.

    Args:
      W: [inputs, outputs], the transpose of the paper's.
      squares: [inputs], sums of squares of each input: diag(X^T X), at any scale.
      keep, cut: as in `choose_per_output`.

    Returns:
      bool [inputs, outputs], True = keep. Kept weights are not moved.

    Raises:
      TypeError: dtypes do not fit.
      ValueError: shapes or `cut` do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.oneshot import cores
      >>> cores.wanda(jnp.array([[1.0], [-2.0]]), jnp.array([9.0, 1.0]), 1, cores.Cut()).tolist()
      [[True], [False]]

    References:
      Sun et al., A simple and effective pruning approach for large language models, arXiv
      2306.11695.
    """
    W, squares = _wide(W), _wide(squares)
    if squares.shape != W.shape[:1]:
        raise ValueError(
            f"squares has shape {squares.shape} for W of shape {W.shape}; give one for each input."
        )
    return choose_per_output(jnp.abs(W) * jnp.sqrt(squares)[:, None], keep, cut)


def _wide(x):
    """Scores are at least float32."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
