"""Compiled functions in files: StableHLO by `jax.export`."""

import os
from collections.abc import Sequence

import jax
from jax import export as jax_export

from jaxprune.export import _atomic


def save_function(path, function, *args, shapes=None, platforms: Sequence[str] | None = None):
    """Writes a function, lowered for arguments of given shapes, to one file.

    Params that are an argument stay out of the file: the program takes kilobytes, and `save` stores
    the weights. Who wants one file binds them: `functools.partial(function, params)` bakes them
    in, dense. The file is replaced as a whole or not at all.

    Args:
      path: of the file.
      function: of `args`, traceable; jitted or not.
      args: pytrees of arrays or ShapeDtypeStructs, of which shapes and dtypes are used. Nodes are
        dicts with string keys, lists, tuples and what was registered with
        `jax.export.register_pytree_node_serialization`.
      shapes: for each of `args` None, or what `jax.export.symbolic_args_specs` takes: a string
        such as "batch, ..." for an argument whose first axis can have any length.
      platforms: to lower for, such as ("cpu", "cuda", "tpu"); None is where this runs.

    Raises:
      ImportError: flatbuffers is not installed.
      OSError: the file cannot be written.
      ValueError: `shapes` has another length than `args`; a node of the arguments or of the result
        cannot be stored.

    Example:
      >>> import os
      >>> import jax.numpy as jnp
      >>> from jaxprune import export
      >>> w, x = jnp.array([[1.0], [2.0]]), jnp.ones((1, 2))
      >>> export.save_function("f.bin", lambda w, x: x @ w, w, x, shapes=(None, "batch, ..."))
      >>> export.load_function("f.bin")(w, jnp.ones((3, 2))).shape
      (3, 1)
      >>> os.remove("f.bin")
    """
    if shapes is not None:
        if len(shapes) != len(args):
            raise ValueError(
                f"save_function: shapes has {len(shapes)} entries for {len(args)} arguments; give "
                "one for each, None for those of fixed shape."
            )
        args = jax_export.symbolic_args_specs(args, tuple(shapes))
    jitted = function if hasattr(function, "lower") else jax.jit(function)
    exported = jax_export.export(jitted, platforms=platforms)(*args)
    try:
        data = exported.serialize()
    except ImportError as error:
        raise _missing("save_function", error) from error
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"save_function: the arguments or the result of {exported.fun_name} cannot be stored: "
            f"{error} Use dicts with string keys, lists and tuples."
        ) from error
    with _atomic.replaced(path) as stream:
        stream.write(data)


def load_function(path):
    """The function that `save_function` wrote.

    A file of a function is a program: call only what you trust. Files of `load` are data.

    Args:
      path: of the file.

    Returns:
      A function of the same arguments, for use under jit or not, on the platforms it was lowered
      for. It cannot be differentiated.

    Raises:
      ImportError: flatbuffers is not installed.
      OSError: the file cannot be read.
      ValueError: it holds no function.

    Example:
      >>> import os
      >>> import jax.numpy as jnp
      >>> from jaxprune import export
      >>> export.save_function("f.bin", jnp.sin, jnp.zeros(2))
      >>> export.load_function("f.bin")(jnp.zeros(2))
      Array([0., 0.], dtype=float32)
      >>> os.remove("f.bin")
    """
    with open(path, "rb") as stream:
        data = bytearray(stream.read())
    try:
        exported = jax_export.deserialize(data)
    except ImportError as error:
        raise _missing("load_function", error) from error
    except Exception as error:  # whatever a parser of FlatBuffers says of bytes that are none
        raise ValueError(f"{os.fspath(path)}: it holds no function of save_function.") from error
    return exported.call


def _missing(what, error) -> ImportError:
    return ImportError(
        f"{what} needs flatbuffers; install it with: pip install 'jaxprune[export]'",
        name=error.name,
    )
