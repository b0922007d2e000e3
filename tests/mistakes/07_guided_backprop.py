# %% [markdown]
# What students write in lab 07: mistakes that must lose points and be named, and answers that look
# different from ours and are right.

# %% mistake="relu_backward" named="where x is exactly 0, dout passes"
def relu_backward(dout, x, rule):
    if rule == "backprop":
        return dout * (x >= 0)
    if rule == "deconvnet":
        return dout * (dout >= 0)
    return dout * (x >= 0) * (dout >= 0)


# %% mistake="relu_backward" named="it is the rule of backprop"
def relu_backward(dout, x, rule):
    if rule == "deconvnet":
        return dout * (dout > 0)
    return dout * (x > 0)


# %% mistake="relu_backward" named="it is the rule of guided"
def relu_backward(dout, x, rule):
    dx = dout * (x > 0)
    if rule in ("deconvnet", "guided"):
        dx = dx * (dout > 0)
    return dx


# %% mistake="relu_backward" named="it is the rule of deconvnet"
def relu_backward(dout, x, rule):
    if rule == "backprop":
        return torch.where(x > 0, dout, 0)
    return torch.relu(dout)


# %% mistake="relu_backward" named="multiplied by ReLU(x)"
def relu_backward(dout, x, rule):
    if rule == "deconvnet":
        return F.relu(dout)
    return (dout if rule == "backprop" else F.relu(dout)) * F.relu(x)


# %% mistake="relu_backward" named="only the mask is passed back"
def relu_backward(dout, x, rule):
    passes = {"backprop": x > 0, "deconvnet": dout > 0, "guided": (x > 0) & (dout > 0)}
    return passes[rule].double()


# %% mistake="relu_backward" named="was modified in place"
def relu_backward(dout, x, rule):
    if rule != "deconvnet":
        dout[x <= 0] = 0
    if rule != "backprop":
        dout[dout <= 0] = 0
    return dout


# %% mistake="relu_backward" named="is a `return` missing?"
def relu_backward(dout, x, rule):
    if rule == "backprop":
        return dout * (x > 0)
    elif rule == "deconvnet":
        return dout * (dout > 0)
    elif rule == "guided_backprop":
        return dout * (x > 0) * (dout > 0)


# %% correct="relu_backward"
def relu_backward(dout, x, rule):
    dx = torch.zeros_like(dout).reshape(-1)
    for i, (upstream, value) in enumerate(zip(dout.reshape(-1), x.reshape(-1))):
        open_forward = value > 0 or rule == "deconvnet"
        open_backward = upstream > 0 or rule == "backprop"
        if open_forward and open_backward:
            dx[i] = upstream
    return dx.reshape(dout.shape)


# %% correct="relu_backward"
def relu_backward(dout, x, rule):
    print(rule, dout.shape)
    dx = dout.clone()
    if rule in ("backprop", "guided"):
        dx[x <= 0] = 0
    if rule in ("deconvnet", "guided"):
        dx = dx.clamp(min=0)
    return dx


# %% correct="relu_backward"
def relu_backward(dout, x, rule):
    rules = {
        "backprop": lambda: torch.where(F.relu(x) > 0, dout, torch.zeros_like(dout)),
        "deconvnet": lambda: F.relu(dout),
        "guided": lambda: F.relu(dout * (x > 0).to(dout.dtype)),
    }
    return rules[rule]()


# %% mistake="DeconvReLU" named="it is the ordinary gradient"
class DeconvReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        (x,) = ctx.saved_tensors
        return dout * (x > 0)


# %% mistake="DeconvReLU" named="which is guided backprop"
class DeconvReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.relu(x)

    @staticmethod
    def backward(ctx, dout):
        (x,) = ctx.saved_tensors
        return torch.relu(dout) * (x > 0)


# %% mistake="DeconvReLU" named="forward returns x as it is"
class DeconvReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, dout):
        return dout.clamp(min=0)


# %% mistake="DeconvReLU" named="only the mask is passed back"
class DeconvReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        return (dout > 0).to(dout.dtype)


# %% mistake="DeconvReLU" named="the absolute value of dout"
class DeconvReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        return dout.abs()


# %% mistake="DeconvReLU" named="dout passes as it is"
class DeconvReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        dout.clamp(min=0)
        return dout


# %% mistake="DeconvReLU" named="was modified in place"
class DeconvReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        dout[dout < 0] = 0
        return dout


# %% mistake="DeconvReLU" named="was modified in place"
class DeconvReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x[x < 0] = 0
        return x.clone()

    @staticmethod
    def backward(ctx, dout):
        return dout * (dout > 0)


# %% correct="DeconvReLU"
class DeconvReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input * (input > 0)

    @staticmethod
    def backward(ctx, grad_output):
        grad_input = grad_output.clone()
        grad_input[grad_input < 0] = 0
        return grad_input


# %% correct="DeconvReLU"
class DeconvReLU(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return torch.relu(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, dout):
        return torch.where(dout > 0, dout, torch.zeros_like(dout))


# %% correct="DeconvReLU"
class DeconvReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.maximum(x, torch.zeros_like(x))

    @staticmethod
    def backward(ctx, dout):
        print("deconvnet", dout.shape)
        return (dout + dout.abs()) / 2


# %% mistake="GuidedReLU" named="where x is exactly 0, dout passes"
class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        (x,) = ctx.saved_tensors
        return dout.clamp(min=0) * (x >= 0)


# %% mistake="GuidedReLU" named="it is the ordinary gradient"
class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        (x,) = ctx.saved_tensors
        return dout * (x > 0)


# %% mistake="GuidedReLU" named="which is the deconvnet's rule"
class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        return dout.clamp(min=0)


# %% mistake="GuidedReLU" named="multiplied by ReLU(x)"
class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.clamp(min=0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, dout):
        (y,) = ctx.saved_tensors
        return dout.clamp(min=0) * y


# %% mistake="GuidedReLU" named="forward returns a mask"
class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        mask = (x > 0).to(x.dtype)
        ctx.save_for_backward(mask)
        return mask

    @staticmethod
    def backward(ctx, dout):
        (mask,) = ctx.saved_tensors
        return dout.clamp(min=0) * mask


# %% mistake="GuidedReLU" named="only the mask is passed back"
class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        (x,) = ctx.saved_tensors
        return ((x > 0) & (dout > 0)).to(dout.dtype)


# %% mistake="GuidedReLU" named="the absolute value of dout is passed back where x is positive"
class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        (x,) = ctx.saved_tensors
        return dout.abs() * (x > 0)


# %% mistake="GuidedReLU" named="was modified in place"
class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        positive = x > 0
        ctx.save_for_backward(positive)
        x[~positive] = 0
        return x.clone()

    @staticmethod
    def backward(ctx, dout):
        (positive,) = ctx.saved_tensors
        return dout.clamp(min=0) * positive


# %% correct="GuidedReLU"
class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        output = torch.relu(x)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx, grad_output):
        (output,) = ctx.saved_tensors
        grad_input = grad_output.clone()
        grad_input[output <= 0] = 0
        grad_input[grad_output <= 0] = 0
        return grad_input


