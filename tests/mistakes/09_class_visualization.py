# %% [markdown]
# What students really write: each cell replaces the cell of its exercise in lab 09.

# %% mistake="class_visualization_update_step" named="norm in the regulariser isn't squared, and is the whole batch's"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    img.requires_grad_()
    scores = model(img).gather(1, target_y[:, None]).sum() - l2_reg * torch.norm(img)
    scores.backward()
    norm = img.grad.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    img.data += learning_rate * img.grad / norm
    img.grad = None
    img.requires_grad_(False)


# %% mistake="class_visualization_update_step" named="norm in the regulariser isn't squared"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.clone().requires_grad_()
    for i in range(len(x)):
        score = model(x[i : i + 1])[0, target_y[i]] - l2_reg * x[i].norm()
        (gradient,) = torch.autograd.grad(score, x)
        img[i] += learning_rate * gradient[i] / (gradient[i].norm() + 1e-12)


# %% mistake="class_visualization_update_step" named="outside the learning rate"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().clone().requires_grad_()
    model(x).gather(1, target_y.view(-1, 1)).sum().backward()
    g = x.grad
    img += learning_rate * g / (g.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-12)
    img -= 2 * l2_reg * x.detach()


# %% mistake="class_visualization_update_step" named="only the score's gradient is normalised"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().clone().requires_grad_()
    model(x).gather(1, target_y.view(-1, 1)).sum().backward()
    g = x.grad / (x.grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-12)
    img += learning_rate * (g - 2 * l2_reg * x.detach())


# %% mistake="class_visualization_update_step" named="regulariser's sign is reversed"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().requires_grad_()
    loss = model(x)[torch.arange(len(x)), target_y].sum() + l2_reg * (x * x).sum()
    loss.backward()
    img += learning_rate * x.grad / (x.grad.flatten(1).norm(dim=1)[:, None, None, None] + 1e-12)


# %% mistake="class_visualization_update_step" named="it goes downhill"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().requires_grad_()
    loss = model(x)[torch.arange(len(x)), target_y].sum() - l2_reg * (x * x).sum()
    loss.backward()
    img -= learning_rate * x.grad / (x.grad.flatten(1).norm(dim=1)[:, None, None, None] + 1e-12)


# %% mistake="class_visualization_update_step" named="it climbs the softmax or its logarithm"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().requires_grad_()
    loss = nn.functional.cross_entropy(model(x), target_y, reduction="sum")
    objective = -loss - l2_reg * (x * x).sum()
    (g,) = torch.autograd.grad(objective, x)
    img += learning_rate * g / g.flatten(1).norm(dim=1)[:, None, None, None]


# %% mistake="class_visualization_update_step" named="it climbs the softmax or its logarithm"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().requires_grad_()
    p = model(x).softmax(1).gather(1, target_y[:, None])
    (g,) = torch.autograd.grad(p.sum() - l2_reg * (x * x).sum(), x)
    img += learning_rate * g / g.flatten(1).norm(dim=1)[:, None, None, None]


# %% mistake="class_visualization_update_step" named="every image climbs the classes of the whole batch"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().requires_grad_()
    (g,) = torch.autograd.grad(model(x)[:, target_y].sum() - l2_reg * (x * x).sum(), x)
    img += learning_rate * g / g.flatten(1).norm(dim=1)[:, None, None, None]


# %% mistake="class_visualization_update_step" named="the class that is predicted, not target_y"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().requires_grad_()
    (g,) = torch.autograd.grad(model(x).max(dim=1).values.sum() - l2_reg * (x * x).sum(), x)
    img += learning_rate * g / g.flatten(1).norm(dim=1)[:, None, None, None]


# %% mistake="class_visualization_update_step" named="isn't normalised"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().requires_grad_()
    s = model(x).gather(1, target_y[:, None]).sum() - l2_reg * (x * x).sum()
    (g,) = torch.autograd.grad(s, x)
    img += learning_rate * g


# %% mistake="class_visualization_update_step" named="whole batch's norm, not by each image's own"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().requires_grad_()
    s = model(x).gather(1, target_y[:, None]).sum() - l2_reg * (x * x).sum()
    (g,) = torch.autograd.grad(s, x)
    img += learning_rate * g / (g.norm() + 1e-12)


# %% mistake="class_visualization_update_step" named="change it in place"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().clone().requires_grad_()
    s = model(x).gather(1, target_y[:, None]).sum() - l2_reg * (x * x).sum()
    (g,) = torch.autograd.grad(s, x)
    return img + learning_rate * g / (g.flatten(1).norm(dim=1)[:, None, None, None] + 1e-12)


# %% mistake="class_visualization_update_step" named="img requires gradients after the step"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    img.requires_grad_()
    s = model(img).gather(1, target_y[:, None]).sum() - l2_reg * (img * img).sum()
    s.backward()
    g = img.grad
    img.data += learning_rate * g / (g.flatten(1).norm(dim=1)[:, None, None, None] + 1e-12)
    img.grad = None


# %% mistake="class_visualization_update_step" named="gradients of earlier steps add up"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    img.requires_grad_()
    s = model(img).gather(1, target_y[:, None]).sum() - l2_reg * (img * img).sum()
    s.backward()
    g = img.grad
    img.data += learning_rate * g / (g.flatten(1).norm(dim=1)[:, None, None, None] + 1e-12)
    img.requires_grad_(False)


