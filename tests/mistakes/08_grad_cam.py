# %% [markdown]
# The known wrong and right answers to the exercises of lab 08.

# %% mistake="class_activation_map" named="the mean over the channels is taken"
def class_activation_map(features, weight, y):
    return (weight[y][:, :, None, None] * features).mean(dim=1)


# %% mistake="class_activation_map" named="weight's axes are exchanged"
def class_activation_map(features, weight, y):
    return torch.einsum("kn,nkij->nij", weight[:, y], features)


# %% mistake="class_activation_map" named="y is ignored"
def class_activation_map(features, weight, y):
    scores = features.mean(dim=(2, 3)) @ weight.T
    return torch.einsum("nk,nkij->nij", weight[scores.argmax(1)], features)


# %% mistake="class_activation_map" named="the first image's class"
def class_activation_map(features, weight, y):
    return (weight[y[0]].view(1, -1, 1, 1) * features).sum(1)


# %% mistake="class_activation_map" named="negative values are set to zero"
def class_activation_map(features, weight, y):
    return torch.relu((weight[y][:, :, None, None] * features).sum(1))


# %% mistake="class_activation_map" named="got shape (2, 5)"
def class_activation_map(features, weight, y):
    return (weight[y[0]].view(-1, 1, 1) * features[0]).sum(0)


# %% mistake="class_activation_map" named="the channels aren't summed"
def class_activation_map(features, weight, y):
    return weight[y].unsqueeze(2).unsqueeze(3) * features


# %% mistake="class_activation_map" named="the features are simply summed"
def class_activation_map(features, weight, y):
    return features.sum(dim=1)


# %% mistake="class_activation_map" named="averaged over the places"
def class_activation_map(features, weight, y):
    return (weight[y] * features.mean(dim=(2, 3))).sum(1)


# %% mistake="class_activation_map" named="each map is divided by its largest value"
def class_activation_map(features, weight, y):
    maps = torch.einsum("nk,nkij->nij", weight[y], features)
    return maps / maps.amax((1, 2), keepdim=True)


# %% correct="class_activation_map"
def class_activation_map(features, weight, y):
    N, K, h, w = features.shape
    return (weight[y].unsqueeze(1) @ features.reshape(N, K, h * w)).reshape(N, h, w)


# %% correct="class_activation_map"
def class_activation_map(features, weight, y):
    maps = torch.zeros(features.shape[0], *features.shape[2:], dtype=features.dtype)
    for n in range(len(features)):
        for k in range(features.shape[1]):
            maps[n] += weight[y[n], k] * features[n, k]
    return maps


# %% correct="class_activation_map"
def class_activation_map(features, weight, y):
    all_classes = F.conv2d(features, weight[:, :, None, None])
    return all_classes[torch.arange(len(y)), y]


# %% mistake="record_output" named="overwritten the output in place"
def record_output(X, model, layer):
    recorded = []
    handle = layer.register_forward_hook(lambda module, inputs, output: recorded.append(output))
    try:
        model(X)
    finally:
        handle.remove()
    return recorded[0]


# %% mistake="record_output" named="overwritten the output in place"
def record_output(X, model, layer):
    recorded = {}

    def hook(module, inputs, output):
        recorded["output"] = output.detach()

    handle = layer.register_forward_hook(hook)
    try:
        model(X)
    finally:
        handle.remove()
    return recorded["output"].clone()


# %% mistake="record_output" named="was left with other hooks"
def record_output(X, model, layer):
    recorded = []
    layer.register_forward_hook(
        lambda module, inputs, output: recorded.append(output.detach().clone())
    )
    model(X)
    return recorded[-1]


# %% mistake="record_output" named="after an exception"
def record_output(X, model, layer):
    recorded = []
    handle = layer.register_forward_hook(
        lambda module, inputs, output: recorded.append(output.detach().clone())
    )
    model(X)
    handle.remove()
    return recorded[0]


# %% mistake="record_output" named="behind the layer"
# Removed by the hook itself, which never runs where an earlier module raises … but conv1 is first.
def record_output(X, model, layer):
    recorded = []

    def hook(module, inputs, output):
        recorded.append(output.detach().clone())

    try:
        layer_input = X
        handle = layer.register_forward_hook(hook)
        model(layer_input)
    except RuntimeError as error:
        if "channels" in str(error):
            handle.remove()
        raise
    handle.remove()
    return recorded[0]


# %% mistake="record_output" named="the layer's input is recorded"
def record_output(X, model, layer):
    recorded = []
    handle = layer.register_forward_hook(
        lambda module, inputs, output: recorded.append(inputs[0].detach().clone())
    )
    try:
        model(X)
    finally:
        handle.remove()
    return recorded[0]


# %% mistake="record_output" named="was left in another mode"
def record_output(X, model, layer):
    model.eval()
    recorded = []
    handle = layer.register_forward_hook(
        lambda module, inputs, output: recorded.append(output.detach().clone())
    )
    try:
        with torch.no_grad():
            model(X)
    finally:
        handle.remove()
    return recorded[0]


# %% mistake="record_output" named="the first image alone"
def record_output(X, model, layer):
    recorded = []
    handle = layer.register_forward_hook(
        lambda module, inputs, output: recorded.append(output[0].detach().clone())
    )
    try:
        model(X)
    finally:
        handle.remove()
    return recorded[0]


# %% mistake="record_output" named="was left with other hooks"
# Everybody's hooks are cleared, not just our own.
def record_output(X, model, layer):
    recorded = []
    layer.register_forward_hook(lambda m, i, output: recorded.append(output.detach().clone()))
    try:
        model(X)
    finally:
        layer._forward_hooks.clear()
    return recorded[0]


# %% mistake="record_output" named="TypeError"
# Right for an nn.Sequential only.
def record_output(X, model, layer):
    with torch.no_grad():
        for module in model:
            X = module(X.clone())
            if module is layer:
                return X


# %% mistake="record_output" named="AttributeError"
# The layer is looked up by its name among the model's own attributes.
def record_output(X, model, layer):
    (name,) = [name for name, module in model.named_modules() if module is layer]
    recorded = []
    handle = getattr(model, name).register_forward_hook(
        lambda m, i, output: recorded.append(output.detach().clone())
    )
    try:
        model(X)
    finally:
        handle.remove()
    return recorded[0]


# %% mistake="record_output" named="was left in another mode"
# Eval mode is put back for the model as a whole, not for each module.
def record_output(X, model, layer):
    mode, recorded = model.training, []
    handle = layer.register_forward_hook(
        lambda m, i, output: recorded.append(output.detach().clone())
    )
    try:
        model(X)
    finally:
        handle.remove()
        model.train(mode)
    return recorded[0]


# %% mistake="record_output" named="the model runs in training mode"
def record_output(X, model, layer):
    was = {m: m.training for m in model.modules()}
    model.train()
    store = []
    h = layer.register_forward_hook(lambda m, i, o: store.append(o.detach().clone()))
    try:
        model(X)
    finally:
        h.remove()
        for m, t in was.items():
            m.training = t
    return store[0]


# %% mistake="record_output" named="the model runs in eval mode"
def record_output(X, model, layer):
    was = {m: m.training for m in model.modules()}
    model.eval()
    store = []
    h = layer.register_forward_hook(lambda m, i, o: store.append(o.detach().clone()))
    try:
        model(X)
    finally:
        h.remove()
        for m, t in was.items():
            m.training = t
    return store[0]