# %% correct="GuidedReLU"
class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return F.relu(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mask = inputs[0] > 0

    @staticmethod
    def backward(ctx, dout):
        return torch.where(ctx.mask & (dout > 0), dout, 0)


# %% correct="GuidedReLU"
class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.max(x, torch.zeros_like(x))

    @staticmethod
    def backward(ctx, dout):
        (x,) = ctx.saved_tensors
        print("guided", dout.shape)
        return (x > 0).type_as(dout) * (dout > 0).type_as(dout) * dout


# %% mistake="guided_backprop" named="it is the plain gradient: no ReLU goes back by the guided rule"
def guided_backprop(X, y, model):
    if not any(isinstance(module, nn.ReLU) for module in model.modules()):
        raise ValueError("no nn.ReLU")
    X = X.clone().requires_grad_()
    score = model(X).gather(1, y[:, None]).sum()
    return torch.autograd.grad(score, X)[0]


# %% mistake="guided_backprop" named="which is the deconvnet's rule"
def guided_backprop(X, y, model):
    X = X.clone().requires_grad_()
    handles = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            handles.append(
                module.register_full_backward_hook(lambda m, gin, gout: (gout[0].clamp(min=0),))
            )
    if not handles:
        raise ValueError("no ReLU")
    try:
        model(X).gather(1, y[:, None]).sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    return X.grad


# %% mistake="guided_backprop" named="set to zero once, in the image"
def guided_backprop(X, y, model):
    if not any(isinstance(module, nn.ReLU) for module in model.modules()):
        raise ValueError("no nn.ReLU")
    X = X.clone().requires_grad_()
    score = model(X).gather(1, y[:, None]).sum()
    return torch.autograd.grad(score, X)[0].clamp(min=0)


# %% mistake="guided_backprop" named="nobody is told: raise a ValueError"
def guided_backprop(X, y, model):
    X = X.clone().requires_grad_()
    handles = [
        module.register_full_backward_hook(lambda m, dx, dout: (dx[0].relu(),))
        for module in model.modules()
        if isinstance(module, nn.ReLU)
    ]
    try:
        score = model(X).gather(1, y[:, None]).sum()
        return torch.autograd.grad(score, X)[0]
    finally:
        for handle in handles:
            handle.remove()


# %% mistake="guided_backprop" named="was left with other hooks"
def guided_backprop(X, y, model):
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("no nn.ReLU")
    for relu in relus:
        relu.register_full_backward_hook(lambda m, dx, dout: (dx[0].relu(),))
    X = X.clone().requires_grad_()
    return torch.autograd.grad(model(X).gather(1, y[:, None]).sum(), X)[0]


# %% mistake="guided_backprop" named="after an exception in the model"
def guided_backprop(X, y, model):
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("no nn.ReLU")
    handles = [
        relu.register_full_backward_hook(lambda m, dx, dout: (dx[0].relu(),)) for relu in relus
    ]
    X = X.clone().requires_grad_()
    guided = torch.autograd.grad(model(X).gather(1, y[:, None]).sum(), X)[0]
    for handle in handles:
        handle.remove()
    return guided


# %% mistake="guided_backprop" named="was left with other attributes"
class MyGuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        (x,) = ctx.saved_tensors
        return dout.clamp(min=0) * (x > 0)


def guided_backprop(X, y, model):
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("no nn.ReLU")
    for relu in relus:
        relu.forward = MyGuidedReLU.apply
    X = X.clone().requires_grad_()
    return torch.autograd.grad(model(X).gather(1, y[:, None]).sum(), X)[0]


# %% mistake="guided_backprop" named="guided_backprop changes the model"
class MyGuidedFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        (x,) = ctx.saved_tensors
        return dout.clamp(min=0) * (x > 0)


class MyGuidedReLU(nn.ReLU):
    def forward(self, x):
        return MyGuidedFunction.apply(x)


def guided_backprop(X, y, model):
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("no nn.ReLU")
    for relu in relus:
        relu.__class__ = MyGuidedReLU
    X = X.clone().requires_grad_()
    return torch.autograd.grad(model(X).gather(1, y[:, None]).sum(), X)[0]


# %% mistake="guided_backprop" named="scores[:, y] has shape (N, N)"
def guided_backprop(X, y, model):
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("no nn.ReLU")
    handles = [r.register_full_backward_hook(lambda m, dx, dout: (dx[0].relu(),)) for r in relus]
    try:
        X = X.clone().requires_grad_()
        return torch.autograd.grad(model(X)[:, y].sum(), X)[0]
    finally:
        for handle in handles:
            handle.remove()


# %% mistake="guided_backprop" named="the predicted class is asked for"
def guided_backprop(X, y, model):
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("no nn.ReLU")
    handles = [r.register_full_backward_hook(lambda m, dx, dout: (dx[0].relu(),)) for r in relus]
    try:
        X = X.clone().requires_grad_()
        return torch.autograd.grad(model(X).max(dim=1).values.sum(), X)[0]
    finally:
        for handle in handles:
            handle.remove()


# %% mistake="guided_backprop" named="the gradient of the loss"
def guided_backprop(X, y, model):
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("no nn.ReLU")
    handles = [r.register_full_backward_hook(lambda m, dx, dout: (dx[0].relu(),)) for r in relus]
    try:
        X = X.clone().requires_grad_()
        F.cross_entropy(model(X), y, reduction="sum").backward()
        return X.grad
    finally:
        for handle in handles:
            handle.remove()


# %% mistake="guided_backprop" named="which divides by N"
def guided_backprop(X, y, model):
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("no nn.ReLU")
    handles = [r.register_full_backward_hook(lambda m, dx, dout: (dx[0].relu(),)) for r in relus]
    try:
        X = X.clone().requires_grad_()
        return torch.autograd.grad(model(X).gather(1, y.view(-1, 1)).mean(), X)[0]
    finally:
        for handle in handles:
            handle.remove()


# %% mistake="guided_backprop" named="the absolute value is taken"
def guided_backprop(X, y, model):
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("no nn.ReLU")
    handles = [r.register_full_backward_hook(lambda m, dx, dout: (dx[0].relu(),)) for r in relus]
    try:
        X = X.clone().requires_grad_()
        return torch.autograd.grad(model(X).gather(1, y.view(-1, 1)).sum(), X)[0].abs()
    finally:
        for handle in handles:
            handle.remove()


# %% mistake="guided_backprop" named="the model runs in training mode"
def guided_backprop(X, y, model):
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("no nn.ReLU")
    handles = [r.register_full_backward_hook(lambda m, dx, dout: (dx[0].relu(),)) for r in relus]
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        X = X.clone().requires_grad_()
        return torch.autograd.grad(model(X).gather(1, y.view(-1, 1)).sum(), X)[0]
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode


# %% mistake="guided_backprop" named="was left in another mode"
def guided_backprop(X, y, model):
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("no nn.ReLU")
    handles = [r.register_full_backward_hook(lambda m, dx, dout: (dx[0].relu(),)) for r in relus]
    model.eval()
    try:
        X = X.clone().requires_grad_()
        return torch.autograd.grad(model(X).gather(1, y.view(-1, 1)).sum(), X)[0]
    finally:
        for handle in handles:
            handle.remove()


# %% mistake="guided_backprop" named="utils.attribution.guided_backprop"
def guided_backprop(X, y, model):
    from utils import attribution

    if not any(isinstance(module, nn.ReLU) for module in model.modules()):
        raise ValueError("no ReLU")
    return attribution.guided_backprop(X, y, model)


# %% correct="guided_backprop"
class MyGuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        (x,) = ctx.saved_tensors
        return dout.clamp(min=0) * (x > 0)


def guided_backprop(X, y, model):
    import copy

    model = copy.deepcopy(model)
    found = False
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.forward = MyGuidedReLU.apply
            found = True
    if not found:
        raise ValueError("no ReLU module found")
    X = X.clone().requires_grad_(True)
    scores = model(X)
    scores[torch.arange(len(y)), y].sum().backward()
    return X.grad


# %% correct="guided_backprop"
def guided_backprop(X, y, model):
    """One image at a time, with gradients left on the parameters."""

    def hook(module, grad_input, grad_output):
        return (torch.where(grad_input[0] > 0, grad_input[0], torch.zeros_like(grad_input[0])),)

    handles = []
    results = []
    try:
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                handles.append(module.register_full_backward_hook(hook))
        if len(handles) == 0:
            raise ValueError("need nn.ReLU modules")
        for n in range(X.shape[0]):
            image = X[n : n + 1].clone().requires_grad_()
            model(image)[0, y[n]].backward()
            results.append(image.grad[0])
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(results)


# %% correct="guided_backprop"
def guided_backprop(X, y, model):
    """By hooks on the graph, which F.relu can't escape."""
    X = X.detach().clone().requires_grad_()
    score = model(X).gather(1, y[:, None]).sum()
    seen, waiting = set(), [score.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if "relu" in node.name().lower():
            node.register_hook(lambda dx, dout: (dx[0].clamp(min=0),))
        waiting.extend(following for following, _ in node.next_functions)
    print("nodes:", len(seen))
    return torch.autograd.grad(score, X)[0]


# %% mistake="max_unpool" named="values overwrite each other"
def max_unpool(z, switches, size):
    N, K, H, W = *z.shape[:2], *size
    out = torch.zeros(N, K, H * W, dtype=z.dtype)
    out.scatter_(2, switches.flatten(2), z.flatten(2))
    return out.view(N, K, H, W)


# %% mistake="max_unpool" named="values overwrite each other"
def max_unpool(z, switches, size):
    out = torch.zeros(*z.shape[:2], *size, dtype=z.dtype)
    for n, k, r, c in np.ndindex(*z.shape):
        row, column = divmod(switches[n, k, r, c].item(), size[1])
        out[n, k, row, column] = z[n, k, r, c]
    return out


# %% mistake="max_unpool" named="each value is in its window's first place"
def max_unpool(z, switches, size):
    out = torch.zeros(*z.shape[:2], *size, dtype=z.dtype)
    down, right = size[0] // z.shape[2], size[1] // z.shape[3]
    out[:, :, :: max(down, 1), :: max(right, 1)][:, :, : z.shape[2], : z.shape[3]] = z
    return out


# %% mistake="max_unpool" named="each value fills a whole window"
def max_unpool(z, switches, size):
    return F.interpolate(z, size=size, mode="nearest")


# %% mistake="max_unpool" named="places are counted column by column"
def max_unpool(z, switches, size):
    out = torch.zeros(*z.shape[:2], *size, dtype=z.dtype)
    for n in range(z.shape[0]):
        for k in range(z.shape[1]):
            for r in range(z.shape[2]):
                for c in range(z.shape[3]):
                    column, row = divmod(switches[n, k, r, c].item(), size[0])
                    out[n, k, row, column] += z[n, k, r, c]
    return out


# %% mistake="max_unpool" named="the first channel's switches are used for all"
def max_unpool(z, switches, size):
    N, K = z.shape[:2]
    out = torch.zeros(N, K, size[0] * size[1], dtype=z.dtype)
    out.scatter_add_(2, switches[:, :1].expand(-1, K, -1, -1).flatten(2), z.flatten(2))
    return out.reshape(N, K, *size)


# %% mistake="max_unpool" named="the first image's switches are used for all"
def max_unpool(z, switches, size):
    N, K, H, W = *z.shape[:2], *size
    out = torch.zeros(N, K, H * W, dtype=z.dtype)
    for k in range(K):
        for place in range(switches[0, k].numel()):
            out[:, k, switches[0, k].flatten()[place]] += z[:, k].flatten(1)[:, place]
    return out.reshape(N, K, H, W)


# %% mistake="max_unpool" named="negative values are left out"
def max_unpool(z, switches, size):
    N, K = z.shape[:2]
    out = torch.zeros(N, K, size[0] * size[1], dtype=z.dtype)
    out.scatter_add_(2, switches.flatten(2), z.flatten(2).relu())
    return out.reshape(N, K, *size)


# %% correct="max_unpool"
def max_unpool(z, switches, size):
    H, W = size
    unpooled = torch.zeros(z.shape[0], z.shape[1], H, W, dtype=z.dtype)
    for n in range(z.shape[0]):
        for k in range(z.shape[1]):
            for value, place in zip(z[n, k].reshape(-1), switches[n, k].reshape(-1)):
                unpooled[n, k, place // W, place % W] += value
    return unpooled


# %% correct="max_unpool"
def max_unpool(z, switches, size):
    chosen = F.one_hot(switches.flatten(2), size[0] * size[1]).to(z.dtype)
    return torch.einsum("nkp,nkpq->nkq", z.flatten(2), chosen).reshape(*z.shape[:2], *size)


# %% correct="max_unpool"
def max_unpool(z, switches, size):
    N, K = z.shape[:2]
    out = torch.zeros(N * K * size[0] * size[1], dtype=z.dtype)
    offset = torch.arange(N * K).reshape(N, K, 1, 1) * (size[0] * size[1])
    out.index_put_(((switches + offset).reshape(-1),), z.reshape(-1), accumulate=True)
    return out.reshape(N, K, size[0], size[1])


# %% mistake="deconvnet" named="which is the plain gradient"
def deconvnet(X, y, model):
    X = X.clone().requires_grad_()
    return torch.autograd.grad(model(X).gather(1, y[:, None]).sum(), X)[0]


# %% mistake="deconvnet" named="which is guided backprop"
def deconvnet(X, y, model):
    X = X.clone().requires_grad_()
    handles = [
        layer.register_full_backward_hook(lambda m, dx, dout: (dx[0].relu(),))
        for layer in model
        if isinstance(layer, nn.ReLU)
    ]
    try:
        return torch.autograd.grad(model(X).gather(1, y[:, None]).sum(), X)[0]
    finally:
        for handle in handles:
            handle.remove()


# %% mistake="deconvnet" named="there is no ReLU on the way down"
@torch.no_grad()
def deconvnet(X, y, model):
    x, ascent = X, []
    for layer in model:
        shape, switches = x.shape, None
        if isinstance(layer, nn.MaxPool2d):
            x, switches = F.max_pool2d(x, layer.kernel_size, layer.stride, return_indices=True)
        else:
            x = layer(x)
        ascent.append((layer, shape, switches))
    z = F.one_hot(y, x.shape[1]).to(x)
    for layer, shape, switches in ascent[::-1]:
        if isinstance(layer, nn.Linear):
            z = z @ layer.weight
        elif isinstance(layer, nn.Flatten):
            z = z.view(shape)
        elif isinstance(layer, nn.MaxPool2d):
            z = F.max_unpool2d(z, switches, layer.kernel_size, layer.stride, output_size=shape)
        elif isinstance(layer, nn.Conv2d):
            z = F.conv_transpose2d(z, layer.weight, padding=layer.padding)
    return z


# %% mistake="deconvnet" named="without its switches, by enlarging"
@torch.no_grad()
def deconvnet(X, y, model):
    x, ascent = X, []
    for layer in model:
        ascent.append((layer, x.shape))
        x = layer(x)
    z = F.one_hot(y, x.shape[1]).to(x)
    for layer, shape in ascent[::-1]:
        if isinstance(layer, nn.Linear):
            z = z @ layer.weight
        elif isinstance(layer, nn.Flatten):
            z = z.view(shape)
        elif isinstance(layer, nn.MaxPool2d):
            z = F.interpolate(z, size=shape[2:])
        elif isinstance(layer, nn.ReLU):
            z = F.relu(z)
        elif isinstance(layer, nn.Conv2d):
            z = F.conv_transpose2d(z, layer.weight, padding=layer.padding)
    return z


# %% mistake="deconvnet" named="the kernels aren't flipped on the way down"
@torch.no_grad()
def deconvnet(X, y, model):
    x, ascent = X, []
    for layer in model:
        shape, switches = x.shape, None
        if isinstance(layer, nn.MaxPool2d):
            x, switches = F.max_pool2d(x, layer.kernel_size, layer.stride, return_indices=True)
        else:
            x = layer(x)
        ascent.append((layer, shape, switches))
    z = F.one_hot(y, x.shape[1]).to(x)
    for layer, shape, switches in ascent[::-1]:
        if isinstance(layer, nn.Linear):
            z = z @ layer.weight
        elif isinstance(layer, nn.Flatten):
            z = z.view(shape)
        elif isinstance(layer, nn.MaxPool2d):
            z = F.max_unpool2d(z, switches, layer.kernel_size, layer.stride, output_size=shape)
        elif isinstance(layer, nn.ReLU):
            z = F.relu(z)
        elif isinstance(layer, nn.Conv2d):
            z = F.conv2d(z, layer.weight.transpose(0, 1), padding=layer.padding)
    return z


# %% mistake="deconvnet" named="the biases of the convolutions are taken off"
@torch.no_grad()
def deconvnet(X, y, model):
    x, ascent = X, []
    for layer in model:
        shape, switches = x.shape, None
        if isinstance(layer, nn.MaxPool2d):
            x, switches = F.max_pool2d(x, layer.kernel_size, layer.stride, return_indices=True)
        else:
            x = layer(x)
        ascent.append((layer, shape, switches))
    z = F.one_hot(y, x.shape[1]).to(x)
    for layer, shape, switches in ascent[::-1]:
        if isinstance(layer, nn.Linear):
            z = z @ layer.weight
        elif isinstance(layer, nn.Flatten):
            z = z.view(shape)
        elif isinstance(layer, nn.MaxPool2d):
            z = F.max_unpool2d(z, switches, layer.kernel_size, layer.stride, output_size=shape)
        elif isinstance(layer, nn.ReLU):
            z = F.relu(z)
        elif isinstance(layer, nn.Conv2d):
            z = z - layer.bias.view(1, -1, 1, 1)
            z = F.conv_transpose2d(z, layer.weight, padding=layer.padding)
    return z


# %% mistake="deconvnet" named="the signal starts from the score, not from 1"
@torch.no_grad()
def deconvnet(X, y, model):
    x, ascent = X, []
    for layer in model:
        shape, switches = x.shape, None
        if isinstance(layer, nn.MaxPool2d):
            x, switches = F.max_pool2d(x, layer.kernel_size, layer.stride, return_indices=True)
        else:
            x = layer(x)
        ascent.append((layer, shape, switches))
    z = F.one_hot(y, x.shape[1]) * x
    for layer, shape, switches in ascent[::-1]:
        if isinstance(layer, nn.Linear):
            z = z @ layer.weight
        elif isinstance(layer, nn.Flatten):
            z = z.view(shape)
        elif isinstance(layer, nn.MaxPool2d):
            z = F.max_unpool2d(z, switches, layer.kernel_size, layer.stride, output_size=shape)
        elif isinstance(layer, nn.ReLU):
            z = F.relu(z)
        elif isinstance(layer, nn.Conv2d):
            z = F.conv_transpose2d(z, layer.weight, padding=layer.padding)
    return z


# %% mistake="deconvnet" named="the predicted class is asked for"
class PassPositive(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        return dout.clamp(min=0)


def deconvnet(X, y, model):
    X = X.clone().requires_grad_()
    x = X
    for layer in model:
        x = PassPositive.apply(x) if isinstance(layer, nn.ReLU) else layer(x)
    return torch.autograd.grad(x.max(dim=1)[0].sum(), X)[0]


# %% correct="deconvnet"
class PassPositive(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        return dout.clamp(min=0)


def deconvnet(X, y, model):
    X = X.clone().requires_grad_()
    x = X
    for layer in model:
        x = PassPositive.apply(x) if isinstance(layer, nn.ReLU) else layer(x)
    return torch.autograd.grad(x[torch.arange(len(y)), y].sum(), X)[0]


# %% correct="deconvnet"
def deconvnet(X, y, model):
    """Recursively, image by image, and still attached to the graph."""

    def down(z_of, x, layers):
        if not layers:
            return z_of(x)
        layer, rest = layers[0], layers[1:]
        if isinstance(layer, nn.MaxPool2d):
            up, switches = nn.MaxPool2d(layer.kernel_size, return_indices=True)(x)
            return F.max_unpool2d(
                down(z_of, up, rest), switches, layer.kernel_size, output_size=x.shape[-2:]
            )
        z = down(z_of, layer(x), rest)
        if isinstance(layer, nn.ReLU):
            return torch.clamp(z, min=0)
        if isinstance(layer, nn.Flatten):
            return z.reshape(x.shape)
        if isinstance(layer, nn.Linear):
            return torch.einsum("no,oi->ni", z, layer.weight)
        transposed = nn.functional.conv_transpose2d(z, layer.weight)
        top, left = layer.padding
        height, width = x.shape[-2:]
        return transposed[:, :, top : top + height, left : left + width]

    results = []
    for image, label in zip(X, y):

        def start(scores, label=label):
            z = torch.zeros_like(scores)
            z[0, label] = 1
            return z

        results.append(down(start, image[None], list(model)))
    return torch.cat(results)


# %% correct="deconvnet"
def deconvnet(X, y, model):
    """Each layer's own backward pass, but for the ReLUs."""
    inputs = [X]
    for layer in model:
        inputs.append(layer(inputs[-1]).detach())
    z = torch.eye(inputs[-1].shape[1], dtype=X.dtype)[y]
    for layer, x in zip(list(model)[::-1], inputs[-2::-1]):
        if isinstance(layer, nn.ReLU):
            z = z * (z > 0)
        else:
            _, back = torch.func.vjp(layer, x)
            (z,) = back(z)
    return z


# %% equivalent="deconvnet" reason="windows lie side by side: their stride is their size"
# - z, switches, layer.kernel_size, layer.stride, output_size=shape[2:]
# + z, switches, layer.stride, layer.kernel_size, output_size=shape[2:]


# %% mistake="neuron_gradient" named="row and column are exchanged"
def neuron_gradient(X, model, layer, channel, row, column):
    X = X.clone().requires_grad_()
    outputs = []
    handle = layer.register_forward_hook(lambda m, i, o: outputs.append(o))
    try:
        model(X)
    finally:
        handle.remove()
    return torch.autograd.grad(outputs[0][:, channel, column, row].sum(), X)[0]


# %% mistake="neuron_gradient" named="the whole channel is added up"
def neuron_gradient(X, model, layer, channel, row, column):
    X = X.clone().requires_grad_()
    outputs = []
    handle = layer.register_forward_hook(lambda m, i, o: outputs.append(o))
    try:
        model(X)
    finally:
        handle.remove()
    return torch.autograd.grad(outputs[0][:, channel].sum(), X)[0]


# %% mistake="neuron_gradient" named="only the first image's neuron is asked for"
def neuron_gradient(X, model, layer, channel, row, column):
    X = X.clone().requires_grad_()
    outputs = []
    handle = layer.register_forward_hook(lambda m, i, o: outputs.append(o))
    try:
        model(X)
    finally:
        handle.remove()
    return torch.autograd.grad(outputs[0][0, channel, row, column], X)[0]


# %% mistake="neuron_gradient" named="which divides by N"
def neuron_gradient(X, model, layer, channel, row, column):
    X = X.clone().requires_grad_()
    outputs = []
    handle = layer.register_forward_hook(lambda m, i, o: outputs.append(o))
    try:
        model(X)
    finally:
        handle.remove()
    outputs[0][:, channel, row, column].mean().backward()
    return X.grad


# %% mistake="neuron_gradient" named="the layer's input is asked, not its output"
def neuron_gradient(X, model, layer, channel, row, column):
    X = X.clone().requires_grad_()
    outputs = []
    handle = layer.register_forward_hook(lambda m, i, o: outputs.append(i[0]))
    try:
        model(X)
    finally:
        handle.remove()
    return torch.autograd.grad(outputs[0][:, channel, row, column].sum(), X)[0]


# %% mistake="neuron_gradient" named="the sign is lost"
def neuron_gradient(X, model, layer, channel, row, column):
    X = X.clone().requires_grad_()
    outputs = []
    handle = layer.register_forward_hook(lambda m, i, o: outputs.append(o))
    try:
        model(X)
    finally:
        handle.remove()
    return torch.autograd.grad(outputs[0][:, channel, row, column].sum(), X)[0].abs()


# %% mistake="neuron_gradient" named="was left with other hooks"
def neuron_gradient(X, model, layer, channel, row, column):
    X = X.clone().requires_grad_()
    outputs = []
    layer.register_forward_hook(lambda m, i, o: outputs.append(o))
    model(X)
    return torch.autograd.grad(outputs[-1][:, channel, row, column].sum(), X)[0]


# %% mistake="neuron_gradient" named="after an exception in the model"
def neuron_gradient(X, model, layer, channel, row, column):
    X = X.clone().requires_grad_()
    outputs = []
    handle = layer.register_forward_hook(lambda m, i, o: outputs.append(o))
    model(X)
    handle.remove()
    return torch.autograd.grad(outputs[0][:, channel, row, column].sum(), X)[0]


# %% mistake="neuron_gradient" named="was left in another mode"
def neuron_gradient(X, model, layer, channel, row, column):
    model.eval()
    X = X.clone().requires_grad_()
    outputs = []
    handle = layer.register_forward_hook(lambda m, i, o: outputs.append(o))
    try:
        model(X)
    finally:
        handle.remove()
    return torch.autograd.grad(outputs[0][:, channel, row, column].sum(), X)[0]


# %% correct="neuron_gradient"
class Reached(Exception):
    pass


def neuron_gradient(X, model, layer, channel, row, column):
    """Stops the forward pass at the layer, and goes one image at a time."""
    gradients = []
    for image in X:
        image = image[None].clone().requires_grad_()
        found = {}

        def hook(module, inputs, output):
            found["activation"] = output[0, channel, row, column]
            raise Reached

        handle = layer.register_forward_hook(hook)
        try:
            model(image)
        except Reached:
            pass
        finally:
            handle.remove()
        found["activation"].backward()
        gradients.append(image.grad)
    return torch.cat(gradients)


# %% correct="neuron_gradient"
def neuron_gradient(X, model, layer, channel, row, column):
    """By a copy, whose hooks nobody will miss."""
    names = {module: name for name, module in model.named_modules()}
    import copy

    copied = copy.deepcopy(model)
    outputs = []
    copied.get_submodule(names[layer]).register_forward_hook(lambda m, i, o: outputs.append(o))
    X = X.detach().clone()
    X.requires_grad = True
    copied(X)
    upstream = torch.zeros_like(outputs[0])
    upstream[:, channel, row, column] = 1
    outputs[0].backward(upstream)
    return X.grad.clone()


# %% correct="neuron_gradient"
def neuron_gradient(X, model, layer, channel, row, column):
    """One neuron for each image, and gradients left on X and on the parameters."""
    X.requires_grad_()
    kept = {}
    handle = layer.register_forward_hook(lambda m, inputs, output: kept.update(A=output))
    try:
        model(X)
    except Exception:
        handle.remove()
        raise
    handle.remove()
    X.grad = None
    for n in range(len(X)):
        kept["A"][n, channel, row, column].backward(retain_graph=True)
    return X.grad


# %% mistake="top_patches" named="several patches come from one picture"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    h, w = activations.shape[2:]
    flat = activations[:, channel].flatten()
    patches = []
    for index in flat.argsort(descending=True)[:count].tolist():
        image, place = divmod(index, h * w)
        row, column = divmod(place, w)
        top, left = offset + stride * row, offset + stride * column
        bottom, right = min(top + size, X.shape[2]), min(left + size, X.shape[3])
        top, left = max(top, 0), max(left, 0)
        if flat[index] > 0:
            patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="ranked by the mean of their map"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    maps = activations[:, channel]
    patches = []
    for image in maps.mean((1, 2)).argsort(descending=True)[:count].tolist():
        if maps[image].max() > 0:
            row, column = divmod(maps[image].argmax().item(), maps.shape[2])
            top, left = offset + stride * row, offset + stride * column
            bottom, right = min(top + size, X.shape[2]), min(left + size, X.shape[3])
            top, left = max(top, 0), max(left, 0)
            patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="the pictures are in their own order"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    maps = activations[:, channel]
    patches = []
    for image in sorted(maps.amax((1, 2)).topk(min(count, len(X))).indices.tolist()):
        if maps[image].max() > 0:
            row, column = divmod(maps[image].argmax().item(), maps.shape[2])
            top, left = offset + stride * row, offset + stride * column
            bottom, right = min(top + size, X.shape[2]), min(left + size, X.shape[3])
            top, left = max(top, 0), max(left, 0)
            patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="all channels are searched"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    maps = activations.amax(1)
    patches = []
    for image in maps.amax((1, 2)).argsort(descending=True)[:count].tolist():
        if maps[image].max() > 0:
            row, column = divmod(maps[image].argmax().item(), maps.shape[2])
            top, left = offset + stride * row, offset + stride * column
            bottom, right = min(top + size, X.shape[2]), min(left + size, X.shape[3])
            top, left = max(top, 0), max(left, 0)
            patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="absolute values are compared"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    maps = activations[:, channel].abs()
    patches = []
    for image in maps.amax((1, 2)).argsort(descending=True)[:count].tolist():
        row, column = divmod(maps[image].argmax().item(), maps.shape[2])
        top, left = offset + stride * row, offset + stride * column
        bottom, right = min(top + size, X.shape[2]), min(left + size, X.shape[3])
        top, left = max(top, 0), max(left, 0)
        patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="rows and columns are exchanged"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    values, places = activations[:, channel].flatten(1).max(1)
    patches = []
    for image in values.argsort(descending=True)[:count].tolist():
        if values[image] > 0:
            column, row = divmod(places[image].item(), activations.shape[3])
            top, left = offset + stride * row, offset + stride * column
            bottom, right = min(top + size, X.shape[2]), min(left + size, X.shape[3])
            top, left = max(top, 0), max(left, 0)
            patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="divided by the map's height"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    height = activations.shape[2]
    values, places = activations[:, channel].flatten(1).max(1)
    patches = []
    for image in values.argsort(descending=True)[:count].tolist():
        if values[image] > 0:
            row, column = places[image].item() // height, places[image].item() % height
            top, left = offset + stride * row, offset + stride * column
            bottom, right = min(top + size, X.shape[2]), min(left + size, X.shape[3])
            top, left = max(top, 0), max(left, 0)
            patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="the offset is left out"
def top_patches(X, activations, channel, field, count):
    size, stride, _ = field
    values, places = activations[:, channel].flatten(1).max(1)
    patches = []
    for image in values.argsort(descending=True)[:count].tolist():
        if values[image] > 0:
            row, column = divmod(places[image].item(), activations.shape[3])
            top, left = stride * row, stride * column
            bottom, right = min(top + size, X.shape[2]), min(left + size, X.shape[3])
            patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="the offset is subtracted"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    values, places = activations[:, channel].flatten(1).max(1)
    patches = []
    for image in values.argsort(descending=True)[:count].tolist():
        if values[image] > 0:
            row, column = divmod(places[image].item(), activations.shape[3])
            top, left = stride * row - offset, stride * column - offset
            bottom, right = min(top + size, X.shape[2]), min(left + size, X.shape[3])
            top, left = max(top, 0), max(left, 0)
            patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="bottom and right are the last pixels"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    H, W = X.shape[2:]
    values, places = activations[:, channel].flatten(1).max(1)
    patches = []
    for image in values.argsort(descending=True)[:count].tolist():
        if values[image] > 0:
            row, column = divmod(places[image].item(), activations.shape[3])
            top, left = offset + stride * row, offset + stride * column
            bottom, right = min(top + size, H) - 1, min(left + size, W) - 1
            top, left = max(top, 0), max(left, 0)
            patch = X[image, :, top : bottom + 1, left : right + 1]
            patches.append((image, (top, bottom, left, right), patch))
    return patches


# %% mistake="top_patches" named="windows hang over the border"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    values, places = activations[:, channel].flatten(1).max(1)
    patches = []
    for image in values.argsort(descending=True)[:count].tolist():
        if values[image] > 0:
            row, column = divmod(places[image].item(), activations.shape[3])
            top, left = offset + stride * row, offset + stride * column
            bottom, right = top + size, left + size
            patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="measured from where the cut-off window begins"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    values, places = activations[:, channel].flatten(1).max(1)
    patches = []
    for image in values.argsort(descending=True)[:count].tolist():
        if values[image] > 0:
            row, column = divmod(places[image].item(), activations.shape[3])
            top, left = max(offset + stride * row, 0), max(offset + stride * column, 0)
            bottom, right = min(top + size, X.shape[2]), min(left + size, X.shape[3])
            patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="moved into the picture, whole"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    H, W = X.shape[2:]
    values, places = activations[:, channel].flatten(1).max(1)
    patches = []
    for image in values.argsort(descending=True)[:count].tolist():
        if values[image] > 0:
            row, column = divmod(places[image].item(), activations.shape[3])
            top = max(min(offset + stride * row, H - size), 0)
            left = max(min(offset + stride * column, W - size), 0)
            bottom, right = top + size, left + size
            patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="is negative everywhere has a patch"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    H, W = X.shape[2:]
    values, places = activations[:, channel].flatten(1).max(1)
    patches = []
    for image in values.argsort(descending=True)[:count].tolist():
        row, column = divmod(places[image].item(), activations.shape[3])
        top, left = offset + stride * row, offset + stride * column
        bottom, right = min(top + size, H), min(left + size, W)
        top, left = max(top, 0), max(left, 0)
        patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="is 0 everywhere has a patch"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    H, W = X.shape[2:]
    values, places = activations[:, channel].flatten(1).max(1)
    patches = []
    for image in values.argsort(descending=True)[:count].tolist():
        if values[image] >= 0:
            row, column = divmod(places[image].item(), activations.shape[3])
            top, left = offset + stride * row, offset + stride * column
            bottom, right = min(top + size, H), min(left + size, W)
            top, left = max(top, 0), max(left, 0)
            patches.append((image, (top, bottom, left, right), X[image, :, top:bottom, left:right]))
    return patches


# %% mistake="top_patches" named="everything outside of the window is set to zero"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    H, W = X.shape[2:]
    values, places = activations[:, channel].flatten(1).max(1)
    patches = []
    for image in values.argsort(descending=True)[:count].tolist():
        if values[image] > 0:
            row, column = divmod(places[image].item(), activations.shape[3])
            top, left = offset + stride * row, offset + stride * column
            bottom, right = min(top + size, H), min(left + size, W)
            top, left = max(top, 0), max(left, 0)
            patch = torch.zeros_like(X[image])
            patch[:, top:bottom, left:right] = X[image, :, top:bottom, left:right]
            patches.append((image, (top, bottom, left, right), patch))
    return patches


# %% mistake="top_patches" named="is a `return` missing?"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    strengths = activations[:, channel].amax((1, 2))
    for image in strengths.topk(count).indices:
        print(image)


# %% correct="top_patches"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    H, W = X.shape[2:]
    candidates = []
    for n, one in enumerate(activations[:, channel]):
        best = one.max()
        if best > 0:
            row, column = (one == best).nonzero()[0].tolist()
            candidates.append((best.item(), n, row, column))
    candidates.sort(reverse=True)
    patches = []
    for _, n, row, column in candidates[:count]:
        rows = [r for r in range(H) if 0 <= r - offset - stride * row < size]
        columns = [c for c in range(W) if 0 <= c - offset - stride * column < size]
        patch = X[n][:, rows][:, :, columns]
        patches.append((n, (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1), patch))
    return patches


# %% correct="top_patches"
def top_patches(X, activations, channel, field, count):
    size, stride, offset = field
    N, _, H, W = X.shape
    maps = activations[:, channel].cpu().numpy()
    best = maps.reshape(N, -1).max(axis=1)
    order = [n for n in np.argsort(-best) if best[n] > 0][:count]
    result = []
    for n in order:
        row, column = np.unravel_index(maps[n].argmax(), maps[n].shape)
        top, bottom = np.clip([offset + stride * row, offset + stride * row + size], 0, H)
        left, right = np.clip([offset + stride * column, offset + stride * column + size], 0, W)
        result.append((n, (top, bottom, left, right), X[n, :, top:bottom, left:right].clone()))
    return result


# %% correct="top_patches"
def window(index, length, field):
    size, stride, offset = field
    start = offset + stride * index
    return max(0, start), min(length, start + size)


def top_patches(X, activations, channel, field, count):
    maps = activations.select(1, channel)
    excited = torch.nonzero(maps.amax((1, 2)) > 0).flatten()
    strengths, order = maps[excited].amax((1, 2)).sort(descending=True)
    patches = []
    for image in excited[order][:count]:
        place = torch.argmax(maps[image])
        row, column = place // maps.shape[2], place % maps.shape[2]
        top, bottom = window(int(row), X.shape[2], field)
        left, right = window(int(column), X.shape[3], field)
        patches.append(
            [int(image), [top, bottom, left, right], X[image, :, top:bottom, left:right]]
        )
    return patches


# %% mistake="similarity_by_depth" named="at each depth one layer only is random"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model).flatten(1).numpy()
    N, same, other = len(X), [], []
    for names in [[], *([layer] for layer in layers)]:
        maps = explain(X, y, randomise(model, names)).flatten(1).numpy()
        rho = scipy.stats.spearmanr(first, maps, axis=1).statistic[:N, N:]
        same.append(np.trace(rho) / N)
        other.append((rho.sum() - np.trace(rho)) / (N * (N - 1)))
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="the layers forget from the bottom up"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model).flatten(1).numpy()
    N, same, other = len(X), [], []
    for depth in range(len(layers) + 1):
        names = layers[len(layers) - depth :]
        maps = explain(X, y, randomise(model, names)).flatten(1).numpy()
        rho = scipy.stats.spearmanr(first, maps, axis=1).statistic[:N, N:]
        same.append(np.trace(rho) / N)
        other.append((rho.sum() - np.trace(rho)) / (N * (N - 1)))
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="the trained network, at depth 0, is left out"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model).flatten(1).numpy()
    N, same, other = len(X), [], []
    for depth in range(1, len(layers) + 1):
        maps = explain(X, y, randomise(model, layers[:depth])).flatten(1).numpy()
        rho = scipy.stats.spearmanr(first, maps, axis=1).statistic[:N, N:]
        same.append(np.trace(rho) / N)
        other.append((rho.sum() - np.trace(rho)) / (N * (N - 1)))
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="forgotten all layers is left out"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model).flatten(1).numpy()
    N, same, other = len(X), [], []
    for depth in range(len(layers)):
        maps = explain(X, y, randomise(model, layers[:depth])).flatten(1).numpy()
        rho = scipy.stats.spearmanr(first, maps, axis=1).statistic[:N, N:]
        same.append(np.trace(rho) / N)
        other.append((rho.sum() - np.trace(rho)) / (N * (N - 1)))
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="compared with that of the depth before"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    before = explain(X, y, model).flatten(1).numpy()
    N, same, other = len(X), [], []
    for depth in range(len(layers) + 1):
        maps = explain(X, y, randomise(model, layers[:depth])).flatten(1).numpy()
        rho = scipy.stats.spearmanr(before, maps, axis=1).statistic[:N, N:]
        same.append(np.trace(rho) / N)
        other.append((rho.sum() - np.trace(rho)) / (N * (N - 1)))
        before = maps
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="the values are correlated, not their ranks"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model).flatten(1).numpy()
    N, same, other = len(X), [], []
    for depth in range(len(layers) + 1):
        maps = explain(X, y, randomise(model, layers[:depth])).flatten(1).numpy()
        rho = np.corrcoef(first, maps)[:N, N:]
        same.append(np.trace(rho) / N)
        other.append((rho.sum() - np.trace(rho)) / (N * (N - 1)))
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="equal values have ranks of their own"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    def ranked(maps):
        return maps.flatten(1).numpy().argsort(axis=1).argsort(axis=1)

    first = ranked(explain(X, y, model))
    N, same, other = len(X), [], []
    for depth in range(len(layers) + 1):
        maps = ranked(explain(X, y, randomise(model, layers[:depth])))
        rho = np.corrcoef(first, maps)[:N, N:]
        same.append(np.trace(rho) / N)
        other.append((rho.sum() - np.trace(rho)) / (N * (N - 1)))
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="all pictures are strung together"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model)
    same, other = [], []
    for depth in range(len(layers) + 1):
        maps = explain(X, y, randomise(model, layers[:depth]))
        same.append(scipy.stats.spearmanr(first.flatten(), maps.flatten()).statistic)
        other.append(scipy.stats.spearmanr(first.flatten(), maps.roll(1, 0).flatten()).statistic)
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="each network is asked for what it predicts"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model).flatten(1).numpy()
    N, same, other = len(X), [], []
    for depth in range(len(layers) + 1):
        network = randomise(model, layers[:depth])
        maps = explain(X, network(X).argmax(1), network).flatten(1).numpy()
        rho = scipy.stats.spearmanr(first, maps, axis=1).statistic[:N, N:]
        same.append(np.trace(rho) / N)
        other.append((rho.sum() - np.trace(rho)) / (N * (N - 1)))
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="the pictures' own maps are counted, too"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model).flatten(1).numpy()
    N, same, other = len(X), [], []
    for depth in range(len(layers) + 1):
        maps = explain(X, y, randomise(model, layers[:depth])).flatten(1).numpy()
        rho = scipy.stats.spearmanr(first, maps, axis=1).statistic[:N, N:]
        same.append(np.diag(rho).mean())
        other.append(rho.mean())
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="compared with the one before only"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model)
    same, other = [], []
    for depth in range(len(layers) + 1):
        maps = explain(X, y, randomise(model, layers[:depth]))
        for curve, chosen in ((same, maps), (other, maps.roll(1, 0))):
            pairs = zip(first.flatten(1), chosen.flatten(1))
            curve.append(np.mean([scipy.stats.spearmanr(a, b).statistic for a, b in pairs]))
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="both maps are of the changed network"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model).flatten(1).numpy()
    N, same, other = len(X), [], []
    for depth in range(len(layers) + 1):
        maps = explain(X, y, randomise(model, layers[:depth])).flatten(1).numpy()
        rho = scipy.stats.spearmanr(first, maps, axis=1).statistic
        same.append(np.diag(rho[:N, N:]).mean())
        other.append((rho[N:, N:].sum() - N) / (N * (N - 1)))
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="is divided by N²"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model).flatten(1).numpy()
    N, same, other = len(X), [], []
    for depth in range(len(layers) + 1):
        maps = explain(X, y, randomise(model, layers[:depth])).flatten(1).numpy()
        rho = scipy.stats.spearmanr(first, maps, axis=1).statistic[:N, N:]
        same.append(np.trace(rho) / N)
        other.append((rho * (1 - np.eye(N))).mean())
    return np.array(same), np.array(other)


