# %% mistake="compute_saliency_maps" named="cross-entropy loss, not of the score"
def compute_saliency_maps(X, y, model):
    X.requires_grad_()
    loss = F.cross_entropy(model(X), y, reduction="sum")
    loss.backward()
    return X.grad.abs().sum(dim=1)


# %% mistake="compute_saliency_maps" named="cross-entropy loss"
def compute_saliency_maps(X, y, model):
    X.requires_grad_()
    loss = F.cross_entropy(model(X), y)
    loss.backward()
    return X.grad.abs().sum(dim=1)


# %% mistake="compute_saliency_maps" named="softmax's probability"
def compute_saliency_maps(X, y, model):
    X = X.clone().requires_grad_()
    probabilities = F.softmax(model(X), dim=1)
    probabilities[torch.arange(len(y)), y].sum().backward()
    return X.grad.abs().sum(dim=1)


# %% mistake="compute_saliency_maps" named="absolute value is missing"
def compute_saliency_maps(X, y, model):
    X.requires_grad_()
    model(X).gather(1, y.view(-1, 1)).squeeze().sum().backward()
    return X.grad.sum(dim=1)


# %% mistake="compute_saliency_maps" named="after the sum over the channels"
def compute_saliency_maps(X, y, model):
    X.requires_grad_()
    model(X).gather(1, y.view(-1, 1)).squeeze().sum().backward()
    return X.grad.sum(dim=1).abs()


# %% mistake="compute_saliency_maps" named="maximum over the channels"
def compute_saliency_maps(X, y, model):
    model.eval()
    X.requires_grad_()
    scores = model(X).gather(1, y.view(-1, 1)).squeeze()
    scores.backward(torch.ones_like(scores))
    saliency, _ = torch.max(X.grad.abs(), dim=1)
    return saliency


# %% mistake="compute_saliency_maps" named="mean over the channels"
def compute_saliency_maps(X, y, model):
    X.requires_grad_()
    model(X).gather(1, y.view(-1, 1)).sum().backward()
    return X.grad.abs().mean(dim=1)


# %% mistake="compute_saliency_maps" named="averaged over the batch"
def compute_saliency_maps(X, y, model):
    X.requires_grad_()
    model(X).gather(1, y.view(-1, 1)).mean().backward()
    return X.grad.abs().sum(dim=1)


# %% mistake="compute_saliency_maps" named="class that the network predicts"
def compute_saliency_maps(X, y, model):
    X.requires_grad_()
    model(X).max(dim=1).values.sum().backward()
    return X.grad.abs().sum(dim=1)


# %% mistake="compute_saliency_maps" named="every label of the batch"
def compute_saliency_maps(X, y, model):
    X.requires_grad_()
    model(X)[:, y].sum().backward()
    return X.grad.abs().sum(dim=1)


# %% mistake="compute_saliency_maps" named="scores of all classes"
def compute_saliency_maps(X, y, model):
    X.requires_grad_()
    model(X).sum().backward()
    return X.grad.abs().sum(dim=1)


# %% mistake="compute_saliency_maps" named="divided by its maximum"
def compute_saliency_maps(X, y, model):
    X.requires_grad_()
    model(X).gather(1, y.view(-1, 1)).sum().backward()
    saliency = X.grad.abs().sum(dim=1)
    return saliency / saliency.amax(dim=(1, 2), keepdim=True)


# %% mistake="compute_saliency_maps" named="multiplied by the image"
def compute_saliency_maps(X, y, model):
    X.requires_grad_()
    model(X).gather(1, y.view(-1, 1)).sum().backward()
    return (X * X.grad).detach().abs().sum(dim=1)


# %% mistake="compute_saliency_maps" named="was left in another mode"
def compute_saliency_maps(X, y, model):
    model.train()
    X.requires_grad_()
    model(X).gather(1, y.view(-1, 1)).sum().backward()
    return X.grad.abs().sum(dim=1)


# %% mistake="compute_saliency_maps" named="ran in training mode"
def compute_saliency_maps(X, y, model):
    model.train()
    X.requires_grad_()
    model(X).gather(1, y.view(-1, 1)).sum().backward()
    model.eval()
    return X.grad.abs().sum(dim=1)


# %% mistake="compute_saliency_maps" named="modified in place"
def compute_saliency_maps(X, y, model):
    X -= X.mean()
    X.requires_grad_()
    model(X).gather(1, y.view(-1, 1)).sum().backward()
    return X.grad.abs().sum(dim=1)


# %% mistake="compute_saliency_maps" named="another requires_grad"
def compute_saliency_maps(X, y, model):
    model.requires_grad_(False)  # so that no gradient is computed for the weights
    X = X.clone().requires_grad_()
    model(X).gather(1, y.view(-1, 1)).sum().backward()
    model.requires_grad_(True)
    return X.grad.abs().sum(dim=1)


# %% correct="compute_saliency_maps"
def compute_saliency_maps(X, y, model):
    # CS231n's way, with our sum over the channels.
    model.eval()
    X.requires_grad_()
    scores = model(X)
    scores = scores.gather(1, y.view(-1, 1)).squeeze()
    scores.backward(torch.ones(scores.shape, dtype=scores.dtype))
    saliency = X.grad.data.abs().sum(dim=1)
    print(saliency.shape)
    return saliency


# %% correct="compute_saliency_maps"
def compute_saliency_maps(X, y, model):
    maps = []
    for image, label in zip(X, y):
        image = image.clone().unsqueeze(0).requires_grad_(True)
        score = model(image)[0, label]
        grad = torch.autograd.grad(score, image, create_graph=True)[0]
        maps.append(grad[0, 0].abs() + grad[0, 1].abs() + grad[0, 2].abs())
    return torch.stack(maps)


# %% correct="compute_saliency_maps"
def compute_saliency_maps(X, y, model):
    from torch.autograd import Variable

    X_var = Variable(X, requires_grad=True)
    upstream = F.one_hot(y, model(X_var).shape[1]).to(X.dtype)
    model(X_var).backward(upstream)
    return torch.linalg.vector_norm(X_var.grad, ord=1, dim=1)


# %% correct="compute_saliency_maps"
def compute_saliency_maps(X, y, model):
    saliency = torch.zeros(X.shape[0], X.shape[2], X.shape[3])  # float32, whatever X is
    for i in range(X.shape[0]):
        x = X[i : i + 1].clone().detach()
        x.requires_grad = True
        score = model(x)[:, y[i]]
        score.backward(torch.FloatTensor([1.0]))
        saliency[i] = x.grad.abs().sum(dim=1)
    return saliency


# %% mistake="compute_saliency_maps" named="calls `captum.attr.Saliency"
def compute_saliency_maps(X, y, model):
    from captum.attr import Saliency

    return Saliency(model).attribute(X.requires_grad_(), y).sum(1)


# %% mistake="score_gradients" named="second time"
def score_gradients(X, model):
    X = X.clone().requires_grad_()
    scores = model(X)
    gradients = [torch.autograd.grad(scores[:, c].sum(), X)[0] for c in range(scores.shape[1])]
    return torch.stack(gradients, dim=1)


