"""A sentence encoder under the names of Hugging Face, pruned in one shot by each method.

    python examples/oneshot_encoder.py                  # trains a small one first, then loads it
    python examples/oneshot_encoder.py --weights model.safetensors --vocab vocab.txt
    python examples/oneshot_encoder.py --weights model.safetensors --sparsity 0.7

The small one learns to tell which two halves of a window's bytes belong together.

--weights takes any encoder of BERT's kind: `encoder.layer.0.attention.self.query.weight` and so on,
with or without `bert.` before it. --vocab needs `pip install tokenizers`; without it tokens are
bytes.

The text is sentences in docstrings of the Python standard library; those of every tenth file are
held out. What pruning does is measured by their embeddings, the mean over tokens: the mean cosine
between those of the dense and of the pruned network, and how often the dense embedding that is
nearest to a pruned one is of the same sentence. Figures (results.json) and a plot (cosines.png) go
to --out.
"""

import argparse
import ast
import functools
import json
import pathlib
import re
import sysconfig

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from rich.console import Console
from rich.table import Table
from safetensors.flax import load_file, save_file
from tqdm import tqdm

from jaxprune import oneshot
from jaxprune.analysis import plots

CONTEXT = 64  # tokens
BATCH = 32
TEMPERATURE = 0.05
PAD, VOCABULARY = 0, 257  # of the encoder that is trained here; bytes are 1 to 256
UNUSED = re.compile(r"pooler\..*|cls\..*|embeddings\.position_ids")  # an embedding needs none
METHODS = {
    "magnitude": oneshot.magnitude(),
    "wanda": oneshot.wanda(),
    "sparsegpt": oneshot.sparsegpt(),
    "sparsegpt, refit": oneshot.sparsegpt(refit=True),
    "alps": oneshot.alps(),
}


class Encoder(nn.Module):
    """BERT without its heads; modules have the names that the arrays in a file have."""

    vocabulary: int
    positions: int
    types: int
    hidden: int
    inner: int
    layers: int
    heads: int

    @nn.compact
    def __call__(self, tokens, mask=None):
        linear = functools.partial(nn.Dense, kernel_init=nn.initializers.normal(0.02))
        norm = lambda name: nn.LayerNorm(epsilon=1e-12, name=f"{name}.LayerNorm")  # noqa: E731
        embed = lambda n, name: nn.Embed(n, self.hidden, name=f"embeddings.{name}")  # noqa: E731
        x = embed(self.vocabulary, "word_embeddings")(tokens)
        x += embed(self.positions, "position_embeddings")(jnp.arange(tokens.shape[-1]))[None]
        x += embed(self.types, "token_type_embeddings")(jnp.zeros_like(tokens))
        x = norm("embeddings")(x)
        mask = None if mask is None else mask[:, None, None]
        for i in range(self.layers):
            layer = f"encoder.layer.{i}"
            attention = f"{layer}.attention"
            q, k, v = (
                linear(self.hidden, name=f"{attention}.self.{name}")(x).reshape(
                    *x.shape[:-1], self.heads, -1
                )
                for name in ("query", "key", "value")
            )
            y = nn.dot_product_attention(q, k, v, mask=mask).reshape(x.shape)
            y = linear(self.hidden, name=f"{attention}.output.dense")(y)
            x = norm(f"{attention}.output")(x + y)
            y = linear(self.inner, name=f"{layer}.intermediate.dense")(x)
            y = linear(self.hidden, name=f"{layer}.output.dense")(nn.gelu(y, approximate=False))
            x = norm(f"{layer}.output")(x + y)
        return x


def stored_name(path):
    """The name in a file of the param at (module, leaf)."""
    module, leaf = path
    return f"{module}.{'bias' if leaf == 'bias' else 'weight'}"


def stored(params):
    """Name -> array, as in a file: linear layers are (outputs, inputs) there."""
    flat = flatten_dict(params).items()
    return {stored_name(path): x.T if path[-1] == "kernel" else x for path, x in flat}


def save(params, path):
    save_file({f"bert.{name}": x for name, x in stored(params).items()}, path)


