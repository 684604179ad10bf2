"""Which leaves are pruned if nobody says anything, and how rules say otherwise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from jaxprune import NM, Rule, masks
from jaxprune._tree import flatten
from jaxprune.rules import decide

KEY = jax.random.key(0)


def arrays(tree):
    """Shapes as arrays' descriptions: {"w": (2, 3)} -> {"w": ShapeDtypeStruct}."""
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        tree,
        is_leaf=lambda x: isinstance(x, tuple) and all(isinstance(n, int) for n in x),
    )


def pruned(tree, rules=()):
    """Paths of what is pruned."""
    paths, leaves, _ = flatten(tree)
    decisions = decide(paths, leaves, rules)
    return {path for path, d in zip(paths, decisions, strict=True) if d.dense is None}


def shapes(module, *args):
    return jax.eval_shape(lambda: module.init(KEY, *args))["params"]


# --- the default, by names and shapes ------------------------------------------------------------

# tree -> the paths that an expert would prune
TABLE = {
    "gemma 2 and 3: gating is (2, hidden, features)": (
        {"mlp": {"gating_einsum": (2, 32, 16), "linear": (32, 16)}},
        "mlp/gating_einsum mlp/linear",
    ),
    "packed projections": ({"qkv": (3, 16, 16), "proj": (16, 16)}, "qkv proj"),
    "shared expert": ({"experts": (4, 16, 32), "shared": (16, 32)}, "experts shared"),
    "two matrices": ({"a": (4, 4), "b": (4, 4)}, "a b"),
    "A and B": ({"A": (16, 4), "B": (4, 16)}, "A B"),
    "mingpt in equinox": ({"tok_emb": {"weight": (50, 16)}}, ""),
    "emb": ({"emb": {"weight": (50, 16)}}, ""),
    "vmapped equinox embedding": ({"embed": {"weight": (3, 50, 16)}}, ""),
    "norms as leaves, stacked": (
        {"norm": (3, 16), "ln1": (3, 16), "input_layernorm": (3, 16), "attn": {"wq": (3, 9, 9)}},
        "attn/wq",
    ),
    "rms, stacked": ({"rms": {"weight": (3, 16)}}, ""),
    "biases apart from their weights": ({"b_in": (3, 16), "w": {"x": (3, 9, 9)}}, "w/x"),
    "mamba": ({"A_log": (16, 4), "in_proj": {"kernel": (8, 32)}}, "in_proj/kernel"),
    "learned queries": ({"latents": (32, 16), "queries": (10, 16), "codebook": (32, 16)}, ""),
    "positions": ({"position_encoding": {"weight": (8, 16)}, "pe": (32, 16)}, ""),
    "transformer engine": (
        {"LayerNormMLP_0": {"wi_kernel": (16, 2, 32), "wo_kernel": (32, 16), "scale": (16,)}},
        "LayerNormMLP_0/wi_kernel LayerNormMLP_0/wo_kernel",
    ),
    "a linear layer that embeds": (
        {"embed_in": {"weight": (16, 8), "bias": (16,)}},
        "embed_in/weight",
    ),
    "haiku linear that embeds": (
        {"prev_pos_linear": {"w": (15, 9), "b": (9,)}},
        "prev_pos_linear/w",
    ),
    "normals": ({"normal_head": {"weight": (3, 16), "bias": (3,)}}, "normal_head/weight"),
    "raw dict": ({"w1": (4, 8), "b1": (8,), "w2": (8, 3), "b2": (3,)}, "w1 w2"),
    "raw list": ([((4, 8), (8,)), ((8, 3), (3,))], "0/0 1/0"),
    "raw list of weights": ([(4, 8), (8, 3)], "0 1"),
    "list, conv and dense": ([(3, 3, 8, 16), (16, 16)], "0 1"),
    "stacked": ({"w": (3, 4, 5), "b": (3, 5)}, "w"),
    "stacked list": ([((3, 4, 5), (3, 5))], "0/0"),
    "ensemble of stacks": ({"w": (2, 3, 4, 5), "b": (2, 3, 5), "scale": (2, 3, 5)}, "w"),
    "haiku": (
        {
            "mlp/~/linear_0": {"w": (4, 5), "b": (5,)},
            "layer_norm": {"scale": (5,), "offset": (5,)},
            "batch_norm": {"scale": (1, 1, 1, 5), "offset": (1, 1, 1, 5)},
            "embed": {"embeddings": (20, 8)},
            "conv2_d": {"w": (3, 3, 4, 5), "b": (5,)},
            "lstm/linear": {"w": (9, 20), "b": (20,)},
        },
        "mlp/~/linear_0/w conv2_d/w lstm/linear/w",
    ),
    "haiku layer_stack": (
        {"block": {"linear": {"w": (3, 4, 5), "b": (3, 5)}, "norm": {"scale": (3, 5)}}},
        "block/linear/w",
    ),
    "gpt": (
        {
            "wte": (50, 16),
            "wpe": (8, 16),
            "h": [
                {
                    "attn": {"c_attn": {"w": (16, 48), "b": (48,)}},
                    "ln_1": {"g": (16,), "b": (16,)},
                }
            ],
            "ln_f": {"g": (16,), "b": (16,)},
        },
        "h/0/attn/c_attn/w",
    ),
    "gpt stacked": (
        {
            "wte": {"weight": (50, 16)},
            "h": {
                "attn": {"weight": (3, 16, 48), "bias": (3, 48)},
                "ln_1": {"weight": (3, 16), "bias": (3, 16)},
            },
            "lm_head": {"kernel": (16, 50)},
        },
        "h/attn/weight lm_head/kernel",
    ),
    "llama": (
        {
            "tok_embeddings": {"weight": (50, 16)},
            "layers": {
                "wq": (3, 16, 16),
                "attention_norm": (3, 16),
                "ffn_norm": {"weight": (3, 16)},
                "w1": (3, 16, 32),
            },
            "output": {"weight": (50, 16)},
        },
        "layers/wq layers/w1 output/weight",
    ),
    "vit": (
        {
            "cls_token": (1, 1, 16),
            "mask_token": (1, 1, 16),
            "register_tokens": (1, 4, 16),
            "pos_embed": (1, 5, 16),
            "patch_embed": {"proj": {"kernel": (4, 4, 3, 16), "bias": (16,)}},
            "head": {"kernel": (16, 10), "bias": (10,)},
        },
        "patch_embed/proj/kernel head/kernel",
    ),
    "patch embedding, itself": (
        {"patch_embed": {"weight": (16, 3, 4, 4), "bias": (16, 1, 1)}},
        "patch_embed/weight",
    ),
    "position tables": (
        {
            "relative_position_bias_table": (169, 4),
            "rel_pos_h": (13, 8),
            "positional_embedding": (8, 16),
            "relpos_bias": {"rel_embedding": (4, 32)},
            "pos_emb": {"weight": (8, 16)},
            "pos": (8, 16),
        },
        "",
    ),
    "clip": ({"logit_scale": (), "text_projection": (16, 16)}, "text_projection"),
    "attention, heads apart": (
        {"W_Q": (4, 16, 8), "b_Q": (4, 8), "W_O": (4, 8, 16), "b_O": (16,)},
        "W_Q W_O",
    ),
    "attention, heads last": ({"wq": (16, 4, 8), "bq": (4, 8), "wo": (4, 8, 16)}, "wq wo"),
    "experts": ({"wi": (4, 16, 32), "bi": (4, 32), "wo": (4, 32, 16)}, "wi wo"),
    "torch lstm": (
        {"weight_ih_l0": (32, 8), "weight_hh_l0": (32, 8), "bias_ih_l0": (32,)},
        "weight_ih_l0 weight_hh_l0",
    ),
    "weight norm": ({"linear": {"g": (3, 5), "v": (3, 4, 5)}}, "linear/v"),
    "lora": ({"kernel": (16, 16), "lora_a": (16, 4), "lora_b": (4, 16)}, "kernel lora_a lora_b"),
    "layer scale": ({"gamma": (3, 16), "layer_scale": (3, 16)}, ""),
    "one long axis": ({"head": {"kernel": (16, 1)}, "conv": {"kernel": (1, 1, 1, 9)}}, ""),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_default_by_names_and_shapes(name):
    tree, expected = TABLE[name]
    assert pruned(arrays(tree)) == set(expected.split())


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64", "uint8"])
def test_only_real_floating_leaves(dtype):
    params = {"kernel": jax.ShapeDtypeStruct((4, 4), dtype), "rng": KEY, "step": 3, "f": jnp.sin}
    assert pruned(params) == set()
    with pytest.raises(TypeError, match=f"would prune kernel, whose dtype is {dtype}"):
        pruned(params, [Rule("kernel")])


# --- the default, of real models -----------------------------------------------------------------


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(4, normalize_qk=True, name="attn")(y, y)
        y = nn.RMSNorm()(x)
        return x + nn.Dense(16, name="out")(nn.gelu(nn.Dense(32, name="in")(y))), None


class ViT(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (4, 4), (4, 4), name="patch_embed")(x)
        x = x.reshape(x.shape[0], -1, 16)
        x = x + self.param("pos_embedding", nn.initializers.zeros, (1, 4, 16))
        cls = self.param("cls", nn.initializers.zeros, (1, 1, 16))
        x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, 16)), x], 1)
        stack = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = stack(name="layers")(x, None)
        x = nn.BatchNorm(use_running_average=False)(x)
        return nn.Dense(10, name="head")(x[:, 0])


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(50, 16, name="wte")(tokens) + nn.Embed(8, 16, name="wpe")(jnp.arange(8)[None])
        x = nn.RNN(nn.OptimizedLSTMCell(16), name="lstm")(x)
        x = nn.WeightNorm(nn.Dense(16))(x)
        x = nn.DenseGeneral((4, 4), name="split")(x)
        return nn.GroupNorm(4)(nn.Einsum((4, 4, 16), "...hd,hdf->...f", name="join")(x))