# %% mistake="score_gradients" named="pile up"
def score_gradients(X, model):
    X = X.clone().requires_grad_()
    scores = model(X)
    gradients = []
    for c in range(scores.shape[1]):
        scores[:, c].sum().backward(retain_graph=True)
        gradients.append(X.grad.clone())
    return torch.stack(gradients, dim=1)


# %% mistake="score_gradients" named="axes 0 and 1 are swapped"
def score_gradients(X, model):
    X = X.clone().requires_grad_()
    scores = model(X)
    return torch.stack(
        [
            torch.autograd.grad(scores[:, c].sum(), X, retain_graph=True)[0]
            for c in range(scores.shape[1])
        ]
    )


# %% mistake="score_gradients" named="sign is wanted"
def score_gradients(X, model):
    X = X.clone().requires_grad_()
    scores = model(X)
    return torch.stack(
        [
            torch.autograd.grad(scores[:, c].sum(), X, retain_graph=True)[0].abs()
            for c in range(scores.shape[1])
        ],
        dim=1,
    )


# %% mistake="score_gradients" named="softmax's probabilities"
def score_gradients(X, model):
    X = X.clone().requires_grad_()
    scores = model(X).softmax(dim=1)
    return torch.stack(
        [
            torch.autograd.grad(scores[:, c].sum(), X, retain_graph=True)[0]
            for c in range(scores.shape[1])
        ],
        dim=1,
    )


# %% mistake="score_gradients" named="averaged over the batch"
def score_gradients(X, model):
    X = X.clone().requires_grad_()
    scores = model(X)
    return torch.stack(
        [
            torch.autograd.grad(scores[:, c].mean(), X, retain_graph=True)[0]
            for c in range(scores.shape[1])
        ],
        dim=1,
    )


# %% mistake="score_gradients" named="only the last class's gradient"
def score_gradients(X, model):
    X = X.clone().requires_grad_()
    scores = model(X)
    gradients = []
    for c in range(scores.shape[1]):
        if X.grad is not None:
            X.grad.zero_()
        scores[:, c].sum().backward(retain_graph=True)
        gradients.append(X.grad)  # always the same tensor
    return torch.stack(gradients, dim=1)


# %% mistake="score_gradients" named="raised TypeError"
def score_gradients(X, model):
    X = X.clone().requires_grad_()
    scores = X
    for layer in model:
        scores = layer(scores)
    return torch.stack(
        [
            torch.autograd.grad(scores[:, c].sum(), X, retain_graph=True)[0]
            for c in range(scores.shape[1])
        ],
        dim=1,
    )


# %% correct="score_gradients"
def score_gradients(X, model):
    gradients = []
    for c in range(model(X).shape[1]):
        X_copy = X.clone().requires_grad_()
        model(X_copy)[:, c].sum().backward()
        gradients.append(X_copy.grad)
    return torch.stack(gradients, dim=1)


# %% correct="score_gradients"
def score_gradients(X, model):
    jacobian = torch.autograd.functional.jacobian(lambda images: model(images).sum(0), X)
    return jacobian.transpose(0, 1)


# %% correct="score_gradients"
def score_gradients(X, model):
    def one(image):
        return model(image[None])[0]

    return torch.stack([torch.func.jacrev(one)(image) for image in X])


# %% mistake="probability_gradient" named="factor p_y is missing"
def probability_gradient(scores, gradients, y):
    n = torch.arange(len(y))
    p = scores.softmax(1)[:, :, None, None, None]
    return gradients[n, y] - (p * gradients).sum(1)


# %% mistake="probability_gradient" named="gradients of the other classes are missing"
def probability_gradient(scores, gradients, y):
    n = torch.arange(len(y))
    p = scores.softmax(1)[n, y][:, None, None, None]
    return p * (1 - p) * gradients[n, y]


# %% mistake="probability_gradient" named="class y is left out"
def probability_gradient(scores, gradients, y):
    p = scores.softmax(1)
    result = []
    for n, label in enumerate(y):
        others = sum(p[n, c] * gradients[n, c] for c in range(p.shape[1]) if c != label)
        result.append(p[n, label] * (gradients[n, label] - others))
    return torch.stack(result)


# %% mistake="probability_gradient" named="runs over the batch"
def probability_gradient(scores, gradients, y):
    n = torch.arange(len(y))
    p = scores.softmax(0)[:, :, None, None, None]
    return p[n, y] * (gradients[n, y] - (p * gradients).sum(1))


# %% mistake="probability_gradient" named="added, not subtracted"
def probability_gradient(scores, gradients, y):
    n = torch.arange(len(y))
    p = scores.softmax(1)[:, :, None, None, None]
    return p[n, y] * (gradients[n, y] + (p * gradients).sum(1))


# %% mistake="probability_gradient" named="exp overflows"
def probability_gradient(scores, gradients, y):
    n = torch.arange(len(y))
    p = (scores.exp() / scores.exp().sum(1, keepdim=True))[:, :, None, None, None]
    return p[n, y] * (gradients[n, y] - (p * gradients).sum(1))


# %% mistake="probability_gradient" named="sign is wanted"
def probability_gradient(scores, gradients, y):
    n = torch.arange(len(y))
    p = scores.softmax(1)[:, :, None, None, None]
    return (p[n, y] * (gradients[n, y] - (p * gradients).sum(1))).abs()


# %% correct="probability_gradient"
def probability_gradient(scores, gradients, y):
    p = torch.softmax(scores, dim=1)
    result = []
    for n in range(len(y)):
        mean = sum(p[n, c] * gradients[n, c] for c in range(p.shape[1]))
        result.append(p[n, y[n]] * (gradients[n, y[n]] - mean))
    return torch.stack(result)


# %% correct="probability_gradient"
def probability_gradient(scores, gradients, y):
    scores = scores.clone().requires_grad_()
    p_y = scores.softmax(1).gather(1, y[:, None]).sum()
    (weights,) = torch.autograd.grad(p_y, scores)
    return torch.einsum("nc,nckhw->nkhw", weights, gradients)


# %% mistake="smooth_grad" named="before the mean over the samples"
def smooth_grad(X, y, model, noise):
    maps = []
    for e in noise:
        noisy = (X + e).requires_grad_()
        model(noisy).gather(1, y[:, None]).sum().backward()
        maps.append(noisy.grad.abs().sum(1))
    return torch.stack(maps).mean(0)


# %% mistake="smooth_grad" named="after the sum over the channels"
def smooth_grad(X, y, model, noise):
    total = 0
    for e in noise:
        noisy = (X + e).requires_grad_()
        total = total + torch.autograd.grad(model(noisy).gather(1, y[:, None]).sum(), noisy)[0]
    return (total / len(noise)).sum(1).abs()


# %% mistake="smooth_grad" named="added up, not averaged"
def smooth_grad(X, y, model, noise):
    total = 0
    for e in noise:
        noisy = (X + e).requires_grad_()
        total = total + torch.autograd.grad(model(noisy).gather(1, y[:, None]).sum(), noisy)[0]
    return total.abs().sum(1)