# %% mistake="class_visualization_update_step" named="this is 0 / 0"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().requires_grad_()
    s = model(x).gather(1, target_y[:, None]).sum() - l2_reg * (x * x).sum()
    (g,) = torch.autograd.grad(s, x)
    img += learning_rate * g / g.flatten(1).norm(dim=1)[:, None, None, None]


# %% mistake="class_visualization_update_step" named="in another mode"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    model.train()
    x = img.detach().requires_grad_()
    s = 0
    for i in range(len(x)):
        model.eval()
        s = s + model(x[i : i + 1])[0, target_y[i]] - l2_reg * (x[i] ** 2).sum()
        model.train()
    (g,) = torch.autograd.grad(s, x)
    img += learning_rate * g / (g.flatten(1).norm(dim=1)[:, None, None, None] + 1e-12)


# %% mistake="class_visualization_update_step" named="in another mode"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    training = model.training
    model.eval()
    x = img.detach().requires_grad_()
    f = model(x).gather(1, target_y[:, None]).sum() - l2_reg * (x**2).sum()
    (g,) = torch.autograd.grad(f, x)
    img += learning_rate * g / (g.flatten(1).norm(dim=1)[:, None, None, None] + 1e-12)
    model.train(training)  # for all of its modules, whatever their own mode was


# %% correct="class_visualization_update_step"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    # CS231n's way, one image at a time
    for i in range(img.shape[0]):
        x = img[i : i + 1].clone().requires_grad_(True)
        score = model(x)[0, target_y[i]] - l2_reg * torch.norm(x) ** 2
        score.backward()
        norm = x.grad.norm()
        if norm > 0:
            img.data[i] += learning_rate * (x.grad / norm)[0]
        x.grad.zero_()


# %% correct="class_visualization_update_step"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    img.requires_grad_(True)
    scores = model(img)
    loss = -scores[torch.arange(img.shape[0]), target_y].sum() + l2_reg * img.pow(2).sum()
    loss.backward()
    with torch.no_grad():
        g = img.grad
        norm = torch.sqrt((g**2).sum(dim=(1, 2, 3), keepdim=True)) + 1e-10
        img -= learning_rate * g / norm
    img.grad = None
    img.requires_grad_(False)
    print("loss", loss.item())


# %% correct="class_visualization_update_step"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().clone().requires_grad_()
    scores = model(x).gather(1, target_y.view(-1, 1)).squeeze(1)
    scores.backward(torch.ones_like(scores))
    dX = x.grad - 2 * l2_reg * x.detach()
    img[:] = img + learning_rate * nn.functional.normalize(dX.flatten(1)).view_as(img)
    return img


# %% mistake="clamp_image" named="limits for pixels"
def clamp_image(img, mean, std):
    return img.clamp(0, 1)


# %% mistake="clamp_image" named="returns pixels"
def clamp_image(img, mean, std):
    mean, std = mean[:, None, None], std[:, None, None]
    return (img * std + mean).clamp(0, 1)


# %% mistake="clamp_image" named="lined up with the columns"
def clamp_image(img, mean, std):
    return torch.clamp(img, -mean / std, (1 - mean) / std)


# %% mistake="clamp_image" named="the widest, is used for all"
def clamp_image(img, mean, std):
    low, high = -mean / std, (1 - mean) / std
    return img.clamp(low.min().item(), high.max().item())


# %% mistake="clamp_image" named="first channel's limits"
def clamp_image(img, mean, std):
    low, high = -mean[0] / std[0], (1 - mean[0]) / std[0]
    return img.clamp(low.item(), high.item())


# %% mistake="clamp_image" named="modified in place"
def clamp_image(img, mean, std):
    for c in range(3):
        low, high = float(-mean[c] / std[c]), float((1 - mean[c]) / std[c])
        img.data[:, c].clamp_(min=low, max=high)
    return img


# %% mistake="clamp_image" named="last channel's limits"
def clamp_image(img, mean, std):
    for c in range(3):
        low, high = float(-mean[c] / std[c]), float((1 - mean[c]) / std[c])
        result = img.clamp(low, high)
    return result


# %% mistake="clamp_image" named="multiplied by std"
def clamp_image(img, mean, std):
    mean, std = mean.view(3, 1, 1), std.view(3, 1, 1)
    return img.clamp(-mean * std, (1 - mean) * std)


# %% mistake="clamp_image" named="only the upper limit"
def clamp_image(img, mean, std):
    high = ((1 - mean) / std).view(1, 3, 1, 1)
    return torch.minimum(img, high)


# %% correct="clamp_image"
def clamp_image(img, mean, std):
    result = img.clone()
    for c in range(3):
        low, high = float((0 - mean[c]) / std[c]), float((1 - mean[c]) / std[c])
        result[:, c].clamp_(min=low, max=high)
    return result


# %% correct="clamp_image"
def clamp_image(img, mean, std):
    mean, std = mean.reshape(1, 3, 1, 1), std.reshape(1, 3, 1, 1)
    return ((img * std + mean).clamp(0, 1) - mean) / std


# %% correct="clamp_image"
def clamp_image(img, mean, std):
    low, high = -mean / std, (1 - mean) / std
    return torch.maximum(torch.minimum(img, high[:, None, None]), low[:, None, None])


# %% mistake="clip_small_values" named="single values are clipped instead"
def clip_small_values(img, percentile):
    size = img.abs()
    threshold = torch.quantile(size.flatten(1), percentile / 100, dim=1).view(-1, 1, 1, 1)
    return torch.where(size < threshold, torch.zeros_like(img), img)


# %% mistake="clip_small_values" named="whole batch's, not each image's own"
def clip_small_values(img, percentile):
    norms = img.norm(dim=1)
    keep = norms >= torch.quantile(norms, percentile / 100)
    return img * keep[:, None]