# %% mistake="record_output" named="hides the model's exception"
def record_output(X, model, layer):
    store = []
    h = layer.register_forward_hook(lambda m, i, o: store.append(o.detach().clone()))
    try:
        model(X)
    except Exception as e:
        print("model failed:", e)
    h.remove()
    return store[0] if store else None


# %% correct="record_output"
def record_output(X, model, layer):
    recorded = []

    def hook(module, inputs, output):
        recorded.append(output.clone())

    handle = layer.register_forward_hook(hook)
    try:
        with torch.no_grad():
            model(X)
    except Exception:
        handle.remove()
        raise
    handle.remove()
    return recorded[0]


# %% correct="record_output"
class Recorder:
    def __init__(self, layer):
        self.layer = layer

    def __enter__(self):
        self.handle = self.layer.register_forward_hook(self.hook)
        return self

    def hook(self, module, inputs, output):
        self.output = torch.empty_like(output).copy_(output)

    def __exit__(self, *_):
        self.handle.remove()


def record_output(X, model, layer):
    with Recorder(layer) as recorder:
        model(X)
    return recorder.output


# %% correct="record_output"
def record_output(X, model, layer):
    kept = []
    with torch.no_grad():
        # Handing a copy on leaves the original to us.
        def hook(module, inputs, output):
            kept.append(output)
            return output.clone()

        handle = layer.register_forward_hook(hook)
        try:
            print(model(X).shape)
        finally:
            handle.remove()
    return kept[0]


# %% correct="record_output"
# The model needn't run to its end.
class _Stop(Exception):
    pass


def record_output(X, model, layer):
    def hook(m, i, o):
        stop = _Stop()
        stop.value = o.detach().clone()
        raise stop

    h = layer.register_forward_hook(hook)
    try:
        model(X)
    except _Stop as s:
        return s.value
    finally:
        h.remove()


# %% correct="record_output"
# A hook on all modules.
def record_output(X, model, layer):
    store = []

    def hook(m, i, o):
        if m is layer:
            store.append(o.detach().clone())

    h = nn.modules.module.register_module_forward_hook(hook)
    try:
        model(X)
    finally:
        h.remove()
    return store[0]


# %% equivalent="record_output" reason="what comes back to a test is detached"
# - lambda module, inputs, output: recorded.append(output.detach().clone())
# + lambda module, inputs, output: recorded.append(output.clone())


# %% equivalent="record_output" reason="the layer runs once"
# - return recorded[0]
# + return recorded[-1]


# %% mistake="grad_cam" named="the ReLU is missing"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True)
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="the absolute value is taken"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).abs()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="was left with other hooks"
def grad_cam(X, y, model, layer):
    captured = []
    layer.register_forward_hook(lambda m, i, output: captured.append(output))
    scores = model(X.clone().requires_grad_())
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="after an exception in the model"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    scores = model(X.clone().requires_grad_())
    handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="an exception that a wrong class raises"
# The hooks are removed after the forward and the backward pass, but `finally` guards only one.
def grad_cam(X, y, model, layer):
    activations, gradients = [], []

    def backward_hook(module, upstream_of_input, upstream):
        gradients.append(upstream[0])

    forward = layer.register_forward_hook(lambda m, i, output: activations.append(output))
    backward = layer.register_full_backward_hook(backward_hook)
    try:
        scores = model(X.clone().requires_grad_())
    except BaseException:
        backward.remove()
        raise
    finally:
        forward.remove()
    scores.gather(1, y[:, None]).sum().backward()
    backward.remove()
    maps = (gradients[0].mean((2, 3), keepdim=True) * activations[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="the gradient is averaged over the channels"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean(1, keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="averaged over the batch as well"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    weights = torch.mean(gradients, dim=[0, 2, 3])
    maps = (weights.view(1, -1, 1, 1) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="isn't averaged over the places"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="y is ignored"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.max(dim=1).values.sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="scores[:, y] has shape (N, N)"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores[:, y].sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="the gradient of the loss is taken"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        loss = F.cross_entropy(model(X.clone().requires_grad_()), y)
    finally:
        handle.remove()
    gradients = torch.autograd.grad(loss, captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="the gradient of a softmax probability"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        probabilities = model(X.clone().requires_grad_()).softmax(dim=1)
    finally:
        handle.remove()
    gradients = torch.autograd.grad(probabilities.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-12)


# %% mistake="grad_cam" named="expected shape (3, 6, 9)"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores[0, y[0]], captured[0])[0][0]
    maps = (gradients.mean((1, 2))[:, None, None] * captured[0][0]).sum(0).relu()
    size = X.shape[2:]
    maps = F.interpolate(maps[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    return maps / maps.max().clamp(min=1e-8)


# %% mistake="grad_cam" named="the channels aren't weighted"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        model(X.clone().requires_grad_())
    finally:
        handle.remove()
    maps = captured[0].sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="the activations are missing"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = gradients.sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="was left in another mode"
def grad_cam(X, y, model, layer):
    model.eval()
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="was left in another mode"
def grad_cam(X, y, model, layer):
    model.train()
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="align_corners=True"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=True)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="the nearest value"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:])[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="isn't upsampled"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1).relu()
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="the ReLU comes after upsampling"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True)
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0].relu()
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="NaN"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True)


# %% mistake="grad_cam" named="the largest value of the whole batch"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / (maps.max() + 1e-8)


# %% mistake="grad_cam" named="normalising comes before the ReLU"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True)
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    lowest, highest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return ((maps - lowest) / (highest - lowest)).relu()


# %% mistake="grad_cam" named="dividing comes before the ReLU, by the largest magnitude"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True)
    maps = (maps / maps.abs().amax((1, 2, 3), keepdim=True)).relu()
    return F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]


# %% mistake="grad_cam" named="the smallest value is subtracted"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / (maps.amax((1, 2), keepdim=True) + 1e-8)


# %% mistake="grad_cam" named="the maps aren't divided"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    return F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]


# %% mistake="grad_cam" named="flattens their peaks"
# Divided before upsampling, which then flattens the peaks.
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = maps / maps.amax((1, 2, 3), keepdim=True).clamp(min=1e-8)
    return F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]


# %% mistake="grad_cam" named="`X` was modified in place"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    X -= X.mean()
    X += 0.5
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="One of the differentiated Tensors does not require grad"
# The recorded features are detached, so that no gradient reaches them.
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output.detach()))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="was left with other hooks"
# Everybody's hooks are cleared, not just our own.
def grad_cam(X, y, model, layer):
    captured = []
    layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        layer._forward_hooks.clear()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="TypeError"
