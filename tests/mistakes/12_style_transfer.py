# %% [markdown]
# What students really write for lab 12, wrong and right; `autograder rehearse 12` grades each.

# %% mistake="content_loss" named="the mean is taken, not the sum"
def content_loss(content_weight, content_current, content_original):
    return content_weight * F.mse_loss(content_current, content_original)


# %% mistake="content_loss" named="factor 1/2"
def content_loss(content_weight, content_current, content_original):
    return content_weight * 0.5 * torch.sum((content_current - content_original) ** 2)


# %% mistake="content_loss" named="weight is squared"
def content_loss(content_weight, content_current, content_original):
    return torch.sum((content_weight * (content_current - content_original)) ** 2)


# %% mistake="content_loss" named="weight is left out"
def content_loss(content_weight, content_current, content_original):
    return torch.sum((content_current - content_original) ** 2)


# %% mistake="content_loss" named="the root of the sum is taken"
def content_loss(content_weight, content_current, content_original):
    return content_weight * torch.norm(content_current - content_original)


# %% mistake="content_loss" named="absolute differences"
def content_loss(content_weight, content_current, content_original):
    return content_weight * (content_current - content_original).abs().sum()


# %% mistake="content_loss" named="subtract first, then square"
def content_loss(content_weight, content_current, content_original):
    return content_weight * torch.sum(content_current**2 - content_original**2)


# %% mistake="content_loss" named="only the first image counts"
def content_loss(content_weight, content_current, content_original):
    C = content_current.shape[1]
    current = content_current[0].reshape(C, -1)
    return content_weight * ((current - content_original[0].reshape(C, -1)) ** 2).sum()


# %% mistake="content_loss" named="no gradient flows back"
def content_loss(content_weight, content_current, content_original):
    return content_weight * ((content_current - content_original) ** 2).sum().item()


# %% mistake="content_loss" named="no gradient flows back"
def content_loss(content_weight, content_current, content_original):
    difference = content_current.detach() - content_original.detach()
    return content_weight * (difference**2).sum()


# %% mistake="content_loss" named="modified in place"
def content_loss(content_weight, content_current, content_original):
    content_current -= content_original
    return content_weight * (content_current**2).sum()


# %% correct="content_loss"
def content_loss(content_weight, content_current, content_original):
    # CS231n's habit: features as matrices, M × N
    N, C, H, W = content_current.shape
    F_l = content_current.view(N * C, H * W)
    P_l = content_original.view(N * C, H * W)
    return content_weight * torch.sum(torch.pow(F_l - P_l, 2))


# %% correct="content_loss"
def content_loss(content_weight, content_current, content_original):
    return content_weight * F.mse_loss(content_current, content_original.detach(), reduction="sum")


# %% correct="content_loss"
def content_loss(content_weight, content_current, content_original):
    loss = torch.zeros(1)
    for current, original in zip(content_current, content_original):
        print("one image")
        for a, b in zip(current, original):
            loss = loss + content_weight * ((a - b) ** 2).sum()
    return loss


# %% mistake="invert_features" named="is the loss summed over all layers"
def invert_features(targets, layers, network, start, steps=100):
    image = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        features = extract_features(image, network)
        for layer, target in zip(layers, targets):
            loss = ((features[layer] - target) ** 2).sum()
        loss.backward()
        optimizer.step()
        image.data.clamp_(0, 1)
    return image.detach()


# %% mistake="invert_features" named="is the loss summed over all layers"
def invert_features(targets, layers, network, start, steps=100):
    image = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((extract_features(image, network)[layers[0]] - targets[0]) ** 2).sum()
        loss.backward()
        optimizer.step()
        image.data.clamp_(0, 1)
    return image.detach()


# %% mistake="invert_features" named="are gradients set to zero"
def invert_features(targets, layers, network, start, steps=100):
    image = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    for _ in range(steps):
        features = extract_features(image, network)
        loss = sum(((features[l] - t) ** 2).sum() for l, t in zip(layers, targets))
        loss.backward()
        optimizer.step()
        image.data.clamp_(0, 1)
    return image.detach()


# %% mistake="invert_features" named="is it along the gradient"
def invert_features(targets, layers, network, start, steps=100):
    image = start.clone()
    for _ in range(steps):
        image = image.detach().requires_grad_()
        features = extract_features(image, network)
        loss = sum(((features[l] - t) ** 2).sum() for l, t in zip(layers, targets))
        (gradient,) = torch.autograd.grad(loss, image)
        image = (image + 0.01 * gradient).clamp(0, 1)
    return image.detach()