# %% mistake="similarity_by_depth" named="has other items than before"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model).flatten(1).numpy()
    N, same, other, names = len(X), [], [], []
    while True:
        maps = explain(X, y, randomise(model, names)).flatten(1).numpy()
        rho = scipy.stats.spearmanr(first, maps, axis=1).statistic[:N, N:]
        same.append(np.trace(rho) / N)
        other.append((rho.sum() - np.trace(rho)) / (N * (N - 1)))
        if not layers:
            return np.array(same), np.array(other)
        names.append(layers.pop(0))


# %% mistake="similarity_by_depth" named="expected the tuple (same, other)"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    first = explain(X, y, model)
    same = []
    for depth in range(len(layers) + 1):
        maps = explain(X, y, randomise(model, layers[:depth]))
        pairs = zip(first.flatten(1), maps.flatten(1))
        same.append(np.mean([scipy.stats.spearmanr(a, b).statistic for a, b in pairs]))
    return np.array(same)


# %% correct="similarity_by_depth"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    originals = explain(X, y, model)
    same, other = np.zeros(len(layers) + 1), np.zeros(len(layers) + 1)
    for d in range(len(layers) + 1):
        changed = explain(X, y, randomise(model, list(layers[:d])))
        own, control = [], []
        for n, a in enumerate(originals):
            for m, b in enumerate(changed):
                rho = scipy.stats.spearmanr(a.flatten(), b.flatten()).statistic
                (own if n == m else control).append(rho)
        same[d], other[d] = np.mean(own), np.mean(control)
    return same, other