# %% mistake="clip_small_values" named="large pixels are clipped"
def clip_small_values(img, percentile):
    norms = img.norm(dim=1)
    threshold = torch.quantile(norms.flatten(1), percentile / 100, dim=1).view(-1, 1, 1)
    return img * (norms < threshold).unsqueeze(1)


# %% mistake="clip_small_values" named="largest 40 % are kept"
def clip_small_values(img, percentile):
    norms = img.norm(dim=1)
    threshold = torch.quantile(norms.flatten(1), 1 - percentile / 100, dim=1).view(-1, 1, 1)
    return img * (norms >= threshold)[:, None]


# %% mistake="clip_small_values" named="channels are summed with their signs"
def clip_small_values(img, percentile):
    sums = img.sum(dim=1)
    threshold = torch.quantile(sums.flatten(1), percentile / 100, dim=1).view(-1, 1, 1)
    return img * (sums >= threshold).unsqueeze(1)


# %% mistake="clip_small_values" named="absolute values are summed"
def clip_small_values(img, percentile):
    sums = img.abs().sum(dim=1)
    threshold = torch.quantile(sums.flatten(1), percentile / 100, dim=1).view(-1, 1, 1)
    return img * (sums >= threshold).unsqueeze(1)


# %% mistake="clip_small_values" named="instead of a percentile"
def clip_small_values(img, percentile):
    norms = img.norm(dim=1)
    threshold = percentile / 100 * norms.amax(dim=(1, 2), keepdim=True)
    return img * (norms >= threshold)[:, None]


# %% mistake="clip_small_values" named="modified in place"
def clip_small_values(img, percentile):
    norms = img.norm(dim=1)
    threshold = torch.quantile(norms.flatten(1), percentile / 100, dim=1).view(-1, 1, 1)
    img *= (norms >= threshold)[:, None]
    return img


# %% correct="clip_small_values"
def clip_small_values(img, percentile):
    result = img.clone()
    for i in range(len(img)):
        norms = np.sqrt((img[i].numpy() ** 2).sum(axis=0))
        small = norms < np.percentile(norms, percentile)
        result[i, :, torch.from_numpy(small)] = 0
    return result


# %% correct="clip_small_values"
def clip_small_values(img, percentile):
    energy = img.pow(2).sum(dim=1)
    N, H, W = energy.shape
    count = min(round(H * W * percentile / 100), H * W - 1)
    result = img.clone().reshape(N, 3, H * W)
    smallest = energy.flatten(1).argsort(dim=1)[:, :count]
    for i in range(N):
        result[i][:, smallest[i]] = 0
    return result.view_as(img)


# %% mistake="clip_small_contributions" named="taken before the sum"
def clip_small_contributions(img, gradient, percentile):
    size = (img * gradient).abs().sum(dim=1)
    threshold = torch.quantile(size.flatten(1), percentile / 100, dim=1).view(-1, 1, 1)
    return img * (size >= threshold).unsqueeze(1)


# %% mistake="clip_small_contributions" named="absolute value is missing"
def clip_small_contributions(img, gradient, percentile):
    size = (img * gradient).sum(dim=1)
    threshold = torch.quantile(size.flatten(1), percentile / 100, dim=1).view(-1, 1, 1)
    return img * (size >= threshold).unsqueeze(1)


# %% mistake="clip_small_contributions" named="only the gradient is looked at"
def clip_small_contributions(img, gradient, percentile):
    size = gradient.norm(dim=1)
    threshold = torch.quantile(size.flatten(1), percentile / 100, dim=1).view(-1, 1, 1)
    return img * (size >= threshold).unsqueeze(1)


# %% mistake="clip_small_contributions" named="only the image is looked at"
def clip_small_contributions(img, gradient, percentile):
    size = img.norm(dim=1)
    threshold = torch.quantile(size.flatten(1), percentile / 100, dim=1).view(-1, 1, 1)
    return img * (size >= threshold).unsqueeze(1)


# %% mistake="clip_small_contributions" named="single values are clipped instead"
def clip_small_contributions(img, gradient, percentile):
    size = (img * gradient).abs()
    threshold = torch.quantile(size.flatten(1), percentile / 100, dim=1).view(-1, 1, 1, 1)
    return img * (size >= threshold)


# %% mistake="clip_small_contributions" named="whole batch's, not each image's own"
def clip_small_contributions(img, gradient, percentile):
    size = (img * gradient).sum(dim=1).abs()
    return img * (size >= torch.quantile(size, percentile / 100))[:, None]


# %% mistake="clip_small_contributions" named="large contributions are clipped"
def clip_small_contributions(img, gradient, percentile):
    size = (img * gradient).sum(dim=1).abs()
    threshold = torch.quantile(size.flatten(1), percentile / 100, dim=1).view(-1, 1, 1)
    return img * (size < threshold).unsqueeze(1)


# %% mistake="clip_small_contributions" named="modified in place"
def clip_small_contributions(img, gradient, percentile):
    size = (img * gradient).sum(dim=1).abs()
    for i in range(len(img)):
        img[i][:, size[i] < torch.quantile(size[i], percentile / 100)] = 0
    return img


# %% correct="clip_small_contributions"
def clip_small_contributions(img, gradient, percentile):
    result = img.clone()
    for i in range(len(img)):
        size = torch.einsum("khw,khw->hw", img[i], gradient[i]).abs()
        result[i][:, size < torch.quantile(size, percentile / 100)] = 0
    return result