def test_linen_vit_scanned():
    attention = {f"layers/attn/{name}/kernel" for name in ("query", "key", "value", "out")}
    rest = {"patch_embed/kernel", "head/kernel", "layers/in/kernel", "layers/out/kernel"}
    assert pruned(shapes(ViT(), jnp.ones((2, 8, 8, 3)))) == attention | rest


def test_linen_recurrent():
    found = pruned(shapes(Recurrent(), jnp.ones((2, 8), int)))
    gates = {path for path in found if path.startswith("OptimizedLSTMCell_0/")}
    assert len(gates) == 8
    assert all(path.endswith("/kernel") for path in gates)
    assert found - gates == {"Dense_0/kernel", "split/kernel", "join/kernel"}


@pytest.mark.parametrize(
    ("layer", "x", "expected"),
    [
        (lambda m: m(nn.Dense)(7), jnp.ones((2, 4)), {"kernel"}),
        (lambda m: m(nn.LayerNorm)(), jnp.ones((2, 4)), set()),
        (lambda m: m(nn.Embed)(7, 4), jnp.ones(2, int), set()),
        (lambda m: m(nn.Conv)(8, (3, 3)), jnp.ones((1, 8, 8, 3)), {"kernel"}),
        (lambda m: m(nn.ConvLocal)(8, (3, 3)), jnp.ones((1, 8, 8, 3)), {"kernel"}),
    ],
    ids=["dense", "norm", "embed", "conv", "local"],
)
def test_linen_ensembles(layer, x, expected):
    def many(module):
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "in_axes": None}
        return nn.vmap(module, out_axes=0, axis_size=5, **axes)

    assert pruned(shapes(layer(many), x)) == expected