# %% mistake="invert_features" named="weight` was modified in place"
def invert_features(targets, layers, network, start, steps=100):
    image = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([image, *network.parameters()], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        features = extract_features(image, network)
        loss = sum(((features[l] - t) ** 2).sum() for l, t in zip(layers, targets))
        loss.backward()
        optimizer.step()
        image.data.clamp_(0, 1)
    return image.detach()


# %% mistake="invert_features" named="must stay in [0, 1]"
def invert_features(targets, layers, network, start, steps=100):
    image = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        features = extract_features(image, network)
        loss = sum(((features[l] - t) ** 2).sum() for l, t in zip(layers, targets))
        loss.backward()
        optimizer.step()
    return image.detach()


# %% mistake="invert_features" named="was modified in place"
def invert_features(targets, layers, network, start, steps=100):
    image = start.requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        features = extract_features(image, network)
        loss = sum(((features[l] - t) ** 2).sum() for l, t in zip(layers, targets))
        loss.backward()
        optimizer.step()
        image.data.clamp_(0, 1)
    return image.detach()


# %% mistake="invert_features" named="return what was optimised"
def invert_features(targets, layers, network, start, steps=100):
    image = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        features = extract_features(image, network)
        loss = sum(((features[l] - t) ** 2).sum() for l, t in zip(layers, targets))
        loss.backward()
        optimizer.step()
        image.data.clamp_(0, 1)
    return start.clone()


# %% mistake="invert_features" named="is the loss summed over all images"
def invert_features(targets, layers, network, start, steps=100):
    image = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        features = extract_features(image, network)
        loss = sum(((features[l][0] - t[0]) ** 2).sum() for l, t in zip(layers, targets))
        loss.backward()
        optimizer.step()
        image.data.clamp_(0, 1)
    return image.detach()


# %% mistake="invert_features" named="are there `steps` of them"
def invert_features(targets, layers, network, start, steps=100):
    image = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        features = extract_features(image, network)
        loss = sum(((features[l] - t) ** 2).sum() for l, t in zip(layers, targets))
        loss.backward()
        optimizer.step()
        image.data.clamp_(0, 1)
    return image.detach()


# %% correct="invert_features"
def invert_features(targets, layers, network, start, steps=100):
    # plain gradient descent, gradients by autograd.grad, the weights frozen on the way
    image = start.clone()
    for _ in range(steps):
        image = image.detach().requires_grad_(True)
        features = extract_features(image, network)
        loss = 0
        for i in range(len(layers)):
            loss += torch.sum((features[layers[i]] - targets[i]) ** 2)
        (gradient,) = torch.autograd.grad(loss, image)
        image = torch.clamp(image - 0.05 * gradient, 0, 1)
    return image


# %% correct="invert_features"
def invert_features(targets, layers, network, start, steps=100):
    # the image as a module's parameter, gradients of the weights left behind, result on the graph
    image = nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([image], lr=0.03, betas=(0.8, 0.99))
    for step in range(steps):
        network.zero_grad()
        image.grad = None
        features = extract_features(image, network)
        losses = [F.mse_loss(features[l], t, reduction="sum") for l, t in zip(layers, targets)]
        torch.stack(losses).sum().backward()
        optimizer.step()
        with torch.no_grad():
            image[:] = image.clamp(min=0, max=1)
    return image


# %% correct="invert_features"
def invert_features(targets, layers, network, start, steps=100):
    def loss(image):
        features = extract_features(image, network)
        return sum(((features[l] - t) ** 2).sum() for l, t in zip(layers, targets))

    return minimise(loss, start, steps)


# %% mistake="gram_matrix" named="the batch is summed"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    gram = torch.einsum("nchw,ndhw->cd", features, features)
    return gram / (C * H * W) if normalize else gram


# %% mistake="gram_matrix" named="as if N were 1"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    flat = features.view(C, -1)
    gram = torch.mm(flat, flat.t())
    if normalize:
        gram = gram / (C * H * W)
    return gram


# %% mistake="gram_matrix" named="only the first of the images"
def gram_matrix(features, normalize=True):
    _, C, H, W = features.shape
    flat = features[0].view(C, H * W)
    gram = torch.mm(flat, flat.t())
    if normalize:
        gram = gram / (C * H * W)
    return gram.unsqueeze(0)


# %% mistake="gram_matrix" named="the result has N·C rows"
def gram_matrix(features, normalize=True):
    # PyTorch's tutorial, whose batch is always 1
    a, b, c, d = features.size()
    flat = features.view(a * b, c * d)
    gram = torch.mm(flat, flat.t())
    return gram / (b * c * d) if normalize else gram


# %% mistake="gram_matrix" named="divided by H·W, not by C·H·W"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    flat = features.view(N, C, -1)
    gram = flat.bmm(flat.transpose(1, 2))
    return gram / (H * W) if normalize else gram


# %% mistake="gram_matrix" named="divided by N·C·H·W"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    flat = features.view(N, C, -1)
    gram = flat.bmm(flat.transpose(1, 2))
    return gram / features.numel() if normalize else gram


# %% mistake="gram_matrix" named="although normalize is False"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    flat = features.view(N, C, -1)
    return flat.bmm(flat.transpose(1, 2)) / (C * H * W)


# %% mistake="gram_matrix" named="it is not divided by C·H·W"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    flat = features.view(N, C, -1)
    return flat.bmm(flat.transpose(1, 2))


# %% mistake="gram_matrix" named="positions are compared with positions"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    flat = features.view(N, C, -1)
    gram = flat.transpose(1, 2).bmm(flat)
    return gram / (C * H * W) if normalize else gram


# %% mistake="gram_matrix" named="scrambles the channels"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    flat = features.reshape(N, H * W, C)
    gram = flat.transpose(1, 2) @ flat
    return gram / (C * H * W) if normalize else gram


# %% mistake="gram_matrix" named="makes it a covariance"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    flat = features.view(N, C, -1)
    flat = flat - flat.mean(2, keepdim=True)
    gram = flat.bmm(flat.transpose(1, 2))
    return gram / (C * H * W) if normalize else gram


# %% mistake="gram_matrix" named="no gradient flows back"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    flat = features.detach().view(N, C, -1)
    gram = flat.bmm(flat.transpose(1, 2))
    return gram / (C * H * W) if normalize else gram


# %% mistake="gram_matrix" named="part of the computation is detached"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    flat = features.view(N, C, -1)
    gram = flat.bmm(flat.data.transpose(1, 2))
    return gram / (C * H * W) if normalize else gram


# %% correct="gram_matrix"
def gram_matrix(features, normalize=True):
    gram = torch.einsum("nihw,njhw->nij", features, features)
    if normalize:
        gram = gram / features[0].numel()
    return gram


# %% correct="gram_matrix"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.size()
    grams = []
    for n in range(N):
        rows = []
        for i in range(C):
            row = [(features[n, i] * features[n, j]).sum() for j in range(C)]
            rows.append(torch.stack(row))
        grams.append(torch.stack(rows))
    gram = torch.stack(grams)
    if normalize:
        gram /= C * H * W
    return gram


# %% correct="gram_matrix"
def gram_matrix(features, normalize=True):
    N, C, H, W = features.shape
    flat = features.view(N, C, H * W)
    gram = torch.bmm(flat, flat.permute(0, 2, 1))
    return gram / float(C * H * W) if normalize else gram


# %% mistake="style_loss" named="feats[i] is taken"
def style_loss(feats, style_layers, style_targets, style_weights):
    loss = 0
    for i in range(len(style_layers)):
        loss += style_weights[i] * ((gram_matrix(feats[i]) - style_targets[i]) ** 2).sum()
    return loss


# %% mistake="style_loss" named="weights are left out"
def style_loss(feats, style_layers, style_targets, style_weights):
    loss = 0
    for i, layer in enumerate(style_layers):
        loss += ((gram_matrix(feats[layer]) - style_targets[i]) ** 2).sum()
    return loss


# %% mistake="style_loss" named="weights are squared"
def style_loss(feats, style_layers, style_targets, style_weights):
    loss = 0
    for i, layer in enumerate(style_layers):
        loss += ((style_weights[i] * (gram_matrix(feats[layer]) - style_targets[i])) ** 2).sum()
    return loss


# %% mistake="style_loss" named="only the last layer counts"
def style_loss(feats, style_layers, style_targets, style_weights):
    for i, layer in enumerate(style_layers):
        loss = style_weights[i] * ((gram_matrix(feats[layer]) - style_targets[i]) ** 2).sum()
    return loss


# %% mistake="style_loss" named="is `return` inside the loop"
def style_loss(feats, style_layers, style_targets, style_weights):
    loss = 0
    for i, layer in enumerate(style_layers):
        loss += style_weights[i] * ((gram_matrix(feats[layer]) - style_targets[i]) ** 2).sum()
        return loss


# %% mistake="style_loss" named="the mean over a Gram matrix's entries"
def style_loss(feats, style_layers, style_targets, style_weights):
    loss = 0
    for i, layer in enumerate(style_layers):
        loss += style_weights[i] * F.mse_loss(gram_matrix(feats[layer]), style_targets[i])
    return loss


# %% mistake="style_loss" named="the mean over the layers"
def style_loss(feats, style_layers, style_targets, style_weights):
    loss = 0
    for i, layer in enumerate(style_layers):
        loss += style_weights[i] * ((gram_matrix(feats[layer]) - style_targets[i]) ** 2).sum()
    return loss / len(style_layers)


# %% mistake="style_loss" named="Gram matrices are not divided"
def style_loss(feats, style_layers, style_targets, style_weights):
    loss = 0
    for i, layer in enumerate(style_layers):
        gram = gram_matrix(feats[layer], normalize=False)
        loss += style_weights[i] * ((gram - style_targets[i]) ** 2).sum()
    return loss


# %% mistake="style_loss" named="only the first image counts"
def style_loss(feats, style_layers, style_targets, style_weights):
    loss = 0
    for i, layer in enumerate(style_layers):
        difference = gram_matrix(feats[layer])[0] - style_targets[i][0]
        loss += style_weights[i] * (difference**2).sum()
    return loss


# %% mistake="style_loss" named="root is taken of each layer's sum"
def style_loss(feats, style_layers, style_targets, style_weights):
    loss = 0
    for i, layer in enumerate(style_layers):
        loss += style_weights[i] * torch.norm(gram_matrix(feats[layer]) - style_targets[i])
    return loss


# %% mistake="style_loss" named="no gradient flows back"
def style_loss(feats, style_layers, style_targets, style_weights):
    loss = 0
    for i, layer in enumerate(style_layers):
        difference = gram_matrix(feats[layer]) - style_targets[i]
        loss += style_weights[i] * (difference**2).sum().item()
    return loss


# %% correct="style_loss"
def style_loss(feats, style_layers, style_targets, style_weights):
    # CS231n's way, with its habit of a tensor of one zero to start from
    style_loss = torch.zeros(1)
    for i in range(len(style_layers)):
        current = gram_matrix(feats[style_layers[i]].clone())
        style_loss += torch.sum((current - style_targets[i]) ** 2) * style_weights[i]
    return style_loss


# %% correct="style_loss"
def style_loss(feats, style_layers, style_targets, style_weights):
    return sum(
        w * (torch.einsum("nihw,njhw->nij", f, f).div(f[0].numel()) - a).pow(2).sum()
        for f, a, w in zip([feats[l] for l in style_layers], style_targets, style_weights)
    )


# %% correct="style_loss"
def style_loss(feats, style_layers, style_targets, style_weights):
    loss = 0.0
    for layer, target, weight in zip(style_layers, style_targets, style_weights):
        for n in range(len(target)):
            F_l = feats[layer][n].reshape(feats[layer].shape[1], -1)
            loss = loss + weight * ((F_l @ F_l.T / F_l.numel() - target[n]) ** 2).sum()
    return loss


# %% mistake="tv_loss" named="absolute differences"
def tv_loss(img, tv_weight):
    down = (img[:, :, 1:, :] - img[:, :, :-1, :]).abs().sum()
    right = (img[:, :, :, 1:] - img[:, :, :, :-1]).abs().sum()
    return tv_weight * (down + right)


# %% mistake="tv_loss" named="means are taken"
def tv_loss(img, tv_weight):
    down = ((img[:, :, 1:, :] - img[:, :, :-1, :]) ** 2).mean()
    right = ((img[:, :, :, 1:] - img[:, :, :, :-1]) ** 2).mean()
    return tv_weight * (down + right)


# %% mistake="tv_loss" named="only differences between rows"
def tv_loss(img, tv_weight):
    return tv_weight * ((img[:, :, 1:, :] - img[:, :, :-1, :]) ** 2).sum()


# %% mistake="tv_loss" named="borders wrap around"
def tv_loss(img, tv_weight):
    down = ((img - torch.roll(img, 1, dims=2)) ** 2).sum()
    right = ((img - torch.roll(img, 1, dims=3)) ** 2).sum()
    return tv_weight * (down + right)


# %% mistake="tv_loss" named="weight is left out"
def tv_loss(img, tv_weight):
    down = ((img[:, :, 1:, :] - img[:, :, :-1, :]) ** 2).sum()
    right = ((img[:, :, :, 1:] - img[:, :, :, :-1]) ** 2).sum()
    return down + right


# %% mistake="tv_loss" named="only the first image counts"
def tv_loss(img, tv_weight):
    img = img[0]
    down = ((img[:, 1:, :] - img[:, :-1, :]) ** 2).sum()
    right = ((img[:, :, 1:] - img[:, :, :-1]) ** 2).sum()
    return tv_weight * (down + right)


# %% mistake="tv_loss" named="colours are compared with each other"
def tv_loss(img, tv_weight):
    # axes counted as if there were no batch
    first = ((img[:, 1:] - img[:, :-1]) ** 2).sum()
    second = ((img[:, :, 1:] - img[:, :, :-1]) ** 2).sum()
    return tv_weight * (first + second)


# %% mistake="tv_loss" named="last row and column are left out"
def tv_loss(img, tv_weight):
    here = img[:, :, :-1, :-1]
    down = img[:, :, 1:, :-1] - here
    right = img[:, :, :-1, 1:] - here
    return tv_weight * (down**2 + right**2).sum()


# %% mistake="tv_loss" named="the root is taken"
def tv_loss(img, tv_weight):
    here = img[:, :, :-1, :-1]
    down = img[:, :, 1:, :-1] - here
    right = img[:, :, :-1, 1:] - here
    return tv_weight * (down**2 + right**2).sqrt().sum()


# %% mistake="tv_loss" named="no gradient flows back"
def tv_loss(img, tv_weight):
    pixels = img.detach().numpy()
    down = ((pixels[:, :, 1:] - pixels[:, :, :-1]) ** 2).sum()
    right = ((pixels[..., 1:] - pixels[..., :-1]) ** 2).sum()
    return torch.tensor(tv_weight * (down + right))


# %% correct="tv_loss"
def tv_loss(img, tv_weight):
    N, C, H, W = img.shape
    loss = torch.zeros(1, dtype=img.dtype)
    for i in range(H):
        for j in range(W):
            if i + 1 < H:
                loss = loss + ((img[:, :, i + 1, j] - img[:, :, i, j]) ** 2).sum()
            if j + 1 < W:
                loss = loss + ((img[:, :, i, j + 1] - img[:, :, i, j]) ** 2).sum()
    return tv_weight * loss


# %% correct="tv_loss"
def tv_loss(img, tv_weight):
    return tv_weight * sum(torch.diff(img, dim=dim).pow(2).sum() for dim in (-1, -2))


# %% correct="tv_loss"
def tv_loss(img, tv_weight):
    w_variance = torch.sum(torch.pow(img[:, :, :, :-1] - img[:, :, :, 1:], 2))
    h_variance = torch.sum(torch.pow(img[:, :, :-1, :] - img[:, :, 1:, :], 2))
    return tv_weight * (h_variance + w_variance)


# %% mistake="match_colours" named="only the mean is moved"
def match_colours(image, target):
    return image - image.mean((2, 3), keepdim=True) + target.mean((2, 3), keepdim=True)


# %% mistake="match_colours" named="each channel is scaled on its own"
def match_colours(image, target):
    axes = (2, 3)
    means, deviations = zip(
        *(
            (x.mean(axes, keepdim=True), x.std(axes, correction=0, keepdim=True))
            for x in (image, target)
        )
    )
    return (image - means[0]) / deviations[0] * deviations[1] + means[1]


# %% mistake="match_colours" named="the roots are taken of each entry"
def match_colours(image, target):
    x, t = image.flatten(2)[0], target.flatten(2)[0]
    mean = t.mean(1, keepdim=True)
    A = torch.cov(t, correction=0) ** 0.5 @ torch.inverse(torch.cov(x, correction=0) ** 0.5)
    return (A @ (x - x.mean(1, keepdim=True)) + mean).view(image.shape)


# %% mistake="match_colours" named="A is Σ_target · Σ_image⁻¹, without roots"
def match_colours(image, target):
    x, t = image.flatten(2)[0], target.flatten(2)[0]
    A = torch.cov(t, correction=0) @ torch.inverse(torch.cov(x, correction=0))
    x = x - x.mean(1, keepdim=True)
    return (A @ x + t.mean(1, keepdim=True)).view(image.shape)


# %% mistake="match_colours" named="A is transposed"
def match_colours(image, target):
    x, t = image.flatten(2)[0].T, target.flatten(2)[0].T  # one row per pixel
    A = (
        torch.linalg.cholesky(torch.cov(t.T, correction=0))
        @ torch.linalg.cholesky(torch.cov(x.T, correction=0)).inverse()
    )
    return ((x - x.mean(0)) @ A + t.mean(0)).T.reshape(image.shape)


# %% mistake="match_colours" named="the target's mean is not added"
def match_colours(image, target):
    x, t = image.flatten(2)[0], target.flatten(2)[0]
    A = (
        torch.linalg.cholesky(torch.cov(t, correction=0))
        @ torch.linalg.cholesky(torch.cov(x, correction=0)).inverse()
    )
    return (A @ (x - x.mean(1, keepdim=True))).view(image.shape)


# %% mistake="match_colours" named="whitened, but not given the target's covariance"
def match_colours(image, target):
    x, t = image.flatten(2)[0], target.flatten(2)[0]
    x = x - x.mean(1, keepdim=True)
    x = torch.linalg.cholesky(torch.cov(x, correction=0)).inverse() @ x
    return (x + t.mean(1, keepdim=True)).view(image.shape)


# %% mistake="match_colours" named="pixels of equal colour don't get equal colours"
def match_colours(image, target):
    # each pixel takes a pixel of the target
    pixels = target.flatten(2)[0]
    number = image[0, 0].numel()
    chosen = torch.linspace(0, pixels.shape[1] - 1, number).round().long().flip(0)
    return pixels[:, chosen].reshape(image.shape)


# %% mistake="match_colours" named="expected shape"
def match_colours(image, target):
    x, t = image.flatten(2)[0], target.flatten(2)[0]
    A = (
        torch.linalg.cholesky(torch.cov(t, correction=0))
        @ torch.linalg.cholesky(torch.cov(x, correction=0)).inverse()
    )
    return (A @ (x - x.mean(1, keepdim=True)) + t.mean(1, keepdim=True)).view(image.shape[1:])


# %% mistake="match_colours" named="number of pixels less one"
def match_colours(image, target):
    x, t = image.flatten(2)[0], target.flatten(2)[0]
    A = torch.linalg.cholesky(torch.cov(t)) @ torch.linalg.cholesky(torch.cov(x)).inverse()
    return (A @ (x - x.mean(1, keepdim=True)) + t.mean(1, keepdim=True)).view(image.shape)


# %% mistake="match_colours" named="sums over pixels aren't divided by their numbers"
def match_colours(image, target):
    x, t = image.flatten(2)[0], target.flatten(2)[0]
    mean = t.mean(1, keepdim=True)
    x, t = x - x.mean(1, keepdim=True), t - mean
    A = torch.linalg.cholesky(t @ t.T) @ torch.linalg.cholesky(x @ x.T).inverse()
    return (A @ x + mean).view(image.shape)


# %% correct="match_colours"
def match_colours(image, target):
    x, t = image.flatten(2)[0], target.flatten(2)[0]
    A = (
        torch.linalg.cholesky(torch.cov(t, correction=0))
        @ torch.linalg.cholesky(torch.cov(x, correction=0)).inverse()
    )
    return (A @ (x - x.mean(1, keepdim=True)) + t.mean(1, keepdim=True)).view(image.shape)


# %% correct="match_colours"
def match_colours(image, target):
    # the map that moves colours least (Monge), with loops where others have matrix products
    def root(matrix):
        U, S, _ = torch.linalg.svd(matrix)
        return U @ torch.diag(S.sqrt()) @ U.T

    def statistics(picture):
        pixels = picture[0].permute(1, 2, 0).reshape(-1, 3)
        mean = pixels.mean(0)
        covariance = torch.zeros(3, 3, dtype=picture.dtype)
        for pixel in pixels:
            covariance += torch.outer(pixel - mean, pixel - mean)
        return mean, covariance / len(pixels)

    mean, covariance = statistics(image)
    wanted_mean, wanted = statistics(target)
    inner = root(covariance)
    A = inner.inverse() @ root(inner @ wanted @ inner) @ inner.inverse()
    result = torch.empty_like(image)
    for row in range(image.shape[2]):
        for column in range(image.shape[3]):
            result[0, :, row, column] = A @ (image[0, :, row, column] - mean) + wanted_mean
    return result


# %% correct="match_colours"
def match_colours(image, target):
    # pixels as rows, roots by the singular value decomposition of the centred colours
    def centred(picture):
        pixels = picture.squeeze(0).permute(1, 2, 0).flatten(0, 1)
        return pixels - pixels.mean(0), pixels.mean(0)

    (x, _), (t, mean) = centred(image), centred(target)
    _, S_x, V_x = torch.linalg.svd(x, full_matrices=False)
    _, S_t, V_t = torch.linalg.svd(t, full_matrices=False)
    white = x @ V_x.T / S_x * len(x) ** 0.5
    colours = white * S_t / len(t) ** 0.5 @ V_t + mean
    return colours.T.reshape(image.shape)


# %% mistake="make_losses" named="it is divided by Σ |P|, not by Σ P²"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / P.abs().sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="it isn't divided by Σ P²"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1.0
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="it is divided by the number of values, not by Σ P²"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / P.numel()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="it is weighted with α"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        L_content, L_style, L_tv = (
            weight * part for weight, part in zip(weights, (L_content, L_style, L_tv))
        )
        total = L_content + L_style + L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="it isn't divided by the number of layers"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start)
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="a layer isn't divided by its loss at the start"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="where they are the content's, its loss at the start is 0"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(content_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="it isn't divided by h · w"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1.0

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="it is divided by 3 · h · w"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / content[0].numel()

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="`losses` doesn't use its image"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(content, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="the weights are left out"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = L_content + L_style + L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="L_tv is missing"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="nothing flows back through L_content"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        L_content = L_content.detach()
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="autograd finds no way back"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total.item(), (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="only the first style counts"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = grams[0]
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="the styles are averaged"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = grams.mean(0)
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="the styles are added up"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = grams.sum(0)
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% mistake="make_losses" named="expected the tuple (L_total, parts)"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, L_content, L_style, L_tv

    return losses


# %% mistake="make_losses" named="return it uncalled"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses(content)


# %% mistake="make_losses" named="is a `return` missing?"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)


# %% correct="make_losses"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    content_loss, gram_matrix, style_loss, tv_loss = measures
    content_features = extract_features(content, network)
    style_features = extract_features(style, network)
    P = content_features[content_layer].detach()
    content_weight = 1 / (P**2).sum()
    targets, style_weights = [], []
    for layer in style_layers:
        grams = gram_matrix(style_features[layer]).detach()
        target = sum(shares[m] * grams[m] for m in range(len(shares)))
        target = torch.stack([target] * len(content))
        start = style_loss(content_features, [layer], [target], [1.0]).detach()
        targets.append(target)
        style_weights.append(1 / start / len(style_layers))
    tv_weight = 1 / (content.shape[2] * content.shape[3])

    def losses(image):
        features = extract_features(image, network)
        L_content = content_loss(content_weight, features[content_layer], P)
        L_style = style_loss(features, style_layers, targets, style_weights)
        L_tv = tv_loss(image, tv_weight)
        total = weights[0] * L_content + weights[1] * L_style + weights[2] * L_tv
        return total, (L_content, L_style, L_tv)

    return losses


# %% correct="make_losses"
class Losses:
    def __init__(
        self, content, style, network, content_layer, style_layers, weights, measures, shares
    ):
        self.network, self.at, self.layers, self.weights = (
            network,
            content_layer,
            style_layers,
            weights,
        )
        self.content_loss, self.statistic, self.style_loss, self.tv_loss = measures
        self.wanted = [x.detach() for x in extract_features(content, network)]
        painted = extract_features(style, network)
        self.targets = [
            torch.tensordot(
                torch.as_tensor(shares, dtype=content.dtype),
                self.statistic(painted[layer]).detach(),
                dims=1,
            )[None].repeat_interleave(len(content), 0)
            for layer in style_layers
        ]
        self.style_weights = [
            1 / (len(style_layers) * float(self.style_loss(self.wanted, [layer], [target], [1.0])))
            for layer, target in zip(style_layers, self.targets)
        ]

    def __call__(self, image):
        now = extract_features(image, self.network)
        wanted = self.wanted[self.at]
        parts = (
            self.content_loss(1.0, now[self.at], wanted) / wanted.square().sum(),
            self.style_loss(now, self.layers, self.targets, self.style_weights),
            self.tv_loss(image, 1.0) / image.shape[-1] / image.shape[-2],
        )
        total = 0
        for weight, part in zip(self.weights, parts):
            total = total + weight * part
        return total, parts


def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    return Losses(
        content, style, network, content_layer, style_layers, weights, measures, shares
    ).__call__


# %% correct="make_losses"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    # All of it anew in each call, and the layers one by one.
    measure, statistic, style_measure, tv_measure = measures
    N, _, height, width = content.shape
    alpha, beta, gamma = weights

    def one_layer(features, layer):
        with torch.no_grad():
            statistics = statistic(extract_features(style, network)[layer])
            target = torch.zeros_like(statistics[:1])
            for share, each in zip(shares, statistics):
                target += share * each
            target = torch.cat([target for _ in range(N)])
            start = style_measure(extract_features(content, network), [layer], [target], [1.0])
        return style_measure(features, [layer], [target], [1.0]) / start

    def losses(image):
        features = extract_features(image, network)
        original = extract_features(content, network)[content_layer].detach()
        of_content = measure(1 / original.pow(2).sum().item(), features[content_layer], original)
        of_style = torch.stack([one_layer(features, layer) for layer in style_layers]).mean()
        of_tv = tv_measure(image, 1 / (height * width))
        print(float(of_content), float(of_style))
        total = alpha * of_content + beta * of_style + gamma * of_tv
        return [total, [of_content, of_style, of_tv]]

    return losses


# %% mistake="style_transfer" named="weights are left out"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    image = None
    for scale in scales:
        content = resize(content_image, [round(scale * s) for s in content_image.shape[2:]])
        style = resize(style_image, [round(scale * s) for s in style_image.shape[2:]])
        losses = prepare(content, style)
        image = content if image is None else resize(image, content.shape[2:])
        image = minimise(lambda x: sum(losses(x)), image, steps)
    return image


# %% mistake="style_transfer" named="α and β are swapped"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    beta, alpha, gamma = weights
    image = None
    for scale in scales:
        content = resize(content_image, [round(scale * s) for s in content_image.shape[2:]])
        style = resize(style_image, [round(scale * s) for s in style_image.shape[2:]])
        losses = prepare(content, style)
        image = content if image is None else resize(image, content.shape[2:])

        def total(x):
            content_loss, style_loss, tv_loss = losses(x)
            return alpha * content_loss + beta * style_loss + gamma * tv_loss

        image = minimise(total, image, steps)
    return image


# %% mistake="style_transfer" named="the total variation is missing"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    image = None
    for scale in scales:
        content = resize(content_image, [round(scale * s) for s in content_image.shape[2:]])
        style = resize(style_image, [round(scale * s) for s in style_image.shape[2:]])
        losses = prepare(content, style)
        image = content if image is None else resize(image, content.shape[2:])
        image = minimise(
            lambda x: weights[0] * losses(x)[0] + weights[1] * losses(x)[1], image, steps
        )
    return image


# %% mistake="style_transfer" named="each scale starts from the content, not from what the one before has given"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    for scale in scales:
        content = resize(content_image, [round(scale * s) for s in content_image.shape[2:]])
        style = resize(style_image, [round(scale * s) for s in style_image.shape[2:]])
        losses = prepare(content, style)
        image = minimise(lambda x: sum(w * l for w, l in zip(weights, losses(x))), content, steps)
    return image


# %% mistake="style_transfer" named="call it anew at every scale"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    losses = prepare(content_image, style_image)
    image = content_image
    for scale in scales:
        image = resize(image, [round(scale * s) for s in content_image.shape[2:]])
        image = minimise(lambda x: sum(w * l for w, l in zip(weights, losses(x))), image, steps)
    return image


# %% mistake="style_transfer" named="the style is left at its full size"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    image = None
    for scale in scales:
        content = resize(content_image, [round(scale * s) for s in content_image.shape[2:]])
        losses = prepare(content, style_image)
        image = content if image is None else resize(image, content.shape[2:])
        image = minimise(lambda x: sum(w * l for w, l in zip(weights, losses(x))), image, steps)
    return image


# %% mistake="style_transfer" named="the style is resized to the content's shape"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    image = None
    for scale in scales:
        shape = [round(scale * s) for s in content_image.shape[2:]]
        content, style = resize(content_image, shape), resize(style_image, shape)
        losses = prepare(content, style)
        image = content if image is None else resize(image, shape)
        image = minimise(lambda x: sum(w * l for w, l in zip(weights, losses(x))), image, steps)
    return image


# %% mistake="style_transfer" named="it starts from the style"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    image = None
    for scale in scales:
        content = resize(content_image, [round(scale * s) for s in content_image.shape[2:]])
        style = resize(style_image, [round(scale * s) for s in style_image.shape[2:]])
        losses = prepare(content, style)
        image = resize(style if image is None else image, content.shape[2:])
        image = minimise(lambda x: sum(w * l for w, l in zip(weights, losses(x))), image, steps)
    return image


# %% mistake="style_transfer" named="content comes back"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    for scale in scales:
        content = resize(content_image, [round(scale * s) for s in content_image.shape[2:]])
        style = resize(style_image, [round(scale * s) for s in style_image.shape[2:]])
        losses = prepare(content, style)
        image = content
        minimise(lambda x: sum(w * l for w, l in zip(weights, losses(x))), image, steps)
    return image


# %% mistake="style_transfer" named="the first scale is all"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    image = None
    for scale in scales:
        content = resize(content_image, [round(scale * s) for s in content_image.shape[2:]])
        style = resize(style_image, [round(scale * s) for s in style_image.shape[2:]])
        losses = prepare(content, style)
        image = content if image is None else resize(image, content.shape[2:])
        image = minimise(lambda x: sum(w * l for w, l in zip(weights, losses(x))), image, steps)
        return image


# %% mistake="style_transfer" named="`steps` is ignored"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    image = None
    for scale in scales:
        content = resize(content_image, [round(scale * s) for s in content_image.shape[2:]])
        style = resize(style_image, [round(scale * s) for s in style_image.shape[2:]])
        losses = prepare(content, style)
        image = content if image is None else resize(image, content.shape[2:])
        image = minimise(lambda x: sum(w * l for w, l in zip(weights, losses(x))), image, 8)
    return image


# %% correct="style_transfer"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    alpha, beta, gamma = weights
    image = content_image.clone()
    for scale in scales:
        height, width = (round(scale * side) for side in content_image.shape[2:])
        content = resize(content_image, (height, width))
        H, W = style_image.shape[-2:]
        losses = prepare(content, resize(style_image, (round(scale * H), round(scale * W))))
        image = content if scale == scales[0] else resize(image, (height, width))

        def total_loss(current):
            content_part, style_part, tv_part = losses(current)
            return alpha * content_part + beta * style_part + gamma * tv_part

        image = minimise(total_loss, image, steps)
    return image


# %% correct="style_transfer"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    def scaled(picture, scale):
        return resize(picture, [round(scale * side) for side in picture.shape[2:]])

    def paint(start, scales):
        if not scales:
            return start
        content = scaled(content_image, scales[0])
        losses = prepare(content, scaled(style_image, scales[0]))
        start = content if start is None else resize(start, content.shape[-2:])
        total = lambda x: torch.stack([w * part for w, part in zip(weights, losses(x))]).sum()
        return paint(minimise(total, start, steps), scales[1:])

    return paint(None, list(scales))


# %% correct="style_transfer"
class Total:
    def __init__(self, losses, weights):
        self.losses, self.weights = losses, torch.as_tensor(weights)

    def __call__(self, image):
        return (torch.stack(list(self.losses(image))) * self.weights).sum()


def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    # all the pictures first, then the painting
    def at(x, scale):
        H, W = x.shape[-2:]
        return resize(x, (int(round(H * scale)), int(round(W * scale))))

    pairs = [(at(content_image, scale), at(style_image, scale)) for scale in scales]
    image = pairs[0][0]
    for content, style in pairs:
        if image.shape != content.shape:
            image = resize(image, content.shape[2:])
        image = minimise(Total(prepare(content, style), weights), image, steps)
    return image


# %% [markdown]
# Changes to the solutions that no test can notice.

# %% equivalent="content_loss" reason="a square has no sign"
# - return content_weight * (content_current - content_original).square().sum()
# + return content_weight * (content_original - content_current).square().sum()

# %% equivalent="invert_features" reason="the size of a step is the student's choice"
# - optimizer = torch.optim.Adam([image], lr=0.05)
# + optimizer = torch.optim.Adam([image], lr=0.1)

# %% equivalent="invert_features" reason="the size of a step is the student's choice"
# - optimizer = torch.optim.Adam([image], lr=0.05)
# + optimizer = torch.optim.Adam([image], lr=0.025)

# %% equivalent="invert_features" reason="a square has no sign"
# - (features[layer] - target).square().sum()
# + (target - features[layer]).square().sum()

# %% equivalent="invert_features" reason="any distance is least where features are the targets"
# - (features[layer] - target).square().sum()
# + (features[layer] - target).abs().sum()

# %% equivalent="invert_features" reason="Adam's steps don't depend on the loss's size"
# - (features[layer] - target).square().sum()
# + (features[layer] - target).square().mean()

# %% equivalent="invert_features" reason="what is returned may be attached to the graph"
# - return image.detach()
# + return image

# %% equivalent="style_loss" reason="any image of a layer has as many values"
# - gram = flat @ flat.transpose(1, 2) / feats[layer][0].numel()
# + gram = flat @ flat.transpose(1, 2) / feats[layer][-1].numel()

# %% equivalent="style_loss" reason="a square has no sign"
# - loss = loss + weight * (gram - target).square().sum()
# + loss = loss + weight * (target - gram).square().sum()

# %% equivalent="tv_loss" reason="a square has no sign"
# - down = img[:, :, 1:] - img[:, :, :-1]
# + down = img[:, :, :-1] - img[:, :, 1:]

# %% equivalent="tv_loss" reason="a square has no sign"
# - right = img[:, :, :, 1:] - img[:, :, :, :-1]
# + right = img[:, :, :, :-1] - img[:, :, :, 1:]

# %% equivalent="match_colours" reason="there is one picture only"
# - pixels, wanted = image[0].flatten(1), target[0].flatten(1)
# + pixels, wanted = image[-1].flatten(1), target[0].flatten(1)

# %% equivalent="match_colours" reason="there is one picture only"
# - pixels, wanted = image[0].flatten(1), target[0].flatten(1)
# + pixels, wanted = image[0].flatten(1), target[-1].flatten(1)

# %% equivalent="match_colours" reason="−A gives the covariance that is asked for as well as A"
# - pixels = pixels - pixels.mean(1, keepdim=True)
# + pixels = pixels.mean(1, keepdim=True) - pixels

# %% equivalent="match_colours" reason="a covariance has no sign"
# - wanted = wanted - mean
# + wanted = mean - wanted

# %% equivalent="style_transfer" reason="a product has no order"
# - return sum(w * loss for w, loss in zip(weights, losses(image), strict=True))
# + return sum(w * loss for w, loss in zip(losses(image), weights, strict=True))


# %% equivalent="make_losses" reason="a product has no order"
# - target = sum(share * one for share, one in zip(shares, each, strict=True))
# + target = sum(share * one for share, one in zip(each, shares, strict=True))

# %% equivalent="make_losses" reason="all images have as many pixels"
# - tv_weight = 1 / content[0, 0].numel()
# + tv_weight = 1 / content[-1, 0].numel()

# %% equivalent="make_losses" reason="the measures look at values alone, and no gradient is asked for what targets come from"
# - with torch.no_grad():
# + if True:

# %% equivalent="make_losses" reason="a target without the images' dimension is compared with each of them"
# - targets.append(target.expand(len(content), *target.shape))
# + targets.append(target)

# %% equivalent="make_losses" reason="each channel has as many pixels"
# - tv_weight = 1 / content[0, 0].numel()
# + tv_weight = 1 / content[0, 1].numel()

# %% equivalent="make_losses" reason="each channel has as many pixels"
# - tv_weight = 1 / content[0, 0].numel()
# + tv_weight = 1 / content[0, -1].numel()

# %% equivalent="make_losses" reason="a distance is the same from both sides"
# - content_weight, features[content_layer], content_features[content_layer]
# + content_weight, content_features[content_layer], features[content_layer]

# %% equivalent="make_losses" reason="a product is the same from both sides"
# - return sum(weight * part for weight, part in zip(weights, parts, strict=True)), parts
# + return sum(weight * part for weight, part in zip(parts, weights, strict=True)), parts