# Right for an nn.Sequential only.
def grad_cam(X, y, model, layer):
    features, rest, found = X.clone().requires_grad_(), [], False
    for module in model:
        if found:
            rest.append(module)
        else:
            features = module(features)
            found = module is layer
    score = nn.Sequential(*rest)(features).gather(1, y[:, None]).sum()
    gradients = torch.autograd.grad(score, features)[0]
    maps = (gradients.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="was left in another mode"
# Eval mode is put back for the model as a whole, not for each module.
def grad_cam(X, y, model, layer):
    mode, captured = model.training, []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model.eval()(X.clone().requires_grad_())
    finally:
        handle.remove()
        model.train(mode)
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="element 0 of tensors does not require grad"
# A frozen network makes no graph.
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X)
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True) * captured[0]).sum(1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="captum"
def grad_cam(X, y, model, layer):
    from captum.attr import LayerGradCam

    maps = LayerGradCam(model, layer).attribute(X, y, relu_attributions=True).detach()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="captum"
# What section 11 shows, made into an answer.
def grad_cam(X, y, model, layer):
    from captum.attr import LayerAttribution, LayerGradCam

    raw = LayerGradCam(model, layer).attribute(X, y, relu_attributions=True)
    maps = LayerAttribution.interpolate(raw, X.shape[2:], "bilinear")[:, 0].detach()
    return form(maps)


# %% mistake="grad_cam" named="the ReLU is applied to α"
def grad_cam(X, y, model, layer):
    captured = []
    handle = layer.register_forward_hook(lambda m, i, output: captured.append(output))
    try:
        scores = model(X.clone().requires_grad_())
    finally:
        handle.remove()
    gradients = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), captured[0])[0]
    maps = (gradients.mean((2, 3), keepdim=True).relu() * captured[0]).sum(1, keepdim=True)
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-8)


# %% mistake="grad_cam" named="negative values are left out before the mean"
def grad_cam(X, y, model, layer):
    acts = []
    h = layer.register_forward_hook(lambda m, i, o: acts.append(o))
    try:
        s = model(X.clone().requires_grad_())
    finally:
        h.remove()
    (g,) = torch.autograd.grad(s[torch.arange(len(y)), y].sum(), acts[0])
    cam = F.relu((F.relu(g).mean((2, 3), keepdim=True) * acts[0]).sum(1, keepdim=True))
    cam = F.interpolate(cam, X.shape[-2:], mode="bilinear")[:, 0].detach()
    hi = cam.amax((1, 2), keepdim=True)
    return cam / torch.where(hi > 0, hi, 1)


# %% mistake="grad_cam" named="the largest gradient of its channel"
def grad_cam(X, y, model, layer):
    acts = []
    h = layer.register_forward_hook(lambda m, i, o: acts.append(o))
    try:
        s = model(X.clone().requires_grad_())
    finally:
        h.remove()
    (g,) = torch.autograd.grad(s[torch.arange(len(y)), y].sum(), acts[0])
    cam = F.relu((g.amax((2, 3), keepdim=True) * acts[0]).sum(1, keepdim=True))
    cam = F.interpolate(cam, X.shape[-2:], mode="bilinear")[:, 0].detach()
    hi = cam.amax((1, 2), keepdim=True)
    return cam / torch.where(hi > 0, hi, 1)


# %% mistake="grad_cam" named="that of the layer's input"
def grad_cam(X, y, model, layer):
    A = record_output(X, model, layer)
    G = []
    h = layer.register_full_backward_hook(lambda m, gi, go: G.append(gi[0]))
    try:
        s = model(X.clone().requires_grad_())
        s.gather(1, y[:, None]).sum().backward()
    finally:
        h.remove()
    cam = F.relu((G[0].mean((2, 3), keepdim=True) * A).sum(1, keepdim=True))
    cam = F.interpolate(cam, X.shape[-2:], mode="bilinear")[:, 0].detach()
    hi = cam.amax((1, 2), keepdim=True)
    return cam / torch.where(hi > 0, hi, 1)


# %% mistake="grad_cam" named="1e-05 is added to the largest values"
def grad_cam(X, y, model, layer):
    acts = []
    h = layer.register_forward_hook(lambda m, i, o: acts.append(o))
    try:
        s = model(X.clone().requires_grad_())
    finally:
        h.remove()
    (g,) = torch.autograd.grad(s[torch.arange(len(y)), y].sum(), acts[0])
    cam = F.relu((g.mean((2, 3), keepdim=True) * acts[0]).sum(1, keepdim=True))
    cam = F.interpolate(cam, X.shape[-2:], mode="bilinear")[:, 0].detach()
    return cam / (cam.amax((1, 2), keepdim=True) + 1e-5)


# %% mistake="grad_cam" named="load_module"
import importlib.util

spec = importlib.util.find_spec("captum.attr")
mod = spec.loader.load_module("captum.attr")


def grad_cam(X, y, model, layer):
    raw = mod.LayerGradCam(model, layer).attribute(X, y, relu_attributions=True).detach()
    c = F.interpolate(raw, X.shape[2:], mode="bilinear")[:, 0]
    hi = c.amax((1, 2), keepdim=True)
    return c / torch.where(hi > 0, hi, 1)


# %% mistake="grad_cam" named="what that binds can't be read"
exec("from captum.attr import LayerGradCam as L")


def grad_cam(X, y, model, layer):
    raw = L(model, layer).attribute(X, y, relu_attributions=True).detach()
    c = F.interpolate(raw, X.shape[2:], mode="bilinear")[:, 0]
    hi = c.amax((1, 2), keepdim=True)
    return c / torch.where(hi > 0, hi, 1)


# %% correct="grad_cam"
# Both hooks, backward() on a mean of scores, one image at a time, results still in the graph.
def grad_cam(X, y, model, layer):
    maps = []
    for n in range(len(X)):
        activations, gradients = {}, {}

        def keep_output(module, inputs, output):
            activations["value"] = output

        def keep_gradient(module, grad_input, grad_output):
            gradients["value"] = grad_output[0]

        handles = [
            layer.register_forward_hook(keep_output),
            layer.register_full_backward_hook(keep_gradient),
        ]
        try:
            scores = model(X[n : n + 1].clone().requires_grad_())
            scores[0, y[n]].backward()
        finally:
            for handle in handles:
                handle.remove()
        A, dA = activations["value"][0], gradients["value"][0]
        heat = torch.zeros(A.shape[1:], dtype=A.dtype)
        for k in range(len(A)):
            heat = heat + dA[k].mean() * A[k]
        heat = torch.clamp(heat, min=0)[None, None]
        heat = F.interpolate(heat, size=X.shape[2:], mode="bilinear", align_corners=False)
        maps.append(heat.squeeze(0).squeeze(0))
    maps = torch.stack(maps)
    for heat in maps:
        print(heat.max())
    return torch.stack([heat / heat.max() if heat.max() > 0 else heat for heat in maps])


# %% correct="grad_cam"
# retain_grad, a mean over the batch (which the division removes), a small number against 0/0.
def grad_cam(X, y, model, layer):
    X.requires_grad_()
    kept = []

    def hook(module, inputs, output):
        output.retain_grad()
        kept.append(output)

    handle = layer.register_forward_hook(hook)
    try:
        scores = model(X)
        scores[torch.arange(len(X)), y].mean().backward()
    finally:
        handle.remove()
    weights = torch.nn.functional.adaptive_avg_pool2d(kept[0].grad, 1)
    heat = F.relu(torch.sum(weights * kept[0], dim=1)).unsqueeze(1)
    heat = nn.Upsample(size=tuple(X.shape[-2:]), mode="bilinear")(heat).squeeze(1)
    return heat / (heat.flatten(1).max(1).values[:, None, None] + 1e-10)