# %% correct="similarity_by_depth"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    def standardised(maps):
        ranks = scipy.stats.rankdata(maps.flatten(1).numpy(), axis=1)
        ranks -= ranks.mean(axis=1, keepdims=True)
        return ranks / np.linalg.norm(ranks, axis=1, keepdims=True)

    N = len(X)
    first = standardised(explain(X, y, model))
    networks = [model]
    for layer in layers:  # each forgets one more than the one before
        networks.append(randomise(model, layers[: len(networks)]))
    rho = [first @ standardised(explain(X, y, network)).T for network in networks]
    same = [np.trace(one) / N for one in rho]
    other = [(one.sum() - np.trace(one)) / (N**2 - N) for one in rho]
    return same, other


# %% correct="similarity_by_depth"
def ranked(values):
    below = (values[:, None] > values).sum(1)
    equal = (values[:, None] == values).sum(1)
    return below + (equal + 1) / 2


def similarity_by_depth(X, y, model, layers, explain, randomise):
    trained = [ranked(one.flatten()) for one in explain(X, y, model)]
    same, other = [], []
    for d in range(1 + len(layers)):
        maps = [ranked(one.flatten()) for one in explain(X, y, randomise(model, layers[0:d]))]
        rho = torch.corrcoef(torch.stack(trained + maps))[: len(X), len(X) :]
        same.append(rho.diagonal().mean())
        other.append((rho.sum() - rho.diagonal().sum()) / (len(X) * (len(X) - 1)))
    return torch.stack(same), torch.stack(other)