# %% mistake="smooth_grad" named="piles up"
def smooth_grad(X, y, model, noise):
    total, noisy = 0, X
    for e in noise:
        noisy = (noisy + e).detach().requires_grad_()
        total = total + torch.autograd.grad(model(noisy).gather(1, y[:, None]).sum(), noisy)[0]
    return (total / len(noise)).abs().sum(1)


# %% mistake="smooth_grad" named="modified in place"
def smooth_grad(X, y, model, noise):
    total = 0
    for e in noise:
        X += e
        noisy = X.detach().clone().requires_grad_()
        total = total + torch.autograd.grad(model(noisy).gather(1, y[:, None]).sum(), noisy)[0]
    return (total / len(noise)).abs().sum(1)


# %% mistake="smooth_grad" named="before the gradient"
def smooth_grad(X, y, model, noise):
    noisy = (X + noise).mean(0).requires_grad_()
    return torch.autograd.grad(model(noisy).gather(1, y[:, None]).sum(), noisy)[0].abs().sum(1)


# %% mistake="smooth_grad" named="labels and images don't match"
def smooth_grad(X, y, model, noise):
    S, N = noise.shape[:2]
    noisy = (X + noise).flatten(0, 1).requires_grad_()
    scores = model(noisy).gather(1, y.repeat_interleave(S)[:, None])
    gradient = torch.autograd.grad(scores.sum(), noisy)[0].reshape(noise.shape)
    return gradient.mean(0).abs().sum(1)


# %% mistake="smooth_grad" named="clamped"
def smooth_grad(X, y, model, noise):
    total = 0
    for e in noise:
        noisy = (X + e).clamp(0, 1).requires_grad_()
        total = total + torch.autograd.grad(model(noisy).gather(1, y[:, None]).sum(), noisy)[0]
    return (total / len(noise)).abs().sum(1)


# %% mistake="smooth_grad" named="only the last sample"
def smooth_grad(X, y, model, noise):
    for e in noise:
        noisy = (X + e).requires_grad_()
        gradient = torch.autograd.grad(model(noisy).gather(1, y[:, None]).sum(), noisy)[0]
    return gradient.abs().sum(1)


# %% mistake="smooth_grad" named="another requires_grad"
def smooth_grad(X, y, model, noise):
    for parameter in model.parameters():
        parameter.requires_grad = False
    mean = 0
    for e in noise:
        noisy = (X + e).requires_grad_()
        scores = model(noisy).gather(1, y[:, None])
        mean = mean + torch.autograd.grad(scores.sum(), noisy)[0] / len(noise)
    for parameter in model.parameters():
        parameter.requires_grad = True
    return mean.abs().sum(1)


# %% correct="smooth_grad"
def smooth_grad(X, y, model, noise):
    S, N = noise.shape[:2]
    noisy = (X + noise).flatten(0, 1).requires_grad_()
    scores = model(noisy).gather(1, y.repeat(S)[:, None])
    gradient = torch.autograd.grad(scores.sum(), noisy)[0].reshape(noise.shape)
    return gradient.mean(0).abs().sum(1)


# %% correct="smooth_grad"
def smooth_grad(X, y, model, noise):
    X.requires_grad_()
    for e in noise:
        scores = model(X + e)
        scores[torch.arange(len(y)), y].sum().backward()  # gradients add up in X.grad
    return (X.grad / len(noise)).abs().sum(1)


# %% correct="smooth_grad"
def smooth_grad(X, y, model, noise):
    maps = []
    for n in range(len(X)):
        gradients = []
        for s in range(len(noise)):
            image = (X[n] + noise[s, n]).unsqueeze(0).requires_grad_()
            gradients.append(torch.autograd.grad(model(image)[0, y[n]], image)[0][0])
        maps.append(torch.stack(gradients).mean(0).abs().sum(0))
    return torch.stack(maps)


# %% mistake="pointing_game" named="row and column are exchanged"
def pointing_game(saliency, masks):
    hits = []
    for heat, mask in zip(saliency, masks):
        row, column = divmod(heat.argmax().item(), heat.shape[1])
        hits.append(row < mask.shape[1] and column < mask.shape[0] and bool(mask[column, row]))
    return torch.tensor(hits)


# %% mistake="pointing_game" named="divided by the height"
def pointing_game(saliency, masks):
    hits = []
    for heat, mask in zip(saliency, masks):
        row, column = divmod(heat.argmax().item(), heat.shape[0])
        hits.append(bool(mask[min(row, mask.shape[0] - 1), column]))
    return torch.tensor(hits)


# %% mistake="pointing_game" named="bounding box"
def pointing_game(saliency, masks):
    hits = []
    for heat, mask in zip(saliency, masks):
        row, column = divmod(heat.argmax().item(), heat.shape[1])
        rows, columns = torch.where(mask)
        inside = rows.min() <= row <= rows.max() and columns.min() <= column <= columns.max()
        hits.append(bool(inside))
    return torch.tensor(hits)


# %% mistake="pointing_game" named="peak of the whole batch"
def pointing_game(saliency, masks):
    peak = saliency.argmax() % saliency[0].numel()
    return masks.flatten(1)[:, peak]


# %% mistake="pointing_game" named="share of hits"
def pointing_game(saliency, masks):
    peaks = saliency.flatten(1).argmax(1)
    return masks.flatten(1)[torch.arange(len(masks)), peaks].double().mean()


# %% mistake="pointing_game" named="hits and misses are exchanged"
def pointing_game(saliency, masks):
    peaks = saliency.flatten(1).argmax(1)
    return ~masks.flatten(1)[torch.arange(len(masks)), peaks]


# %% correct="pointing_game"
def pointing_game(saliency, masks):
    hits = []
    for heat, mask in zip(saliency, masks):
        row, column = divmod(heat.argmax().item(), heat.shape[1])
        hits.append(bool(mask[row, column]))
    return torch.tensor(hits)


# %% correct="pointing_game"
def pointing_game(saliency, masks):
    on_object = saliency.masked_fill(~masks, -torch.inf).amax((1, 2))
    return on_object == saliency.amax((1, 2))


# %% mistake="saliency_seeds" named="object and background are exchanged"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    values = saliency.flatten()
    seeds = torch.zeros_like(saliency, dtype=torch.int64)
    seeds[saliency > values.quantile(1 - object_share)] = 2
    seeds[saliency < values.quantile(background_share)] = 1
    return seeds


# %% mistake="saliency_seeds" named="of the largest value"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    seeds = torch.zeros_like(saliency, dtype=torch.int64)
    seeds[saliency > (1 - object_share) * saliency.max()] = 1
    seeds[saliency < background_share * saliency.max()] = 2
    return seeds


# %% mistake="saliency_seeds" named="of the range of values"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    low, high = saliency.min(), saliency.max()
    seeds = torch.zeros_like(saliency, dtype=torch.int64)
    seeds[saliency > high - object_share * (high - low)] = 1
    seeds[saliency < low + background_share * (high - low)] = 2
    return seeds


