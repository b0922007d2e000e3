# %% [markdown]
# The known wrong and right answers to the exercises of lab 05.

# %% mistake="weights_as_images" named="cut off, not rounded"
def weights_as_images(weight, shape):
    weight = weight.reshape(-1, *shape)
    low = weight.min(axis=(1, 2, 3), keepdims=True)
    high = weight.max(axis=(1, 2, 3), keepdims=True)
    scaled = (weight - low) / np.maximum(high - low, 1e-12) * 255
    return scaled.transpose(0, 2, 3, 1).astype(np.uint8)


# %% mistake="weights_as_images" named="stretched together"
def weights_as_images(weight, shape):
    weight = weight.reshape(-1, *shape)
    scaled = (weight - weight.min()) / (weight.max() - weight.min()) * 255
    return np.round(scaled).astype(np.uint8).transpose(0, 2, 3, 1)


# %% mistake="weights_as_images" named="each colour is stretched by itself"
def weights_as_images(weight, shape):
    weight = weight.reshape(-1, *shape)
    low = weight.min(axis=(2, 3), keepdims=True)
    high = weight.max(axis=(2, 3), keepdims=True)
    scaled = np.where(high > low, (weight - low) / np.where(high > low, high - low, 1), 0)
    return np.round(255 * scaled).astype(np.uint8).transpose(0, 2, 3, 1)


# %% mistake="weights_as_images" named="reshaped to (H, W, 3) at once"
def weights_as_images(weight, shape):
    channels, height, width = shape
    weight = weight.reshape(-1, height, width, channels)
    low = weight.min(axis=(1, 2, 3), keepdims=True)
    high = weight.max(axis=(1, 2, 3), keepdims=True)
    return np.round(255 * (weight - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)


# %% mistake="weights_as_images" named="the colours come first"
def weights_as_images(weight, shape):
    weight = weight.reshape(-1, *shape)
    low = weight.min(axis=(1, 2, 3), keepdims=True)
    high = weight.max(axis=(1, 2, 3), keepdims=True)
    return np.round(255 * (weight - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)


# %% mistake="weights_as_images" named="height and width are exchanged"
def weights_as_images(weight, shape):
    channels, width, height = shape
    weight = weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    low = weight.min(axis=(1, 2, 3), keepdims=True)
    high = weight.max(axis=(1, 2, 3), keepdims=True)
    return np.round(255 * (weight - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)


# %% mistake="weights_as_images" named="pixels run from 0 to 1"
def weights_as_images(weight, shape):
    weight = weight.reshape(-1, *shape).transpose(0, 2, 3, 1)
    low = weight.min(axis=(1, 2, 3), keepdims=True)
    high = weight.max(axis=(1, 2, 3), keepdims=True)
    return (weight - low) / (high - low)


# %% mistake="weights_as_images" named="expected uint8, got float64"
def weights_as_images(weight, shape):
    weight = weight.reshape(-1, *shape).transpose(0, 2, 3, 1)
    low = weight.min(axis=(1, 2, 3), keepdims=True)
    high = weight.max(axis=(1, 2, 3), keepdims=True)
    return np.round(255 * (weight - low) / (high - low))


# %% mistake="weights_as_images" named="signs are lost"
def weights_as_images(weight, shape):
    weight = np.abs(weight.reshape(-1, *shape)).transpose(0, 2, 3, 1)
    return np.round(255 * weight / weight.max(axis=(1, 2, 3), keepdims=True)).astype(np.uint8)


# %% mistake="weights_as_images" named="was modified in place"
def weights_as_images(weight, shape):
    for node in weight:
        node -= node.min()
        node *= 255 / max(node.max(), 1e-12)
    return np.round(weight).astype(np.uint8).reshape(-1, *shape).transpose(0, 2, 3, 1)


# %% mistake="weights_as_images" named="it should be black"
def weights_as_images(weight, shape):
    with np.errstate(invalid="ignore"):
        weight = weight.reshape(-1, *shape).transpose(0, 2, 3, 1)
        low = weight.min(axis=(1, 2, 3), keepdims=True)
        high = weight.max(axis=(1, 2, 3), keepdims=True)
        scaled = np.where(high > low, 255 * (weight - low) / (high - low), 255)
        return np.round(scaled).astype(np.uint8)


# %% correct="weights_as_images"
def weights_as_images(weight, shape):
    channels, height, width = shape
    images = np.zeros((weight.shape[0], height, width, channels), dtype=np.uint8)
    for f in range(weight.shape[0]):
        node = weight[f].reshape(shape)
        spread = node.max() - node.min()
        if spread == 0:
            continue
        for c in range(channels):
            images[f, :, :, c] = np.rint(255 * (node[c] - node.min()) / spread)
    return images


# %% correct="weights_as_images"
def weights_as_images(weight, shape):
    rows = torch.tensor(weight).flatten(1)
    rows = rows - rows.amin(1, keepdim=True)
    rows = rows / rows.amax(1, keepdim=True).clamp(min=1e-12)
    images = (255 * rows + 0.5).floor().to(torch.uint8)
    return images.view(-1, *shape).permute(0, 2, 3, 1).numpy()


# %% mistake="record_activations" named="overwritten what was recorded"
def record_activations(X, model, names):
    activations = {}

    def make_hook(name):
        def hook(module, inputs, output):
            activations[name] = output.detach()

        return hook

    handles = [model.get_submodule(name).register_forward_hook(make_hook(name)) for name in names]
    try:
        with torch.no_grad():
            model(X)
    finally:
        for handle in handles:
            handle.remove()
    return activations


# %% mistake="record_activations" named="all hooks share the last name"
def record_activations(X, model, names):
    activations, handles = {}, []
    try:
        for name in names:

            def hook(module, inputs, output):
                activations[name] = output.detach().clone()  # noqa: B023

            handles.append(model.get_submodule(name).register_forward_hook(hook))
        model(X)
    finally:
        for handle in handles:
            handle.remove()
    return activations


# %% mistake="record_activations" named="was left with other hooks"
def record_activations(X, model, names):
    activations = {}

    def make_hook(name):
        def hook(module, inputs, output):
            activations[name] = output.detach().clone()

        return hook

    for name in names:
        model.get_submodule(name).register_forward_hook(make_hook(name))
    with torch.no_grad():
        model(X)
    return activations


# %% mistake="record_activations" named="after an exception"
def record_activations(X, model, names):
    activations = {}

    def make_hook(name):
        def hook(module, inputs, output):
            activations[name] = output.detach().clone()

        return hook

    handles = [model.get_submodule(name).register_forward_hook(make_hook(name)) for name in names]
    model(X)
    for handle in handles:
        handle.remove()
    return activations


# %% mistake="record_activations" named="the module's input is recorded"
def record_activations(X, model, names):
    activations, handles = {}, []

    def make_hook(name):
        def hook(module, inputs):
            activations[name] = inputs[0].detach().clone()

        return hook

    try:
        for name in names:
            handles.append(model.get_submodule(name).register_forward_pre_hook(make_hook(name)))
        model(X)
    finally:
        for handle in handles:
            handle.remove()
    return activations


# %% mistake="record_activations" named="was left in another mode"
def record_activations(X, model, names):
    activations, handles = {}, []

    def make_hook(name):
        def hook(module, inputs, output):
            activations[name] = output.detach().clone()

        return hook

    model.train()
    try:
        for name in names:
            handles.append(model.get_submodule(name).register_forward_hook(make_hook(name)))
        model(X)
    finally:
        for handle in handles:
            handle.remove()
    return activations


# %% mistake="record_activations" named="expected a dict, got list"
def record_activations(X, model, names):
    outputs, handles = [], []
    try:
        for name in names:
            handles.append(
                model.get_submodule(name).register_forward_hook(
                    lambda module, inputs, output: outputs.append(output.detach().clone())
                )
            )
        model(X)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


# %% mistake="record_activations" named="only the first image is recorded"
def record_activations(X, model, names):
    activations, handles = {}, []

    def make_hook(name):
        def hook(module, inputs, output):
            activations[name] = output[0].detach().clone()

        return hook

    try:
        for name in names:
            handles.append(model.get_submodule(name).register_forward_hook(make_hook(name)))
        model(X)
    finally:
        for handle in handles:
            handle.remove()
    return activations


# %% mistake="record_activations" named="remove yours, and only yours"
def record_activations(X, model, names):
    activations = {}

    def make_hook(name):
        def hook(module, inputs, output):
            activations[name] = output.detach().clone()

        return hook

    try:
        for name in names:
            model.get_submodule(name).register_forward_hook(make_hook(name))
        model(X)
    finally:
        for module in model.modules():
            module._forward_hooks.clear()
    return activations


# %% correct="record_activations"
def record_activations(X, model, names):
    # Every module gets a hook; what wasn't asked for is thrown away.
    wanted = {module: name for name, module in model.named_modules() if name in names}
    activations = {}

    def hook(module, inputs, output):
        activations[wanted[module]] = output.clone()

    handles = [module.register_forward_hook(hook) for module in wanted]
    try:
        model(X)
        return activations
    finally:
        [handle.remove() for handle in handles]


# %% correct="record_activations"
def record_activations(X, model, names):
    # One run for each name.
    activations = {}
    for name in names:
        kept = []
        layer = dict(model.named_modules())[name]
        handle = layer.register_forward_hook(lambda m, i, o, kept=kept: kept.append(1.0 * o))
        try:
            model(X)
        finally:
            handle.remove()
        activations[name] = kept[0]
    return activations


# %% mistake="receptive_window" named="stop is the last pixel"
def receptive_window(layers, index):
    first = last = index
    for kernel_size, stride, padding in reversed(layers):
        first = first * stride - padding
        last = last * stride - padding + kernel_size - 1
    return first, last


# %% mistake="receptive_window" named="followed from the image upwards"
def receptive_window(layers, index):
    first = last = index
    for kernel_size, stride, padding in layers:
        first = first * stride - padding
        last = last * stride - padding + kernel_size - 1
    return first, last + 1


# %% mistake="receptive_window" named="the padding is ignored"
def receptive_window(layers, index):
    start, size, jump = index, 1, 1
    for kernel_size, stride, _padding in layers:
        size += (kernel_size - 1) * jump
        jump *= stride
    start = index * jump
    return start, start + size


# %% mistake="receptive_window" named="the padding is added"
def receptive_window(layers, index):
    first = last = index
    for kernel_size, stride, padding in reversed(layers):
        first = first * stride + padding
        last = last * stride + padding + kernel_size - 1
    return first, last + 1


# %% mistake="receptive_window" named="stop is multiplied by the stride"
def receptive_window(layers, index):
    start, stop = index, index + 1
    for kernel_size, stride, padding in layers[::-1]:
        start = start * stride - padding
        stop = stop * stride - padding + kernel_size - 1
    return start, stop


# %% mistake="receptive_window" named="cut off at the image's edge"
def receptive_window(layers, index):
    start, stop = index, index + 1
    for kernel_size, stride, padding in layers[::-1]:
        start = start * stride - padding
        stop = (stop - 1) * stride - padding + kernel_size
    return max(start, 0), stop


# %% mistake="receptive_window" named="start and size are returned"
def receptive_window(layers, index):
    start, stop = index, index + 1
    for kernel_size, stride, padding in layers[::-1]:
        start = start * stride - padding
        stop = (stop - 1) * stride - padding + kernel_size
    return start, stop - start


# %% mistake="receptive_window" named="the window is centred on index"
def receptive_window(layers, index):
    size = jump = 1
    for kernel_size, stride, _ in layers:
        size += (kernel_size - 1) * jump
        jump *= stride
    start = index * jump - size // 2
    return start, start + size


# %% correct="receptive_window"
def receptive_window(layers, index):
    pixels = {index}
    for kernel_size, stride, padding in layers[::-1]:
        pixels = {i * stride - padding + tap for i in pixels for tap in range(kernel_size)}
    return min(pixels), max(pixels) + 1


# %% correct="receptive_window"
def receptive_window(layers, index):
    size, jump, offset = 1, 1, 0
    for kernel_size, stride, padding in layers:
        size += (kernel_size - 1) * jump
        offset -= padding * jump
        jump *= stride
    return [index * jump + offset, index * jump + offset + size]


# %% correct="receptive_window"
def receptive_window(layers, index):
    if not layers:
        return index, index + 1
    *below, (kernel_size, stride, padding) = layers
    first = index * stride - padding
    start, _ = receptive_window(below, first)
    _, stop = receptive_window(below, first + kernel_size - 1)
    return start, stop


# %% mistake="receptive_field_gradient" named="the absolute value is missing"
def receptive_field_gradient(X, model, name, row, column):
    X = X.clone().requires_grad_()
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.append(o))
    model(X)
    handle.remove()
    kept[0][:, :, row, column].sum().backward()
    return X.grad.sum(1).mean(0)


# %% mistake="receptive_field_gradient" named="comes after the mean over images"
def receptive_field_gradient(X, model, name, row, column):
    X = X.clone().requires_grad_()
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.append(o))
    model(X)
    handle.remove()
    kept[0][:, :, row, column].sum().backward()
    return X.grad.mean(0).abs().sum(0)


# %% mistake="receptive_field_gradient" named="the images are averaged twice"
def receptive_field_gradient(X, model, name, row, column):
    X = X.clone().requires_grad_()
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.append(o))
    model(X)
    handle.remove()
    kept[0][:, :, row, column].sum(1).mean().backward()
    return X.grad.abs().sum(1).mean(0)