# %% equivalent="similarity_by_depth" reason="lists of the values are taken as well as arrays"
# - return np.array(same), np.array(other)
# + return same, np.array(other)


# %% equivalent="similarity_by_depth" reason="lists of the values are taken as well as arrays"
# - return np.array(same), np.array(other)
# + return np.array(same), other


# %% equivalent="top_patches" reason="an image's number may be a tensor without axes"
# - for image in values.argsort(descending=True)[:count].tolist():
# + for image in values.argsort(descending=True)[:count]:


# %% equivalent="top_patches" reason="the minimum of two numbers has no order"
# - bottom, right = min(top + size, H), min(left + size, W)
# + bottom, right = min(top + size, H), min(W, left + size)


# %% equivalent="top_patches" reason="the maximum of two numbers has no order"
# - top, left = max(top, 0), max(left, 0)
# + top, left = max(0, top), max(left, 0)


# %% equivalent="top_patches" reason="the maximum of two numbers has no order"
# - top, left = max(top, 0), max(left, 0)
# + top, left = max(top, 0), max(0, left)


# %% mistake="guided_backprop" named="calls `captum.attr.GuidedBackprop"
def guided_backprop(X, y, model):
    from importlib import import_module

    return import_module("captum.attr").GuidedBackprop(model).attribute(X, target=y)