# %% mistake="saliency_seeds" named="undecided pixels are labelled background"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    threshold = saliency.flatten().quantile(1 - object_share)
    return torch.where(saliency > threshold, 1, 2)


# %% mistake="saliency_seeds" named="1 − object_share is meant"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    values = saliency.flatten()
    seeds = torch.zeros_like(saliency, dtype=torch.int64)
    seeds[saliency > values.quantile(object_share)] = 1
    seeds[saliency < values.quantile(background_share)] = 2
    return seeds


# %% mistake="saliency_seeds" named="defaults are used"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    values = saliency.flatten()
    seeds = torch.zeros_like(saliency, dtype=torch.int64)
    seeds[saliency > values.quantile(0.95)] = 1
    seeds[saliency < values.quantile(0.7)] = 2
    return seeds


# %% mistake="saliency_seeds" named="of each row"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    seeds = torch.zeros_like(saliency, dtype=torch.int64)
    seeds[saliency > saliency.quantile(1 - object_share, dim=1, keepdim=True)] = 1
    seeds[saliency < saliency.quantile(background_share, dim=1, keepdim=True)] = 2
    return seeds


# %% correct="saliency_seeds"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    order = saliency.flatten().argsort()
    seeds = torch.zeros(saliency.numel(), dtype=torch.int64)
    seeds[order[: round(background_share * len(order))]] = 2
    seeds[order[len(order) - round(object_share * len(order)) :]] = 1
    return seeds.reshape(saliency.shape)


# %% correct="saliency_seeds"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    import numpy as np

    values = saliency.numpy()
    high, low = np.quantile(values, [1 - object_share, background_share])
    return torch.from_numpy(np.where(values >= high, 1, np.where(values <= low, 2, 0)))


# %% mistake="intersection_over_union" named="twice"
def intersection_over_union(segments, masks):
    both = (segments & masks).sum((1, 2))
    return torch.nan_to_num(both / (segments.sum((1, 2)) + masks.sum((1, 2))), nan=1.0)


# %% mistake="intersection_over_union" named="Dice"
def intersection_over_union(segments, masks):
    both = (segments & masks).sum((1, 2))
    return torch.nan_to_num(2 * both / (segments.sum((1, 2)) + masks.sum((1, 2))), nan=1.0)


# %% mistake="intersection_over_union" named="mask alone"
def intersection_over_union(segments, masks):
    return torch.nan_to_num((segments & masks).sum((1, 2)) / masks.sum((1, 2)), nan=1.0)


# %% mistake="intersection_over_union" named="whole batch"
def intersection_over_union(segments, masks):
    return (segments & masks).sum() / (segments | masks).sum()


# %% mistake="intersection_over_union" named="0 / 0"
def intersection_over_union(segments, masks):
    return (segments & masks).sum((1, 2)) / (segments | masks).sum((1, 2))


# %% mistake="intersection_over_union" named="two empty masks give 0"
def intersection_over_union(segments, masks):
    return (segments & masks).sum((1, 2)) / ((segments | masks).sum((1, 2)) + 1e-9)


# %% mistake="intersection_over_union" named="background included"
def intersection_over_union(segments, masks):
    return (segments == masks).float().mean((1, 2))


# %% correct="intersection_over_union"
def intersection_over_union(segments, masks):
    values = []
    for a, b in zip(segments, masks):
        union = int((a | b).sum())
        values.append(int((a & b).sum()) / union if union else 1.0)
    return torch.tensor(values)


# %% correct="intersection_over_union"
def intersection_over_union(segments, masks):
    both = (segments.double() * masks.double()).sum((1, 2))
    union = segments.sum((1, 2)) + masks.sum((1, 2)) - both
    return torch.nan_to_num(both / union, nan=1.0)


# %% mistake="occlusion_map" named="rise, not its fall"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = model(hidden).gather(1, y[:, None]) - scores
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="falls are added up where patches overlap"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls


# %% mistake="occlusion_map" named="last patch decides"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] = fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls


# %% mistake="occlusion_map" named="number of all patches"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / (len(range(0, H - size + 1, stride)) * len(range(0, W - size + 1, stride)))


# %% mistake="occlusion_map" named="stays where it was"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    hidden = X.clone()
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="modified in place"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="`range` ends one too early"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size, stride):
            for b in range(0, W - size, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="of the probability"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).softmax(1).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).softmax(1).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="log-probability"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).log_softmax(1).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).log_softmax(1).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="`grey` is ignored: 0.5"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = 0.5
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="black"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = 0
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="first channel only"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, 0, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="move by their own size"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, size):
            for b in range(0, W - size + 1, size):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="predicted class"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        y = model(X).argmax(1)
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="for every label of the batch"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X)[:, y].sum(1, keepdim=True)
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden)[:, y].sum(1, keepdim=True)
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="one fall for each patch"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    rows, columns = range(0, H - size + 1, stride), range(0, W - size + 1, stride)
    falls = torch.zeros(N, len(rows), len(columns), dtype=X.dtype)
    with torch.no_grad():
        scores = model(X)[torch.arange(N), y]
        for i, a in enumerate(rows):
            for j, b in enumerate(columns):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                falls[:, i, j] = scores - model(hidden)[torch.arange(N), y]
    return falls


# %% mistake="occlusion_map" named="was left in another mode"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = torch.zeros(N, H, W, dtype=X.dtype), torch.zeros(H, W, dtype=X.dtype)
    model.train()
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches


# %% mistake="occlusion_map" named="Occlusion"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    from captum.attr import Occlusion

    window, steps = (3, size, size), (3, stride, stride)
    return Occlusion(model).attribute(X, window, steps, baselines=grey, target=y)[:, 0]


# %% correct="occlusion_map"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    # All of a picture's patches in one batch.
    N, _, H, W = X.shape
    masks = []
    for a in range(0, H - size + 1, stride):
        for b in range(0, W - size + 1, stride):
            mask = torch.zeros(H, W, dtype=X.dtype)
            mask[a : a + size, b : b + size] = 1
            masks.append(mask)
    masks = torch.stack(masks)
    result = []
    for image, label in zip(X, y):
        hidden = image * (1 - masks[:, None]) + grey * masks[:, None]
        with torch.no_grad():
            falls = model(image[None])[:, label] - model(hidden)[:, label]
        result.append(torch.einsum("p,phw->hw", falls, masks) / masks.sum(0))
    return torch.stack(result)


# %% correct="occlusion_map"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, C, H, W = X.shape
    n = torch.arange(N)
    over = [[[] for _ in range(W)] for _ in range(H)]
    for a in range(0, H, stride):
        for b in range(0, W, stride):
            if a + size > H or b + size > W:
                continue
            hidden = X.clone()
            for c in range(C):
                hidden[:, c, a : a + size, b : b + size] = grey
            fall = (model(X)[n, y] - model(hidden)[n, y]).detach()
            for r in range(a, a + size):
                for c in range(b, b + size):
                    over[r][c].append(fall)
    rows = [torch.stack([torch.stack(falls).mean(0) for falls in row]) for row in over]
    return torch.stack(rows).permute(2, 0, 1)