# %% correct="clip_small_contributions"
def clip_small_contributions(img, gradient, percentile):
    size = np.abs((img * gradient).numpy().sum(axis=1))
    threshold = np.percentile(size, percentile, axis=(1, 2), keepdims=True)
    keep = torch.from_numpy(size >= threshold)
    return torch.where(keep[:, None], img, torch.zeros_like(img))


# %% mistake="create_class_visualization" named="the jitter isn't undone"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="the jitter isn't undone"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (oy, ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="is the jitter undone after each step, and by the same offset"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return start.clone() if max_jitter else img


# %% mistake="create_class_visualization" named="jitter is missing"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="the same in every iteration"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
    for t in range(num_iterations):
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="always equal"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox = oy = torch.randint(-max_jitter, max_jitter + 1, (1,), generator=generator).item()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="never rolled along the height"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, ox, 3)
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, -ox, 3)
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="same seed drew different offsets"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,)).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="different seeds drew the same offsets"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(0)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="must be Tensor, not NoneType"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        img = update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="update_step does to the images is lost"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img.clone(), target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="aren't clamped"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="0 … 1, the limits of pixels"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(0, 1)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="not at the end"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img.clamp(low, high)


# %% mistake="create_class_visualization" named="first channel's limits"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low[0], high[0])
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="the first iteration is blurred as well"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if t % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="nothing is blurred"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            blur_image(img)
    return img


# %% mistake="create_class_visualization" named="every iteration is blurred"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if num_iterations > blur_every:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="expected num_iterations, which is 12"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(1, num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="update_step was never called"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        x = img.detach().requires_grad_()
        scores = x.sum() - l2_reg * (x**2).sum()
        scores.backward()
        img = img + learning_rate * x.grad / x.grad.norm()
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="the l2_reg that update_step was given"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, learning_rate, l2_reg)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="to one side only"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(0, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="randint leaves out"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="blurred before the step"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        img = img.clamp(low, high)
    return img


# %% mistake="create_class_visualization" named="blurred before it is clamped"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
        img = img.clamp(low, high)
    return img


# %% mistake="create_class_visualization" named="clamped before the step"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = img.clamp(low, high)
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3))
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="roll back first, then blur"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = img.clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
        img = torch.roll(img, (-oy, -ox), (2, 3))
    return img


# %% correct="create_class_visualization"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    import random

    offsets = random.Random(seed)
    img = start.detach().clone()
    for t in range(1, num_iterations + 1):
        ox, oy = (offsets.randint(-max_jitter, max_jitter) for _ in range(2))
        img.data.copy_(torch.roll(img.data, shifts=(ox, oy), dims=(3, 2)))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img.data.copy_(torch.roll(img.data, shifts=(-ox, -oy), dims=(3, 2)))
        for c in range(3):
            low = float(-mean[c] / std[c])
            high = float((1.0 - mean[c]) / std[c])
            img.data[:, c].clamp_(min=low, max=high)
        if t % blur_every == 0:
            img.copy_(blur_image(img))
        if t % 25 == 0:
            print("iteration", t)
    return img


# %% correct="create_class_visualization"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    rng = np.random.default_rng(seed)
    img = start + 0
    for t in range(num_iterations):
        rolled = img.clone()
        ox, oy = (int(o) for o in rng.integers(-max_jitter, max_jitter, size=2, endpoint=True))
        rolled = rolled.roll((oy, ox), (2, 3))
        update_step(rolled, target_y, model, l2_reg, learning_rate)
        img = clamp_image(rolled.roll((-oy, -ox), (2, 3)), mean, std)
        if t % blur_every == blur_every - 1:
            img = blur_image(img)
    return img


# %% mistake="fourier_image" named="the factor s is missing"
def fourier_image(spectrum, width):
    waves = torch.complex(spectrum[..., 0], spectrum[..., 1])
    size = (spectrum.shape[2], width)
    return torch.sigmoid(torch.fft.irfft2(waves, s=size, norm="ortho"))


# %% mistake="fourier_image" named="the width is taken for even"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = 1 / (rows**2 + columns**2).sqrt().clamp(min=1 / max(height, width))
    waves = torch.complex(spectrum[..., 0], spectrum[..., 1]) * scale
    return torch.sigmoid(torch.fft.irfft2(waves, norm="ortho"))


# %% mistake="fourier_image" named="the logistic function is missing"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = 1 / torch.hypot(rows, columns).clamp(min=1 / max(height, width))
    waves = torch.view_as_complex(spectrum) * scale
    return torch.fft.irfft2(waves, s=(height, width), norm="ortho")


# %% mistake="fourier_image" named="isn't orthonormal"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = 1 / torch.hypot(rows, columns).clamp(min=1 / max(height, width))
    waves = torch.view_as_complex(spectrum) * scale
    return torch.fft.irfft2(waves, s=(height, width)).sigmoid()


# %% mistake="fourier_image" named="bounded by 1 / min(H, W)"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = 1 / torch.hypot(rows, columns).clamp(min=1 / min(height, width))
    waves = torch.view_as_complex(spectrum) * scale
    return torch.fft.irfft2(waves, s=(height, width), norm="ortho").sigmoid()


# %% mistake="fourier_image" named="bounded by 1 / min(H, W)"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = 1 / torch.hypot(rows, columns).clamp(min=1 / width)
    waves = torch.view_as_complex(spectrum) * scale
    return torch.fft.irfft2(waves, s=(height, width), norm="ortho").sigmoid()