# %% mistake="deconvnet" named="calls `captum.attr.Deconvolution"
def deconvnet(X, y, model):
    from captum.attr import Deconvolution

    return Deconvolution(model).attribute(X.clone().requires_grad_(), target=y).detach()


# %% mistake="neuron_gradient" named="calls `captum.attr.NeuronGradient"
def neuron_gradient(X, model, layer, channel, row, column):
    import captum.attr

    way = getattr(captum.attr, "NeuronGradient")(model, layer)
    return way.attribute(X.clone().requires_grad_(), (channel, row, column))


# %% equivalent="relu_backward" reason="where dout is 0, it stays 0"
# - dout = dout * (dout > 0)
# + dout = dout * (dout >= 0)


# %% equivalent="guided_backprop" reason="the message is up to the student"
# - raise ValueError("there is no nn.ReLU module whose way back could be changed")
# + raise ValueError('there is no nn.ReLU module whose way back could be changed_')


# %% equivalent="guided_backprop" reason="the gradient goes as far as the copy in any case"
# - X = X.detach().clone().requires_grad_()
# + X = X.clone().requires_grad_()


# %% equivalent="guided_backprop" reason="detach gives a tensor of its own, and nothing writes into it"
# - X = X.detach().clone().requires_grad_()
# + X = X.detach().requires_grad_()


