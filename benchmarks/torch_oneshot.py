"""Published one-shot methods in PyTorch: peers of `jaxprune.oneshot.cores`.

Weights are [outputs, inputs]; a sparsity is a fraction, or (n, m) for n of m kept.
"""

import torch


def sparsegpt(W, H, sparsity, block=128):
    """SparseGPT with the damped Gram matrix H (Frantar and Alistarh, arXiv 2301.00774)."""
    W = W.clone()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(H))
    U = torch.linalg.cholesky(inverse, upper=True)
    for a in range(0, W.shape[1], block):
        b = min(a + block, W.shape[1])
        part, own = W[:, a:b].clone(), U[a:b, a:b]
        d = torch.diag(own)
        errors, gone = torch.zeros_like(part), torch.zeros_like(part, dtype=torch.bool)
        if not isinstance(sparsity, tuple):
            scores = part**2 / d[None] ** 2
            gone = scores <= torch.sort(scores.flatten())[0][int(scores.numel() * sparsity) - 1]
        for i in range(b - a):
            if isinstance(sparsity, tuple) and i % sparsity[1] == 0:
                n, m = sparsity
                scores = part[:, i : i + m] ** 2 / d[None, i : i + m] ** 2
                lowest = torch.topk(scores, m - n, dim=1, largest=False)[1]
                gone.scatter_(1, i + lowest, True)
            w = part[:, i]
            kept = torch.where(gone[:, i], 0.0, w)
            error = (w - kept) / d[i]
            part[:, i:] -= error[:, None] @ own[i, i:][None]
            part[:, i], errors[:, i] = kept, error
        W[:, a:b] = part
        W[:, b:] -= errors @ U[a:b, b:]
    return W


def wanda(W, H, sparsity):
    """Wanda, each output by itself (Sun et al., arXiv 2306.11695)."""
    scores = W.abs() * torch.diag(H).sqrt()[None]
    gone = torch.zeros_like(W, dtype=torch.bool)
    if isinstance(sparsity, tuple):
        n, m = sparsity
        for i in range(0, W.shape[1], m):
            lowest = torch.topk(scores[:, i : i + m], m - n, dim=1, largest=False)[1]
            gone.scatter_(1, i + lowest, True)
    else:
        order = torch.sort(scores, dim=1, stable=True)[1]
        gone.scatter_(1, order[:, : int(W.shape[1] * sparsity)], True)
    return torch.where(gone, 0.0, W)