# %% mistake="fourier_image" named="NaN"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    waves = torch.view_as_complex(spectrum) / torch.hypot(rows, columns)
    return torch.fft.irfft2(waves, s=(height, width), norm="ortho").sigmoid()


# %% mistake="fourier_image" named="multiplied by the frequency instead of divided"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = torch.hypot(rows, columns).clamp(min=1 / max(height, width))
    waves = torch.view_as_complex(spectrum) * scale
    return torch.fft.irfft2(waves, s=(height, width), norm="ortho").sigmoid()


# %% mistake="fourier_image" named="those of the second half are negative"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width // 2 + 1) / width
    scale = 1 / torch.hypot(rows, columns).clamp(min=1 / max(height, width))
    waves = torch.view_as_complex(spectrum) * scale
    return torch.fft.irfft2(waves, s=(height, width), norm="ortho").sigmoid()


# %% mistake="fourier_image" named="f_u and f_v are added"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = 1 / (rows.abs() + columns).clamp(min=1 / max(height, width))
    waves = torch.view_as_complex(spectrum) * scale
    return torch.fft.irfft2(waves, s=(height, width), norm="ortho").sigmoid()


# %% mistake="fourier_image" named="the root is missing"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = 1 / (rows**2 + columns**2).clamp(min=1 / max(height, width))
    waves = torch.view_as_complex(spectrum) * scale
    return torch.fft.irfft2(waves, s=(height, width), norm="ortho").sigmoid()


# %% mistake="fourier_image" named="real and the imaginary part are exchanged"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = 1 / torch.hypot(rows, columns).clamp(min=1 / max(height, width))
    waves = torch.complex(spectrum[..., 1], spectrum[..., 0]) * scale
    return torch.fft.irfft2(waves, s=(height, width), norm="ortho").sigmoid()


# %% mistake="fourier_image" named="the imaginary part is left out"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = 1 / torch.hypot(rows, columns).clamp(min=1 / max(height, width))
    return torch.fft.irfft2(spectrum[..., 0] * scale, s=(height, width), norm="ortho").sigmoid()


# %% mistake="fourier_image" named="no gradient flows back"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    scale = 1 / np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    waves = spectrum.detach().numpy() @ np.array([1, 1j]) * scale
    image = np.fft.irfft2(waves, s=(height, width), norm="ortho")
    return torch.from_numpy(1 / (1 + np.exp(-image))).to(spectrum.dtype)


# %% mistake="fourier_image" named="was modified in place"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = 1 / torch.hypot(rows, columns).clamp(min=1 / max(height, width))
    spectrum *= scale[..., None]
    waves = torch.view_as_complex(spectrum)
    return torch.fft.irfft2(waves, s=(height, width), norm="ortho").sigmoid()


# %% correct="fourier_image"
def fourier_image(spectrum, width):
    height = spectrum.shape[2]
    rows, columns = torch.fft.fftfreq(height), torch.fft.rfftfreq(width)
    frequency = torch.sqrt(rows.reshape(-1, 1) ** 2 + columns.reshape(1, -1) ** 2)
    frequency[0, 0] = 1 / max(height, width)
    waves = torch.view_as_complex(spectrum.contiguous()) / frequency
    image = torch.fft.irfft2(waves, s=(height, width)) * (height * width) ** 0.5
    return 1 / (1 + torch.exp(-image))


# %% correct="fourier_image"
def fourier_image(spectrum, width):
    h = spectrum.size(2)
    rows = np.fft.fftfreq(h)[:, None]
    columns = np.fft.fftfreq(width)[: width // 2 + 1]
    scale = 1.0 / np.maximum(np.sqrt(rows**2 + columns**2), 1.0 / max(width, h))
    scale = torch.tensor(scale, dtype=spectrum.dtype)[None, None, :, :, None]
    scaled = scale * spectrum
    waves = scaled[..., 0] + 1j * scaled[..., 1]
    return torch.sigmoid(torch.fft.irfftn(waves, s=(h, width), dim=(2, 3), norm="ortho"))


# %% correct="fourier_image"
def fourier_image(spectrum, width):
    H, W = spectrum.shape[2], width
    images = []
    for parts in spectrum:
        channels = []
        for real, imaginary in zip(parts[..., 0], parts[..., 1]):
            f = torch.hypot(
                torch.fft.fftfreq(H, dtype=real.dtype)[:, None],
                torch.fft.rfftfreq(W, dtype=real.dtype),
            )
            s = 1 / torch.maximum(f, torch.full_like(f, 1 / max(H, W)))
            along_rows = torch.fft.ifft(torch.complex(real, imaginary) * s, dim=0, norm="ortho")
            channels.append(torch.fft.irfft(along_rows, n=W, dim=1, norm="ortho"))
        images.append(torch.stack(channels))
    return torch.stack(images).sigmoid()


# %% mistake="deep_dream" named="it goes downhill"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() - learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - base
    return img


# %% mistake="deep_dream" named="the activations themselves are summed"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            features(x).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - base
    return img


# %% mistake="deep_dream" named="isn't divided by mean|g|"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2 / 2).sum().backward()
            img = (x.detach() + learning_rate * x.grad).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - base
    return img


# %% mistake="deep_dream" named="divided by its norm"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - base
    return img


# %% mistake="deep_dream" named="aren't clamped"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).roll((-oy, -ox), (2, 3))
        detail = img - base
    return img


# %% mistake="deep_dream" named="clamped at the end only"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).roll((-oy, -ox), (2, 3))
        img = img.clamp(0, 1)
        detail = img - base
    return img


# %% mistake="deep_dream" named="the whole batch's, not each image's own"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean()
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - base
    return img


# %% mistake="deep_dream" named="as from 0 / 0"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - base
    return img


# %% mistake="deep_dream" named="ox and oy are swapped"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((ox, oy), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-ox, -oy), (2, 3))
        detail = img - base
    return img


# %% mistake="deep_dream" named="it isn't rolled back after a step"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1)
        detail = img - base
    return img


# %% mistake="deep_dream" named="there is no jitter"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for _ in octave:
            x = img.clone().requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1)
        detail = img - base
    return img


