"""Where arrays lie: results placed as the parameters that they belong to.

Where mesh axes are automatic the compiler cuts every operation. Where they are in the types
(`AxisType.Explicit`), operations that rearrange an axis ask for the placement of their result. It
is that of a parameter throughout, so they run with automatic axes and only results are declared.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def explicit(x) -> NamedSharding | None:
    """The sharding in the type of an array, or None where the compiler decides on it."""
    sharding = getattr(jax.typeof(x), "sharding", None)
    if sharding is None or AxisType.Explicit not in getattr(sharding.mesh, "axis_types", ()):
        return None
    return sharding


def num_devices() -> int:
    """How many devices an array may be cut over: those of the mesh, or all."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.device_count() if mesh.empty else mesh.size


def with_auto_axes(function, *args, like, fit=lambda sharding: sharding):
    """`function(*args)`, a list of results with one for each array of `like`, placed as those.

    Args:
      function: whose axes may be cut by the compiler.
      args: its arguments.
      like: arrays.
      fit: from the sharding of an array of `like` to that of its result.
    """
    shardings = [explicit(x) for x in like]
    mesh = next((s.mesh for s in shardings if s is not None), None)
    if mesh is None:
        return function(*args)
    everywhere = NamedSharding(mesh, PartitionSpec())
    declared = [everywhere if s is None else fit(s) for s in shardings]
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    axes = tuple(name for name, kind in kinds if kind == AxisType.Explicit)
    return jax.sharding.auto_axes(function, axes=axes, out_sharding=declared)(*args)


def num_parts(sharding: NamedSharding, axis: int) -> int:
    """Over how many devices an axis is cut."""
    names = sharding.spec[axis] if axis < len(sharding.spec) else None
    names = (names,) if isinstance(names, str) else names or ()
    parts = 1
    for name in names:
        parts *= sharding.mesh.shape[name]
    return parts


def cut_if_divisible(sharding: NamedSharding, axis: int, length: int) -> NamedSharding:
    """The same where its devices divide the length of an axis, else with that axis on all."""
    if length % num_parts(sharding, axis) == 0:
        return sharding
    spec = [None if i == axis else names for i, names in enumerate(sharding.spec)]
    return NamedSharding(sharding.mesh, PartitionSpec(*spec))


def varying_as(tree, like):
    """A tree of arrays, in the types as different between devices of a `shard_map` as `like` is."""
    axes = frozenset().union(*(_varying(x) for x in jax.tree.leaves(like)))

    def cast(x):
        missing = tuple(sorted(axes - _varying(x)))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(cast, tree) if axes else tree


def _varying(x) -> frozenset:
    return jax.typeof(x).manual_axis_type.varying


def placed_as(mask, w):
    """A mask, for the compiler bound to be cut as `w` is: the two meet in one operation."""
    never = lax.optimization_barrier(jnp.zeros((), bool))
    return jnp.where(never, w != w, mask)