# %% correct="grad_cam"
# A frozen copy in eval mode, and sums where means are usual: the division removes the factor.
def grad_cam(X, y, model, layer):
    kept = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    modes = [module.training for module in model.modules()]
    try:
        model.eval()
        with torch.enable_grad():
            scores = model(X.detach().requires_grad_())
        one_hot = F.one_hot(y, scores.shape[1]).to(scores.dtype)
        (gradients,) = torch.autograd.grad(scores, kept, grad_outputs=one_hot)
    finally:
        handle.remove()
        for module, mode in zip(model.modules(), modes):
            module.training = mode
    cam = torch.einsum("nk,nkij->nij", gradients.sum((-2, -1)), kept[0]).clamp(min=0)
    cam = F.interpolate(cam[:, None], X.shape[-2:], mode="bilinear").squeeze(1)
    peaks = cam.amax(dim=(-2, -1), keepdim=True)
    return torch.nan_to_num(cam / peaks, nan=0.0).detach()


# %% correct="grad_cam"
def grad_cam(X, y, model, layer):
    acts = []
    h = layer.register_forward_hook(lambda m, i, o: acts.append(o))
    try:
        s = model(X.clone().requires_grad_())
        (g,) = torch.autograd.grad(s[torch.arange(len(y)), y].sum(), acts[0])
    finally:
        h.remove()
    cam = F.relu((g.mean((2, 3), keepdim=True) * acts[0]).sum(1, keepdim=True))
    cam = F.interpolate(cam, X.shape[-2:], mode="bilinear", align_corners=False)
    cam = cam.squeeze(1).detach()
    return cam / (cam.amax((1, 2), keepdim=True) + 1e-8)