# %% mistake="deep_dream" named="isn't rolled back with the image"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (img + learning_rate * g).clamp(0, 1)
        detail = img - base
    return img


# %% mistake="deep_dream" named="the whole picture is enlarged"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    img = photograph
    for size, octave in zip(sizes, offsets):
        img = resize(img, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
    return img


# %% mistake="deep_dream" named="the octaves before is lost"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    for size, octave in zip(sizes, offsets):
        img = resize(photograph, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
    return img


# %% mistake="deep_dream" named="only what the last octave added"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        start = img = resize(photograph, size) + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - start
    return img


# %% mistake="deep_dream" named="counts twice"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base, detail = resize(photograph, size), resize(detail, size)
        img = base + detail
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail += img - base
    return img


# %% mistake="deep_dream" named="shrink the photograph anew"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail, base = torch.zeros_like(photograph), photograph
    for size, octave in zip(sizes, offsets):
        base = resize(base, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - base
    return img


# %% mistake="deep_dream" named="the last octave's offsets are used for all"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size in sizes:
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in offsets[-1].tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - base
    return img


# %% mistake="deep_dream" named="the detail is returned"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - base
    return detail


# %% mistake="deep_dream" named="`photograph` was modified in place"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = photograph if tuple(size) == photograph.shape[2:] else resize(photograph, size)
        img = base
        img += resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - resize(photograph, size)
    return img


# %% mistake="deep_dream" named="in another mode"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    features.eval()
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - base
    return img


# %% correct="deep_dream"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for number in range(len(sizes)):
        base = resize(photograph, sizes[number])
        img = base + resize(detail, sizes[number])
        for offset in offsets[number]:
            ox, oy = int(offset[0]), int(offset[1])
            x = torch.roll(torch.roll(img, ox, 3), oy, 2)
            x.requires_grad = True
            (features(x) ** 2 / 2).sum().backward()
            with torch.no_grad():
                x += learning_rate * x.grad / (x.grad.abs().mean((1, 2, 3), keepdim=True) + 1e-15)
                x.clamp_(0, 1)
                img = torch.roll(torch.roll(x, -ox, 3), -oy, 2)
        detail = img - base
    return img


# %% correct="deep_dream"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    dreams = []
    for picture in photograph.split(1):
        detail = 0 * picture
        for size, octave in zip(sizes, offsets.numpy()):
            base = resize(picture, size)
            img = base + resize(detail, size)
            for ox, oy in octave:
                x = img.detach().roll((int(oy), int(ox)), (2, 3)).requires_grad_()
                norm = torch.linalg.vector_norm(features(x))
                gradient = torch.autograd.grad(norm, x)[0] if norm > 0 else 0 * x.detach()
                mean = gradient.abs().mean()
                if mean > 0:
                    gradient = gradient / mean
                moved = x.detach() + learning_rate * gradient
                moved = moved.roll((-int(oy), -int(ox)), (2, 3))
                img = torch.clamp(moved, 0.0, 1.0)
            detail = img - base
        print(float(img.mean()))
        dreams.append(img)
    return torch.cat(dreams)


# %% correct="deep_dream"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    def one_step(img, ox, oy):
        x = img.roll((oy, ox), (2, 3)).requires_grad_()
        activations = features(x)
        (g,) = torch.autograd.grad(activations, x, grad_outputs=activations.detach())
        for n in range(len(g)):
            if g[n].any():
                g[n] /= g[n].abs().sum() / g[n].numel()
        return (x.detach() + learning_rate * g).clip(0, 1).roll((-oy, -ox), (2, 3))

    img = base = resize(photograph, sizes[0])
    for number, (height, width) in enumerate(sizes):
        enlarged = resize(img - base, (height, width))
        base = resize(photograph, (height, width))
        img = base + enlarged
        for ox, oy in offsets[number].tolist():
            img = one_step(img, ox, oy)
    return img


# %% mistake="channel_scores" named="overwritten its output in place"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        model(X)
    finally:
        handle.remove()
    return kept[0].mean(dim=(2, 3))


# %% mistake="channel_scores" named="remove yours, and only yours"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    module.register_forward_hook(lambda module, inputs, output: kept.append(output.mean((2, 3))))
    model(X)
    return kept[0]


# %% mistake="channel_scores" named="after an exception"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(
        lambda module, inputs, output: kept.append(output.mean((2, 3)))
    )
    model(X)
    handle.remove()
    return kept[0]


# %% mistake="channel_scores" named="no gradient flows back"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(
        lambda module, inputs, output: kept.append(output.detach().clone())
    )
    try:
        model(X)
    finally:
        handle.remove()
    return kept[0].mean(dim=(2, 3))


# %% mistake="channel_scores" named="summed over the places"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(
        lambda module, inputs, output: kept.append(output.sum(dim=(2, 3)))
    )
    try:
        model(X)
    finally:
        handle.remove()
    return kept[0]


