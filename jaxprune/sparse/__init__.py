"""Block-sparse execution: matrices as the blocks that are kept, and products of these alone."""

from jaxprune.sparse._apply import sparse_apply as sparse_apply
from jaxprune.sparse._block_ell import BlockELL as BlockELL
from jaxprune.sparse._block_ell import Matrix as Matrix
from jaxprune.sparse._convert import to_blocks as to_blocks
from jaxprune.sparse._convert import to_dense as to_dense

__all__ = ["BlockELL", "Matrix", "sparse_apply", "to_blocks", "to_dense"]