class Everything(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.bn = nnx.BatchNorm(8, rngs=rngs)
        self.ln = nnx.LayerNorm(8, rngs=rngs)
        self.attn = nnx.MultiHeadAttention(4, 16, rngs=rngs, decode=False)
        self.embed = nnx.Embed(20, 16, rngs=rngs)
        self.linear = nnx.Linear(16, 8, rngs=rngs)
        self.split = nnx.LinearGeneral(8, (2, 4), rngs=rngs)
        self.lora = nnx.LoRA(16, 4, 16, rngs=rngs)
        self.cell = nnx.LSTMCell(8, 8, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.pos = nnx.Param(jnp.zeros((8, 16)))


def test_nnx():
    state = nnx.state(nnx.eval_shape(lambda: Everything(nnx.Rngs(0))))
    found = pruned(state)
    cell = {path for path in found if path.startswith("cell/")}
    assert len(cell) == 8
    attention = {f"attn/{name}/kernel" for name in ("query", "key", "value", "out")}
    rest = {"conv/kernel", "linear/kernel", "split/kernel", "lora/lora_a", "lora/lora_b"}
    assert found - cell == attention | rest


def test_nnx_stacked():
    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def stack(rngs):
        return nnx.Dict(ln=nnx.LayerNorm(8, rngs=rngs), linear=nnx.Linear(4, 8, rngs=rngs))

    state = nnx.state(nnx.eval_shape(lambda: stack(nnx.Rngs(0))))
    assert pruned(state) == {"linear/kernel"}


def equinox_model(key):
    return {
        "linear": eqx.nn.Linear(8, 4, key=key),
        "conv": eqx.nn.Conv2d(3, 8, 3, key=key),
        "up": eqx.nn.ConvTranspose1d(3, 8, 3, key=key),
        "attn": eqx.nn.MultiheadAttention(4, 16, use_query_bias=True, key=key),
        "ln": eqx.nn.LayerNorm(8),
        "rms": eqx.nn.RMSNorm(8),
        "gn": eqx.nn.GroupNorm(2, 8),
        "blocks": [eqx.nn.LayerNorm(8), eqx.nn.Linear(8, 8, key=key)],
        "mlp": eqx.nn.MLP(8, 8, 8, 1, key=key),
        "lstm": eqx.nn.LSTMCell(8, 8, key=key),
        "gru": eqx.nn.GRUCell(8, 8, key=key),
        "pos": jnp.zeros((8, 16)),
    }


EQUINOX = {
    *("linear/weight", "conv/weight", "up/weight", "blocks/1/weight"),
    *(f"attn/{name}_proj/weight" for name in ("query", "key", "value", "output")),
    *("mlp/layers/0/weight", "mlp/layers/1/weight"),
    *(f"{cell}/weight_{gate}" for cell in ("lstm", "gru") for gate in ("ih", "hh")),
}


def test_equinox():
    model = eqx.filter_eval_shape(equinox_model, KEY)
    assert pruned(model) == EQUINOX
    assert pruned({"tok_embed": eqx.nn.Embedding(9, 4, key=KEY), "pos": jnp.ones((9, 4))}) == set()


def test_equinox_stacked():
    keys = jax.random.split(KEY, 3)
    model = eqx.filter_eval_shape(eqx.filter_vmap(equinox_model), keys)
    assert pruned(model) == EQUINOX


# --- rules --------------------------------------------------------------------------------------

PARAMS = arrays({"enc": {"kernel": (4, 8), "bias": (8,)}, "dec": {"kernel": (8, 4), "bias": (4,)}})


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], "enc/kernel dec/kernel"),
        ([Rule("enc/.*", dense=True)], "dec/kernel"),
        ([Rule(".*/bias", dense=False)], "enc/kernel dec/kernel enc/bias dec/bias"),
        (
            [Rule("enc/bias", dense=False), Rule(".*/bias", dense=True)],
            "enc/kernel dec/kernel enc/bias",
        ),
        ([Rule(".*/bias", dense=True), Rule("enc/bias", dense=False)], "enc/kernel dec/kernel"),
        ([Rule(".*", dense=True), Rule("enc/.*")], ""),
        ([Rule("enc/.*")], "enc/kernel dec/kernel"),
        ([Rule("(enc|dec)/kernel", dense=True)], ""),
    ],
)
def test_the_first_full_match_decides(rules, expected):
    assert pruned(PARAMS, rules) == set(expected.split())