# %% mistake="channel_scores" named="largest activation is taken"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(
        lambda module, inputs, output: kept.append(output.amax(dim=(2, 3)))
    )
    try:
        model(X)
    finally:
        handle.remove()
    return kept[0]


# %% mistake="channel_scores" named="the layer's input, not of its output"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(
        lambda module, inputs, output: kept.append(inputs[0].mean(dim=(2, 3)))
    )
    try:
        model(X)
    finally:
        handle.remove()
    return kept[0]


# %% mistake="channel_scores" named="over the batch too"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(
        lambda module, inputs, output: kept.append(output.mean(dim=(0, 2, 3)))
    )
    try:
        model(X)
    finally:
        handle.remove()
    return kept[0]


# %% mistake="channel_scores" named="one number"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(lambda module, inputs, output: kept.append(output.mean()))
    try:
        model(X)
    finally:
        handle.remove()
    return kept[0]


# %% mistake="channel_scores" named="whole activation map"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(
        lambda module, inputs, output: kept.append(output.clone())
    )
    try:
        model(X)
    finally:
        handle.remove()
    return kept[0]


# %% mistake="channel_scores" named="was swallowed"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(
        lambda module, inputs, output: kept.append(output.mean((2, 3)))
    )
    try:
        model(X)
    except RuntimeError:
        kept.append(torch.zeros(len(X), 1))
    finally:
        handle.remove()
    return kept[0]


# %% mistake="channel_scores" named="remove yours, and only yours"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    module.register_forward_hook(lambda module, inputs, output: kept.append(output.mean((2, 3))))
    try:
        model(X)
    finally:
        module._forward_hooks.clear()
    return kept[0]


# %% mistake="channel_scores" named="was left in another mode"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(
        lambda module, inputs, output: kept.append(output.mean(dim=(2, 3)))
    )
    try:
        model(X)
    finally:
        handle.remove()
    return (kept[0], model.train())[0]


# %% correct="channel_scores"
def channel_scores(X, model, layer):
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(
        lambda module, inputs, output: kept.append(output.clone())
    )
    try:
        model(X)
    finally:
        handle.remove()
    return kept[-1].mean(dim=3).mean(dim=2)


# %% correct="channel_scores"
def channel_scores(X, model, layer):
    activations = {}

    def keep(module, args, output):
        activations[layer] = output.flatten(2).mean(-1)

    with dict(model.named_modules())[layer].register_forward_hook(keep):
        scores = model(X)
    print(scores.shape)
    return activations[layer]


# %% correct="channel_scores"
def channel_scores(X, model, layer):
    means, module = [], model
    for part in layer.split("."):
        module = getattr(module, part)

    def keep(module, inputs, output):
        means.append(torch.einsum("nchw->nc", output) / output[0, 0].numel())

    handle = module.register_forward_hook(keep)
    try:
        model(X)
    finally:
        handle.remove()
    return means[0]


# %% correct="clip_small_values"
def clip_small_values(img, percentile):
    images = []
    for image in img:
        norms = torch.linalg.vector_norm(image, dim=0)
        images.append(image.masked_fill(norms < norms.quantile(percentile / 100), 0.0))
    return torch.stack(images)


# %% correct="clip_small_contributions"
def clip_small_contributions(img, gradient, percentile):
    images = []
    for image, slope in zip(img, gradient):
        size = (image * slope).sum(0).abs()
        images.append(torch.where(size >= size.quantile(percentile / 100), image, 0.0))
    return torch.stack(images)


# %% correct="create_class_visualization"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    lowest, highest = (((end - mean) / std).to(start).view(3, 1, 1) for end in (0, 1))
    img = start.clone()
    for t in range(num_iterations):
        shift = [
            int(torch.randint(-max_jitter, max_jitter + 1, (), generator=generator))
            for _ in range(2)
        ]
        shifted = torch.roll(img, shift, (2, 3))
        update_step(shifted, target_y, model, l2_reg, learning_rate)
        img = torch.roll(shifted, [-steps for steps in shift], (2, 3))
        img = torch.minimum(torch.maximum(img, lowest), highest)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="draw both numbers independently"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox = torch.randint(-max_jitter, max_jitter + 1, (1,), generator=generator).item()
        oy = -ox
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3)).clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="draw both numbers independently"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        ox, oy = (max_jitter * (2 * torch.randint(2, (2,), generator=generator) - 1)).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3)).clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="draw both numbers independently"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        offset = torch.randint(-max_jitter, max_jitter + 1, (1,), generator=generator).item()
        ox, oy = (offset, 0) if t % 2 else (0, offset)
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3)).clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="create_class_visualization" named="draw a new one for every step"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for t in range(num_iterations):
        if t % 2 == 0:
            ox, oy = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, (oy, ox), (2, 3))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, (-oy, -ox), (2, 3)).clamp(low, high)
        if (t + 1) % blur_every == 0:
            img = blur_image(img)
    return img


# %% mistake="class_visualization_update_step" named="a norm less than 0.01 is taken for 0.01"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    x = img.detach().requires_grad_()
    f = model(x).gather(1, target_y[:, None]).sum() - l2_reg * (x**2).sum()
    (g,) = torch.autograd.grad(f, x)
    img += learning_rate * g / g.flatten(1).norm(dim=1).clamp(min=0.01).view(-1, 1, 1, 1)


# %% mistake="deep_dream" named="a mean less than 0.01 is taken for 0.01"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave.tolist():
            x = img.roll((oy, ox), (2, 3)).requires_grad_()
            (features(x) ** 2 / 2).sum().backward()
            g = x.grad / x.grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=0.01)
            img = (x.detach() + learning_rate * g).clamp(0, 1).roll((-oy, -ox), (2, 3))
        detail = img - base
    return img