# %% correct="occlusion_map"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    N, _, H, W = X.shape
    falls, patches = X[:, 0] * 0, torch.zeros(H, W, dtype=X.dtype)
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden)[range(N), y][:, None]
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size].add_(1)
    return falls / patches


# %% mistake="integrated_gradients" named="factor X − baseline is missing"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = (t + 0.5) / steps
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = model(point).gather(1, y[:, None]).sum()
        total += torch.autograd.grad(score, point)[0]
    return total / steps


# %% mistake="integrated_gradients" named="multiplied by X, not"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = (t + 0.5) / steps
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = model(point).gather(1, y[:, None]).sum()
        total += torch.autograd.grad(score, point)[0]
    return X * total / steps


# %% mistake="integrated_gradients" named="factor's sign"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = (t + 0.5) / steps
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = model(point).gather(1, y[:, None]).sum()
        total += torch.autograd.grad(score, point)[0]
    return (baseline - X) * total / steps


# %% mistake="integrated_gradients" named="added up, not averaged"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = (t + 0.5) / steps
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = model(point).gather(1, y[:, None]).sum()
        total += torch.autograd.grad(score, point)[0]
    return (X - baseline) * total


# %% mistake="integrated_gradients" named="pieces' ends"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = (t + 1) / steps
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = model(point).gather(1, y[:, None]).sum()
        total += torch.autograd.grad(score, point)[0]
    return (X - baseline) * total / steps


# %% mistake="integrated_gradients" named="pieces' beginnings"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = t / steps
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = model(point).gather(1, y[:, None]).sum()
        total += torch.autograd.grad(score, point)[0]
    return (X - baseline) * total / steps


# %% mistake="integrated_gradients" named="linspace"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for alpha in torch.linspace(0, 1, steps):
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = model(point).gather(1, y[:, None]).sum()
        total += torch.autograd.grad(score, point)[0]
    return (X - baseline) * total / steps


# %% mistake="integrated_gradients" named="sign is wanted"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = (t + 0.5) / steps
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = model(point).gather(1, y[:, None]).sum()
        total += torch.autograd.grad(score, point)[0]
    return ((X - baseline) * total / steps).abs()


# %% mistake="integrated_gradients" named="channels are added up"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = (t + 0.5) / steps
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = model(point).gather(1, y[:, None]).sum()
        total += torch.autograd.grad(score, point)[0]
    return ((X - baseline) * total / steps).sum(1)


# %% mistake="integrated_gradients" named="path begins at black"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = (t + 0.5) / steps
        point = (alpha * X).detach().requires_grad_()
        score = model(point).gather(1, y[:, None]).sum()
        total += torch.autograd.grad(score, point)[0]
    return (X - baseline) * total / steps


# %% mistake="integrated_gradients" named="gradient is taken at X alone"
def integrated_gradients(X, y, model, baseline, steps=16):
    x = X.clone().requires_grad_()
    return (X - baseline) * torch.autograd.grad(model(x).gather(1, y[:, None]).sum(), x)[0]


# %% mistake="integrated_gradients" named="only the last point"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = (t + 0.5) / steps
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = model(point).gather(1, y[:, None]).sum()
        total = torch.autograd.grad(score, point)[0]
    return (X - baseline) * total


# %% mistake="integrated_gradients" named="softmax's probability"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = (t + 0.5) / steps
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = model(point).softmax(1).gather(1, y[:, None]).sum()
        total += torch.autograd.grad(score, point)[0]
    return (X - baseline) * total / steps


# %% mistake="integrated_gradients" named="cross-entropy"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = (t + 0.5) / steps
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = F.cross_entropy(model(point), y, reduction="sum")
        total += torch.autograd.grad(score, point)[0]
    return (X - baseline) * total / steps


# %% mistake="integrated_gradients" named="averaged over the batch"
def integrated_gradients(X, y, model, baseline, steps=16):
    total = torch.zeros_like(X)
    for t in range(steps):
        alpha = (t + 0.5) / steps
        point = (baseline + alpha * (X - baseline)).detach().requires_grad_()
        score = model(point).gather(1, y[:, None]).mean()
        total += torch.autograd.grad(score, point)[0]
    return (X - baseline) * total / steps


# %% mistake="integrated_gradients" named="don't match"
def integrated_gradients(X, y, model, baseline, steps=16):
    alphas = ((torch.arange(steps, dtype=X.dtype) + 0.5) / steps)[:, None, None, None, None]
    points = (baseline + alphas * (X - baseline)).flatten(0, 1).requires_grad_()
    scores = model(points).gather(1, y.repeat_interleave(steps)[:, None])
    gradients = torch.autograd.grad(scores.sum(), points)[0].reshape(steps, *X.shape)
    return (X - baseline) * gradients.mean(0)


# %% mistake="integrated_gradients" named="IntegratedGradients"
def integrated_gradients(X, y, model, baseline, steps=16):
    from captum.attr import IntegratedGradients

    explain = IntegratedGradients(model)
    return explain.attribute(X, baseline, y, n_steps=steps, method="riemann_middle")


# %% correct="integrated_gradients"
def integrated_gradients(X, y, model, baseline, steps=16):
    alphas = ((torch.arange(steps, dtype=X.dtype) + 0.5) / steps)[:, None, None, None, None]
    points = (baseline + alphas * (X - baseline)).flatten(0, 1).requires_grad_()
    scores = model(points).gather(1, y.repeat(steps)[:, None])
    gradients = torch.autograd.grad(scores.sum(), points)[0].reshape(steps, *X.shape)
    return (X - baseline) * gradients.mean(0)


# %% correct="integrated_gradients"
def integrated_gradients(X, y, model, baseline, steps=16):
    # One image at a time, from its end to its beginning.
    result = []
    for x, b, label in zip(X, baseline, y):
        gradients = []
        for t in range(steps, 0, -1):
            alpha = (t - 0.5) / steps
            point = ((1 - alpha) * b + alpha * x)[None].detach().requires_grad_()
            model(point)[0, label].backward()
            gradients.append(point.grad[0])
        result.append((x - b) * sum(gradients) / steps)
    return torch.stack(result)


# %% correct="integrated_gradients"
def integrated_gradients(X, y, model, baseline, steps=16):
    way = (X - baseline).requires_grad_()
    for alpha in torch.linspace(0.5 / steps, 1 - 0.5 / steps, steps).tolist():
        # The gradient for `way` holds a factor alpha, which is taken away again.
        (model(baseline + alpha * way).gather(1, y[:, None]).sum() / alpha / steps).backward()
    return way.detach() * way.grad


# %% mistake="deletion_curve" named="least salient pixels are erased first"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1)
    pixels = order.shape[1] // steps
    picture, curve = X.clone(), []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = filling[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve, dim=1)


# %% mistake="deletion_curve" named="absolute value is ranked"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.abs().flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = X.clone(), []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = filling[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve, dim=1)