@pytest.mark.parametrize(
    "path", ["enc", "kernel", "enc/kern", "nc/kernel", "enc/kernel/", "ENC/.*"]
)
def test_a_match_is_of_the_whole_path(path):
    with pytest.raises(ValueError, match=r"matches no leaf.*paths are dec/bias, dec/kernel, enc/"):
        pruned(PARAMS, [Rule(path)])


def test_paths_of_every_kind_of_node():
    class Pair(eqx.Module):
        left: jax.Array
        right: list

    w = jnp.ones((2, 2))
    tree = {"a": Pair(w, [w, {"x": w}]), 3: (w,), "m/n": w}
    tree = {str(k): v for k, v in tree.items()}
    assert pruned(tree) == {"a/left", "a/right/0", "a/right/1/x", "3/0", "m/n"}


def test_an_attribute_called_value_is_part_of_the_path():
    class Projections(eqx.Module):
        query: jax.Array
        key: jax.Array
        value: jax.Array

    w = jnp.ones((2, 2))
    tree = {"attn": Projections(w, w, w)}
    assert pruned(tree) == {"attn/query", "attn/key", "attn/value"}


def test_what_a_rule_leaves_open_comes_from_the_arguments():
    w = np.arange(32, dtype=np.float32).reshape(8, 4)
    params = {"enc": {"kernel": w}, "dec": {"kernel": w}}
    rules = [Rule("dec/.*", sparsity=0.75)]
    made = masks.make(params, 0.5, pattern=NM(2, 4), rules=rules)
    for name, kept in [("enc", 16), ("dec", 8)]:
        mask = np.asarray(made[name]["kernel"])
        assert mask.sum() == kept
        assert mask.reshape(2, 4, 4).sum(1).max() <= 2


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Rule(3), TypeError, "path=3 must be a regular expression"),
        (lambda: Rule("(enc"), ValueError, r"path='\(enc' is not a regular expression"),
        (lambda: Rule("a", dense=1), TypeError, "dense=1 must be True or False"),
        (lambda: Rule("a", dense=True, sparsity=0.5), ValueError, "leaves no use for sparsity"),
        (lambda: Rule("a", dense=True, pattern=NM(2, 4)), ValueError, "no use for pattern"),
        (lambda: Rule("a", sparsity=1.0), ValueError, r"sparsity=1.0 for Rule\('a'\)"),
        (lambda: Rule("a", sparsity=True), TypeError, "sparsity=True"),
        (lambda: Rule("a", min_sparsity=-1), ValueError, r"min_sparsity=-1 for Rule\('a'\)"),
        (lambda: Rule("a", max_sparsity="1"), TypeError, "max_sparsity='1'"),
    ],
)
def test_no_rule(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_a_float32_in_a_rule_is_its_decimal():
    assert Rule("a", sparsity=np.float32(0.9)).sparsity == 0.9


def test_a_rule_for_leaves_that_are_dense_by_default_says_so():
    with pytest.raises(ValueError, match=r"enc/bias \(one axis\).*dense=False"):
        pruned(PARAMS, [Rule("enc/bias", sparsity=0.5)])