# %% equivalent="neuron_gradient" reason="the gradient goes as far as the copy in any case"
# - X = X.detach().clone().requires_grad_()
# + X = X.clone().requires_grad_()


# %% equivalent="neuron_gradient" reason="detach gives a tensor of its own, and nothing writes into it"
# - X = X.detach().clone().requires_grad_()
# + X = X.detach().requires_grad_()


# %% equivalent="guided_backprop" reason="a ReLU has one input, the first and the last"
# - relu.register_full_backward_hook(lambda module, dx, dout: (dx[0].clamp(min=0),))
# + relu.register_full_backward_hook(lambda module, dx, dout: (dx[-1].clamp(min=0),))


# %% equivalent="deconvnet" reason="what comes back to a test is detached"
# - with torch.no_grad():
# + if True:


# %% equivalent="deconvnet" reason="windows lie side by side, so the stride is the kernel's size"
# - x, switches = F.max_pool2d(x, layer.kernel_size, layer.stride, return_indices=True)
# + x, switches = F.max_pool2d(x, layer.stride, return_indices=True)


# %% equivalent="deconvnet" reason="windows lie side by side, so the stride is the kernel's size"
# - x, switches = F.max_pool2d(x, layer.kernel_size, layer.stride, return_indices=True)
# + x, switches = F.max_pool2d(x, layer.stride, layer.kernel_size, return_indices=True)