# %% mistake="receptive_field_gradient" named="row and column are exchanged"
def receptive_field_gradient(X, model, name, row, column):
    X = X.clone().requires_grad_()
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.append(o))
    model(X)
    handle.remove()
    kept[0][:, :, column, row].sum().backward()
    return X.grad.abs().sum(1).mean(0)


# %% mistake="receptive_field_gradient" named="the whole map is added up"
def receptive_field_gradient(X, model, name, row, column):
    X = X.clone().requires_grad_()
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.append(o))
    model(X)
    handle.remove()
    return torch.autograd.grad(kept[0].sum(), X)[0].abs().sum(1).mean(0)


# %% mistake="receptive_field_gradient" named="was left with other hooks"
def receptive_field_gradient(X, model, name, row, column):
    X = X.clone().requires_grad_()
    kept = []
    model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.append(o))
    model(X)
    kept[0][:, :, row, column].sum().backward()
    return X.grad.abs().sum(1).mean(0)


# %% mistake="receptive_field_gradient" named="the maximum over the colours"
def receptive_field_gradient(X, model, name, row, column):
    X = X.clone().requires_grad_()
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.append(o))
    model(X)
    handle.remove()
    kept[0][:, :, row, column].sum().backward()
    return X.grad.abs().max(dim=1).values.mean(0)


# %% mistake="receptive_field_gradient" named="only the first channel is asked"
def receptive_field_gradient(X, model, name, row, column):
    X = X.clone().requires_grad_()
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.append(o))
    model(X)
    handle.remove()
    kept[0][:, 0, row, column].sum().backward()
    return X.grad.abs().sum(1).mean(0)


# %% mistake="receptive_field_gradient" named="only the first image counts"
def receptive_field_gradient(X, model, name, row, column):
    X = X.clone().requires_grad_()
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.append(o))
    model(X)
    handle.remove()
    kept[0][0, :, row, column].sum().backward()
    return X.grad[0].abs().sum(0)


# %% mistake="receptive_field_gradient" named="was left in another mode"
def receptive_field_gradient(X, model, name, row, column):
    model.train()
    X = X.clone().requires_grad_()
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.append(o))
    model(X)
    handle.remove()
    kept[0][:, :, row, column].sum().backward()
    return X.grad.abs().sum(1).mean(0)


# %% mistake="receptive_field_gradient" named="remove yours, and only yours"
def receptive_field_gradient(X, model, name, row, column):
    X = X.clone().requires_grad_()
    kept, layer = [], model.get_submodule(name)
    layer.register_forward_hook(lambda m, i, o: kept.append(o))
    model(X)
    layer._forward_hooks.clear()
    kept[0][:, :, row, column].sum().backward()
    return X.grad.abs().sum(1).mean(0)


# %% mistake="receptive_field_gradient" named="KeyError"
def receptive_field_gradient(X, model, name, row, column):
    X = X.clone().requires_grad_()
    kept, layer = [], dict(model.named_children())[name]
    handle = layer.register_forward_hook(lambda m, i, o: kept.append(o))
    model(X)
    handle.remove()
    kept[0][:, :, row, column].sum().backward()
    return X.grad.abs().sum(1).mean(0)


# %% correct="receptive_field_gradient"
def receptive_field_gradient(X, model, name, row, column):
    total = 0
    for image in X:
        image = image[None].clone().requires_grad_()
        kept = {}
        handle = model.get_submodule(name).register_forward_hook(
            lambda m, i, o, kept=kept: kept.update(A=o)
        )
        model(image)
        handle.remove()
        kept["A"][0, :, row, column].sum().backward()
        total = total + image.grad[0].abs().sum(dim=0)
    return total / len(X)


# %% correct="receptive_field_gradient"
def receptive_field_gradient(X, model, name, row, column):
    X.requires_grad_(True)  # values stay as they are
    layer, kept = model.get_submodule(name), []
    handle = layer.register_forward_hook(lambda m, i, o: kept.append(o))
    try:
        model(X)
    finally:
        handle.remove()
    upstream = torch.zeros_like(kept[0])
    upstream[:, :, row, column] = 1
    kept[0].backward(upstream)
    return torch.einsum("nkij->ij", X.grad.abs()) / X.shape[0]