def load(path, heads=None):
    """(model, params); sizes are those of the arrays.

    Args:
      path: of a safetensors file.
      heads: by default what a config.json beside the file says, else of width 64, in encoders
        narrower than 512 of width 32.

    Raises:
      ValueError: arrays are missing, of other shapes or unknown; heads do not divide the width.
    """
    found = {}
    for name, array in load_file(path).items():
        name = name.removeprefix("bert.")
        name = re.sub("gamma$", "weight", re.sub("beta$", "bias", name))  # of old files
        if not UNUSED.fullmatch(name):
            found[name] = array.astype(jnp.float32)

    def size(name, axis):
        return found[name].shape[axis] if name in found else 1  # missing ones are named below

    numbers = [int(n) for n in re.findall(r"^encoder\.layer\.(\d+)\.", "\n".join(found), re.M)]
    hidden = size("embeddings.word_embeddings.weight", 1)
    model = Encoder(
        size("embeddings.word_embeddings.weight", 0),
        size("embeddings.position_embeddings.weight", 0),
        size("embeddings.token_type_embeddings.weight", 0),
        hidden,
        size("encoder.layer.0.intermediate.dense.weight", 0),
        max(numbers, default=0) + 1,
        heads=1,  # no shape depends on it
    )
    like = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), int))["params"]
    shapes = {name: x.shape for name, x in jax.eval_shape(stored, like).items()}
    wrong = {
        "missing": shapes.keys() - found.keys(),
        "unexpected": found.keys() - shapes.keys(),
        "of another shape": {n for n in shapes if n in found and found[n].shape != shapes[n]},
    }
    if any(wrong.values()):
        text = "; ".join(f"{why}: {', '.join(sorted(n))}" for why, n in wrong.items() if n)
        raise ValueError(f"{path} is no encoder of BERT's kind; {text}.")
    if heads is None:
        config = pathlib.Path(path).with_name("config.json")
        known = json.loads(config.read_text()) if config.exists() else {}
        heads = known.get("num_attention_heads", max(hidden // (64 if hidden >= 512 else 32), 1))
    if hidden % heads:
        raise ValueError(f"{path}: {heads} heads do not divide the width, {hidden}; give --heads.")
    arrays = {path: found[stored_name(path)] for path in flatten_dict(like)}
    params = unflatten_dict({p: x.T if p[-1] == "kernel" else x for p, x in arrays.items()})
    return model.clone(heads=heads), params


def load_sentences():
    """(train, held out): sentences of docstrings; no two begin alike."""
    parts, known = ([], []), set()
    for i, file in enumerate(sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py"))):
        for node in ast.walk(ast.parse(file.read_bytes())):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            text = ast.get_docstring(node) if documented else None
            for paragraph in (text or "").split("\n\n"):
                for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
                    start = sentence[:CONTEXT].lower()
                    if re.fullmatch(r"[A-Z].{25,250}\.", sentence) and start not in known:
                        known.add(start)
                        parts[i % 10 == 0].append(sentence)
    return parts


def make_tokenizer(vocab, cased, size):
    """A function from text to numbers of tokens: WordPiece, or else bytes."""
    if vocab is None:
        return lambda text: [(byte + 1) % size for byte in text.encode()]
    try:
        from tokenizers import BertWordPieceTokenizer
    except ImportError as error:
        raise ImportError("--vocab needs tokenizers; pip install tokenizers") from error
    pieces = BertWordPieceTokenizer(str(vocab), lowercase=not cased)
    if pieces.get_vocab_size() > size:
        raise ValueError(f"{vocab} has more tokens than the weights have: {size}.")
    return lambda text: pieces.encode(text).ids


def windows_of(sentences, tokenize, context):
    """Sentences one after the other, cut into windows without padding, [windows, context]."""
    tokens = [token for sentence in sentences for token in tokenize(sentence)]
    return np.array(tokens[: len(tokens) // context * context]).reshape(-1, context)


def padded(sentences, tokenize, context):
    """(tokens, mask): a row for each sentence."""
    rows = [tokenize(sentence)[:context] for sentence in sentences]
    lengths = np.array([len(row) for row in rows])
    tokens = np.array([row + [PAD] * (context - len(row)) for row in rows])
    return tokens, np.arange(context) < lengths[:, None]


def embed(model, params, tokens, mask):
    """Means over tokens, of unit length, [sentences, width]."""
    mean = jnp.mean(model.apply({"params": params}, tokens, mask), 1, where=mask[..., None])
    return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)


def train(windows, width, layers, steps):
    """Params of an encoder that knows a window again by another half of its bytes."""
    model = Encoder(VOCABULARY, CONTEXT, 1, width, 4 * width, layers, width // 32)
    params = model.init(jax.random.key(0), windows[:1])["params"]
    rate = optax.warmup_cosine_decay_schedule(0, 5e-4, steps // 10, steps)
    tx = optax.adamw(rate, b2=0.98, weight_decay=0.01)

    def loss_fn(params, tokens, seen):
        one, other = (embed(model, params, tokens, mask) for mask in seen)
        logits = one @ other.T / TEMPERATURE
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(BATCH)).mean()

    @jax.jit
    def step(params, opt_state, tokens, seen):
        loss, grads = jax.value_and_grad(loss_fn)(params, tokens, seen)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    opt_state, rng = tx.init(params), np.random.default_rng(0)
    for i in (bar := tqdm(range(steps), desc="training", unit="step")):
        tokens = windows[rng.integers(0, len(windows), BATCH)]
        seen = rng.random((2, *tokens.shape)) < 0.5
        params, opt_state, loss = step(params, opt_state, tokens, seen)
        if i % 20 == 0 or i == steps - 1:
            bar.set_postfix_str(f"loss {loss:.2f}")
    return params


def table(runs, title):
    made = Table(title=title, min_width=60)
    made.add_column("method")
    for name in ("sparsity", "cosine", "retrieved", "error of layers", "time"):
        made.add_column(name, justify="right")
    for name, run in runs.items():
        made.add_row(
            name,
            f"{100 * run['sparsity']:.1f} %",
            f"{run['cosine']:.4f}",
            f"{100 * run['retrieved']:.1f} %",
            f"{np.mean([layer['error'] for layer in run['layers'].values()]):.4f}",
            f"{run['seconds']:.0f} s",
        )
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=pathlib.Path, help="safetensors; else one is trained")
    parser.add_argument("--heads", type=int, help="by default as config.json says, or guessed")
    parser.add_argument("--vocab", type=pathlib.Path, help="vocab.txt; needs tokenizers")
    parser.add_argument("--cased", action="store_true", help="the vocabulary has capitals")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--windows", type=int, default=64, help=f"calibration, of {CONTEXT} tokens")
    parser.add_argument("--sentences", type=int, default=512, help="held out, to compare")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--width", type=int, default=128, help="of the encoder that is trained")
    parser.add_argument("--layers", type=int, default=4, help="of the encoder that is trained")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/oneshot_encoder"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    sentences, held_out = load_sentences()
    if args.weights is None:
        args.weights = args.out / "model.safetensors"
        windows = windows_of(sentences, make_tokenizer(None, False, VOCABULARY), CONTEXT)
        save(train(windows, args.width, args.layers, args.steps), args.weights)
    model, params = load(args.weights, args.heads)
    context = min(CONTEXT, model.positions)
    tokenize = make_tokenizer(args.vocab, args.cased, model.vocabulary)
    windows = windows_of(sentences, tokenize, context)  # padding would count as data
    chosen = windows[np.linspace(0, len(windows) - 1, args.windows, dtype=int)]
    batches = np.array_split(chosen, -(-args.windows // BATCH))
    tokens, mask = padded(held_out[: args.sentences], tokenize, context)
    evaluate = jax.jit(lambda params: embed(model, params, tokens, mask))
    dense = evaluate(params)

    apply = lambda params, batch: model.apply({"params": params}, batch)  # noqa: E731
    runs = {}
    for name in (bar := tqdm(args.methods, unit="method")):
        bar.set_description(name)
        pruned, _, report = oneshot.prune_model(
            apply, params, batches, sparsity=args.sparsity, method=METHODS[name]
        )
        cosines = np.asarray(evaluate(pruned) @ dense.T)  # of each pruned one with all dense ones
        runs[name] = {
            "cosine": float(cosines.diagonal().mean()),
            "retrieved": float(np.mean(cosines.argmax(1) == np.arange(len(cosines)))),
            "sparsity": report.sparsity,
            "seconds": report.seconds,
            "layers": {
                layer.name: {"size": layer.size, "kept": layer.kept, "error": layer.error}
                for layer in report.layers
            },
        }
    size = f"{model.layers} layers, width {model.hidden}, {model.heads} heads"
    Console(width=100).print(table(runs, f"{size}: {len(tokens)} held-out sentences"))
    config = {k: str(v) if isinstance(v, pathlib.Path) else v for k, v in vars(args).items()}
    (args.out / "results.json").write_text(json.dumps({"config": config, "runs": runs}, indent=1))
    plots.tradeoff(
        {name: {args.sparsity: run["cosine"]} for name, run in runs.items()},
        metric="mean cosine with the dense embedding",
        path=args.out / "cosines.png",
    )
    print(f"figures and a plot are in {args.out}")


if __name__ == "__main__":
    main()