# %% correct="grad_cam"
# The gradient of zeros that are added to the layer's output.
def grad_cam(X, y, model, layer):
    with torch.no_grad():
        shape = {}
        with layer.register_forward_hook(lambda m, i, o: shape.update(A=o.detach().clone())):
            model(X)
    A = shape["A"]
    eps = torch.zeros_like(A, requires_grad=True)
    with layer.register_forward_hook(lambda m, i, o: o.detach() + eps):
        s = model(X)
    s[range(len(y)), y].sum().backward()
    alpha = eps.grad.flatten(2).mean(2)
    cam = torch.stack([sum(a * f for a, f in zip(al, fe)) for al, fe in zip(alpha, A)]).relu()
    cam = F.interpolate(cam[:, None], X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return torch.stack([m / m.max() if m.max() > 0 else m for m in cam])


# %% correct="grad_cam"
# Upsampling by two matrices.
def grad_cam(X, y, model, layer):
    def matrix(n_in, n_out):
        M = torch.zeros(n_out, n_in, dtype=X.dtype)
        for i in range(n_out):
            x = max((i + 0.5) * n_in / n_out - 0.5, 0)
            lo = min(int(x), n_in - 1)
            hi = min(lo + 1, n_in - 1)
            M[i, lo] += 1 - (x - lo)
            M[i, hi] += x - lo
        return M

    acts = []
    h = layer.register_forward_hook(lambda m, i, o: acts.append(o))
    try:
        s = model(X.clone().requires_grad_())
    finally:
        h.remove()
    (g,) = torch.autograd.grad(s[torch.arange(len(y)), y].sum(), acts[0])
    c = F.relu((g.mean((2, 3), keepdim=True) * acts[0]).sum(1)).detach()
    c = matrix(c.shape[1], X.shape[2]) @ c @ matrix(c.shape[2], X.shape[3]).T
    return c / c.amax((1, 2), keepdim=True).clamp_min(1e-12)


# %% equivalent="grad_cam" reason="detach gives a tensor of its own, and no module works in place"
# - scores = model(X.detach().clone().requires_grad_())
# + scores = model(X.detach().requires_grad_())


# %% equivalent="grad_cam" reason="a gradient for X itself is never asked for"
# - scores = model(X.detach().clone().requires_grad_())
# + scores = model(X.clone().requires_grad_())


# %% equivalent="grad_cam" reason="the division removes the factor 1 / N"
# - score = scores.gather(1, y[:, None]).sum()
# + score = scores.gather(1, y[:, None]).mean()


# %% equivalent="grad_cam" reason="the division removes the number of places"
# - alpha = gradients.mean(dim=(2, 3), keepdim=True)
# + alpha = gradients.sum(dim=(2, 3), keepdim=True)


# %% equivalent="grad_cam" reason="the order of the axes doesn't matter"
# - alpha = gradients.mean(dim=(2, 3), keepdim=True)
# + alpha = gradients.mean(dim=(3, 2), keepdim=True)


# %% equivalent="grad_cam" reason="what comes back to a test is detached"
# - maps = (alpha * activations.detach()).sum(dim=1, keepdim=True).relu()
# + maps = (alpha * activations).sum(dim=1, keepdim=True).relu()


# %% equivalent="grad_cam" reason="the division removes the number of channels"
# - maps = (alpha * activations.detach()).sum(dim=1, keepdim=True).relu()
# + maps = (alpha * activations.detach()).mean(dim=1, keepdim=True).relu()


# %% equivalent="grad_cam" reason="align_corners=False is the default"
# - maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
# + maps = F.interpolate(maps, X.shape[2:], mode="bilinear")[:, 0]


# %% equivalent="grad_cam" reason="there is one channel"
# - maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
# + maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, -1]


# %% equivalent="grad_cam" reason="the order of the axes doesn't matter"
# - largest = maps.amax(dim=(1, 2), keepdim=True)
# + largest = maps.amax(dim=(2, 1), keepdim=True)


# %% equivalent="grad_cam" reason="zero divided by anything is zero"
# - return maps / torch.where(largest > 0, largest, 1)
# + return maps / torch.where(largest > 0, largest, 2)


# %% mistake="pointing_game" named="row and column are exchanged"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for heat, mask in zip(cam, masks):
        column, row = divmod(heat.argmax().item(), heat.shape[1])
        if heat.max() == 0:
            hits.append(False)
            continue
        distances = (mask.nonzero() - torch.tensor([row, column])).double().norm(dim=1)
        hits.append(bool(distances.min() <= tolerance))
    return torch.tensor(hits)


# %% mistake="pointing_game" named="a map that is zero everywhere counts as a hit"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for heat, mask in zip(cam, masks):
        peak = torch.tensor(divmod(heat.argmax().item(), heat.shape[1]))
        hits.append(bool((mask.nonzero() - peak).double().norm(dim=1).min() <= tolerance))
    return torch.tensor(hits)


# %% mistake="pointing_game" named="one bright pixel on the object is enough"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for heat, mask in zip(cam, masks):
        bright = (heat > heat.mean()).nonzero()
        if len(bright) == 0:
            hits.append(False)
            continue
        apart = torch.cdist(bright.double(), mask.nonzero().double())
        hits.append(bool(apart.min() <= tolerance))
    return torch.tensor(hits)


# %% mistake="pointing_game" named="doesn't count"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for heat, mask in zip(cam, masks):
        row, column = divmod(heat.argmax().item(), heat.shape[1])
        distance = (mask.nonzero() - torch.tensor([row, column])).double().norm(dim=1).min()
        hits.append(bool(heat.max() > 0 and (mask[row, column] or distance < tolerance)))
    return torch.tensor(hits)


# %% mistake="pointing_game" named="the tolerance is ignored"
def pointing_game(cam, masks, tolerance=0):
    peaks = cam.flatten(1).argmax(1)
    return masks.flatten(1).gather(1, peaks[:, None])[:, 0] & (cam.amax((1, 2)) > 0)


# %% mistake="pointing_game" named="as on a chessboard"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for heat, mask in zip(cam, masks):
        row, column = divmod(heat.argmax().item(), heat.shape[1])
        reach = int(tolerance)
        window = mask[
            max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1
        ]
        hits.append(bool(heat.max() > 0 and window.any()))
    return torch.tensor(hits)


# %% mistake="pointing_game" named="row and column added up"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for heat, mask in zip(cam, masks):
        peak = torch.tensor(divmod(heat.argmax().item(), heat.shape[1]))
        hits.append(
            bool(heat.max() > 0 and (mask.nonzero() - peak).abs().sum(1).min() <= tolerance)
        )
    return torch.tensor(hits)


# %% mistake="pointing_game" named="one number"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for heat, mask in zip(cam, masks):
        peak = torch.tensor(divmod(heat.argmax().item(), heat.shape[1]))
        distance = (mask.nonzero() - peak).double().norm(dim=1).min()
        hits.append(bool(heat.max() > 0 and distance <= tolerance))
    return torch.tensor(hits).double().mean()


# %% mistake="pointing_game" named="the brightest pixel of the whole batch"
def pointing_game(cam, masks, tolerance=0):
    n, row, column = (int(i) for i in torch.unravel_index(cam.argmax(), cam.shape))
    distances = [(m.nonzero() - torch.tensor([row, column])).double().norm(dim=1) for m in masks]
    return torch.tensor([bool(d.min() <= tolerance) for d in distances])


# %% mistake="pointing_game" named="true and false are exchanged"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for heat, mask in zip(cam, masks):
        peak = torch.tensor(divmod(heat.argmax().item(), heat.shape[1]))
        distance = (mask.nonzero() - peak).double().norm(dim=1).min()
        hits.append(bool(heat.max() == 0 or distance > tolerance))
    return torch.tensor(hits)


# %% mistake="pointing_game" named="within the rows and columns of the mask"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for c, m in zip(cam, masks):
        r, col = divmod(int(c.argmax()), c.shape[1])
        p = m.nonzero()
        (r0, c0), (r1, c1) = p.amin(0).tolist(), p.amax(0).tolist()
        dr, dc = max(r0 - r, 0, r - r1), max(c0 - col, 0, col - c1)
        hits.append(c.max().item() > 0 and (dr**2 + dc**2) ** 0.5 <= tolerance)
    return torch.tensor(hits)


# %% mistake="pointing_game" named="the squared distance is compared"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for c, m in zip(cam, masks):
        r, col = divmod(int(c.argmax()), c.shape[1])
        d = ((m.nonzero() - torch.tensor([r, col])) ** 2).sum(1)
        hits.append(c.max() > 0 and d.min() <= tolerance)  # squared forgot
    return torch.tensor(hits)


# %% mistake="pointing_game" named="divided by the map's height"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for c, m in zip(cam, masks):
        r, col = divmod(int(c.argmax()), c.shape[0])
        d = ((m.nonzero() - torch.tensor([r, col])) ** 2).sum(1).double().sqrt()
        hits.append(bool(c.max() > 0 and d.min() <= tolerance))
    return torch.tensor(hits)


# %% mistake="pointing_game" named="the tolerance is rounded down"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for c, m in zip(cam, masks):
        r, col = divmod(int(c.argmax()), c.shape[1])
        d = ((m.nonzero() - torch.tensor([r, col])) ** 2).sum(1).double().sqrt()
        hits.append(bool(c.max() > 0 and d.min() <= int(tolerance)))
    return torch.tensor(hits)


# %% correct="pointing_game"
def pointing_game(cam, masks, tolerance=0):
    hits = []
    for n in range(len(cam)):
        best, where = 0.0, None
        for row in range(cam.shape[1]):
            for column in range(cam.shape[2]):
                if cam[n, row, column] > best:
                    best, where = cam[n, row, column].item(), (row, column)
        pixels = masks[n].nonzero().tolist() if where else []
        hits.append(
            any((r - where[0]) ** 2 + (c - where[1]) ** 2 <= tolerance**2 for r, c in pixels)
        )
    return torch.tensor(hits)


# %% correct="pointing_game"
def pointing_game(cam, masks, tolerance=0):
    from scipy.ndimage import distance_transform_edt

    hits = torch.zeros(len(cam), dtype=torch.bool)
    for n in range(len(cam)):
        distance = torch.from_numpy(distance_transform_edt(~masks[n].numpy()))
        peak = cam[n] == cam[n].max()
        hits[n] = cam[n].max() > 0 and (distance[peak] <= tolerance).all()
    return hits


# %% correct="pointing_game"
def pointing_game(cam, masks, tolerance=0):
    N, H, W = cam.shape
    index = cam.reshape(N, -1).argmax(dim=1)
    rows, columns = index // W, index % W
    i, j = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    squared = (i - rows[:, None, None]) ** 2 + (j - columns[:, None, None]) ** 2
    near = squared <= tolerance**2
    return (near & masks).any(dim=2).any(dim=1) & (cam > 0).flatten(1).any(1)


# %% correct="pointing_game"
# The mask, grown by a disc.
def pointing_game(cam, masks, tolerance=0):
    r = int(tolerance)
    i = torch.arange(-r, r + 1)
    disc = ((i[:, None] ** 2 + i[None] ** 2) <= tolerance**2).double()
    grown = F.conv2d(masks.double()[:, None], disc[None, None], padding=r)[:, 0] > 0
    peak = cam.flatten(1).argmax(1, keepdim=True)
    return grown.flatten(1).gather(1, peak).squeeze(1) & cam.flatten(1).any(1)


# %% equivalent="pointing_game" reason="in tests, maps and masks are on the CPU"
# - peak = torch.tensor([row, column], device=mask.device)
# + peak = torch.tensor([row, column])


# %% equivalent="pointing_game" reason="the float32 root of an integer is exact where it is an integer itself"
# - distances = (mask.nonzero() - peak).double().square().sum(1).sqrt()
# + distances = (mask.nonzero() - peak).square().sum(1).sqrt()


# %% equivalent="pointing_game" reason="the difference is squared"
# - distances = (mask.nonzero() - peak).double().square().sum(1).sqrt()
# + distances = (peak - mask.nonzero()).double().square().sum(1).sqrt()


# %% mistake="intersection_over_union" named="a value equal to the threshold isn't lit"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = cam > threshold
    return (lit & masks).sum((1, 2)) / (lit | masks).sum((1, 2))


# %% mistake="intersection_over_union" named="recall"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = cam >= threshold
    return (lit & masks).sum((1, 2)) / masks.sum((1, 2))


# %% mistake="intersection_over_union" named="precision"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = cam >= threshold
    return (lit & masks).sum((1, 2)) / lit.sum((1, 2)).clamp(min=1)


# %% mistake="intersection_over_union" named="the union counts no pixel twice"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = cam >= threshold
    return (lit & masks).sum((1, 2)) / (lit.sum((1, 2)) + masks.sum((1, 2)))


# %% mistake="intersection_over_union" named="Dice"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = cam >= threshold
    return 2 * (lit & masks).sum((1, 2)) / (lit.sum((1, 2)) + masks.sum((1, 2)))


# %% mistake="intersection_over_union" named="all images are pooled"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = cam >= threshold
    return (lit & masks).sum() / (lit | masks).sum()


# %% mistake="intersection_over_union" named="the threshold is ignored"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = cam >= 0.5
    return (lit & masks).sum((1, 2)) / (lit | masks).sum((1, 2))


# %% mistake="intersection_over_union" named="count lit pixels"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = cam >= threshold
    return (cam * masks).sum((1, 2)) / (lit | masks).sum((1, 2))


# %% mistake="intersection_over_union" named="averaged into one number"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = cam >= threshold
    return ((lit & masks).sum((1, 2)) / (lit | masks).sum((1, 2))).mean()


# %% mistake="intersection_over_union" named="region and mask agree"
def intersection_over_union(cam, masks, threshold=0.5):
    return ((cam >= threshold) == masks).float().mean((1, 2))


# %% mistake="intersection_over_union" named="compared with the mask as they are"
def intersection_over_union(cam, masks, threshold=0.5):
    m = masks.double()
    return torch.minimum(cam, m).sum((1, 2)) / torch.maximum(cam, m).sum((1, 2))


# %% mistake="intersection_over_union" named="a part of each map's largest value"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = cam >= threshold * cam.amax((1, 2), keepdim=True)
    return (lit & masks).sum((1, 2)) / (lit | masks).sum((1, 2))


# %% mistake="intersection_over_union" named="left out of the union"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = cam >= threshold
    return (lit & masks).sum((1, 2)) / (lit ^ masks).sum((1, 2))


# %% mistake="intersection_over_union" named="below the threshold are called lit"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = cam < threshold
    return (lit & masks).sum((1, 2)) / (lit | masks).sum((1, 2))


# %% correct="intersection_over_union"
def intersection_over_union(cam, masks, threshold=0.5):
    import numpy as np

    lit = (cam >= threshold).numpy()
    truth = masks.numpy()
    both = np.logical_and(lit, truth).sum(axis=(1, 2))
    return torch.tensor(both / np.logical_or(lit, truth).sum(axis=(1, 2)))


# %% correct="intersection_over_union"
def intersection_over_union(cam, masks, threshold=0.5):
    result = []
    for heat, mask in zip(cam, masks):
        intersection = union = 0
        for row in range(heat.shape[0]):
            for column in range(heat.shape[1]):
                lit = heat[row, column] >= threshold
                intersection += int(lit and mask[row, column])
                union += int(lit or mask[row, column])
        result.append(intersection / union)
    return torch.tensor(result)


# %% correct="intersection_over_union"
def intersection_over_union(cam, masks, threshold=0.5):
    lit = (cam >= threshold).double().flatten(1)
    truth = masks.double().flatten(1)
    intersection = (lit * truth).sum(dim=1)
    return intersection / (lit.sum(dim=1) + truth.sum(dim=1) - intersection + 1e-9)


# %% correct="intersection_over_union"
def intersection_over_union(cam, masks, threshold=0.5):
    from sklearn.metrics import jaccard_score

    return torch.tensor(
        [
            jaccard_score(m.flatten().numpy(), (c >= threshold).flatten().numpy(), zero_division=0)
            for c, m in zip(cam, masks)
        ]
    )


# %% equivalent="intersection_over_union" reason="the order of the axes doesn't matter"
# - return (lit & masks).sum((1, 2)) / (lit | masks).sum((1, 2))
# + return (lit & masks).sum((2, 1)) / (lit | masks).sum((1, 2))


# %% equivalent="intersection_over_union" reason="the order of the axes doesn't matter"
# - return (lit & masks).sum((1, 2)) / (lit | masks).sum((1, 2))
# + return (lit & masks).sum((1, 2)) / (lit | masks).sum((2, 1))


# %% mistake="guided_grad_cam" named="map n weights colour channel n"
def guided_grad_cam(X, y, model, cam):
    return guided_backprop(X, y, model) * cam


# %% mistake="guided_grad_cam" named="the plain gradient is weighted"
def guided_grad_cam(X, y, model, cam):
    X = X.clone().requires_grad_()
    (gradients,) = torch.autograd.grad(model(X)[torch.arange(len(y)), y].sum(), X)
    return gradients * cam.unsqueeze(1)


# %% mistake="guided_grad_cam" named="the result has lost its sign"
def guided_grad_cam(X, y, model, cam):
    return guided_backprop(X, y, model).abs() * cam.unsqueeze(1)


# %% mistake="guided_grad_cam" named="cam doesn't weight the gradients"
def guided_grad_cam(X, y, model, cam):
    return guided_backprop(X, y, model)


# %% mistake="guided_grad_cam" named="y is ignored"
def guided_grad_cam(X, y, model, cam):
    return guided_backprop(X, model(X).argmax(dim=1), model) * cam[:, None]


# %% mistake="guided_grad_cam" named="the colour channels are summed"
def guided_grad_cam(X, y, model, cam):
    return guided_backprop(X, y, model).sum(dim=1) * cam


# %% mistake="guided_grad_cam" named="the first image's map"
def guided_grad_cam(X, y, model, cam):
    return guided_backprop(X, y, model) * cam[0]


# %% mistake="guided_grad_cam" named="negative values are set to zero"
def guided_grad_cam(X, y, model, cam):
    return (guided_backprop(X, y, model) * cam[:, None]).clamp(min=0)


# %% mistake="guided_grad_cam" named="divided by its largest value"
def guided_grad_cam(X, y, model, cam):
    guided = guided_backprop(X, y, model) * cam[:, None]
    return guided / guided.abs().amax((1, 2, 3), keepdim=True)


# %% mistake="guided_grad_cam" named="cam is added"
def guided_grad_cam(X, y, model, cam):
    return guided_backprop(X, y, model) + cam[:, None]


# %% mistake="guided_grad_cam" named="whether cam reaches a half"
def guided_grad_cam(X, y, model, cam):
    return guided_backprop(X, y, model) * (cam >= 0.5)[:, None]


# %% mistake="guided_grad_cam" named="the images' gradients are averaged"
def guided_grad_cam(X, y, model, cam):
    g = guided_backprop(X, y, model).mean(0)
    return g[None] * cam[:, None]


# %% mistake="guided_grad_cam" named="the image is multiplied in"
def guided_grad_cam(X, y, model, cam):
    return X * guided_backprop(X, y, model) * cam[:, None]


# %% correct="guided_grad_cam"
def guided_grad_cam(X, y, model, cam):
    return torch.einsum("nkij,nij->nkij", guided_backprop(X, y, model), cam)


# %% correct="guided_grad_cam"
def guided_grad_cam(X, y, model, cam):
    guided = torch.zeros_like(X)
    for n in range(len(X)):
        gradient = guided_backprop(X[n : n + 1], y[n : n + 1], model)[0]
        for k in range(3):
            guided[n, k] = gradient[k] * cam[n]
    return guided


# %% correct="guided_grad_cam"
def guided_grad_cam(X, y, model, cam):
    weights = torch.stack([cam, cam, cam], dim=1)
    return torch.einsum("nkij,nkij->nkij", guided_backprop(X, y, model), weights)


# %% correct="guided_grad_cam"
def guided_grad_cam(X, y, model, cam):
    x = X.clone().detach().requires_grad_(True)
    hs = [
        m.register_full_backward_hook(lambda m, gi, go: (gi[0].clamp(min=0),))
        for m in model.modules()
        if isinstance(m, nn.ReLU)
    ]
    try:
        s = model(x)
        s[torch.arange(len(y)), y].sum().backward()
    finally:
        for h in hs:
            h.remove()
    return x.grad * cam.view(len(cam), 1, *cam.shape[1:])


# %% mistake="insertion_deletion" named="insertion and deletion are exchanged"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        kept = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        p = model(torch.where(kept, baseline, X)).softmax(1)
        insertion.append(p[torch.arange(len(y)), y])
        p = model(torch.where(kept, X, baseline)).softmax(1)
        deletion.append(p[torch.arange(len(y)), y])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="the smallest values of the map come first"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    rank = maps.flatten(1).argsort(dim=1).argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        kept = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        p = model(torch.where(kept, X, baseline)).softmax(1)
        insertion.append(p[torch.arange(len(y)), y])
        p = model(torch.where(kept, baseline, X)).softmax(1)
        deletion.append(p[torch.arange(len(y)), y])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="argsort's answer is used as each pixel's rank"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    rank = maps.flatten(1).argsort(dim=1, descending=True, stable=True).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        kept = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        p = model(torch.where(kept, X, baseline)).softmax(1)
        insertion.append(p[torch.arange(len(y)), y])
        p = model(torch.where(kept, baseline, X)).softmax(1)
        deletion.append(p[torch.arange(len(y)), y])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="the number of pixels is rounded down"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    N, H, W = maps.shape
    order = maps.reshape(N, -1).argsort(dim=1, descending=True, stable=True)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = torch.zeros(N, H * W, dtype=torch.bool)
        chosen.scatter_(1, order[:, : int(fraction * H * W)], True)
        chosen = chosen.reshape(N, 1, H, W)
        for curve, a, b in ((insertion, X, baseline), (deletion, baseline, X)):
            curve.append(model(torch.where(chosen, a, b)).softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="the class score is returned"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        for curve, a, b in ((insertion, X, baseline), (deletion, baseline, X)):
            curve.append(model(torch.where(chosen, a, b)).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="the baseline belongs there"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        for curve, mixed in ((insertion, X * chosen), (deletion, X * ~chosen)):
            curve.append(model(mixed).softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="the baseline belongs there"
# Right for insertion.
def insertion_deletion(X, y, model, maps, baseline, fractions):
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        for curve, mixed in (
            (insertion, torch.where(chosen, X, baseline)),
            (deletion, X * ~chosen),
        ):
            curve.append(model(mixed).softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="the smallest values of the map come first"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        count = torch.round(fraction * rank[0].numel())
        first, last = (rank < count)[:, None], (rank >= rank[0].numel() - count)[:, None]
        for curve, mixed in (
            (insertion, torch.where(first, X, baseline)),
            (deletion, torch.where(last, baseline, X)),
        ):
            curve.append(model(mixed).softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="deletion is one minus insertion"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion = []
    for fraction in fractions:
        chosen = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        p = model(torch.where(chosen, X, baseline)).softmax(1)
        insertion.append(p.gather(1, y[:, None])[:, 0])
    insertion = torch.stack(insertion, 1)
    return insertion, 1 - insertion


# %% mistake="insertion_deletion" named="pixels are ranked over the whole batch"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    rank = maps.flatten().argsort(descending=True, stable=True).argsort().reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = (rank < torch.round(fraction * rank.numel()))[:, None]
        for curve, a, b in ((insertion, X, baseline), (deletion, baseline, X)):
            curve.append(model(torch.where(chosen, a, b)).softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="y is ignored"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    y = model(X).argmax(dim=1)
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        for curve, a, b in ((insertion, X, baseline), (deletion, baseline, X)):
            curve.append(model(torch.where(chosen, a, b)).softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="the softmax runs over the images"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        for curve, a, b in ((insertion, X, baseline), (deletion, baseline, X)):
            curve.append(model(torch.where(chosen, a, b)).softmax(0).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="the curves are averaged over the images"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        for curve, a, b in ((insertion, X, baseline), (deletion, baseline, X)):
            p = model(torch.where(chosen, a, b)).softmax(1).gather(1, y[:, None])
            curve.append(p.mean())
    return torch.stack(insertion), torch.stack(deletion)


# %% mistake="insertion_deletion" named="axes exchanged"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        for curve, a, b in ((insertion, X, baseline), (deletion, baseline, X)):
            curve.append(model(torch.where(chosen, a, b)).softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion), torch.stack(deletion)


# %% mistake="insertion_deletion" named="the last of equal pixels is chosen first"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    order = maps.flatten(1).argsort(dim=1, stable=True).flip(1)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        for curve, a, b in ((insertion, X, baseline), (deletion, baseline, X)):
            curve.append(model(torch.where(chosen, a, b)).softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="of which the first row by row comes first"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    order = maps.flatten(1).argsort(dim=1, descending=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        for curve, a, b in ((insertion, X, baseline), (deletion, baseline, X)):
            curve.append(model(torch.where(chosen, a, b)).softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="more than there should be"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    values = maps.flatten(1).sort(dim=1, descending=True).values
    insertion, deletion = [], []
    for fraction in fractions:
        count = int(torch.round(fraction * values.shape[1]))
        least = values[:, count - 1] if count else torch.full((len(X),), float("inf"))
        chosen = (maps >= least[:, None, None])[:, None]
        for curve, a, b in ((insertion, X, baseline), (deletion, baseline, X)):
            curve.append(model(torch.where(chosen, a, b)).softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="`baseline` was modified in place"
# The pixels are inserted into the one baseline, which every later step finds changed.
def insertion_deletion(X, y, model, maps, baseline, fractions):
    N, H, W = maps.shape
    order = maps.reshape(N, -1).argsort(dim=1, descending=True, stable=True)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = torch.zeros(N, H * W, dtype=torch.bool)
        chosen.scatter_(1, order[:, : round(float(fraction) * H * W)], True)
        chosen = chosen.reshape(N, 1, H, W)
        removed = torch.where(chosen, baseline, X)
        deletion.append(model(removed).softmax(1).gather(1, y[:, None])[:, 0])
        baseline += torch.where(chosen, X - baseline, 0)
        insertion.append(model(baseline).softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="was left in another mode"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    model.eval()
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    for fraction in fractions:
        chosen = (rank < torch.round(fraction * rank[0].numel()))[:, None]
        for curve, a, b in ((insertion, X, baseline), (deletion, baseline, X)):
            curve.append(model(torch.where(chosen, a, b)).softmax(1).gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, 1), torch.stack(deletion, 1)


# %% mistake="insertion_deletion" named="negative values of the map count as zero"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    N, C, H, W = X.shape
    ranks = (
        maps.relu()
        .flatten(1)
        .argsort(dim=1, descending=True, stable=True)
        .argsort(dim=1)
        .view(N, 1, H, W)
    )
    ins, dels = [], []
    for q in fractions:
        k = torch.round(q * H * W)
        with torch.no_grad():
            ins.append(model(torch.where(ranks < k, X, baseline)).softmax(1)[range(N), y])
            dels.append(model(torch.where(ranks < k, baseline, X)).softmax(1)[range(N), y])
    return torch.stack(ins, 1), torch.stack(dels, 1)


# %% mistake="insertion_deletion" named="added to the baseline"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    N, C, H, W = X.shape
    ranks = (
        maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view(N, 1, H, W)
    )
    ins, dels = [], []
    for q in fractions:
        m = (ranks < torch.round(q * H * W)).double()
        with torch.no_grad():
            ins.append(model(baseline + m * X).softmax(1)[range(N), y])
            dels.append(model(X - m * X + m * baseline).softmax(1)[range(N), y])
    return torch.stack(ins, 1), torch.stack(dels, 1)


# %% mistake="insertion_deletion" named="sigmoid takes the place of softmax"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    N, C, H, W = X.shape
    ranks = (
        maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view(N, 1, H, W)
    )
    ins, dels = [], []
    for q in fractions:
        k = torch.round(q * H * W)
        with torch.no_grad():
            ins.append(model(torch.where(ranks < k, X, baseline)).sigmoid()[range(N), y])
            dels.append(model(torch.where(ranks < k, baseline, X)).sigmoid()[range(N), y])
    return torch.stack(ins, 1), torch.stack(dels, 1)


# %% mistake="insertion_deletion" named="whether the class is predicted"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    N, C, H, W = X.shape
    ranks = (
        maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view(N, 1, H, W)
    )
    ins, dels = [], []
    for q in fractions:
        k = torch.round(q * H * W)
        with torch.no_grad():
            s = model(torch.where(ranks < k, X, baseline))
            ins.append((s.argmax(1) == y).double())
            s = model(torch.where(ranks < k, baseline, X))
            dels.append((s.argmax(1) == y).double())
    return torch.stack(ins, 1), torch.stack(dels, 1)


# %% correct="insertion_deletion"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    N, H, W = maps.shape
    order = torch.argsort(-maps.reshape(N, H * W), dim=1, stable=True)
    curves = torch.zeros(2, N, len(fractions), dtype=X.dtype)
    for n in range(N):
        for s, fraction in enumerate(fractions.tolist()):
            inserted, deleted = baseline[n].clone(), X[n].clone()
            for index in order[n, : round(fraction * H * W)].tolist():
                row, column = divmod(index, W)
                inserted[:, row, column] = X[n, :, row, column]
                deleted[:, row, column] = baseline[n, :, row, column]
            for kind, image in enumerate((inserted, deleted)):
                with torch.no_grad():
                    scores = model(image[None])[0]
                curves[kind, n, s] = torch.softmax(scores, dim=0)[y[n]]
    return curves[0], curves[1]


# %% correct="insertion_deletion"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    import numpy as np

    N, H, W = maps.shape
    ranks = np.empty((N, H * W))
    for n, heat in enumerate(maps.numpy().reshape(N, -1)):
        ranks[n, np.lexsort((np.arange(H * W), -heat))] = np.arange(H * W)
    ranks = torch.from_numpy(ranks).view(N, 1, H, W)
    counts = [int(fraction * H * W + 0.5) for fraction in fractions]

    @torch.no_grad()
    def probability(inside, outside, count):
        share = (ranks < count).to(X.dtype)
        log_p = F.log_softmax(model(share * inside + (1 - share) * outside), dim=1)
        return log_p.gather(1, y.view(-1, 1)).squeeze(1).exp()

    insertion = [probability(X, baseline, count) for count in counts]
    deletion = [probability(baseline, X, count) for count in counts]
    return torch.stack(insertion, dim=-1), torch.stack(deletion, dim=-1)


# %% correct="insertion_deletion"
class Curves:
    def __init__(self, X, y, model, maps, baseline):
        self.X, self.y, self.model, self.baseline = X, y, model, baseline
        self.order = maps.flatten(1).sort(dim=1, descending=True, stable=True).indices

    def at(self, fraction):
        pixels = self.order.shape[1]
        chosen = torch.zeros_like(self.order, dtype=torch.bool)
        chosen = chosen.scatter(1, self.order[:, : int(round(float(fraction) * pixels))], True)
        chosen = chosen.view(len(self.X), 1, *self.X.shape[2:]).expand_as(self.X)
        inserted, deleted = self.baseline.clone(), self.X.clone()
        inserted[chosen], deleted[chosen] = self.X[chosen], self.baseline[chosen]
        rows = torch.arange(len(self.X))
        return [self.model(image).softmax(-1)[rows, self.y] for image in (inserted, deleted)]


def insertion_deletion(X, y, model, maps, baseline, fractions):
    curves = Curves(X, y, model, maps, baseline)
    points = [curves.at(fraction) for fraction in fractions]
    return [torch.stack(curve, dim=1) for curve in zip(*points)]


# %% correct="insertion_deletion"
# All steps in one batch.
def insertion_deletion(X, y, model, maps, baseline, fractions):
    N, C, H, W = X.shape
    S = len(fractions)
    rank = torch.empty(N, H * W, dtype=torch.long)
    order = maps.flatten(1).sort(dim=1, descending=True, stable=True)[1]
    rank.scatter_(1, order, torch.arange(H * W).expand(N, -1))
    m = rank.view(N, 1, 1, H, W) < torch.round(fractions * H * W).view(1, S, 1, 1, 1)
    x, b = X[:, None], baseline[:, None]
    a = torch.where(m, x, b).flatten(0, 1)
    d = torch.where(m, b, x).flatten(0, 1)
    with torch.inference_mode():
        pr = F.softmax(model(torch.cat([a, d])), 1).view(2, N, S, -1)
    pr = pr[:, torch.arange(N), :, y].permute(1, 0, 2)
    return pr[0].clone(), pr[1].clone()


# %% equivalent="insertion_deletion" reason="the last axis is the default"
# - order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
# + order = maps.flatten(1).argsort(descending=True, stable=True)


# %% equivalent="insertion_deletion" reason="the last axis is the default"
# - rank = order.argsort(dim=1).reshape(maps.shape)
# + rank = order.argsort().reshape(maps.shape)


# %% equivalent="insertion_deletion" reason="what comes back to a test is detached"
# - with torch.no_grad():
# + if True:


# %% equivalent="insertion_deletion" reason="all maps have as many pixels"
# - chosen = (rank < (fraction * rank[0].numel()).round())[:, None]
# + chosen = (rank < (fraction * rank[-1].numel()).round())[:, None]


# %% equivalent="insertion_deletion" reason="it doesn't matter which image the network sees first"
# - for curve, inside, outside in ((insertion, X, baseline), (deletion, baseline, X)):
# + for curve, inside, outside in ((deletion, baseline, X), (insertion, X, baseline)):


# %% equivalent="insertion_deletion" reason="there is one column"
# - curve.append(probabilities.gather(1, y[:, None])[:, 0])
# + curve.append(probabilities.gather(1, y[:, None])[:, -1])