# %% mistake="strongest_places" named="several places come from one image"
def strongest_places(activations, channel, count):
    _, _, H, W = activations.shape
    flat = activations[:, channel].flatten().topk(count).indices
    return torch.stack([flat // (H * W), flat % (H * W) // W, flat % W], dim=1)


# %% mistake="strongest_places" named="the smallest come first"
def strongest_places(activations, channel, count):
    W = activations.shape[3]
    best, position = activations[:, channel].flatten(1).max(1)
    images = best.argsort()[:count]
    return torch.stack([images, position[images] // W, position[images] % W], dim=1)


# %% mistake="strongest_places" named="row and column are exchanged"
def strongest_places(activations, channel, count):
    W = activations.shape[3]
    best, position = activations[:, channel].flatten(1).max(1)
    images = best.topk(count).indices
    return torch.stack([images, position[images] % W, position[images] // W], dim=1)


# %% mistake="strongest_places" named="divided by the height"
def strongest_places(activations, channel, count):
    H = activations.shape[2]
    best, position = activations[:, channel].flatten(1).max(1)
    images = best.topk(count).indices
    return torch.stack([images, position[images] // H, position[images] % H], dim=1)


# %% mistake="strongest_places" named="ranked by the mean of their map"
def strongest_places(activations, channel, count):
    W = activations.shape[3]
    maps = activations[:, channel].flatten(1)
    images = maps.mean(1).topk(count).indices
    position = maps.argmax(1)[images]
    return torch.stack([images, position // W, position % W], dim=1)


# %% mistake="strongest_places" named="absolute values are compared"
def strongest_places(activations, channel, count):
    W = activations.shape[3]
    best, position = activations[:, channel].abs().flatten(1).max(1)
    images = best.topk(count).indices
    return torch.stack([images, position[images] // W, position[images] % W], dim=1)


# %% mistake="strongest_places" named="the images aren't ranked"
def strongest_places(activations, channel, count):
    W = activations.shape[3]
    position = activations[:count, channel].flatten(1).argmax(1)
    return torch.stack([torch.arange(count), position // W, position % W], dim=1)


# %% mistake="strongest_places" named="got a list"
def strongest_places(activations, channel, count):
    W = activations.shape[3]
    best, position = activations[:, channel].flatten(1).max(1)
    images = best.topk(count).indices.tolist()
    return [(i, int(position[i]) // W, int(position[i]) % W) for i in images]


# %% correct="strongest_places"
def strongest_places(activations, channel, count):
    found = []
    for n, image in enumerate(activations):
        best = None
        for r in range(image.shape[1]):
            for c in range(image.shape[2]):
                value = float(image[channel, r, c])
                if best is None or value > best[0]:
                    best = value, n, r, c
        found.append(best)
    found.sort(reverse=True)
    return torch.tensor([place for _, *place in found[:count]])


# %% correct="strongest_places"
def strongest_places(activations, channel, count):
    maps = activations[:, channel].numpy()
    flat = maps.reshape(len(maps), -1)
    images = np.argsort(-flat.max(axis=1))[:count]
    rows, columns = np.unravel_index(flat.argmax(axis=1)[images], maps.shape[1:])
    return torch.from_numpy(np.stack([images, rows, columns], axis=1))


# %% mistake="pca" named="the features aren't centred"
def pca(features, count):
    U, S, Vt = np.linalg.svd(features, full_matrices=False)
    return U[:, :count] * S[:count], Vt[:count], (S**2 / (S**2).sum())[:count]


# %% mistake="pca" named="each image's features are centred"
def pca(features, count):
    features = features - features.mean(axis=1, keepdims=True)
    U, S, Vt = np.linalg.svd(features, full_matrices=False)
    return U[:, :count] * S[:count], Vt[:count], (S**2 / (S**2).sum())[:count]


# %% mistake="pca" named="U alone has all spreads alike"
def pca(features, count):
    U, S, Vt = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    return U[:, :count], Vt[:count], (S**2 / (S**2).sum())[:count]


# %% mistake="pca" named="before they are projected"
def pca(features, count):
    _, S, Vt = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    return features @ Vt[:count].T, Vt[:count], (S**2 / (S**2).sum())[:count]


# %% mistake="pca" named="the singular values aren't squared"
def pca(features, count):
    U, S, Vt = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    return U[:, :count] * S[:count], Vt[:count], (S / S.sum())[:count]


# %% mistake="pca" named="they are of the whole variance"
def pca(features, count):
    U, S, Vt = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    variance = S[:count] ** 2
    return U[:, :count] * S[:count], Vt[:count], variance / variance.sum()


# %% mistake="pca" named="columns of Vᵀ are taken for the components"
def pca(features, count):
    U, S, Vt = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    return U[:, :count] * S[:count], Vt[:, :count].T, (S**2 / (S**2).sum())[:count]


# %% mistake="pca" named="the smallest variance comes first"
def pca(features, count):
    centred = features - features.mean(axis=0)
    variance, V = np.linalg.eigh(centred.T @ centred)
    keep = variance > 1e-9 * variance.max()
    variance, V = variance[keep], V[:, keep]
    return centred @ V[:, :count], V[:, :count].T, variance[:count] / variance.sum()


# %% mistake="pca" named="divided by its standard deviation"
def pca(features, count):
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    U, S, Vt = np.linalg.svd(scaled, full_matrices=False)
    return U[:, :count] * S[:count], Vt[:count], (S**2 / (S**2).sum())[:count]


# %% mistake="pca" named="the variances themselves are returned"
def pca(features, count):
    U, S, Vt = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    return U[:, :count] * S[:count], Vt[:count], S[:count] ** 2 / (len(features) - 1)


# %% mistake="pca" named="axes"
def pca(features, count):
    U, S, Vt = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    return U[:, :count] * S[:count], Vt[:count].T, (S**2 / (S**2).sum())[:count]


# %% correct="pca"
def pca(features, count):
    centred = features - features.mean(axis=0)
    variance, V = np.linalg.eigh(np.cov(features, rowvar=False))
    order = np.argsort(variance)[::-1][:count]
    components = V[:, order].T
    return centred @ components.T, components, variance[order] / variance.sum()


# %% correct="pca"
def pca(features, count):
    F = torch.tensor(features)
    U, S, V = torch.linalg.svd(F - F.mean(0))
    S2 = S**2
    return (
        (U[:, :count] * -S[:count]).numpy(),
        -V[:count].numpy(),
        (S2 / S2.sum())[:count].numpy(),
    )


# %% mistake="trustworthiness" named="the two spaces are exchanged"
def trustworthiness(features, points, k):
    N = len(features)
    in_space = ((features[:, None] - features) ** 2).sum(-1)
    on_map = ((points[:, None] - points) ** 2).sum(-1)
    rank = np.argsort(np.argsort(on_map, axis=1), axis=1)
    neighbours = np.argsort(in_space, axis=1)[:, 1 : k + 1]
    excess = np.take_along_axis(rank, neighbours, axis=1) - k
    return 1 - 2 / (N * k * (2 * N - 3 * k - 1)) * np.maximum(excess, 0).sum()


# %% mistake="trustworthiness" named="each point counts as its own neighbour"
def trustworthiness(features, points, k):
    N = len(features)
    in_space = ((features[:, None] - features) ** 2).sum(-1)
    on_map = ((points[:, None] - points) ** 2).sum(-1)
    rank = np.argsort(np.argsort(in_space, axis=1), axis=1)
    neighbours = np.argsort(on_map, axis=1)[:, :k]
    excess = np.take_along_axis(rank, neighbours, axis=1) - k
    return 1 - 2 / (N * k * (2 * N - 3 * k - 1)) * np.maximum(excess, 0).sum()


# %% mistake="trustworthiness" named="ranks begin with 0"
def trustworthiness(features, points, k):
    N = len(features)
    total = 0
    for i in range(N):
        others = [j for j in range(N) if j != i]
        near = sorted(others, key=lambda j: np.linalg.norm(features[i] - features[j]))
        mapped = sorted(others, key=lambda j: np.linalg.norm(points[i] - points[j]))
        total += sum(max(0, near.index(j) - k) for j in mapped[:k])
    return 1 - 2 / (N * k * (2 * N - 3 * k - 1)) * total


# %% mistake="trustworthiness" named="false neighbours are counted, each as 1"
def trustworthiness(features, points, k):
    N = len(features)
    in_space = ((features[:, None] - features) ** 2).sum(-1)
    on_map = ((points[:, None] - points) ** 2).sum(-1)
    rank = np.argsort(np.argsort(in_space, axis=1), axis=1)
    neighbours = np.argsort(on_map, axis=1)[:, 1 : k + 1]
    false = np.take_along_axis(rank, neighbours, axis=1) > k
    return 1 - 2 / (N * k * (2 * N - 3 * k - 1)) * false.sum()


# %% mistake="trustworthiness" named="the share of true neighbours"
def trustworthiness(features, points, k):
    N = len(features)
    in_space = ((features[:, None] - features) ** 2).sum(-1).argsort(1)[:, 1 : k + 1]
    on_map = ((points[:, None] - points) ** 2).sum(-1).argsort(1)[:, 1 : k + 1]
    return np.mean([len(set(in_space[i]) & set(on_map[i])) / k for i in range(N)])


# %% mistake="trustworthiness" named="cost their whole rank"
def trustworthiness(features, points, k):
    N = len(features)
    in_space = ((features[:, None] - features) ** 2).sum(-1)
    on_map = ((points[:, None] - points) ** 2).sum(-1)
    rank = np.argsort(np.argsort(in_space, axis=1), axis=1)
    neighbours = np.argsort(on_map, axis=1)[:, 1 : k + 1]
    ranks = np.take_along_axis(rank, neighbours, axis=1)
    return 1 - 2 / (N * k * (2 * N - 3 * k - 1)) * ranks[ranks > k].sum()


# %% mistake="trustworthiness" named="the max(0, …) is missing"
def trustworthiness(features, points, k):
    N = len(features)
    in_space = ((features[:, None] - features) ** 2).sum(-1)
    on_map = ((points[:, None] - points) ** 2).sum(-1)
    rank = np.argsort(np.argsort(in_space, axis=1), axis=1)
    neighbours = np.argsort(on_map, axis=1)[:, 1 : k + 1]
    excess = np.take_along_axis(rank, neighbours, axis=1) - k
    return 1 - 2 / (N * k * (2 * N - 3 * k - 1)) * excess.sum()


# %% mistake="trustworthiness" named="it isn't subtracted from 1"
def trustworthiness(features, points, k):
    N = len(features)
    in_space = ((features[:, None] - features) ** 2).sum(-1)
    on_map = ((points[:, None] - points) ** 2).sum(-1)
    rank = np.argsort(np.argsort(in_space, axis=1), axis=1)
    neighbours = np.argsort(on_map, axis=1)[:, 1 : k + 1]
    excess = np.take_along_axis(rank, neighbours, axis=1) - k
    return 2 / (N * k * (2 * N - 3 * k - 1)) * np.maximum(excess, 0).sum()


# %% mistake="trustworthiness" named="the neighbours in the original space are looked up"
def trustworthiness(features, points, k):
    N = len(features)
    in_space = ((features[:, None] - features) ** 2).sum(-1)
    rank = np.argsort(np.argsort(in_space, axis=1), axis=1)
    neighbours = np.argsort(in_space, axis=1)[:, 1 : k + 1]
    excess = np.take_along_axis(rank, neighbours, axis=1) - k
    return 1 - 2 / (N * k * (2 * N - 3 * k - 1)) * np.maximum(excess, 0).sum()


# %% correct="trustworthiness"
def trustworthiness(features, points, k):
    N = len(features)
    total = 0
    for i in range(N):
        others = [j for j in range(N) if j != i]
        near = sorted(others, key=lambda j: np.linalg.norm(features[i] - features[j]))
        mapped = sorted(others, key=lambda j: np.linalg.norm(points[i] - points[j]))
        total += sum(max(0, near.index(j) + 1 - k) for j in mapped[:k])
    return 1 - 2 / (N * k * (2 * N - 3 * k - 1)) * total


# %% correct="trustworthiness"
def trustworthiness(features, points, k):
    space, flat = (
        torch.cdist(torch.tensor(x), torch.tensor(x), compute_mode="donot_use_mm_for_euclid_dist")
        for x in (features, points)
    )
    N = len(space)
    rank = (space[:, None, :] < space[:, :, None]).sum(-1)  # how many are nearer
    chosen = flat.fill_diagonal_(float("inf")).topk(k, largest=False).indices
    excess = (rank.gather(1, chosen) - k).clamp(min=0)
    return 1 - 2 * excess.sum() / (N * k * (2 * N - 3 * k - 1))  # a tensor of one number


# %% mistake="nearest_neighbours" named="the farthest come first"
def nearest_neighbours(queries, gallery, count):
    distances = np.linalg.norm(queries[:, None] - gallery, axis=2)
    return np.argsort(-distances, axis=1)[:, :count]


# %% mistake="nearest_neighbours" named="right but not in order"
def nearest_neighbours(queries, gallery, count):
    distances = np.linalg.norm(queries[:, None] - gallery, axis=2)
    return np.argsort(distances, axis=1)[:, :count][:, ::-1]


# %% mistake="nearest_neighbours" named="as if each query were in the gallery"
def nearest_neighbours(queries, gallery, count):
    distances = np.linalg.norm(queries[:, None] - gallery, axis=2)
    return np.argsort(distances, axis=1)[:, 1 : count + 1]


# %% mistake="nearest_neighbours" named="absolute differences are added up"
def nearest_neighbours(queries, gallery, count):
    distances = np.abs(queries[:, None] - gallery).sum(axis=2)
    return np.argsort(distances, axis=1)[:, :count]


# %% mistake="nearest_neighbours" named="inner products are compared"
def nearest_neighbours(queries, gallery, count):
    return np.argsort(-(queries @ gallery.T), axis=1)[:, :count]


# %% mistake="nearest_neighbours" named="cosine similarity"
def nearest_neighbours(queries, gallery, count):
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    return np.argsort(-(queries @ gallery.T), axis=1)[:, :count]


# %% mistake="nearest_neighbours" named="queries and gallery are exchanged"
def nearest_neighbours(queries, gallery, count):
    distances = np.linalg.norm(gallery[:, None] - queries, axis=2)
    return np.argsort(distances, axis=1)[:, :count]


# %% mistake="nearest_neighbours" named="the distances are returned"
def nearest_neighbours(queries, gallery, count):
    distances = np.linalg.norm(queries[:, None] - gallery, axis=2)
    return np.sort(distances, axis=1)[:, :count]


# %% correct="nearest_neighbours"
def nearest_neighbours(queries, gallery, count):
    result = []
    for query in queries:
        distances = [sum((a - b) ** 2 for a, b in zip(query, row, strict=True)) for row in gallery]
        result.append(sorted(range(len(gallery)), key=distances.__getitem__)[:count])
    return np.array(result)


# %% correct="nearest_neighbours"
def nearest_neighbours(queries, gallery, count):
    distances = torch.cdist(torch.tensor(queries), torch.tensor(gallery))
    return distances.topk(count, largest=False).indices.numpy()


# %% mistake="selectivity" named="all other images are averaged together"
def selectivity(activations, labels):
    K = labels.max() + 1
    means = np.stack([activations[labels == c].mean(axis=0) for c in range(K)])
    best = means.argmax(axis=0)
    result = np.zeros(activations.shape[1])
    for m in range(activations.shape[1]):
        largest = means[best[m], m]
        others = activations[labels != best[m], m].mean()
        if largest + others > 0:
            result[m] = (largest - others) / (largest + others)
    return result


# %% mistake="selectivity" named="the mean over all classes is used"
def selectivity(activations, labels):
    K = labels.max() + 1
    means = np.stack([activations[labels == c].mean(axis=0) for c in range(K)])
    largest, others = means.max(axis=0), means.mean(axis=0)
    return (largest - others) / np.maximum(largest + others, 1e-12)


# %% mistake="selectivity" named="the second largest mean is used"
def selectivity(activations, labels):
    K = labels.max() + 1
    means = np.stack([activations[labels == c].mean(axis=0) for c in range(K)])
    means.sort(axis=0)
    return (means[-1] - means[-2]) / np.maximum(means[-1] + means[-2], 1e-12)


# %% mistake="selectivity" named="added up, not averaged"
def selectivity(activations, labels):
    K = labels.max() + 1
    means = np.stack([activations[labels == c].mean(axis=0) for c in range(K)])
    largest = means.max(axis=0)
    others = means.sum(axis=0) - largest
    return (largest - others) / np.maximum(largest + others, 1e-12)


# %% mistake="selectivity" named="zero for all images gives 0/0"
def selectivity(activations, labels):
    K = labels.max() + 1
    means = np.stack([activations[labels == c].mean(axis=0) for c in range(K)])
    largest = means.max(axis=0)
    others = (means.sum(axis=0) - largest) / (K - 1)
    with np.errstate(invalid="ignore"):
        return (largest - others) / (largest + others)


# %% mistake="selectivity" named="divided by the largest mean"
def selectivity(activations, labels):
    K = labels.max() + 1
    means = np.stack([activations[labels == c].mean(axis=0) for c in range(K)])
    largest = means.max(axis=0)
    others = (means.sum(axis=0) - largest) / (K - 1)
    return (largest - others) / np.maximum(largest, 1e-12)


# %% mistake="selectivity" named="largest activations are compared"
def selectivity(activations, labels):
    K = labels.max() + 1
    peaks = np.stack([activations[labels == c].max(axis=0) for c in range(K)])
    largest = peaks.max(axis=0)
    others = (peaks.sum(axis=0) - largest) / (K - 1)
    return (largest - others) / np.maximum(largest + others, 1e-12)


# %% mistake="selectivity" named="only the difference is returned"
def selectivity(activations, labels):
    K = labels.max() + 1
    means = np.stack([activations[labels == c].mean(axis=0) for c in range(K)])
    largest = means.max(axis=0)
    return largest - (means.sum(axis=0) - largest) / (K - 1)


# %% correct="selectivity"
def selectivity(activations, labels):
    classes = np.unique(labels)
    result = []
    for channel in activations.T:
        means = sorted(channel[labels == c].mean() for c in classes)
        largest, others = means[-1], np.mean(means[:-1])
        result.append((largest - others) / (largest + others) if largest > 0 else 0.0)
    return np.array(result)


# %% correct="selectivity"
def selectivity(activations, labels):
    one_hot = np.eye(labels.max() + 1)[labels]
    means = (one_hot.T @ activations) / one_hot.sum(axis=0)[:, None]
    best = means.argmax(axis=0)
    largest = means[best, np.arange(means.shape[1])]
    rest = np.ma.array(means, mask=np.arange(len(means))[:, None] == best).mean(axis=0).data
    return np.nan_to_num((largest - rest) / np.maximum(largest + rest, 1e-300))


# %% mistake="conditional_probabilities" named="all points share one width"
def conditional_probabilities(squared_distances, perplexity):
    others = 1 - np.eye(len(squared_distances))
    low, high = 1e-12, 1e12
    for _ in range(200):
        beta = np.sqrt(low * high)
        p = np.exp(-beta * squared_distances) * others
        p /= p.sum(axis=1, keepdims=True)
        entropy = -(p * np.log(p + 1e-300)).sum(axis=1).mean()
        low, high = (beta, high) if entropy > np.log(perplexity) else (low, beta)
    return p


# %% mistake="conditional_probabilities" named="counts as its own neighbour"
def conditional_probabilities(squared_distances, perplexity):
    rows = []
    for row in squared_distances:
        beta, low, high = 1.0, 0.0, np.inf
        for _ in range(100):
            p = np.exp(-beta * row)
            p /= p.sum()
            entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
            low, high = (beta, high) if entropy > np.log2(perplexity) else (low, beta)
            beta = 2 * beta if high == np.inf else (low + high) / 2
        rows.append(p)
    return np.array(rows)


# %% mistake="conditional_probabilities" named="2 is raised to an entropy in nats"
def conditional_probabilities(squared_distances, perplexity):
    N = len(squared_distances)
    result = np.zeros((N, N))
    for i in range(N):
        others = np.arange(N) != i
        d = squared_distances[i, others] - squared_distances[i, others].min()
        beta, low, high = 1.0, 0.0, np.inf
        for _ in range(100):
            p = np.exp(-beta * d)
            p /= p.sum()
            entropy = -(p * np.log(p + 1e-300)).sum()
            low, high = (beta, high) if 2**entropy > perplexity else (low, beta)
            beta = 2 * beta if high == np.inf else (low + high) / 2
        result[i, others] = p
    return result


# %% mistake="conditional_probabilities" named="e is raised to an entropy in bits"
def conditional_probabilities(squared_distances, perplexity):
    N = len(squared_distances)
    result = np.zeros((N, N))
    for i in range(N):
        others = np.arange(N) != i
        d = squared_distances[i, others] - squared_distances[i, others].min()
        beta, low, high = 1.0, 0.0, np.inf
        for _ in range(100):
            p = np.exp(-beta * d)
            p /= p.sum()
            entropy = -(p * np.log2(p + 1e-300)).sum()
            low, high = (beta, high) if np.exp(entropy) > perplexity else (low, beta)
            beta = 2 * beta if high == np.inf else (low + high) / 2
        result[i, others] = p
    return result


# %% mistake="conditional_probabilities" named="the entropy itself is brought to the perplexity"
def conditional_probabilities(squared_distances, perplexity):
    N = len(squared_distances)
    result = np.zeros((N, N))
    for i in range(N):
        others = np.arange(N) != i
        d = squared_distances[i, others] - squared_distances[i, others].min()
        beta, low, high = 1.0, 0.0, np.inf
        for _ in range(100):
            p = np.exp(-beta * d)
            p /= p.sum()
            entropy = -(p * np.log2(p + 1e-300)).sum()
            low, high = (beta, high) if entropy > perplexity else (low, beta)
            beta = 2 * beta if high == np.inf else (low + high) / 2
        result[i, others] = p
    return result


# %% mistake="conditional_probabilities" named="the search goes the wrong way"
def conditional_probabilities(squared_distances, perplexity):
    N = len(squared_distances)
    result = np.zeros((N, N))
    for i in range(N):
        others = np.arange(N) != i
        d = squared_distances[i, others] - squared_distances[i, others].min()
        low, high = 1e-9, 1e9
        for _ in range(200):
            beta = (low * high) ** 0.5
            p = np.exp(-beta * d)
            p /= p.sum()
            entropy = -(p * np.log2(p + 1e-300)).sum()
            low, high = (low, beta) if entropy > np.log2(perplexity) else (beta, high)
        result[i, others] = p
    return result


# %% mistake="conditional_probabilities" named="β stays at 1"
def conditional_probabilities(squared_distances, perplexity):
    p = np.exp(-squared_distances)
    np.fill_diagonal(p, 0)
    return p / p.sum(axis=1, keepdims=True)


# %% mistake="conditional_probabilities" named="exp(−β d²) is 0 for all others in the far point's row"
def conditional_probabilities(squared_distances, perplexity):
    N = len(squared_distances)
    result = np.zeros((N, N))
    with np.errstate(all="ignore"):
        for i in range(N):
            others = np.arange(N) != i
            beta, low, high = 1.0, 0.0, np.inf
            for _ in range(100):
                p = np.exp(-beta * squared_distances[i, others])
                p /= p.sum()
                entropy = -(p * np.log2(p + 1e-300)).sum()
                low, high = (low, beta) if entropy < np.log2(perplexity) else (beta, high)
                beta = 2 * beta if high == np.inf else (low + high) / 2
            result[i, others] = p
    return result


# %% mistake="conditional_probabilities" named="the average of both directions over N"
def conditional_probabilities(squared_distances, perplexity):
    N = len(squared_distances)
    result = np.zeros((N, N))
    for i in range(N):
        others = np.arange(N) != i
        d = squared_distances[i, others] - squared_distances[i, others].min()
        low, high = 1e-12, 1e12
        for _ in range(200):
            beta = (low * high) ** 0.5
            p = np.exp(-beta * d)
            p /= p.sum()
            entropy = -(p * np.log2(p + 1e-300)).sum()
            low, high = (low, beta) if entropy < np.log2(perplexity) else (beta, high)
        result[i, others] = p
    return (result + result.T) / (2 * N)


# %% mistake="conditional_probabilities" named="distances are used: they should be squared"
def conditional_probabilities(squared_distances, perplexity):
    N = len(squared_distances)
    result = np.zeros((N, N))
    for i in range(N):
        others = np.arange(N) != i
        d = np.sqrt(squared_distances[i, others])
        d -= d.min()
        low, high = 1e-12, 1e12
        for _ in range(200):
            beta = (low * high) ** 0.5
            p = np.exp(-beta * d)
            p /= p.sum()
            entropy = -(p * np.log2(p + 1e-300)).sum()
            low, high = (low, beta) if entropy < np.log2(perplexity) else (beta, high)
        result[i, others] = p
    return result


# %% mistake="conditional_probabilities" named="beyond 10000"
def conditional_probabilities(squared_distances, perplexity):
    N = len(squared_distances)
    result = np.zeros((N, N))
    for i in range(N):
        others = np.arange(N) != i
        d = squared_distances[i, others] - squared_distances[i, others].min()
        low, high = 0.0, 1e4
        for _ in range(100):
            beta = (low + high) / 2
            p = np.exp(-beta * d)
            p /= p.sum()
            entropy = -(p * np.log2(p + 1e-300)).sum()
            low, high = (low, beta) if entropy < np.log2(perplexity) else (beta, high)
        result[i, others] = p
    return result


# %% mistake="conditional_probabilities" named="calls `sklearn"
def conditional_probabilities(squared_distances, perplexity):
    from sklearn.manifold import _utils

    N = len(squared_distances)
    p = np.zeros((N, N))
    for i in range(N):
        others = np.arange(N) != i
        d = squared_distances[i, others] - squared_distances[i, others].min()
        low, high = 1e-12, 1e12
        for _ in range(200):
            beta = (low * high) ** 0.5
            row = np.exp(-beta * d)
            row /= row.sum()
            entropy = -(row * np.log2(row + 1e-300)).sum()
            low, high = (low, beta) if entropy < np.log2(perplexity) else (beta, high)
        p[i, others] = row
    _utils._binary_search_perplexity(squared_distances.astype(np.float32), perplexity, 0)
    return p


# %% correct="conditional_probabilities"
def conditional_probabilities(squared_distances, perplexity):
    from scipy.optimize import brentq
    from scipy.special import softmax

    N = len(squared_distances)
    result = np.zeros((N, N))
    for i in range(N):
        others = np.delete(np.arange(N), i)
        d = squared_distances[i, others]

        def row(log_beta, d=d):
            return softmax(-np.exp(log_beta) * d)

        def excess(log_beta, row=row):
            p = row(log_beta)
            p = p[p > 0]
            return np.exp(-(p * np.log(p)).sum()) - perplexity

        result[i, others] = row(brentq(excess, -30, 30))
    return result


# %% correct="conditional_probabilities"
def conditional_probabilities(squared_distances, perplexity):
    # Van der Maaten's own loop: it stops when the entropy is near enough, and knows no infinity.
    N = len(squared_distances)
    P = np.zeros((N, N))
    for i in range(N):
        d = np.delete(squared_distances[i], i)
        d = d - d.min()
        beta, low, high = 1.0, None, None
        for _ in range(500):
            weights = np.exp(-beta * d)
            total = weights.sum()
            entropy = np.log(total) + beta * (d * weights).sum() / total
            difference = entropy - np.log(perplexity)
            if abs(difference) < 1e-7:
                break
            if difference > 0:
                low = beta
                beta = beta * 2 if high is None else (beta + high) / 2
            else:
                high = beta
                beta = beta / 2 if low is None else (beta + low) / 2
        P[i] = np.insert(weights / total, i, 0)
    return P


# %% correct="conditional_probabilities"
def conditional_probabilities(squared_distances, perplexity):
    # By σ, on a scale of its own for each row, in torch.
    d = torch.tensor(squared_distances)
    N = len(d)
    d = d[~torch.eye(N, dtype=torch.bool)].reshape(N, N - 1)
    low = torch.full((N, 1), -12.0, dtype=torch.float64)
    high = -low
    for _ in range(100):
        middle = (low + high) / 2
        p = torch.softmax(-d / (2 * torch.exp(middle) ** 2), dim=1)
        H = torch.special.entr(p).sum(1, keepdim=True)
        wide = H > np.log(perplexity)
        low, high = torch.where(wide, low, middle), torch.where(wide, middle, high)
    result = torch.zeros((N, N), dtype=torch.float64)
    result[~torch.eye(N, dtype=torch.bool)] = p.flatten()
    return result.numpy()


# %% mistake="linear_probe" named="the bias is missing"
def linear_probe(activations, labels, new_activations, penalty):
    features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation == 0] = 1
    Z, Z_new = (features - mean) / deviation, (new_features - mean) / deviation
    E = np.eye(labels.max() + 1)[labels]
    N, C = Z.shape
    return Z_new @ np.linalg.solve(Z.T @ Z / N + penalty * np.eye(C), Z.T @ E / N)


# %% mistake="linear_probe" named="the penalty is on the bias too"
def linear_probe(activations, labels, new_activations, penalty):
    features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation == 0] = 1
    Z, Z_new = (features - mean) / deviation, (new_features - mean) / deviation
    Z, Z_new = (np.hstack([z, np.ones((len(z), 1))]) for z in (Z, Z_new))
    E = np.eye(labels.max() + 1)[labels]
    N, C = Z.shape
    return Z_new @ np.linalg.solve(Z.T @ Z / N + penalty * np.eye(C), Z.T @ E / N)


# %% mistake="linear_probe" named="λ not multiplied by it"
def linear_probe(activations, labels, new_activations, penalty):
    features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation == 0] = 1
    Z, Z_new = (features - mean) / deviation, (new_features - mean) / deviation
    E = np.eye(labels.max() + 1)[labels]
    W = np.linalg.solve(Z.T @ Z + penalty * np.eye(Z.shape[1]), Z.T @ E)
    return Z_new @ W + E.mean(axis=0)


# %% mistake="linear_probe" named="the numbers of the classes are regressed on"
def linear_probe(activations, labels, new_activations, penalty):
    features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation == 0] = 1
    Z, Z_new = (features - mean) / deviation, (new_features - mean) / deviation
    N, C = Z.shape
    W = np.linalg.solve(Z.T @ Z / N + penalty * np.eye(C), Z.T @ (labels - labels.mean()) / N)
    return Z_new @ W + labels.mean()


# %% mistake="linear_probe" named="aren't standardised"
def linear_probe(activations, labels, new_activations, penalty):
    Z, Z_new = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
    E = np.eye(labels.max() + 1)[labels]
    N, C = Z.shape
    W = np.linalg.solve(Z.T @ Z / N + penalty * np.eye(C), Z.T @ E / N)
    return Z_new @ W + E.mean(axis=0)


# %% mistake="linear_probe" named="by their own mean and deviation"
def linear_probe(activations, labels, new_activations, penalty):
    def standardised(maps):
        features = maps.mean(axis=(2, 3))
        deviation = features.std(axis=0)
        return (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1)

    Z, Z_new = standardised(activations), standardised(new_activations)
    E = np.eye(labels.max() + 1)[labels]
    N, C = Z.shape
    W = np.linalg.solve(Z.T @ Z / N + penalty * np.eye(C), Z.T @ E / N)
    return Z_new @ W + E.mean(axis=0)


# %% mistake="linear_probe" named="the new ones mustn't be looked at"
def linear_probe(activations, labels, new_activations, penalty):
    features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
    everything = np.concatenate([features, new_features])
    mean, deviation = everything.mean(axis=0), everything.std(axis=0)
    deviation[deviation == 0] = 1
    Z, Z_new = (features - mean) / deviation, (new_features - mean) / deviation
    E = np.eye(labels.max() + 1)[labels]
    N, C = Z.shape
    W = np.linalg.solve(Z.T @ Z / N + penalty * np.eye(C), Z.T @ E / N)
    return Z_new @ W + E.mean(axis=0)


# %% mistake="linear_probe" named="the largest value of each map is taken"
def linear_probe(activations, labels, new_activations, penalty):
    features, new_features = activations.max(axis=(2, 3)), new_activations.max(axis=(2, 3))
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation == 0] = 1
    Z, Z_new = (features - mean) / deviation, (new_features - mean) / deviation
    E = np.eye(labels.max() + 1)[labels]
    N, C = Z.shape
    W = np.linalg.solve(Z.T @ Z / N + penalty * np.eye(C), Z.T @ E / N)
    return Z_new @ W + E.mean(axis=0)


# %% mistake="linear_probe" named="every place is a feature of its own"
def linear_probe(activations, labels, new_activations, penalty):
    features = activations.reshape(len(activations), -1)
    new_features = new_activations.reshape(len(new_activations), -1)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation == 0] = 1
    Z, Z_new = (features - mean) / deviation, (new_features - mean) / deviation
    E = np.eye(labels.max() + 1)[labels]
    N, C = Z.shape
    W = np.linalg.solve(Z.T @ Z / N + penalty * np.eye(C), Z.T @ E / N)
    return Z_new @ W + E.mean(axis=0)


# %% mistake="linear_probe" named="0/0 for the channel"
def linear_probe(activations, labels, new_activations, penalty):
    features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    with np.errstate(all="ignore"):
        Z, Z_new = (features - mean) / deviation, (new_features - mean) / deviation
    E = np.eye(labels.max() + 1)[labels]
    N, C = Z.shape
    W = np.linalg.solve(Z.T @ Z / N + penalty * np.eye(C), Z.T @ E / N)
    return Z_new @ W + E.mean(axis=0)


# %% mistake="linear_probe" named="the classes are returned"
def linear_probe(activations, labels, new_activations, penalty):
    features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation == 0] = 1
    Z, Z_new = (features - mean) / deviation, (new_features - mean) / deviation
    E = np.eye(labels.max() + 1)[labels]
    N, C = Z.shape
    W = np.linalg.solve(Z.T @ Z / N + penalty * np.eye(C), Z.T @ E / N)
    return (Z_new @ W + E.mean(axis=0)).argmax(axis=1)


# %% mistake="linear_probe" named="N − 1"
def linear_probe(activations, labels, new_activations, penalty):
    features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
    mean, deviation = features.mean(axis=0), features.std(axis=0, ddof=1)
    deviation[deviation == 0] = 1
    Z, Z_new = (features - mean) / deviation, (new_features - mean) / deviation
    E = np.eye(labels.max() + 1)[labels]
    N, C = Z.shape
    W = np.linalg.solve(Z.T @ Z / N + penalty * np.eye(C), Z.T @ E / N)
    return Z_new @ W + E.mean(axis=0)


# %% mistake="linear_probe" named="calls `sklearn"
def linear_probe(activations, labels, new_activations, penalty):
    from sklearn.linear_model import Ridge

    features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation == 0] = 1
    ridge = Ridge(alpha=penalty * len(labels))
    ridge.fit((features - mean) / deviation, np.eye(labels.max() + 1)[labels])
    return ridge.predict((new_features - mean) / deviation)


# %% correct="linear_probe"
def linear_probe(activations, labels, new_activations, penalty):
    # The dual form, by the images' inner products.
    x, x_new = (np.einsum("nchw->nc", a) / a[0, 0].size for a in (activations, new_activations))
    spread = x.std(axis=0)
    spread[spread == 0] = 1.0
    z, z_new = (x - x.mean(0)) / spread, (x_new - x.mean(0)) / spread
    N = len(z)
    E = (labels[:, None] == np.arange(labels.max() + 1)).astype(float)
    dual = np.linalg.inv(z @ z.T / N + penalty * np.eye(N)) @ (E - E.mean(0)) / N
    return z_new @ z.T @ dual + E.mean(0)


# %% correct="linear_probe"
def linear_probe(activations, labels, new_activations, penalty):
    # Least squares with the penalty as further rows, and the bias as a column without a penalty.
    N, C = activations.shape[:2]
    x, x_new = activations.mean((2, 3)), new_activations.mean((2, 3))
    x, x_new = x - x.mean(0), x_new - x.mean(0)
    for c in range(C):
        if x[:, c].any():
            deviation = np.sqrt((x[:, c] ** 2).mean())
            x[:, c] /= deviation
            x_new[:, c] /= deviation
    rows = np.zeros((N + C, C + 1))
    rows[:N, :C], rows[:N, C] = x, 1
    rows[N:, :C] = np.sqrt(N * penalty) * np.eye(C)
    targets = np.zeros((N + C, labels.max() + 1))
    targets[np.arange(N), labels] = 1
    solution = np.linalg.lstsq(rows, targets, rcond=None)[0]
    return np.column_stack([x_new, np.ones(len(x_new))]) @ solution


# %% correct="linear_probe"
def linear_probe(activations, labels, new_activations, penalty):
    # By the singular value decomposition, one class after the other.
    x, x_new = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
    mean, deviation = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
    z, z_new = (x - mean) / deviation, (x_new - mean) * (x.std(axis=0) > 0) / deviation
    U, S, Vt = np.linalg.svd(z, full_matrices=False)
    shrunk = S / (S**2 + len(z) * penalty)
    columns = []
    for c in range(labels.max() + 1):
        truth = (labels == c) * 1.0
        columns.append(z_new @ (Vt.T @ (shrunk * (U.T @ truth))) + truth.mean())
    return np.stack(columns, axis=1)


# %% mistake="weights_as_images" named="tiny weights is too dark"
def weights_as_images(weight, shape):
    weight = weight.reshape(-1, *shape)
    low = weight.min(axis=(1, 2, 3), keepdims=True)
    extent = weight.max(axis=(1, 2, 3), keepdims=True) - low
    scaled = 255 * (weight - low) / (extent + 1e-6)
    return scaled.round().astype(np.uint8).transpose(0, 2, 3, 1)


# %% mistake="pca" named="line 4 calls `sklearn"
def pca(features, count):
    from sklearn.decomposition import PCA

    fitted = PCA(count, svd_solver="full").fit(features)
    return fitted.transform(features), fitted.components_, fitted.explained_variance_ratio_


# %% correct="pca"
def pca(features, count):
    # By deflation, one component after the other, from the covariance's largest eigenvector.
    centred = features - features.mean(axis=0)
    total = (centred**2).sum()
    rest, projected, components, explained = centred, [], [], []
    for _ in range(count):
        direction = np.linalg.svd(rest)[2][0]
        along = rest @ direction
        rest = rest - np.outer(along, direction)
        projected.append(along)
        components.append(direction)
        explained.append(along @ along / total)
    return np.array(projected).T, np.array(components), np.array(explained)


# %% mistake="trustworthiness" named="line 4 calls `sklearn"
def trustworthiness(features, points, k):
    from sklearn import manifold

    return manifold.trustworthiness(features, points, n_neighbors=k)


# %% correct="trustworthiness"
def trustworthiness(features, points, k):
    N = len(features)
    rank = np.empty((N, N), int)
    for i in range(N):
        rank[i, np.argsort(np.linalg.norm(features - features[i], axis=1))] = np.arange(N)
    worst = N * k * (2 * N - 3 * k - 1) / 2
    cost = 0
    for i in range(N):
        order = np.argsort(np.linalg.norm(points - points[i], axis=1))
        cost += np.clip(rank[i, order[1 : k + 1]] - k, 0, None).sum()
    return 1 - cost / worst


# %% mistake="nearest_neighbours" named="line 4 calls `sklearn"
def nearest_neighbours(queries, gallery, count):
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=count).fit(gallery).kneighbors(queries)[1]


# %% correct="nearest_neighbours"
def nearest_neighbours(queries, gallery, count):
    squared = (queries**2).sum(1)[:, None] - 2 * queries @ gallery.T + (gallery**2).sum(1)
    nearest = np.argpartition(squared, count - 1, axis=1)[:, :count]
    order = np.take_along_axis(squared, nearest, axis=1).argsort(axis=1)
    return np.take_along_axis(nearest, order, axis=1)


# %% correct="selectivity"
def selectivity(activations, labels):
    K, C = labels.max() + 1, activations.shape[1]
    sums, numbers = np.zeros((K, C)), np.bincount(labels)
    np.add.at(sums, labels, activations)
    means = sums / numbers[:, None]
    out = np.zeros(C)
    for m in range(C):
        favourite = means[:, m].argmax()
        rest = np.delete(means[:, m], favourite).mean()
        if means[favourite, m] > 0:
            out[m] = (means[favourite, m] - rest) / (means[favourite, m] + rest)
    return out


# %% correct="weights_as_images"
def weights_as_images(weight, shape):
    nodes = weight.reshape(len(weight), -1)
    low, high = nodes.min(1)[:, None], nodes.max(1)[:, None]
    flat = (high == low)[:, 0]
    pixels = np.zeros(nodes.shape)
    pixels[~flat] = (nodes[~flat] - low[~flat]) / (high - low)[~flat] * 255
    pixels = np.around(pixels).astype("uint8").reshape(len(nodes), *shape)
    return np.moveaxis(pixels, 1, -1)


# %% correct="record_activations"
def record_activations(X, model, names):
    # Partial functions in place of closures, and an ExitStack in place of finally.
    from contextlib import ExitStack

    found = {}

    def keep(name, module, inputs, output):
        found[name] = torch.tensor(output.tolist(), dtype=output.dtype)

    with ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            if name in names:
                handle = module.register_forward_hook(partial(keep, name))
                stack.callback(handle.remove)
        model(X)
    return found


# %% correct="receptive_field_gradient"
def receptive_field_gradient(X, model, name, row, column):
    # The gradient of every image by itself, by the Jacobian's rows.
    def place(images):
        kept = []
        layer = model.get_submodule(name)
        handle = layer.register_forward_hook(lambda m, i, o: kept.append(o))
        try:
            model(images)
        finally:
            handle.remove()
        return kept[0][:, :, row, column].sum(1)

    jacobian = torch.autograd.functional.jacobian(place, X.detach())  # (N, N, 3, H, W)
    own = torch.stack([jacobian[n, n] for n in range(len(X))])
    return own.abs().sum(dim=1).mean(dim=0)


# %% correct="strongest_places"
def strongest_places(activations, channel, count):
    rows = []
    maps = activations[:, channel]
    by_row, columns = maps.max(dim=2)
    best, row = by_row.max(dim=1)
    for image in best.topk(count).indices.tolist():
        r = int(row[image])
        rows.append([image, r, int(columns[image, r])])
    return torch.tensor(rows, dtype=torch.int64)


# %% mistake="receptive_window" named="can be used as indices"
def receptive_window(layers, index):
    # By middle and width: whole numbers come out, but as floats.
    middle, width = index + 0.5, 1
    for kernel_size, stride, padding in reversed(layers):
        middle = (middle - 0.5) * stride - padding + kernel_size / 2
        width = (width - 1) * stride + kernel_size
    return middle - width / 2, middle + width / 2


# %% mistake="strongest_places" named="can be used as indices"
def strongest_places(activations, channel, count):
    W = activations.shape[3]
    best, position = activations[:, channel].flatten(1).max(1)
    images = best.topk(count).indices
    rows = torch.floor(position[images] / W)
    return torch.stack([images, rows, position[images] % W], dim=1)


# %% mistake="nearest_neighbours" named="can be used as indices"
def nearest_neighbours(queries, gallery, count):
    found = np.zeros((len(queries), count))
    for q, query in enumerate(queries):
        found[q] = np.argsort(((gallery - query) ** 2).sum(1))[:count]
    return found


# %% mistake="linear_probe" named="1e-05 was added to the deviation"
def linear_probe(activations, labels, new_activations, penalty):
    x, x_new = activations.mean((2, 3)), new_activations.mean((2, 3))
    mean, deviation = x.mean(0), x.std(0) + 1e-5
    z, z_new = (x - mean) / deviation, (x_new - mean) / deviation
    E = np.eye(labels.max() + 1)[labels]
    W = np.linalg.solve(z.T @ z / len(z) + penalty * np.eye(z.shape[1]), z.T @ E / len(z))
    return z_new @ W + E.mean(0)


# %% equivalent="weights_as_images" reason="the order of the axes doesn't matter"
# - lowest = weight.min(axis=(1, 2, 3), keepdims=True)
# + lowest = weight.min(axis=(2, 1, 3), keepdims=True)


# %% equivalent="weights_as_images" reason="the order of the axes doesn't matter"
# - extent = weight.max(axis=(1, 2, 3), keepdims=True) - lowest
# + extent = weight.max(axis=(2, 1, 3), keepdims=True) - lowest


# %% equivalent="weights_as_images" reason="the order of the axes doesn't matter"
# - lowest = weight.min(axis=(1, 2, 3), keepdims=True)
# + lowest = weight.min(axis=(1, 3, 2), keepdims=True)


# %% equivalent="weights_as_images" reason="the order of the axes doesn't matter"
# - extent = weight.max(axis=(1, 2, 3), keepdims=True) - lowest
# + extent = weight.max(axis=(1, 3, 2), keepdims=True) - lowest


# %% equivalent="weights_as_images" reason="NumPy warns of 0/0, and the cast makes that 0, which is wanted"
# - scaled = 255 * (weight - lowest) / np.where(extent > 0, extent, 1)
# + scaled = 255 * (weight - lowest) / np.where(extent >= 0, extent, 1)


# %% equivalent="weights_as_images" reason="NumPy warns of 0/0, and the cast makes that 0, which is wanted"
# - scaled = 255 * (weight - lowest) / np.where(extent > 0, extent, 1)
# + scaled = 255 * (weight - lowest) / np.where(extent > -1, extent, 1)


# %% equivalent="weights_as_images" reason="NumPy warns of 0/0, and the cast makes that 0, which is wanted"
# - scaled = 255 * (weight - lowest) / np.where(extent > 0, extent, 1)
# + scaled = 255 * (weight - lowest) / np.where(extent > 0, extent, 0)


# %% equivalent="weights_as_images" reason="0 stays 0 whatever it is divided by"
# - scaled = 255 * (weight - lowest) / np.where(extent > 0, extent, 1)
# + scaled = 255 * (weight - lowest) / np.where(extent > 0, extent, 2)


# %% equivalent="record_activations" reason="without a graph there is nothing to detach"
# - activations[name] = output.detach().clone()
# + activations[name] = output.clone()


# %% equivalent="record_activations" reason="the copies are detached, and what comes back to a test is"
# - with torch.no_grad():
# + if True:


# %% equivalent="receptive_field_gradient" reason="the gradient goes as far as the copy in any case"
# - X = X.detach().clone().requires_grad_()
# + X = X.clone().requires_grad_()


# %% equivalent="receptive_field_gradient" reason="detach gives a tensor of its own, and nothing writes into it"
# - X = X.detach().clone().requires_grad_()
# + X = X.detach().requires_grad_()


# %% equivalent="receptive_field_gradient" reason="the module is called once"
# - (gradient,) = torch.autograd.grad(outputs[0][:, :, row, column].sum(), X)
# + (gradient,) = torch.autograd.grad(outputs[-1][:, :, row, column].sum(), X)


# %% equivalent="pca" reason="the further rows are cut off"
# - _, singular_values, directions = np.linalg.svd(centred, full_matrices=False)
# + _, singular_values, directions = np.linalg.svd(centred)


# %% equivalent="pca" reason="the further rows are cut off"
# - _, singular_values, directions = np.linalg.svd(centred, full_matrices=False)
# + _, singular_values, directions = np.linalg.svd(centred, full_matrices=True)


# %% equivalent="conditional_probabilities" reason="the distances are symmetric"
# - nearest = squared_distances.min(axis=1, where=others, initial=np.inf)
# + nearest = squared_distances.min(axis=0, where=others, initial=np.inf)


# %% equivalent="conditional_probabilities" reason="fewer steps give four digits"
# - for _ in range(100):
# + for _ in range(99):


# %% equivalent="conditional_probabilities" reason="fewer steps give four digits"
# - for _ in range(100):
# + for _ in range(101):


# %% equivalent="conditional_probabilities" reason="0 stays 0 whatever it is multiplied by"
# - entropy = -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=1)
# + entropy = -(p * np.log2(np.where(p > 0, p, 2))).sum(axis=1)


# %% equivalent="conditional_probabilities" reason="where both are equal the search is over"
# - too_wide = entropy > np.log2(perplexity)
# + too_wide = entropy >= np.log2(perplexity)


# %% equivalent="conditional_probabilities" reason="any factor finds a range to bisect"
# - beta = np.where(np.isinf(high), 2 * beta, (low + high) / 2)
# + beta = np.where(np.isinf(high), 3 * beta, (low + high) / 2)


# %% equivalent="linear_probe" reason="the order of the axes doesn't matter"
# - features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
# + features, new_features = activations.mean(axis=(3, 2)), new_activations.mean(axis=(2, 3))


# %% equivalent="linear_probe" reason="the order of the axes doesn't matter"
# - features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
# + features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(3, 2))


# %% equivalent="linear_probe" reason="the weight of a channel that is always 0 is 0"
# - deviation = np.where(deviation > 0, deviation, 1)
# + deviation = np.where(deviation > 0, deviation, 2)


# %% equivalent="selectivity" reason="0 stays 0 whatever it is divided by"
# - return (largest - others) / np.where(total > 0, total, 1)
# + return (largest - others) / np.where(total > 0, total, 2)


# %% equivalent="trustworthiness" reason="the last axis is the default"
# - rank = in_space.argsort(axis=1).argsort(axis=1)  # 0 for the point itself
# + rank = in_space.argsort().argsort(axis=1)  # 0 for the point itself


# %% equivalent="trustworthiness" reason="the last axis is the default"
# - rank = in_space.argsort(axis=1).argsort(axis=1)  # 0 for the point itself
# + rank = in_space.argsort(axis=1).argsort()  # 0 for the point itself


# %% equivalent="trustworthiness" reason="the last axis is the default"
# - neighbours = on_map.argsort(axis=1)[:, 1 : k + 1]
# + neighbours = on_map.argsort()[:, 1 : k + 1]


# %% equivalent="trustworthiness" reason="the point itself has rank 0 and costs nothing"
# - neighbours = on_map.argsort(axis=1)[:, 1 : k + 1]
# + neighbours = on_map.argsort(axis=1)[:, 0 : k + 1]


# %% equivalent="trustworthiness" reason="the point itself has rank 0 and costs nothing"
# - neighbours = on_map.argsort(axis=1)[:, 1 : k + 1]
# + neighbours = on_map.argsort(axis=1)[:,  : k + 1]


# %% equivalent="trustworthiness" reason="the last axis is the default"
# - excess = np.take_along_axis(rank, neighbours, axis=1) - k
# + excess = np.take_along_axis(rank, neighbours) - k


# %% equivalent="trustworthiness" reason="NumPy's float64 is a float"
# - return float(1 - 2 / (N * k * (2 * N - 3 * k - 1)) * np.maximum(excess, 0).sum())
# + return (1 - 2 / (N * k * (2 * N - 3 * k - 1)) * np.maximum(excess, 0).sum())


# %% equivalent="nearest_neighbours" reason="the last axis is the default"
# - return cdist(queries, gallery).argsort(axis=1)[:, :count]
# + return cdist(queries, gallery).argsort()[:, :count]
