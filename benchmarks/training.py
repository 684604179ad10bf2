"""What pruning adds to a whole training step, here and with torch.nn.utils.prune.

The network is a perceptron of four square layers, with the same batch; each framework's steps are
compared with its own plain step, so that neither's speed at products counts. At an event all
masks are made anew. In PyTorch a mask is a buffer that a hook multiplies with in every forward
pass, and an event here computes masks into these buffers, which is the least that it can do.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxprune
from benchmarks import peers, timing
from benchmarks.environment import peer_version
from benchmarks.step import COURSES, Loop
from benchmarks.tables import NOTES

LAYERS, WIDTH, BATCH, SPARSITY = 4, 2048, 256, 0.9


def rows(rounds, quick=False):
    """A row for each framework; the one of a peer that is missing has no figures."""
    rng = np.random.default_rng(0)
    width = 32 if quick else WIDTH
    scale = (2 / width) ** 0.5
    kernels = [scale * rng.standard_normal((width, width), np.float32) for _ in range(LAYERS)]
    x, y = rng.standard_normal((2, BATCH, width), np.float32)
    makers = {"PyTorch": lambda: torchs(kernels, x, y)} if peer_version("torch") else {}
    theirs, failed = peers.tried(makers)
    frameworks = {"jaxprune": ours(kernels, x, y)} | theirs
    times = timing.interleaved(
        {(name, kind): step for name, steps in frameworks.items() for kind, step in steps.items()},
        rounds=rounds,
    )
    for name in ("jaxprune", "PyTorch"):
        plain = times.get((name, "plain"))
        yield {
            "training with": name,
            "plain step, ms": timing.milliseconds(plain) if plain else None,
            "between events, x plain": plain and timing.ratio(times[name, "between"], plain),
            "event, x plain": plain and timing.ratio(times[name, "event"], plain),
            NOTES: failed,
        }


def ours(kernels, x, y):
    """Kind -> a step of sgd with momentum."""
    params = {f"layer_{i}": {"kernel": jnp.asarray(w)} for i, w in enumerate(kernels)}

    def loss(params, batch):
        x, y = batch
        for i in range(LAYERS):
            x = x @ params[f"layer_{i}"]["kernel"]
            x = jax.nn.relu(x) if i < LAYERS - 1 else x
        return jnp.mean((x - y) ** 2)

    def loop(tx):
        return Loop(tx, params, (jnp.asarray(x), jnp.asarray(y)), jax.grad(loss))

    def sgd():
        return optax.sgd(1e-3, momentum=0.9)

    pruning = {kind: loop(jaxprune.prune(sgd(), **how)) for kind, how in COURSES.items()}
    return {"plain": loop(sgd())} | pruning


def torchs(kernels, x, y):
    """Kind -> a step of sgd with momentum in PyTorch."""
    import torch
    from torch.nn.utils import prune

    x, y = torch.from_numpy(x), torch.from_numpy(y)
    method = prune.L1Unstructured(SPARSITY)

    def step(pruned, event):
        linear = [torch.nn.Linear(*w.shape, bias=False) for w in kernels]
        for layer, w in zip(linear, kernels, strict=True):
            layer.weight.data = torch.from_numpy(w.T.copy())
            if pruned:
                prune.l1_unstructured(layer, "weight", SPARSITY)
        between = [f for layer in linear for f in (layer, torch.nn.ReLU())][:-1]
        model = torch.nn.Sequential(*between)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

        def run():
            for layer in linear if event else ():
                weight = layer.weight_orig.data
                layer.weight_mask.copy_(method.compute_mask(weight, torch.ones_like(weight)))
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()

        return run

    return {"plain": step(False, False), "between": step(True, False), "event": step(True, True)}