# %% correct="class_visualization_update_step"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    p = nn.Parameter(img.detach().clone())
    ascent = torch.optim.SGD([p], lr=learning_rate, maximize=True)
    scores = model(p)
    wanted = (scores * F.one_hot(target_y, scores.shape[1])).sum()
    wanted.sub(l2_reg * p.pow(2).sum()).backward()
    p.grad = F.normalize(p.grad.flatten(1), dim=1, eps=1e-8).view_as(p)
    ascent.step()
    img.copy_(p.detach())


# %% equivalent="fourier_image" reason="the scale is rounded to float32, within what the tests allow"
# - rows, columns = torch.fft.fftfreq(height, **like), torch.fft.rfftfreq(width, **like)
# + rows, columns = torch.fft.fftfreq(height), torch.fft.rfftfreq(width, **like)

# %% equivalent="fourier_image" reason="the scale is rounded to float32, within what the tests allow"
# - rows, columns = torch.fft.fftfreq(height, **like), torch.fft.rfftfreq(width, **like)
# + rows, columns = torch.fft.fftfreq(height, **like), torch.fft.rfftfreq(width)

# %% equivalent="fourier_image" reason="the sum of squares is symmetric"
# - frequency = torch.hypot(rows[:, None], columns)
# + frequency = torch.hypot(columns, rows[:, None])

# %% equivalent="fourier_image" reason="the maximum is symmetric"
# - scale = 1 / frequency.clamp(min=1 / max(height, width))
# + scale = 1 / frequency.clamp(min=1 / max(width, height))

# %% equivalent="deep_dream" reason="a tensor's rows unpack like a list's, and shifts may be tensors of one number"
# - for size, octave in zip(sizes, offsets.tolist(), strict=True):
# + for size, octave in zip(sizes, offsets, strict=True):

# %% equivalent="deep_dream" reason="a factor of the objective is divided out"
# - (gradient,) = torch.autograd.grad(features(x).square().sum() / 2, x)
# + (gradient,) = torch.autograd.grad(features(x).square().sum(), x)

# %% equivalent="deep_dream" reason="a factor of the objective is divided out"
# - (gradient,) = torch.autograd.grad(features(x).square().sum() / 2, x)
# + (gradient,) = torch.autograd.grad(features(x).square().mean() / 2, x)

# %% equivalent="deep_dream" reason="a factor of the objective is divided out"
# - (gradient,) = torch.autograd.grad(features(x).square().sum() / 2, x)
# + (gradient,) = torch.autograd.grad(features(x).square().sum() * 2, x)

# %% equivalent="deep_dream" reason="a factor of the objective is divided out"
# - (gradient,) = torch.autograd.grad(features(x).square().sum() / 2, x)
# + (gradient,) = torch.autograd.grad(features(x).square().sum() / 1, x)

# %% equivalent="deep_dream" reason="a factor of the objective is divided out"
# - (gradient,) = torch.autograd.grad(features(x).square().sum() / 2, x)
# + (gradient,) = torch.autograd.grad(features(x).square().sum() / 3, x)

# %% equivalent="deep_dream" reason="axes are averaged in any order"
# - strength = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
# + strength = gradient.abs().mean(dim=(2, 1, 3), keepdim=True).clamp(min=1e-12)

# %% equivalent="deep_dream" reason="axes are averaged in any order"
# - strength = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
# + strength = gradient.abs().mean(dim=(1, 3, 2), keepdim=True).clamp(min=1e-12)

# %% equivalent="deep_dream" reason="any tiny number does"
# - strength = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
# + strength = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=5e-13)

# %% equivalent="deep_dream" reason="any tiny number does"
# - strength = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
# + strength = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=2e-12)

# %% equivalent="deep_dream" reason="the values are the same; the result is part of a graph"
# - stepped = (x.detach() + learning_rate * gradient / strength).clamp(0, 1)
# + stepped = (x + learning_rate * gradient / strength).clamp(0, 1)

# %% equivalent="class_visualization_update_step" reason="any tiny number does"
# - norm = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)  # 0 / 0 where the gradient is zero
# + norm = gradient.flatten(1).norm(dim=1).clamp(min=5e-13)  # 0 / 0 where the gradient is zero

# %% equivalent="class_visualization_update_step" reason="any tiny number does"
# - norm = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)  # 0 / 0 where the gradient is zero
# + norm = gradient.flatten(1).norm(dim=1).clamp(min=2e-12)  # 0 / 0 where the gradient is zero

# %% equivalent="channel_scores" reason="axes are averaged in any order"
# - lambda module, inputs, output: means.append(output.mean(dim=(2, 3)))
# + lambda module, inputs, output: means.append(output.mean(dim=(3, 2)))

# %% equivalent="channel_scores" reason="the layer runs once, so its first mean is its last"
# - return means[0]
# + return means[-1]

# %% equivalent="clip_small_contributions" reason="a pixel's mean is a third of its sum, and orders the pixels alike"
# - contributions = (img * gradient).sum(dim=1).abs()
# + contributions = (img * gradient).mean(dim=1).abs()

# %% equivalent="clip_small_contributions" reason="a square orders the pixels like an absolute value"
# - contributions = (img * gradient).sum(dim=1).abs()
# + contributions = (img * gradient).sum(dim=1).square()

# %% equivalent="create_class_visualization" reason="torch.roll, which comes first, makes a new tensor"
# - img = start.clone()
# + img = start