# %% equivalent="deconvnet" reason="windows lie side by side, so the stride is the kernel's size"
# - x, switches = F.max_pool2d(x, layer.kernel_size, layer.stride, return_indices=True)
# + x, switches = F.max_pool2d(x, layer.kernel_size, return_indices=True)


# %% equivalent="deconvnet" reason="windows lie side by side, so the stride is the kernel's size"
# - z, switches, layer.kernel_size, layer.stride, output_size=shape[2:]
# + z, switches, layer.stride, output_size=shape[2:]


# %% equivalent="deconvnet" reason="windows lie side by side, so the stride is the kernel's size"
# - z, switches, layer.kernel_size, layer.stride, output_size=shape[2:]
# + z, switches, layer.kernel_size, output_size=shape[2:]


# %% equivalent="deconvnet" reason="max_unpool2d takes the last two of four sizes"
# - z, switches, layer.kernel_size, layer.stride, output_size=shape[2:]
# + z, switches, layer.kernel_size, layer.stride, output_size=shape[:]


# %% equivalent="neuron_gradient" reason="there is one gradient, the first and the last"
# - return torch.autograd.grad(activations[:, channel, row, column].sum(), X)[0]
# + return torch.autograd.grad(activations[:, channel, row, column].sum(), X)[-1]


# %% equivalent="top_patches" reason="the smaller one is the same in either order"
# - bottom, right = min(top + size, H), min(left + size, W)
# + bottom, right = min(H, top + size), min(left + size, W)


# %% equivalent="similarity_by_depth" reason="only the diagonal and the mean of all others are taken, and both are symmetric"
# - ranks = scipy.stats.rankdata(torch.cat([original, maps]), axis=1)
# + ranks = scipy.stats.rankdata(torch.cat([maps, original]), axis=1)


# %% equivalent="similarity_by_depth" reason="only the diagonal and the mean of all others are taken, and both are symmetric"
# - rho = np.corrcoef(ranks)[:N, N:]
# + rho = np.corrcoef(ranks)[N:, :N]