# %% mistake="deletion_curve" named="an order isn't a rank"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    rank = saliency.flatten(1).argsort(dim=1, descending=True).reshape(saliency.shape)
    pixels, curve = saliency[0].numel() // steps, []
    for t in range(steps + 1):
        picture = torch.where((rank < t * pixels)[:, None], filling, X)
        curve.append(model(picture).softmax(1).gather(1, y[:, None]).detach())
    return torch.cat(curve, dim=1)


# %% mistake="deletion_curve" named="those before came back"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = X.clone(), []
    for t in range(steps + 1):
        picture = X.clone()
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = filling[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve, dim=1)


# %% mistake="deletion_curve" named="modified in place"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = X, []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = filling[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve, dim=1)


# %% mistake="deletion_curve" named="`filling` is ignored"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = X.clone(), []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = 0
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve, dim=1)


# %% mistake="deletion_curve" named="grey"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = X.clone(), []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = 0.5
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve, dim=1)


# %% mistake="deletion_curve" named="first point is missing"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = X.clone(), []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = filling[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve[1:], dim=1)


# %% mistake="deletion_curve" named="last point is missing"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = X.clone(), []
    for t in range(steps):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = filling[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve, dim=1)


# %% mistake="deletion_curve" named="it is the score"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = X.clone(), []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = filling[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve, dim=1)


# %% mistake="deletion_curve" named="range of values"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    low, high = saliency.amin((1, 2), keepdim=True), saliency.amax((1, 2), keepdim=True)
    curve = []
    for t in range(steps + 1):
        erased = (saliency >= high - t / steps * (high - low)) & torch.tensor(t > 0)
        picture = torch.where(erased[:, None], filling, X)
        curve.append(model(picture).softmax(1).gather(1, y[:, None]).detach())
    return torch.cat(curve, dim=1)


# %% mistake="deletion_curve" named="ranked together"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    rank = saliency.flatten().argsort(descending=True).argsort().reshape(saliency.shape)
    pixels, curve = saliency.numel() // steps, []
    for t in range(steps + 1):
        picture = torch.where((rank < t * pixels)[:, None], filling, X)
        curve.append(model(picture).softmax(1).gather(1, y[:, None]).detach())
    return torch.cat(curve, dim=1)


# %% mistake="deletion_curve" named="first map's order"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = X.clone(), []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[0, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = filling[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve, dim=1)


# %% mistake="deletion_curve" named="insertion"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = filling.clone(), []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = X[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve, dim=1)


# %% mistake="deletion_curve" named="predicted for the whole image"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    y = model(X).argmax(1)
    picture, curve = X.clone(), []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = filling[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve, dim=1)


# %% mistake="deletion_curve" named="points and images are exchanged"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = X.clone(), []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = filling[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve)


# %% mistake="deletion_curve" named="area under the curve"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = X.clone(), []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = filling[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.trapezoid(torch.stack(curve, dim=1), dx=1 / steps)


# %% correct="deletion_curve"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    pixels = order.shape[1] // steps
    picture, curve = X.clone(), []
    for t in range(steps + 1):
        if t > 0:
            for n in range(len(X)):
                for i in order[n, (t - 1) * pixels : t * pixels].tolist():
                    row, column = divmod(i, X.shape[3])
                    picture[n, :, row, column] = filling[n, :, row, column]
        with torch.no_grad():
            probabilities = model(picture).softmax(1)
        curve.append(probabilities[torch.arange(len(y)), y])
    return torch.stack(curve, dim=1)


