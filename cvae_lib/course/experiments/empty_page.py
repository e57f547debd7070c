"""How probable is a page without ink? A bound by the encoder does not say, since it never saw one; a search does."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from cvae_lib.course.recipes import machine, seeded
from cvae_lib.data import load
from cvae_lib.loss import posterior_draws
from cvae_lib.model import CVAE
from cvae_lib.quadrature import log_likelihood_by_quadrature
from cvae_lib.scores import scores_by_draws

WEIGHTS = ("cvae-50d", "cvae-2d", *(f"cvae-50d/seed-{seed}" for seed in (1, 2, 3, 4)))
DRAWS = (10, 100, 1000, 10_000)
KEPT = (1.0, 0.75, 0.5, 0.25)
DASHES = (0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20)
_PAIRS = 4000  # of images and labels decoded at a time


def search(model: CVAE, x: Tensor, y: Tensor, starts: int = 2, steps: int = 300, seed: int = 0) -> Normal:
    """For every image under every label the Gaussian without correlations that has the highest ELBO, q_star of (6.3).

    Adam climbs from several starts, first the encoder's answer, second the middle of the prior, then random codes. Of
    what it finds the best one is kept, by fresh draws.

    Args:
        model: a `CVAE` with labels.
        x: images, shape (images, 1, pixels).
        y: labels, shape (images, labels) or (labels,).
        starts: how many, at least 1.
        steps: of Adam.
        seed: of the draws and the random codes.

    Returns:
        One Gaussian for every image and label, batch shape (images, labels, latent_dim).

    Equations: (6.3)
    """
    with seeded(seed):
        encoder = model.encode(x, y)
        codes = [torch.zeros_like(encoder.loc), *torch.randn(max(0, starts - 2), *encoder.loc.shape)]
        # An answer hundreds of times as wide as the prior is no start to climb from.
        mean = torch.stack([encoder.loc.clamp(-3, 3), *codes][:starts]).detach().requires_grad_()
        width = torch.stack([encoder.scale.clamp(0.05, 1), *(torch.full_like(code, 0.5) for code in codes)][:starts])
        log_width = width.log().detach().requires_grad_()
        with torch.enable_grad():
            adam = torch.optim.Adam([mean, log_width], lr=0.05)
            rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
            for _ in range(steps):
                noise = torch.randn(2, *mean.shape)
                q = Normal(mean, log_width.exp())
                draws = posterior_draws(model, x, y, noise=torch.cat([noise, -noise]), posterior=q)
                adam.zero_grad()
                draws.terms.loss.sum().backward()
                adam.step()
                rate.step()
        with torch.no_grad():
            found = Normal(mean, log_width.exp())
            loss = posterior_draws(model, x, y, 50, posterior=found).terms.loss
            best = loss.argmin(0)[None, ..., None].expand_as(mean[:1])
            return Normal(found.loc.gather(0, best)[0], found.scale.gather(0, best)[0])


@torch.no_grad()
def log_weights(model: CVAE, x: Tensor, y: Tensor, draws: int, q: Normal | None = None, seed: int = 0) -> Tensor:
    """log w_k of so many draws from q or from the encoder's answer, (draws, images, labels), see `PosteriorDraws`."""
    q = model.encode(x, y) if q is None else q
    step = max(1, _PAIRS // q.loc[..., 0].numel())
    with seeded(seed):
        parts = [min(step, draws - start) for start in range(0, draws, step)]
        return torch.cat([posterior_draws(model, x, y, part, posterior=q).log_weights for part in parts])


def bounds(log_w: Tensor, K: int) -> Tensor:
    """The importance-weighted bound with K draws, as often as there are draws for it, (times, images, labels)."""
    return log_w.unflatten(0, (-1, K)).logsumexp(1) - math.log(K)  # type: ignore[no-any-return]


def _evidence(scores: Tensor) -> Tensor:
    """(10.5) with equal p(c)."""
    return scores.logsumexp(-1) - math.log(scores.shape[-1])


def _rounded(values: Tensor) -> list[Any]:
    return [round(value, 2) for value in values.tolist()]


def page_by_draws(model: CVAE, q: Normal | None, draws: int, x: Tensor) -> list[dict[str, Any]]:
    """log p of one image by the importance-weighted bound: mean and spread over noise, and the labels it is read as."""
    log_w = log_weights(model, x[:, None], torch.arange(model.num_labels), draws, q)[:, 0]
    rows = []
    for K in DRAWS:
        found = bounds(log_w, K)
        evidence = _evidence(found)
        rows.append(
            {
                "K": K,
                "times": len(found),
                "mean": round(evidence.mean().item(), 2),
                "spread": round(evidence.std(correction=min(1, len(found) - 1)).item(), 2),
                "read_as": found.argmax(1).bincount(minlength=model.num_labels).tolist(),
                "scores": _rounded(found.mean(0)),
            }
        )
    return rows


def empty_page(
    weights: str, dataset: str = "mnist", images: int = 100, draws: int = 20_000, steps: int = 1000
) -> dict[str, Any]:
    """An empty page and random test digits, by the encoder's draws and by draws of a searched q.

    The page is searched under all labels, the digits under the two of the highest score by ten of the encoder's draws;
    the rest keep that score.

    Returns:
        "encoder", "search": what `page_by_draws` found for the page. "rec", "kl": the two terms of the page's ELBO by
        the searched q, under every label. "digits": for every digit label, ink (sum of its pixels), entropy (10.6), log
        p(x) by ten of the encoder's draws and by a thousand of the searched q's, and the two terms of the searched q
        under the better label. "quadrature": of the page, and of every digit, where there is one.

    Equations: (10.5), (10.6)
    """
    model, test = CVAE.from_pretrained(weights), load(dataset, "test").sample(images, seed=0)
    page, labels = torch.zeros(1, test.images.shape[1]), torch.arange(model.num_labels)
    q = search(model, page[:, None], labels, starts=8, steps=steps)
    with torch.no_grad():
        terms = posterior_draws(model, page[:, None], labels, 1000, posterior=q).terms
    row: dict[str, Any] = {
        "machine": machine(model.device),
        "encoder": page_by_draws(model, None, draws, page),
        "search": page_by_draws(model, q, draws, page),
        "rec": _rounded(terms.reconstruction[0]),
        "kl": _rounded(terms.kl[0]),
    }
    x = test.images[:, None]
    scores = scores_by_draws(model, test.images, (10,))["importance_weighted", 10]
    best = scores.topk(2, 1).indices
    q = search(model, x, best)
    found = bounds(log_weights(model, x, best, 1000, q), 1000)[0]
    with torch.no_grad():
        terms = posterior_draws(model, x, best, 100, posterior=q).terms
    first = found.argmax(1, keepdim=True)
    row["digits"] = {
        "label": test.labels.tolist(),
        "ink": _rounded(test.images.sum(1)),
        "entropy": _rounded(Bernoulli(test.images).entropy().sum(1)),
        "encoder": _rounded(_evidence(scores)),
        "search": _rounded(_evidence(scores.scatter(1, best, found))),
        "rec": _rounded(terms.reconstruction.gather(1, first)[:, 0]),
        "kl": _rounded(terms.kl.gather(1, first)[:, 0]),
    }
    if model.latent_dim == 2:
        exact = log_likelihood_by_quadrature(model, torch.cat([page, test.images])[:, None], labels)
        row["quadrature"] = {"scores": _rounded(exact[0]), "digits": _rounded(_evidence(exact[1:]))}
    return row


def wiped(images: Tensor, kept: float) -> Tensor:
    """Images of which only the upper lines are left, as many as hold at most this share of the ink."""
    lines = images.unflatten(1, (-1, math.isqrt(images.shape[1])))
    share = lines.sum(2).cumsum(1) / lines.sum((1, 2))[:, None]
    return (lines * (share <= kept + 1e-6)[:, :, None]).flatten(1)  # type: ignore[no-any-return]


def dash(length: int, side: int = 28) -> Tensor:
    """An upright stroke in the middle, two pixels wide, (1, pixels)."""
    image = torch.zeros(side, side)
    top = (side - length) // 2
    image[top : top + length, side // 2 - 1 : side // 2 + 1] = 1
    return image.flatten()[None]


def less_ink(weights: str = "cvae-50d", dataset: str = "mnist", images: int = 10) -> dict[str, Any]:
    """log p(x) + H(x) of digits that are wiped off line by line, and of upright strokes, by a search under all labels.

    Equations: (10.5), (10.6)
    """
    model, test = CVAE.from_pretrained(weights), load(dataset, "test").sample(images, seed=1)
    labels = torch.arange(model.num_labels)
    side = math.isqrt(test.images.shape[1])

    def look(x: Tensor) -> dict[str, Any]:
        q = search(model, x[:, None], labels)
        scores = bounds(log_weights(model, x[:, None], labels, 500, q), 500)[0]
        below = _evidence(scores) + Bernoulli(x).entropy().sum(1)
        return {"ink": _rounded(x.sum(1)), "below_ceiling": _rounded(below), "read_as": scores.argmax(1).tolist()}

    return {
        "machine": machine(model.device),
        "wiped": [{"kept": kept} | look(wiped(test.images, kept)) for kept in KEPT],
        "dashes": {"length": list(DASHES)} | look(torch.cat([dash(length, side) for length in DASHES])),
    }