# %% correct="deletion_curve"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    N, _, H, W = X.shape
    curve = torch.zeros(N, steps + 1, dtype=X.dtype)
    for n in range(N):
        order = sorted(range(H * W), key=lambda i: -saliency[n, i // W, i % W].item())
        for t in range(steps + 1):
            erased = torch.zeros(H * W, dtype=torch.bool)
            erased[order[: t * H * W // steps]] = True
            image = torch.where(erased.reshape(H, W), filling[n], X[n])
            scores = model(image[None])[0].detach()
            curve[n, t] = (scores - scores.max()).exp()[y[n]] / (scores - scores.max()).exp().sum()
    return curve


# %% correct="deletion_curve"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    values = saliency.flatten(1).sort(dim=1, descending=True).values
    pixels, curve = values.shape[1] // steps, []
    for t in range(steps + 1):
        kept = torch.ones_like(saliency, dtype=torch.bool)
        if t > 0:
            kept = saliency < values[:, t * pixels - 1][:, None, None]
        with torch.no_grad():
            scores = model(X * kept[:, None] + filling * ~kept[:, None])
        curve.append(torch.exp(-F.cross_entropy(scores, y, reduction="none")))
    return torch.stack(curve).T


# %% mistake="randomise_layers" named="was modified in place"
def randomise_layers(model, names, generator):
    for name in names:
        weight = model.get_submodule(name).weight
        nn.init.normal_(weight, std=weight.std().item(), generator=generator)
    return model


# %% mistake="randomise_layers" named="was modified in place"
def randomise_layers(model, names, generator):
    randomised = copy.copy(model)
    for name in names:
        weight = randomised.get_submodule(name).weight
        nn.init.normal_(weight, std=weight.std().item(), generator=generator)
    return randomised


# %% mistake="randomise_layers" named="standard deviation"
def randomise_layers(model, names, generator):
    randomised = copy.deepcopy(model)
    for name in names:
        nn.init.normal_(randomised.get_submodule(name).weight, generator=generator)
    return randomised


# %% mistake="randomise_layers" named="correlates with the old one"
def randomise_layers(model, names, generator):
    randomised = copy.deepcopy(model)
    for name in names:
        weight = randomised.get_submodule(name).weight
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        weight.data += weight.std() * noise
    return randomised


# %% mistake="randomise_layers" named="shuffled"
def randomise_layers(model, names, generator):
    randomised = copy.deepcopy(model)
    for name in names:
        weight = randomised.get_submodule(name).weight
        order = torch.randperm(weight.numel(), generator=generator)
        weight.data = weight.data.flatten()[order].reshape(weight.shape)
    return randomised


# %% mistake="randomise_layers" named="equal generators gave different weights"
def randomise_layers(model, names, generator):
    randomised = copy.deepcopy(model)
    for name in names:
        weight = randomised.get_submodule(name).weight
        nn.init.normal_(weight, std=weight.std().item())
    return randomised


# %% mistake="randomise_layers" named="only the weights of the layers named"
def randomise_layers(model, names, generator):
    randomised = copy.deepcopy(model)
    for name in names:
        for parameter in randomised.get_submodule(name).parameters():
            nn.init.normal_(parameter, std=parameter.std().item(), generator=generator)
    return randomised


# %% mistake="randomise_layers" named="every layer named"
def randomise_layers(model, names, generator):
    randomised = copy.deepcopy(model)
    for name in names:
        weight = randomised.get_submodule(name).weight
        nn.init.normal_(weight, std=weight.std().item(), generator=generator)
        return randomised


# %% mistake="randomise_layers" named="raised AttributeError"
def randomise_layers(model, names, generator):
    randomised = copy.deepcopy(model)
    for name in names:
        weight = getattr(randomised, name).weight
        nn.init.normal_(weight, std=weight.std().item(), generator=generator)
    return randomised


# %% mistake="randomise_layers" named="drawn uniformly"
def randomise_layers(model, names, generator):
    randomised = copy.deepcopy(model)
    for name in names:
        weight = randomised.get_submodule(name).weight
        bound = 3**0.5 * weight.std().item()
        nn.init.uniform_(weight, -bound, bound, generator=generator)
    return randomised


# %% correct="randomise_layers"
def randomise_layers(model, names, generator):
    randomised = copy.deepcopy(model)
    with torch.no_grad():
        for name in names:
            layer = dict(randomised.named_modules())[name]
            layer.weight.normal_(0, layer.weight.std(), generator=generator)
    return randomised


# %% correct="randomise_layers"
def randomise_layers(model, names, generator):
    randomised = copy.deepcopy(model)
    for name in names:
        layer = randomised.get_submodule(name)
        old = layer.weight.detach()
        new = torch.randn(old.shape, generator=generator, dtype=old.dtype) * old.std(correction=0)
        layer.weight = nn.Parameter(new)
    return randomised


# %% mistake="recompute_batchnorm" named="calls `torch.optim.swa_utils.update_bn`"
def recompute_batchnorm(model, images):
    from torch.optim.swa_utils import update_bn

    update_bn([images], model)
    return model


# %% mistake="recompute_batchnorm" named="nothing was measured"
def recompute_batchnorm(model, images):
    with torch.no_grad():
        model.eval()(images)
    return model


# %% mistake="recompute_batchnorm" named="old statistics are mixed in"
def recompute_batchnorm(model, images):
    training = model.training
    model.train()
    with torch.no_grad():
        model(images)
    return model.train(training)


# %% mistake="recompute_batchnorm" named="mode and isn't any more"
def recompute_batchnorm(model, images):
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(images)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    return model


# %% mistake="recompute_batchnorm" named="moment"
def recompute_batchnorm(model, images):
    training = model.training
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    with torch.no_grad():
        model(images)
    return model.train(training)


# %% mistake="recompute_batchnorm" named="reset and then mixed"
def recompute_batchnorm(model, images):
    training = model.training
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    model.train()
    with torch.no_grad():
        model(images)
    return model.train(training)


# %% mistake="recompute_batchnorm" named="one by one"
def recompute_batchnorm(model, images):
    training = model.training
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    with torch.no_grad():
        for image in images:
            model(image[None])
    for norm in norms:
        norm.momentum = 0.1
    return model.train(training)


# %% mistake="recompute_batchnorm" named="still normalise by their old statistics"
def recompute_batchnorm(model, images):
    inputs, hooks = {}, []
    training = model.training
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            hook = module.register_forward_pre_hook(lambda m, x: inputs.update({m: x[0]}))
            hooks.append(hook)
    with torch.no_grad():
        model.eval()(images)
    for hook in hooks:
        hook.remove()
    for module, x in inputs.items():
        module.running_mean = x.mean((0, 2, 3))
        module.running_var = x.var((0, 2, 3))
    return model.train(training)


# %% mistake="recompute_batchnorm" named="is a `return` missing"
def recompute_batchnorm(model, images):
    training = model.training
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(images)
    model.train(training)


# %% mistake="recompute_batchnorm" named="momenta of their own"
def recompute_batchnorm(model, images):
    training = model.training
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(images)
    for norm in norms:
        norm.momentum = 0.1
    return model.train(training)


# %% mistake="recompute_batchnorm" named="raised TypeError"
def recompute_batchnorm(model, images):
    x = images
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean = x.mean((0, 2, 3))
                layer.running_var = x.var((0, 2, 3))
                x = F.batch_norm(x, None, None, layer.weight, layer.bias, training=True)
            else:
                x = layer(x)
    return model


# %% correct="recompute_batchnorm"
def recompute_batchnorm(model, images):
    model = copy.deepcopy(model)
    training = model.training
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    with torch.no_grad():
        model(images)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    return model.train(training)


# %% correct="recompute_batchnorm"
def recompute_batchnorm(model, images):
    # In eval mode throughout: each layer is measured just before it normalises.
    training, sizes = model.training, {}

    def measure(module, inputs):
        module.running_mean = inputs[0].mean((0, 2, 3))
        module.running_var = inputs[0].var((0, 2, 3), correction=0)
        sizes[module] = inputs[0].numel() / inputs[0].shape[1]

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    with torch.no_grad():
        model.eval()(images)
    for hook in hooks:
        hook.remove()
    for module, size in sizes.items():
        module.running_var *= size / (size - 1)
    return model.train(training)


# %% mistake="probability_gradient" named="most probable class"
def probability_gradient(scores, gradients, y):
    n, y = torch.arange(len(y)), scores.argmax(1)
    p = scores.softmax(1)[:, :, None, None, None]
    return p[n, y] * (gradients[n, y] - (p * gradients).sum(1))


# %% correct="probability_gradient"
def probability_gradient(scores, gradients, y):
    p = torch.exp(scores - scores.logsumexp(1, keepdim=True))
    weights = p * (F.one_hot(y, scores.shape[1]) - p.gather(1, y[:, None]))
    # Σ_c p_c (δ_cy − p_y) ∂s_c/∂x
    return (weights[:, :, None, None, None] * gradients).sum(dim=1)


# %% mistake="pointing_game" named="smallest value"
def pointing_game(saliency, masks):
    peaks = saliency.flatten(1).argmin(1)
    return masks.flatten(1)[torch.arange(len(masks)), peaks]


# %% mistake="pointing_game" named="one pixel on the object"
def pointing_game(saliency, masks):
    lit = saliency > saliency.mean((1, 2), keepdim=True)
    return (lit & masks).any(2).any(1)


# %% correct="pointing_game"
def pointing_game(saliency, masks):
    peaks = torch.tensor([divmod(m.argmax().item(), m.shape[1]) for m in saliency])
    return masks[torch.arange(len(masks)), peaks[:, 0], peaks[:, 1]]


# %% mistake="saliency_seeds" named="least for object"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    values = saliency.flatten()
    seeds = torch.zeros_like(saliency, dtype=torch.int64)
    seeds[saliency < values.quantile(object_share)] = 1
    seeds[saliency > values.quantile(1 - background_share)] = 2
    return seeds


# %% correct="saliency_seeds"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    ranks = saliency.flatten().argsort().argsort().reshape(saliency.shape)
    share = (ranks + 0.5) / saliency.numel()
    return (share > 1 - object_share).long() + 2 * (share < background_share).long()


# %% mistake="intersection_over_union" named="rounded down"
def intersection_over_union(segments, masks):
    both, either = (segments & masks).sum((1, 2)), (segments | masks).sum((1, 2))
    return torch.where(either > 0, both // either.clamp(min=1), 1)


# %% correct="intersection_over_union"
def intersection_over_union(segments, masks):
    different = (segments ^ masks).sum((1, 2))
    both = (segments & masks).sum((1, 2))
    return torch.where(both + different == 0, 1.0, both / (both + different))


# %% correct="randomise_layers"
def randomise_layers(model, names, generator):
    randomised = copy.deepcopy(model)
    for name, parameter in randomised.named_parameters():
        if name.endswith(".weight") and name.removesuffix(".weight") in names:
            spread = parameter.detach().std()
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data = spread * noise
    return randomised


# %% correct="recompute_batchnorm"
def recompute_batchnorm(model, images):
    # Two passes: the second one meets layers that are all measured already.
    training = model.training
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1
    with torch.no_grad():
        for _ in range(2):
            model.train()(images)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    return model.train(training)


# %% [markdown]
# Changes to the solutions that no test can notice.

# %% equivalent="compute_saliency_maps" reason="the copy may hang on a graph: its gradient is the same"
# - X = X.detach().clone().requires_grad_()
# + X = X.clone().requires_grad_()

# %% equivalent="compute_saliency_maps" reason="detach gives a tensor of its own, and no module works in place"
# - X = X.detach().clone().requires_grad_()
# + X = X.detach().requires_grad_()

# %% equivalent="score_gradients" reason="detach gives a tensor of its own, and no module works in place"
# - X = X.detach().clone().requires_grad_()
# + X = X.detach().requires_grad_()

# %% equivalent="score_gradients" reason="the copy may hang on a graph: its gradient is the same"
# - X = X.detach().clone().requires_grad_()
# + X = X.clone().requires_grad_()

# %% equivalent="score_gradients" reason="one gradient is asked for: the first is the last"
# - torch.autograd.grad(score_of_class.sum(), X, retain_graph=True)[0]
# + torch.autograd.grad(score_of_class.sum(), X, retain_graph=True)[-1]

# %% equivalent="probability_gradient" reason="indices may lie on the CPU"
# - image = torch.arange(len(y), device=y.device)
# + image = torch.arange(len(y))

# %% equivalent="smooth_grad" reason="the sum may hang on a graph: its gradient is the same"
# - noisy = (X + perturbation).detach().requires_grad_()
# + noisy = (X + perturbation).requires_grad_()

# %% equivalent="smooth_grad" reason="an absolute value has no sign"
# - mean += torch.autograd.grad(scores.sum(), noisy)[0] / len(noise)
# + mean -= torch.autograd.grad(scores.sum(), noisy)[0] / len(noise)

# %% equivalent="pointing_game" reason="there is one column"
# - return masks.flatten(1).gather(1, peaks)[:, 0]
# + return masks.flatten(1).gather(1, peaks)[:, -1]

# %% equivalent="occlusion_map" reason="a result that hangs on autograd's graph is right as well, only slower"
# - with torch.no_grad():
# + if True:

# %% equivalent="occlusion_map" reason="there is one column, and one row"
# - falls[:, a : a + size, b : b + size] += fall[:, :, None]
# + falls[:, a : a + size, b : b + size] += fall[:, None, :]

# %% equivalent="integrated_gradients" reason="the sum may hang on a graph: its gradient is the same"
# - point = (baseline + (t + 0.5) / steps * (X - baseline)).detach().requires_grad_()
# + point = (baseline + (t + 0.5) / steps * (X - baseline)).requires_grad_()

# %% equivalent="integrated_gradients" reason="one gradient is asked for: the first is the last"
# - mean += torch.autograd.grad(scores.sum(), point)[0] / steps
# + mean += torch.autograd.grad(scores.sum(), point)[-1] / steps

# %% equivalent="deletion_curve" reason="the last axis is the default"
# - order = saliency.flatten(1).argsort(dim=1, descending=True)
# + order = saliency.flatten(1).argsort(descending=True)

# %% equivalent="deletion_curve" reason="the last axis is the default"
# - rank = order.argsort(dim=1).reshape(saliency.shape)
# + rank = order.argsort().reshape(saliency.shape)

# %% equivalent="deletion_curve" reason="the number of steps divides the number of pixels, says the stub"
# - pixels, curve = saliency[0].numel() // steps, []
# + pixels, curve = -(-(saliency[0].numel()) // (steps)), []

# %% equivalent="deletion_curve" reason="all maps have as many pixels"
# - pixels, curve = saliency[0].numel() // steps, []
# + pixels, curve = saliency[-1].numel() // steps, []

# %% equivalent="deletion_curve" reason="the number of steps divides the number of pixels, says the stub"
# - pixels, curve = saliency[0].numel() // steps, []
# + pixels, curve = saliency[0].numel() / steps, []

# %% equivalent="deletion_curve" reason="a result that hangs on autograd's graph is right as well, only slower"
# - with torch.no_grad():
# + if True:

# %% equivalent="saliency_seeds" reason="the quantile is that of all values, on any number of axes"
# - values = saliency.flatten()
# + values = saliency

# %% equivalent="saliency_seeds" reason="with a whole number of pixels the quantile lies between two values"
# - seeds[saliency > values.quantile(1 - object_share)] = 1
# + seeds[saliency >= values.quantile(1 - object_share)] = 1

# %% equivalent="saliency_seeds" reason="with a whole number of pixels the quantile lies between two values"
# - seeds[saliency < values.quantile(background_share)] = 2
# + seeds[saliency <= values.quantile(background_share)] = 2

# %% equivalent="recompute_batchnorm" reason="the statistics that it leaves behind are no part of a graph"
# - with torch.no_grad():
# + if True:

# %% equivalent="intersection_over_union" reason="axes are summed in any order"
# - intersection = (segments & masks).sum(dim=(1, 2))
# + intersection = (segments & masks).sum(dim=(2, 1))

# %% equivalent="intersection_over_union" reason="axes are summed in any order"
# - union = (segments | masks).sum(dim=(1, 2))
# + union = (segments | masks).sum(dim=(2, 1))

# %% equivalent="smooth_grad" reason="one gradient is asked for: the first is the last"
# - mean += torch.autograd.grad(scores.sum(), noisy)[0] / len(noise)
# + mean += torch.autograd.grad(scores.sum(), noisy)[-1] / len(noise)


# %% mistake="score_gradients" named="calls `captum.attr.Saliency"
def score_gradients(X, model):
    from captum.attr import Saliency

    way, classes = Saliency(model), model(X).shape[1]
    each = [way.attribute(X.clone(), target=c, abs=False) for c in range(classes)]
    return torch.stack(each, dim=1)


# %% mistake="smooth_grad" named="calls `captum.attr.Saliency"
def smooth_grad(X, y, model, noise):
    import importlib

    way = importlib.import_module("captum.attr").Saliency(model)
    each = [way.attribute(X + sample, target=y, abs=False) for sample in noise]
    return torch.stack(each).mean(0).abs().sum(1)


# %% mistake="saliency_seeds" named="expected int64, got torch.float64"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    seeds = torch.zeros_like(saliency)
    seeds[saliency > saliency.quantile(1 - object_share)] = 1
    seeds[saliency < saliency.quantile(background_share)] = 2
    return seeds
