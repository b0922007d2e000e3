# %% [markdown]
# What students write in lab 10: mistakes that must lose points and be named, and answers that look
# different from ours and are right.

# %% mistake="make_fooling_image" named="is the sign reversed"
def make_fooling_image(X, target_y, model):
    X_fooling = X.clone().requires_grad_()
    for _ in range(20):
        scores = model(X_fooling)
        if scores.argmax(1).item() == target_y:
            break
        scores[0, target_y].backward()
        with torch.no_grad():
            X_fooling -= 0.5 * X_fooling.grad / X_fooling.grad.norm()
            X_fooling.clamp_(0, 1)
            X_fooling.grad.zero_()
    return X_fooling


# %% mistake="make_fooling_image" named="was modified in place"
def make_fooling_image(X, target_y, model):
    X_fooling = X.requires_grad_()
    for _ in range(100):
        scores = model(X_fooling)
        if scores.argmax(1).item() == target_y:
            break
        (gradient,) = torch.autograd.grad(scores[0, target_y], X_fooling)
        X_fooling.data += 0.5 * gradient / gradient.norm()
        X_fooling.data.clamp_(0, 1)
    return X_fooling


# %% mistake="make_fooling_image" named="has to be clamped to [0, 1]"
def make_fooling_image(X, target_y, model):
    X_fooling = X.clone().requires_grad_()
    learning_rate = 1
    for _ in range(100):
        scores = model(X_fooling)
        if scores.argmax() == target_y:
            break
        scores[0, target_y].backward()
        g = X_fooling.grad
        X_fooling.data += learning_rate * g / g.norm()
        X_fooling.grad.zero_()
    return X_fooling


# %% mistake="make_fooling_image" named="stop as soon as the network is fooled"
def make_fooling_image(X, target_y, model):
    X_fooling = X.clone()
    for _ in range(60):
        X_fooling = X_fooling.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model(X_fooling)[0, target_y], X_fooling)
        X_fooling = (X_fooling + 3 * gradient / gradient.norm()).clamp(0, 1)
    return X_fooling


# %% mistake="make_fooling_image" named="in more steps, until it is the highest"
def make_fooling_image(X, target_y, model):
    X_fooling = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(X_fooling)[0, target_y], X_fooling)
    return (X + 0.1 * gradient / gradient.norm()).clamp(0, 1)


# %% mistake="make_fooling_image" named="nothing was changed"
def make_fooling_image(X, target_y, model):
    X_fooling = X.clone().requires_grad_()
    for _ in range(100):
        scores = model(X_fooling)
        if scores.argmax(1).item() != target_y:
            break
        scores[0, target_y].backward()
        X_fooling.data += 0.5 * X_fooling.grad / X_fooling.grad.norm()
    return X_fooling


# %% mistake="make_fooling_image" named="was left in another mode"
def make_fooling_image(X, target_y, model):
    X_fooling = X.clone()
    for _ in range(100):
        X_fooling.requires_grad_()
        model.eval()
        scores = model(X_fooling)
        if scores.argmax(1).item() == target_y:
            break
        (gradient,) = torch.autograd.grad(scores[0, target_y], X_fooling)
        X_fooling = (X_fooling.detach() + 0.5 * gradient / gradient.norm()).clamp(0, 1)
    model.train()
    return X_fooling.detach()


# %% mistake="make_fooling_image" named="or is it another class whose score you climb"
def make_fooling_image(X, target_y, model):
    X_fooling = X.clone()
    for _ in range(10):
        X_fooling.requires_grad_()
        (gradient,) = torch.autograd.grad(model(X_fooling).max(), X_fooling)
        X_fooling = (X_fooling.detach() + 0.3 * gradient / gradient.norm()).clamp(0, 1)
    return X_fooling.detach()


# %% correct="make_fooling_image"
def make_fooling_image(X, target_y, model):
    # As in CS231n: backward(), learning rate 1, a printed line now and then.
    X_fooling = X.clone()
    X_fooling = X_fooling.requires_grad_()
    learning_rate = 1
    for i in range(100):
        scores = model(X_fooling)
        if scores.data.max(1)[1][0] == target_y:
            print("fooled after", i, "steps")
            break
        scores[0, target_y].backward()
        dX = learning_rate * X_fooling.grad.data / X_fooling.grad.data.norm()
        X_fooling.data = (X_fooling.data + dX).clamp(0, 1)
        X_fooling.grad.data.zero_()
    return X_fooling


# %% correct="make_fooling_image"
def make_fooling_image(X, target_y, model):
    # Signs instead of directions, the cross-entropy instead of the score, and a fixed ball.
    target = torch.tensor([target_y])
    delta = torch.zeros_like(X)
    for _ in range(50):
        delta.requires_grad_()
        loss = F.cross_entropy(model((X + delta).clamp(0, 1)), target)
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() - 2 / 255 * gradient.sign()).clamp(-0.05, 0.05)
        if model((X + delta).clamp(0, 1)).argmax() == target_y:
            break
    return (X + delta).clamp(0, 1)


# %% correct="make_fooling_image"
def make_fooling_image(X, target_y, model):
    # Goes on for a while after it is fooled, until the target leads by a margin.
    X_fooling = X.clone()
    for _ in range(200):
        X_fooling = X_fooling.detach().requires_grad_()
        scores = model(X_fooling)[0]
        others = torch.cat([scores[:target_y], scores[target_y + 1 :]])
        margin = scores[target_y] - others.max()
        if margin > 0.5:
            break
        (gradient,) = torch.autograd.grad(margin, X_fooling)
        X_fooling = (X_fooling + 0.2 * gradient / gradient.norm()).clamp(0, 1)
    return X_fooling


# %% mistake="linear_perturbation" named="ε is left out"
def linear_perturbation(w, epsilon, norm):
    return w.sign() if norm == "linf" else w / w.norm()


# %% mistake="linear_perturbation" named="this is the answer for the other norm"
def linear_perturbation(w, epsilon, norm):
    return epsilon * w.sign()


# %% mistake="linear_perturbation" named="the weights themselves are taken"
def linear_perturbation(w, epsilon, norm):
    return epsilon * w.sign() if norm == "linf" else epsilon * w


# %% mistake="linear_perturbation" named="not by its square root"
def linear_perturbation(w, epsilon, norm):
    return epsilon * w.sign() if norm == "linf" else epsilon * w / (w**2).sum()


# %% mistake="linear_perturbation" named="each row has a norm of its own"
def linear_perturbation(w, epsilon, norm):
    if norm == "linf":
        return epsilon * w.sign()
    return epsilon * F.normalize(w, dim=1)


# %% mistake="linear_perturbation" named="the sign is reversed"
def linear_perturbation(w, epsilon, norm):
    return -epsilon * w.sign() if norm == "linf" else -epsilon * w / w.norm()


# %% correct="linear_perturbation"
def linear_perturbation(w, epsilon, norm):
    delta = torch.zeros_like(w)
    if norm == "linf":
        delta[w > 0] = epsilon
        delta[w < 0] = -epsilon
    else:
        delta += epsilon * w / torch.sqrt(torch.sum(w**2))
    return delta


# %% correct="linear_perturbation"
def linear_perturbation(w, epsilon, norm):
    if norm == "l2":
        return F.normalize(w.flatten(), dim=0).view_as(w) * epsilon
    return torch.where(w >= 0, epsilon, -epsilon)


# %% mistake="fgsm" named="the step goes down the loss"
def fgsm(X, y, model, epsilon):
    X_adv = X.clone().requires_grad_()
    F.cross_entropy(model(X_adv), y).backward()
    return (X - epsilon * X_adv.grad.sign()).clamp(0, 1)


# %% mistake="fgsm" named="the result is not clamped"
def fgsm(X, y, model, epsilon):
    X_adv = X.clone().requires_grad_()
    F.cross_entropy(model(X_adv), y).backward()
    return X + epsilon * X_adv.grad.sign()


# %% mistake="fgsm" named="the gradient's sign is not taken"
def fgsm(X, y, model, epsilon):
    X_adv = X.clone().requires_grad_()
    F.cross_entropy(model(X_adv), y).backward()
    return (X + epsilon * X_adv.grad).clamp(0, 1)


# %% mistake="fgsm" named="y is ignored"
def fgsm(X, y, model, epsilon):
    X_adv = X.clone().requires_grad_()
    scores = model(X_adv)
    F.cross_entropy(scores, scores.argmax(1)).backward()
    return (X + epsilon * X_adv.grad.sign()).clamp(0, 1)


# %% mistake="fgsm" named="the score of y is raised"
def fgsm(X, y, model, epsilon):
    X_adv = X.clone().requires_grad_()
    model(X_adv).gather(1, y[:, None]).sum().backward()
    return (X + epsilon * X_adv.grad.sign()).clamp(0, 1)


# %% mistake="fgsm" named="it is the cross-entropy that has to grow"
def fgsm(X, y, model, epsilon):
    X_adv = X.clone().requires_grad_()
    model(X_adv).gather(1, y[:, None]).sum().backward()
    return (X - epsilon * X_adv.grad.sign()).clamp(0, 1)


# %% mistake="fgsm" named="the perturbation is returned"
def fgsm(X, y, model, epsilon):
    X_adv = X.clone().requires_grad_()
    F.cross_entropy(model(X_adv), y).backward()
    return epsilon * X_adv.grad.sign()


# %% mistake="fgsm" named="was modified in place"
def fgsm(X, y, model, epsilon):
    X.requires_grad_()
    F.cross_entropy(model(X), y).backward()
    X.data += epsilon * X.grad.sign()
    X.data.clamp_(0, 1)
    return X


# %% mistake="fgsm" named="another requires_grad"
def fgsm(X, y, model, epsilon):
    model.requires_grad_(False)  # so that no gradient is computed for the weights
    X_adv = X.clone().requires_grad_()
    F.cross_entropy(model(X_adv), y).backward()
    model.requires_grad_(True)
    return (X + epsilon * X_adv.grad.sign()).clamp(0, 1)


# %% correct="fgsm"
def fgsm(X, y, model, epsilon):
    X.requires_grad_()
    F.cross_entropy(model(X), y, reduction="sum").backward()
    return torch.clamp(X + epsilon * torch.sign(X.grad), min=0, max=1)


# %% correct="fgsm"
def fgsm(X, y, model, epsilon):
    results = []
    for image, label in zip(X, y):
        image = image[None].clone().requires_grad_()
        loss = -model(image).log_softmax(1)[0, label]
        (gradient,) = torch.autograd.grad(loss, image)
        results.append(torch.clip(image + epsilon * gradient.sign(), 0, 1))
    return torch.cat(results)


# %% correct="fgsm"
def fgsm(X, y, model, epsilon):
    X = X.clone().requires_grad_()
    F.cross_entropy(model(X), y, reduction="sum").backward()
    sign = torch.where(X.grad > 0, 1.0, torch.where(X.grad < 0, -1.0, 0.0))  # float32
    return (X + epsilon * sign).detach().clamp(0, 1)


# %% mistake="pgd" named="nothing brings the images back to the ball"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    X_adv = X.clone() if start is None else (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), y), X_adv)
        X_adv = (X_adv.detach() + step_size * gradient.sign()).clamp(0, 1)
    return X_adv


# %% mistake="pgd" named="the ball is around the start"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    if start is not None:
        X = (X + start).clamp(0, 1)
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), y), X_adv)
        delta = (X_adv.detach() + step_size * gradient.sign() - X).clamp(-epsilon, epsilon)
        X_adv = (X + delta).clamp(0, 1)
    return X_adv


# %% mistake="pgd" named="the start is ignored"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), y), X_adv)
        delta = (X_adv.detach() + step_size * gradient.sign() - X).clamp(-epsilon, epsilon)
        X_adv = (X + delta).clamp(0, 1)
    return X_adv


# %% mistake="pgd" named="every step starts from X again"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    X_adv = X.clone() if start is None else (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), y), X_adv)
        delta = (step_size * gradient.sign()).clamp(-epsilon, epsilon)
        X_adv = (X + delta).clamp(0, 1)
    return X_adv


# %% mistake="pgd" named="the gradient is always taken at X"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    X_adv = X.clone() if start is None else (X + start).clamp(0, 1)
    leaf = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf), y), leaf)
    for _ in range(num_steps):
        delta = (X_adv + step_size * gradient.sign() - X).clamp(-epsilon, epsilon)
        X_adv = (X + delta).clamp(0, 1)
    return X_adv


# %% mistake="pgd" named="the images are not clamped"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    X_adv = X.clone() if start is None else (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), y), X_adv)
        X_adv = X + (X_adv.detach() + step_size * gradient.sign() - X).clamp(-epsilon, epsilon)
    return X_adv


# %% mistake="pgd" named="the step goes down the loss"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    X_adv = X.clone() if start is None else (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), y), X_adv)
        delta = (X_adv.detach() - step_size * gradient.sign() - X).clamp(-epsilon, epsilon)
        X_adv = (X + delta).clamp(0, 1)
    return X_adv


# %% mistake="pgd" named="the step is ε long"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    X_adv = X.clone() if start is None else (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), y), X_adv)
        delta = (X_adv.detach() + epsilon * gradient.sign() - X).clamp(-epsilon, epsilon)
        X_adv = (X + delta).clamp(0, 1)
    return X_adv


# %% mistake="pgd" named="raised TypeError"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    X_adv = X.clone() if start is None else (X + start).clamp(0, 1)
    for _ in range(num_steps):
        scores = X_adv.requires_grad_()
        for layer in model:
            scores = layer(scores)
        (gradient,) = torch.autograd.grad(F.cross_entropy(scores, y), X_adv)
        perturbation = X_adv.detach() + step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% correct="pgd"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    delta = torch.zeros_like(X) if start is None else start.clone()
    delta = (X + delta).clamp(0, 1) - X
    for _ in range(num_steps):
        delta = delta.detach().requires_grad_()
        F.cross_entropy(model(X + delta), y, reduction="sum").backward()
        delta = torch.clamp(delta + step_size * delta.grad.sign(), -epsilon, epsilon)
        delta = torch.clamp(X + delta, 0, 1) - X
    return X + delta


# %% correct="pgd"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    images = []
    for i in range(len(X)):
        x = X[i : i + 1]
        low, high = (x - epsilon).clamp(min=0), (x + epsilon).clamp(max=1)
        x_adv = x if start is None else torch.clamp(x + start[i : i + 1], 0, 1)
        for _ in range(num_steps):
            x_adv = x_adv.detach().clone()
            x_adv.requires_grad = True
            loss = nn.CrossEntropyLoss()(model(x_adv), y[i : i + 1])
            model.zero_grad()
            loss.backward()
            x_adv = torch.min(torch.max(x_adv + step_size * x_adv.grad.sign(), low), high)
        images.append(x_adv)
    return torch.cat(images)


# %% mistake="pgd_l2" named="the gradient is not divided by its length"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        loss = F.cross_entropy(model(X_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, X_adv)
        delta = X_adv.detach() + step_size * gradient - X
        length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        X_adv = (X + delta * (epsilon / length).clamp(max=1)).clamp(0, 1)
    return X_adv


# %% mistake="pgd_l2" named="all images share one gradient length"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        loss = F.cross_entropy(model(X_adv), y)
        (gradient,) = torch.autograd.grad(loss, X_adv)
        delta = X_adv.detach() + step_size * gradient / (gradient.norm() + 1e-12) - X
        length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        X_adv = (X + delta * (epsilon / length).clamp(max=1)).clamp(0, 1)
    return X_adv


# %% mistake="pgd_l2" named="is stretched to its surface"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        loss = F.cross_entropy(model(X_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, X_adv)
        length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        delta = X_adv.detach() + step_size * gradient / length - X
        length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        X_adv = (X + epsilon * delta / length).clamp(0, 1)
    return X_adv


# %% mistake="pgd_l2" named="nothing brings the images back to the ball"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        loss = F.cross_entropy(model(X_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, X_adv)
        length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        X_adv = (X_adv.detach() + step_size * gradient / length).clamp(0, 1)
    return X_adv


# %% mistake="pgd_l2" named="each value is clamped"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        loss = F.cross_entropy(model(X_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, X_adv)
        length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        delta = X_adv.detach() + step_size * gradient / length - X
        X_adv = (X + delta.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="pgd_l2" named="the gradient's sign is taken"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        loss = F.cross_entropy(model(X_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, X_adv)
        delta = X_adv.detach() + step_size * gradient.sign() - X
        length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        X_adv = (X + delta * (epsilon / length).clamp(max=1)).clamp(0, 1)
    return X_adv


# %% mistake="pgd_l2" named="NaN"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        loss = F.cross_entropy(model(X_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, X_adv)
        length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        delta = X_adv.detach() + step_size * gradient / length - X
        length = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        X_adv = (X + delta * (epsilon / length).clamp(max=1)).clamp(0, 1)
    return X_adv


# %% mistake="pgd_l2" named="the images are not clamped"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        loss = F.cross_entropy(model(X_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, X_adv)
        length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        delta = X_adv.detach() + step_size * gradient / length - X
        length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        X_adv = X + delta * (epsilon / length).clamp(max=1)
    return X_adv


# %% mistake="pgd_l2" named="another requires_grad"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    for parameter in model.parameters():
        parameter.requires_grad = False
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        loss = F.cross_entropy(model(X_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, X_adv)
        length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        delta = X_adv.detach() + step_size * gradient / length - X
        length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        X_adv = (X + delta * (epsilon / length).clamp(max=1)).clamp(0, 1)
    for parameter in model.parameters():
        parameter.requires_grad = True
    return X_adv.detach()


# %% correct="pgd_l2"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    delta = torch.zeros_like(X)
    for _ in range(num_steps):
        delta = delta.detach().requires_grad_()
        F.cross_entropy(model(X + delta), y).backward()
        delta = delta.detach() + step_size * F.normalize(delta.grad.flatten(1), dim=1).view_as(X)
        delta = delta.flatten(1).renorm(2, 0, epsilon).view_as(X)
        delta = (X + delta).clamp(0, 1) - X
    return X + delta


# %% correct="pgd_l2"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    images = []
    for x, label in zip(X, y):
        x_adv = x.clone()
        for _ in range(num_steps):
            x_adv = x_adv.detach().requires_grad_()
            loss = F.cross_entropy(model(x_adv[None]), label[None])
            g = torch.autograd.grad(loss, x_adv)[0]
            if g.norm() > 0:
                x_adv = x_adv + step_size * g / g.norm()
            delta = x_adv - x
            if delta.norm() > epsilon:
                delta = delta * epsilon / delta.norm()
            x_adv = torch.clamp(x + delta, 0, 1)
        images.append(x_adv)
    return torch.stack(images)


# %% correct="pgd_l2"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    # Lengths of rows made by view, and a little added to them.
    adv = X.clone().detach()
    for _ in range(num_steps):
        adv.requires_grad = True
        gradient = torch.autograd.grad(nn.CrossEntropyLoss()(model(adv), y), adv)[0]
        norms = torch.norm(gradient.view(len(X), -1), p=2, dim=1) + 1e-10
        adv = adv.detach() + step_size * gradient / norms.view(-1, 1, 1, 1)
        delta = adv - X
        norms = torch.norm(delta.view(len(X), -1), p=2, dim=1)
        factor = torch.min(epsilon / norms, torch.ones_like(norms))
        adv = torch.clamp(X + delta * factor.view(-1, 1, 1, 1), min=0, max=1)
    return adv


# %% mistake="one_pixel_attack" named="the objective has to become small, not large"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    _, H, W = x.shape

    def build(candidates):
        S = candidates.shape[1]
        changed = x.repeat(S, 1, 1, 1)
        for i, (row, column, *colour) in enumerate(candidates.T):
            changed[i, :, min(int(row), H - 1), min(int(column), W - 1)] = torch.tensor(colour)
        return changed

    def function(candidates):
        with torch.no_grad():
            scores = model(build(candidates))
        return -objective(scores, torch.full((len(scores),), y)).numpy()

    bounds = [(0, H), (0, W), (0, 1), (0, 1), (0, 1)]
    best = differential_evolution(
        function,
        bounds,
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        seed=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    return build(best.x[:, None])[0]


# %% mistake="one_pixel_attack" named="are rows and columns exchanged"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    _, H, W = x.shape

    def build(candidates):
        S = candidates.shape[1]
        changed = x.repeat(S, 1, 1, 1)
        for i, (row, column, *colour) in enumerate(candidates.T):
            changed[i, :, min(int(column), W - 1), min(int(row), H - 1)] = torch.tensor(colour).to(
                x
            )
        return changed

    def function(candidates):
        with torch.no_grad():
            scores = model(build(candidates))
        return objective(scores, torch.full((len(scores),), y)).numpy()

    bounds = [(0, H), (0, W), (0, 1), (0, 1), (0, 1)]
    best = differential_evolution(
        function,
        bounds,
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        seed=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    return build(best.x[:, None])[0]


# %% mistake="one_pixel_attack" named="the last row and the last column"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    _, H, W = x.shape

    def build(candidates):
        S = candidates.shape[1]
        changed = x.repeat(S, 1, 1, 1)
        for i, (row, column, *colour) in enumerate(candidates.T):
            changed[i, :, int(row), int(column)] = torch.tensor(colour).to(x)
        return changed

    def function(candidates):
        with torch.no_grad():
            scores = model(build(candidates))
        return objective(scores, torch.full((len(scores),), y)).numpy()

    bounds = [(0, H - 1), (0, W - 1), (0, 1), (0, 1), (0, 1)]
    best = differential_evolution(
        function,
        bounds,
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        seed=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    return build(best.x[:, None])[0]


# %% mistake="one_pixel_attack" named="all three channels get the same value"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    _, H, W = x.shape

    def build(candidates):
        S = candidates.shape[1]
        changed = x.repeat(S, 1, 1, 1)
        for i, (row, column, value) in enumerate(candidates.T):
            changed[i, :, min(int(row), H - 1), min(int(column), W - 1)] = value
        return changed

    def function(candidates):
        with torch.no_grad():
            scores = model(build(candidates))
        return objective(scores, torch.full((len(scores),), y)).numpy()

    best = differential_evolution(
        function,
        [(0, H), (0, W), (0, 1)],
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        seed=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    return build(best.x[:, None])[0]


# %% mistake="one_pixel_attack" named="only some of its colours change"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    _, H, W = x.shape

    def build(candidates):
        changed = x.repeat(candidates.shape[1], 1, 1, 1)
        for i, (row, column, value) in enumerate(candidates.T):
            changed[i, 0, min(int(row), H - 1), min(int(column), W - 1)] = value
        return changed

    def function(candidates):
        with torch.no_grad():
            scores = model(build(candidates))
        return objective(scores, torch.full((len(scores),), y)).numpy()

    best = differential_evolution(
        function,
        [(0, H), (0, W), (0, 1)],
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        seed=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    return build(best.x[:, None])[0]


# %% mistake="one_pixel_attack" named="copy x for each"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    _, H, W = x.shape
    changed = x.clone()

    def build(candidate):
        row, column, *colour = candidate
        changed[:, min(int(row), H - 1), min(int(column), W - 1)] = torch.tensor(colour).to(x)
        return changed

    def function(candidates):
        with torch.no_grad():
            scores = torch.cat([model(build(candidate)[None]) for candidate in candidates.T])
        return objective(scores, torch.full((len(scores),), y)).numpy()

    bounds = [(0, H), (0, W), (0, 1), (0, 1), (0, 1)]
    best = differential_evolution(
        function,
        bounds,
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        seed=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    return build(best.x)


# %% mistake="one_pixel_attack" named="colours have to be in [0, 1]"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    _, H, W = x.shape

    def build(candidates):
        S = candidates.shape[1]
        changed = x.repeat(S, 1, 1, 1)
        for i, (row, column, *colour) in enumerate(candidates.T):
            changed[i, :, min(int(row), H - 1), min(int(column), W - 1)] = torch.tensor(colour).to(
                x
            )
        return changed

    def function(candidates):
        with torch.no_grad():
            scores = model(build(candidates))
        return objective(scores, torch.full((len(scores),), y)).numpy()

    bounds = [(0, H), (0, W), (0, 255), (0, 255), (0, 255)]
    best = differential_evolution(
        function,
        bounds,
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        seed=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    return build(best.x[:, None])[0]


# %% mistake="one_pixel_attack" named="use seed"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    _, H, W = x.shape

    def build(candidates):
        S = candidates.shape[1]
        changed = x.repeat(S, 1, 1, 1)
        for i, (row, column, *colour) in enumerate(candidates.T):
            changed[i, :, min(int(row), H - 1), min(int(column), W - 1)] = torch.tensor(colour).to(
                x
            )
        return changed

    def function(candidates):
        with torch.no_grad():
            scores = model(build(candidates))
        return objective(scores, torch.full((len(scores),), y)).numpy()

    bounds = [(0, H), (0, W), (0, 1), (0, 1), (0, 1)]
    best = differential_evolution(
        function,
        bounds,
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    return build(best.x[:, None])[0]


# %% mistake="one_pixel_attack" named="hand popsize and maxiter on"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    _, H, W = x.shape

    def images_of(candidates):
        candidates = torch.from_numpy(candidates.T).to(x)
        rows = candidates[:, 0].long().clamp(max=H - 1)
        columns = candidates[:, 1].long().clamp(max=W - 1)
        changed = x.repeat(len(candidates), 1, 1, 1)
        changed[torch.arange(len(candidates)), :, rows, columns] = candidates[:, 2:]
        return changed

    def objective_of(candidates):
        with torch.no_grad():
            scores = model(images_of(candidates))
        labels = torch.full((len(scores),), y, device=x.device)
        return objective(scores, labels).double().cpu().numpy()

    best = differential_evolution(
        objective_of,
        [(0, H), (0, W), (0, 1), (0, 1), (0, 1)],
        popsize=20,
        maxiter=40,
        tol=0,
        seed=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    return images_of(best.x[:, None])[0]


# %% mistake="one_pixel_attack" named="the objective's labels are y"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    _, H, W = x.shape
    label = model(x[None]).argmax().item()

    def build(candidates):
        S = candidates.shape[1]
        changed = x.repeat(S, 1, 1, 1)
        for i, (row, column, *colour) in enumerate(candidates.T):
            changed[i, :, min(int(row), H - 1), min(int(column), W - 1)] = torch.tensor(colour).to(
                x
            )
        return changed

    def function(candidates):
        with torch.no_grad():
            scores = model(build(candidates))
        return objective(scores, torch.full((len(scores),), label)).numpy()

    bounds = [(0, H), (0, W), (0, 1), (0, 1), (0, 1)]
    best = differential_evolution(
        function,
        bounds,
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        seed=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    return build(best.x[:, None])[0]


# %% mistake="one_pixel_attack" named="raised RuntimeError"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    _, H, W = x.shape

    def place(candidate):
        changed = x.clone()
        row, column = int(candidate[0]), int(candidate[1])
        changed[:, row, column] = torch.as_tensor(candidate[2:], dtype=x.dtype)
        return changed

    def function(candidate):
        scores = place(candidate)[None]
        with torch.no_grad():
            for layer in model:
                scores = layer(scores)
        return objective(scores, torch.tensor([y])).item()

    best = differential_evolution(
        function,
        [(0, H - 1e-6), (0, W - 1e-6), (0, 1), (0, 1), (0, 1)],
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        seed=seed,
        polish=False,
    )
    return place(best.x)


# %% correct="one_pixel_attack"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    # One candidate at a time, SciPy's polish left on, and a row just short of H.
    _, H, W = x.shape

    def place(candidate):
        changed = x.clone()
        row, column = int(candidate[0]), int(candidate[1])
        changed[:, row, column] = torch.as_tensor(candidate[2:], dtype=x.dtype)
        return changed

    def function(candidate):
        with torch.no_grad():
            scores = model(place(candidate)[None])
        return objective(scores, torch.tensor([y])).item()

    best = differential_evolution(
        function,
        [(0, H - 1e-6), (0, W - 1e-6), (0, 1), (0, 1), (0, 1)],
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        seed=seed,
    )
    return place(best.x)


# %% correct="one_pixel_attack"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    # Stops when it has won, and takes the place as a share of the image.
    _, H, W = x.shape

    def build(candidates):
        rows = np.clip(np.floor(candidates[0] * H), 0, H - 1).astype(int)
        columns = np.clip(np.floor(candidates[1] * W), 0, W - 1).astype(int)
        images = torch.stack([x] * candidates.shape[1])
        for image, row, column, colour in zip(images, rows, columns, candidates[2:].T):
            image[:, row, column] = torch.tensor(colour, dtype=x.dtype)
        return images

    def function(candidates):
        scores = model(build(candidates))
        return objective(scores, y * torch.ones(len(scores), dtype=torch.long)).detach().numpy()

    best = differential_evolution(
        function,
        [(0, 1)] * 5,
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        rng=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
        strategy="rand1bin",
        init="sobol",
    )
    return build(best.x.reshape(5, 1)).squeeze(0)


# %% mistake="estimate_gradient" named="compared with f(x), not with f(x − σu)"
def estimate_gradient(f, x, directions, sigma):
    slopes = (f(x + sigma * directions) - f(x[None])) / sigma
    return (slopes.view(-1, 1, 1, 1) * directions).mean(0)


# %% mistake="estimate_gradient" named="the 2 of 2σ is missing"
def estimate_gradient(f, x, directions, sigma):
    slopes = (f(x + sigma * directions) - f(x - sigma * directions)) / sigma
    return (slopes.view(-1, 1, 1, 1) * directions).mean(0)


# %% mistake="estimate_gradient" named="the sum over the directions"
def estimate_gradient(f, x, directions, sigma):
    gradient = torch.zeros_like(x)
    for u in directions:
        u = u[None]
        slope = (f(x + sigma * u) - f(x - sigma * u)) / (2 * sigma)
        gradient += slope * u[0]
    return gradient


# %% mistake="estimate_gradient" named="is not divided by 2σ"
def estimate_gradient(f, x, directions, sigma):
    differences = f(x + sigma * directions) - f(x - sigma * directions)
    return torch.einsum("k,kchw->chw", differences, directions) / len(directions)


# %% mistake="estimate_gradient" named="averaged before they meet"
def estimate_gradient(f, x, directions, sigma):
    slopes = (f(x + sigma * directions) - f(x - sigma * directions)) / (2 * sigma)
    return slopes.mean() * directions.mean(0)


# %% mistake="estimate_gradient" named="only the last direction counts"
def estimate_gradient(f, x, directions, sigma):
    for u in directions[:, None]:
        slope = (f(x + sigma * u) - f(x - sigma * u)) / (2 * sigma)
        gradient = slope * u[0]
    return gradient


# %% mistake="estimate_gradient" named="the sign is reversed"
def estimate_gradient(f, x, directions, sigma):
    slopes = (f(x - sigma * directions) - f(x + sigma * directions)) / (2 * sigma)
    return (slopes.view(-1, 1, 1, 1) * directions).mean(0)


# %% correct="estimate_gradient"
def estimate_gradient(f, x, directions, sigma):
    gradient = torch.zeros_like(x)
    for u in directions:
        slope = (f((x + sigma * u)[None]) - f((x - sigma * u)[None])).item() / (2 * sigma)
        gradient += slope * u / len(directions)
    return gradient


# %% correct="estimate_gradient"
def estimate_gradient(f, x, directions, sigma):
    both = torch.cat([directions, -directions])
    values = f(x[None] + sigma * both)
    return torch.tensordot(values, both, dims=1) / (len(both) * sigma)


# %% mistake="adversarial_training_step" named="the gradients that the attack left behind"
def adversarial_training_step(X, y, model, optimizer, attack):
    optimizer.zero_grad()
    model.eval()
    X_adv = attack(X, y, model)
    model.train()
    loss = F.cross_entropy(model(X_adv), y)
    loss.backward()
    optimizer.step()
    return loss.item()


# %% mistake="adversarial_training_step" named="the attack, too, ran in training mode"
def adversarial_training_step(X, y, model, optimizer, attack):
    model.train()
    X_adv = attack(X, y, model)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X_adv), y)
    loss.backward()
    optimizer.step()
    return loss.item()


# %% mistake="adversarial_training_step" named="the network learned in eval mode"
def adversarial_training_step(X, y, model, optimizer, attack):
    model.eval()
    X_adv = attack(X, y, model)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X_adv), y)
    loss.backward()
    optimizer.step()
    return loss.item()


# %% mistake="adversarial_training_step" named="the network learned in eval mode"
def adversarial_training_step(X, y, model, optimizer, attack):
    model.eval()
    X_adv = attack(X, y, model)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X_adv), y)
    loss.backward()
    optimizer.step()
    model.train()
    return loss.item()


# %% mistake="adversarial_training_step" named="the clean images are learned"
def adversarial_training_step(X, y, model, optimizer, attack):
    model.eval()
    X_adv = attack(X, y, model)
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X), y)
    loss.backward()
    optimizer.step()
    return loss.item()


# %% mistake="adversarial_training_step" named="no step of the optimiser"
def adversarial_training_step(X, y, model, optimizer, attack):
    model.eval()
    X_adv = attack(X, y, model)
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X_adv), y)
    loss.backward()
    return loss.item()


# %% mistake="adversarial_training_step" named="the sum over the batch"
def adversarial_training_step(X, y, model, optimizer, attack):
    model.eval()
    X_adv = attack(X, y, model)
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X_adv), y, reduction="sum")
    loss.backward()
    optimizer.step()
    return loss.item()


# %% mistake="adversarial_training_step" named="only the gradients that the attack left behind"
def adversarial_training_step(X, y, model, optimizer, attack):
    model.eval()
    optimizer.zero_grad()
    X_adv = attack(X, y, model)
    model.train()
    loss = F.cross_entropy(model(X_adv), y)
    optimizer.step()
    return loss.item()


# %% mistake="adversarial_training_step" named="raised AttributeError"
def adversarial_training_step(X, y, model, optimizer, attack):
    model.eval()
    X_adv = attack(X, y, model).detach()
    model.train()
    for parameter in model.parameters():
        parameter.grad.zero_()
    loss = F.cross_entropy(model(X_adv), y)
    loss.backward()
    optimizer.step()
    return loss.item()


# %% correct="adversarial_training_step"
def adversarial_training_step(X, y, model, optimizer, attack):
    model.eval()
    X_adv = attack(X, y, model).detach()
    model.train()
    loss = nn.CrossEntropyLoss()(model(X_adv), y)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
        parameter.grad = gradient
    optimizer.step()
    return loss


# %% correct="adversarial_training_step"
def adversarial_training_step(X, y, model, optimizer, attack):
    model = model.eval()
    attacked = attack(X.clone(), y, model)
    model.zero_grad()
    model = model.train()
    loss = -model(attacked).log_softmax(1)[range(len(y)), y].mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"loss {loss.item():.3f}")
    return float(loss)


# %% mistake="linear_perturbation" named="divided by Σ|w|"
def linear_perturbation(w, epsilon, norm):
    return epsilon * w.sign() if norm == "linf" else epsilon * w / w.abs().sum()


# %% mistake="linear_perturbation" named="all of it went into the largest weight"
def linear_perturbation(w, epsilon, norm):
    if norm == "linf":
        return epsilon * w.sign() * (w.abs() == w.abs().max())
    return epsilon * w / w.norm()


# %% correct="linear_perturbation"
def linear_perturbation(w, epsilon, norm):
    direction = w / w.abs() if norm == "linf" else w / w.pow(2).sum().sqrt()
    return direction * epsilon


# %% mistake="estimate_gradient" named="only the sign of the difference counts"
def estimate_gradient(f, x, directions, sigma):
    signs = (f(x + sigma * directions) - f(x - sigma * directions)).sign()
    return (signs.view(-1, 1, 1, 1) * directions).mean(0)


# %% correct="estimate_gradient"
def estimate_gradient(f, x, directions, sigma):
    ahead, behind = f(x + sigma * directions), f(x - sigma * directions)
    total = torch.einsum("k,kchw->chw", ahead - behind, directions)
    return total / (2 * sigma * len(directions))


# %% correct="pgd"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    lowest, highest = torch.clamp(X - epsilon, min=0), torch.clamp(X + epsilon, max=1)
    x = X.clone() if start is None else torch.clamp(X + start, 0, 1)
    for _ in range(num_steps):
        x = x.detach().requires_grad_()
        loss = -model(x).log_softmax(1).gather(1, y[:, None]).mean()
        (slope,) = torch.autograd.grad(loss, x)
        x = torch.minimum(torch.maximum(x + step_size * slope.sign(), lowest), highest)
    return x


# %% correct="pgd_l2"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    delta = torch.zeros_like(X)
    for _ in range(num_steps):
        x = (X + delta).requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)
        length = slope.square().sum((1, 2, 3), keepdim=True).sqrt()
        delta = delta + step_size * torch.where(length > 0, slope / length, 0.0)
        length = delta.square().sum((1, 2, 3), keepdim=True).sqrt()
        delta = torch.where(length > epsilon, delta * epsilon / length, delta)
        delta = (X + delta).clamp(0, 1) - X
    return X + delta


# %% correct="one_pixel_attack"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    _, H, W = x.shape

    def build(candidates):
        rows = np.minimum(candidates[0].astype(int), H - 1)
        columns = np.minimum(candidates[1].astype(int), W - 1)
        chosen = torch.zeros(candidates.shape[1], 1, H, W, dtype=torch.bool)
        chosen[range(len(chosen)), 0, rows, columns] = True
        colours = torch.tensor(candidates[2:].T, dtype=x.dtype)[:, :, None, None]
        return torch.where(chosen, colours, x)

    def function(candidates):
        with torch.no_grad():
            scores = model(build(candidates))
            return objective(scores, torch.full((len(scores),), y)).double().numpy()

    best = differential_evolution(
        function,
        [(0, H), (0, W)] + [(0, 1)] * 3,
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        seed=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    return build(best.x[:, None])[0]


# %% correct="adversarial_training_step"
def adversarial_training_step(X, y, model, optimizer, attack):
    model.train(False)
    X_adv = attack(X, y, model)
    model.train(True)
    for parameter in model.parameters():
        parameter.grad = None
    loss = F.nll_loss(F.log_softmax(model(X_adv), dim=1), y)
    loss.backward()
    optimizer.step()
    return loss.detach()


# %% mistake="targeted_pgd" named="leads away from the target"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() + step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="there is no random start"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="the start runs from 0 to ε"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * torch.rand(X.shape, generator=generator, dtype=X.dtype)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="the start fills half of the ball"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * (torch.rand(X.shape, generator=generator, dtype=X.dtype) - 0.5)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="draw from the generator"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="the start is not clamped"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = X + start
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="drawn from a normal distribution"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * torch.randn(X.shape, generator=generator, dtype=X.dtype)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="the step is ε long"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - epsilon * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="the gradient's sign is not taken"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="the ball around X"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="the images are not clamped to [0, 1]"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = X + perturbation.clamp(-epsilon, epsilon)
    return X_adv


# %% mistake="targeted_pgd" named="the ball around X"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    X_start = X_adv
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X_start
        X_adv = (X_start + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="the most likely class, not the least"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmax(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="that of the random start"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    if targets is None:
        with torch.no_grad():
            targets = model(X_adv).argmin(1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="the targets are ignored: it goes to the least likely class"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    with torch.no_grad():
        targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="the target's score is raised"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(-model(X_adv).gather(1, targets[:, None]).sum(), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="raised TypeError"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv


# %% mistake="targeted_pgd" named="another requires_grad"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start).clamp(0, 1)
    model.requires_grad_(False)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    model.requires_grad_(True)
    return X_adv


# %% correct="targeted_pgd"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    # backward() on a leaf of its own, and bounds instead of a projection.
    if targets is None:
        targets = model(X).topk(1, largest=False).indices[:, 0]
    low, high = (X - epsilon).clamp(min=0), (X + epsilon).clamp(max=1)
    X_adv = X + torch.rand(X.shape, generator=generator, dtype=X.dtype) * 2 * epsilon - epsilon
    X_adv = torch.clamp(X_adv, 0, 1)
    for _ in range(num_steps):
        leaf = X_adv.clone().detach().requires_grad_()
        F.cross_entropy(model(leaf), targets, reduction="sum").backward()
        X_adv = torch.min(torch.max(X_adv - step_size * leaf.grad.sign(), low), high)
    return X_adv


# %% correct="targeted_pgd"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    # Climbs the target's log-probability, and keeps the perturbation instead of the image.
    delta = torch.empty_like(X).uniform_(-epsilon, epsilon, generator=generator)
    delta = (X + delta).clamp(0, 1) - X
    if targets is None:
        targets = model(X).detach().softmax(1).argmin(1)
    for _ in range(num_steps):
        delta.requires_grad_()
        log_p = model(X + delta).log_softmax(1)[range(len(X)), targets]
        (gradient,) = torch.autograd.grad(log_p.sum(), delta)
        delta = (delta.detach() + step_size * gradient.sign()).clamp(-epsilon, epsilon)
        delta = (X + delta).clamp(0, 1) - X
    return X + delta


# %% correct="targeted_pgd"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    # One image at a time.
    start = 2 * epsilon * (torch.rand(X.shape, generator=generator, dtype=X.dtype) - 0.5)
    results = []
    for n, x in enumerate(X):
        target = model(x[None]).argmin(1) if targets is None else targets[n : n + 1]
        x_adv = (x + start[n]).clamp(0, 1)
        for _ in range(num_steps):
            x_adv = x_adv.detach().requires_grad_()
            loss = nn.CrossEntropyLoss()(model(x_adv[None]), target)
            (gradient,) = torch.autograd.grad(loss, x_adv)
            x_adv = x + (x_adv - step_size * gradient.sign() - x).clamp(-epsilon, epsilon)
            x_adv = x_adv.clamp(0, 1)
        results.append(x_adv.detach())
    return torch.stack(results)


# %% mistake="expected_scores" named="no gradient passes the defence"
def expected_scores(X, model, defence, num_samples, approximation=None):
    return torch.stack([model(defence(X)) for _ in range(num_samples)]).mean(0)


# %% mistake="expected_scores" named="there is only one draw"
def expected_scores(X, model, defence, num_samples, approximation=None):
    through = X if approximation is None else approximation(X)
    return model(through + (defence(X) - through).detach())


# %% mistake="expected_scores" named="the scores are added up"
def expected_scores(X, model, defence, num_samples, approximation=None):
    through = X if approximation is None else approximation(X)
    draws = [model(through + (defence(X) - through).detach()) for _ in range(num_samples)]
    return sum(draws)


# %% mistake="expected_scores" named="the defended images are averaged"
def expected_scores(X, model, defence, num_samples, approximation=None):
    through = X if approximation is None else approximation(X)
    defended = torch.stack([defence(X) for _ in range(num_samples)]).mean(0)
    return model(through + (defended - through).detach())


# %% mistake="expected_scores" named="only its gradient is used"
def expected_scores(X, model, defence, num_samples, approximation=None):
    through = X if approximation is None else approximation(X)
    draws = []
    for _ in range(num_samples):
        defended = defence(X)
        draws.append(model(defended + (through - defended).detach()))
    return torch.stack(draws).mean(0)


# %% mistake="expected_scores" named="the gradient is taken at X itself"
def expected_scores(X, model, defence, num_samples, approximation=None):
    through = X if approximation is None else approximation(X)
    defended = torch.stack([model(defence(X)) for _ in range(num_samples)]).mean(0)
    undefended = model(through)
    return undefended + (defended - undefended).detach()


# %% mistake="expected_scores" named="probabilities are"
def expected_scores(X, model, defence, num_samples, approximation=None):
    through = X if approximation is None else approximation(X)
    draws = [
        model(through + (defence(X) - through).detach()).softmax(1) for _ in range(num_samples)
    ]
    return torch.stack(draws).mean(0)


# %% mistake="expected_scores" named="no gradient flows back"
def expected_scores(X, model, defence, num_samples, approximation=None):
    through = X if approximation is None else approximation(X)
    with torch.no_grad():
        draws = [model(through + (defence(X) - through).detach()) for _ in range(num_samples)]
    return torch.stack(draws).mean(0)


# %% mistake="expected_scores" named="another requires_grad"
def expected_scores(X, model, defence, num_samples, approximation=None):
    through = X if approximation is None else approximation(X)
    model.requires_grad_(False)
    draws = [model(through + (defence(X) - through).detach()) for _ in range(num_samples)]
    model.requires_grad_(True)
    return torch.stack(draws).mean(0)


# %% mistake="expected_scores" named="the approximation is ignored"
def expected_scores(X, model, defence, num_samples, approximation=None):
    draws = [model(X + (defence(X) - X).detach()) for _ in range(num_samples)]
    return torch.stack(draws).mean(0)


# %% mistake="expected_scores" named="the defence is given the approximation"
def expected_scores(X, model, defence, num_samples, approximation=None):
    through = X if approximation is None else approximation(X)
    draws = [model(through + (defence(through) - through).detach()) for _ in range(num_samples)]
    return torch.stack(draws).mean(0)


# %% mistake="expected_scores" named="the approximation is applied after the defence"
def expected_scores(X, model, defence, num_samples, approximation=None):
    draws = []
    for _ in range(num_samples):
        defended = X + (defence(X) - X).detach()
        draws.append(model(defended if approximation is None else approximation(defended)))
    return torch.stack(draws).mean(0)


# %% mistake="expected_scores" named="both have a gradient"
def expected_scores(X, model, defence, num_samples, approximation=None):
    through = X if approximation is None else approximation(X)
    draws = []
    for _ in range(num_samples):
        defended = X + (defence(X) - X).detach()
        if approximation is not None:
            defended = defended + through - through.detach()
        draws.append(model(defended))
    return torch.stack(draws).mean(0)


# %% correct="expected_scores"
class StandIn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, through, defended):
        return defended.clone()

    @staticmethod
    def backward(ctx, upstream):
        return upstream, None


def expected_scores(X, model, defence, num_samples, approximation=None):
    through = X if approximation is None else approximation(X)
    draws = [StandIn.apply(through, defence(X)) for _ in range(num_samples)]
    return torch.stack([model(draw) for draw in draws]).mean(0)


# %% correct="expected_scores"
def expected_scores(X, model, defence, num_samples, approximation=None):
    through = X if approximation is None else approximation(X)
    draws = []
    for _ in range(num_samples):
        with torch.no_grad():
            change = defence(X) - through
        draws.append(through + change)
    scores = model(torch.cat(draws))
    return scores.view(num_samples, len(X), -1).mean(dim=0)


# %% correct="expected_scores"
def expected_scores(X, model, defence, num_samples, approximation=None):
    # The approximation anew for every draw, and the gradient handed over by its difference to itself.
    scores = []
    for _ in range(num_samples):
        through = X if approximation is None else approximation(X)
        scores.append(model(defence(X).detach() + through - through.detach()))
    return sum(scores) / num_samples


# %% mistake="adaptive_attack" named="the last images"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return images


# %% mistake="adaptive_attack" named="the margin is raised"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, -torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins > smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images + step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="or the larger margin is kept"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, -torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins > smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="one step is the best for all images"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = (margins.mean() < smallest.mean()).expand(len(X))
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="the first images come back"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="what it led to is never looked at"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(max(num_steps, 1)):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="there is a step too many"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 2):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="predecessor's margin"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
    return best


# %% mistake="adaptive_attack" named="the last start's best"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    for start in starts:
        best, smallest = X, torch.full(y.shape, torch.inf).to(X)
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="only the first start counts"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts[:1]:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="a run begins where the one before it ended"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    images = X
    for start in starts:
        images = (X + (images + start - X).clamp(-epsilon, epsilon)).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="the cross-entropy is raised"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            loss = -F.cross_entropy(model(images), y)
            (gradient,) = torch.autograd.grad(loss, images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="the label's score is lowered"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            scores = model(images)
            margins = logit_margin(scores, y)
            own = scores[torch.arange(len(y)), y]
            (gradient,) = torch.autograd.grad(own.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="the step is ε long"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - epsilon * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="nothing brings the images back to the ball"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="the images are not clamped"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = X + perturbation.clamp(-epsilon, epsilon)
    return best


# %% mistake="adaptive_attack" named="the ball is around the start"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = centre = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - centre
            images = (centre + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="rolls dice"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images = images.detach()
            with torch.no_grad():
                margins = logit_margin(model(images), y)
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="adaptive_attack" named="another requires_grad"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    best, smallest = X, torch.full(y.shape, torch.inf).to(X)
    model.requires_grad_(False)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            best = torch.where(better.view(-1, 1, 1, 1), images, best)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    model.requires_grad_(True)
    return best


# %% correct="adaptive_attack"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    # Everything is kept, and the best is chosen at the end.
    shown, margins = [], []
    for start in starts:
        x = torch.clamp(X + start, 0, 1)
        for step in range(num_steps + 1):
            x = x.detach().clone().requires_grad_()
            margin = logit_margin(model(x), y)
            shown.append(x.detach())
            margins.append(margin.detach())
            if step < num_steps:
                margin.sum().backward()
                x = torch.clamp(x - step_size * x.grad.sign(), X - epsilon, X + epsilon)
                x = x.clamp(0, 1)
    return torch.stack(shown)[torch.stack(margins).argmin(0), torch.arange(len(X))]


# %% correct="adaptive_attack"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    # A margin of its own, and a loop over the images for what is kept.
    best, lowest = X.clone(), [float("inf")] * len(X)
    for start in starts:
        x = (X + start).clamp(0, 1)
        for step in range(num_steps + 1):
            x.requires_grad_()
            scores = model(x)
            others = scores.clone()
            others[torch.arange(len(y)), y] = -1e9
            lead = scores[torch.arange(len(y)), y] - others.amax(1)
            for n in range(len(X)):
                if lead[n].item() < lowest[n]:
                    lowest[n] = lead[n].item()
                    best[n] = x[n].detach()
            g = torch.autograd.grad(lead.sum(), x)[0]
            x = X + (x.detach() - step_size * g.sign() - X).clamp(-epsilon, epsilon)
            x = x.clamp(0, 1)
    return best


# %% correct="adaptive_attack"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    # A helper that looks at images, called once more after the last step.
    best, lowest = X.clone(), torch.full((len(X),), 1e30, dtype=X.dtype)

    def look(x):
        x = x.clone().requires_grad_()
        margins = logit_margin(model(x), y)
        better = (margins < lowest).detach()
        best[better] = x.detach()[better]
        lowest[better] = margins.detach()[better]
        return torch.autograd.grad(-margins.mean(), x)[0]

    for start in starts:
        x_adv = (X + start).clamp(0, 1)
        for _ in range(num_steps):
            x_adv = x_adv + step_size * look(x_adv).sign()
            x_adv = (X + (x_adv - X).clamp(-epsilon, epsilon)).clamp(0, 1)
        look(x_adv)
    return best


# %% mistake="linear_perturbation" named="each column has a norm of its own"
def linear_perturbation(w, epsilon, norm):
    if norm == "linf":
        return epsilon * w.sign()
    return epsilon * F.normalize(w, dim=0)


# %% mistake="linear_perturbation" named="largest singular value"
def linear_perturbation(w, epsilon, norm):
    if norm == "linf":
        return epsilon * w.sign()
    return epsilon * w / torch.linalg.norm(w, 2)


# %% mistake="fgsm" named="images that the network gets wrong already are left"
def fgsm(X, y, model, epsilon):
    A = X.clone().requires_grad_()
    s = model(A)
    (g,) = torch.autograd.grad(F.cross_entropy(s, y), A)
    right = (s.argmax(1) == y).view(-1, 1, 1, 1)
    return torch.where(right, (X + epsilon * g.sign()).clamp(0, 1), X)


# %% mistake="fgsm" named="probabilities are handed to the cross-entropy"
def fgsm(X, y, model, epsilon):
    A = X.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model(A).softmax(1), y), A)
    return (X + epsilon * g.sign()).clamp(0, 1)


# %% mistake="pgd" named="two calls gave different images"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    if start is None:
        start = torch.empty_like(X).uniform_(-epsilon, epsilon)
    A = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        A.requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(model(A), y), A)
        d = A.detach() + step_size * g.sign() - X
        A = (X + d.clamp(-epsilon, epsilon)).clamp(0, 1)
    return A


# %% mistake="pgd" named="the gradients of earlier steps are added up"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    A = X.clone() if start is None else (X + start).clamp(0, 1)
    A.requires_grad_()
    for _ in range(num_steps):
        F.cross_entropy(model(A), y).backward()
        with torch.no_grad():
            d = A + step_size * A.grad.sign() - X
            A.copy_((X + d.clamp(-epsilon, epsilon)).clamp(0, 1))
    return A.detach()


# %% mistake="pgd" named="the images with the highest loss on the way"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    A = X.clone() if start is None else (X + start).clamp(0, 1)
    best, bl = A.clone(), torch.full(y.shape, -1.0, dtype=X.dtype)
    for i in range(num_steps + 1):
        A = A.detach().requires_grad_()
        l = F.cross_entropy(model(A), y, reduction="none")
        (g,) = torch.autograd.grad(l.sum(), A)
        b = l.detach() > bl
        bl = torch.where(b, l.detach(), bl)
        best = torch.where(b.view(-1, 1, 1, 1), A.detach(), best)
        d = A.detach() + step_size * g.sign() - X
        A = (X + d.clamp(-epsilon, epsilon)).clamp(0, 1)
    return best


# %% mistake="pgd" named="that fool the network already"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    A = X.clone() if start is None else (X + start).clamp(0, 1)
    for _ in range(num_steps):
        A.requires_grad_()
        s = model(A)
        (g,) = torch.autograd.grad(F.cross_entropy(s, y), A)
        d = A.detach() + step_size * g.sign() - X
        new = (X + d.clamp(-epsilon, epsilon)).clamp(0, 1)
        A = torch.where((s.argmax(1) == y).view(-1, 1, 1, 1), new, A.detach())
    return A


# %% mistake="pgd" named="end once the whole batch"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    A = X.clone() if start is None else (X + start).clamp(0, 1)
    for _ in range(num_steps):
        A.requires_grad_()
        s = model(A)
        if (s.argmax(1) != y).all():
            break
        (g,) = torch.autograd.grad(F.cross_entropy(s, y), A)
        d = A.detach() + step_size * g.sign() - X
        A = (X + d.clamp(-epsilon, epsilon)).clamp(0, 1)
    return A.detach()


# %% mistake="targeted_pgd" named="is asked for anew at each step"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    A = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        A.requires_grad_()
        s = model(A)
        t = s.argmin(1) if targets is None else targets
        (g,) = torch.autograd.grad(F.cross_entropy(s, t), A)
        d = A.detach() - step_size * g.sign() - X
        A = (X + d.clamp(-epsilon, epsilon)).clamp(0, 1)
    return A


# %% mistake="targeted_pgd" named="the steps end once every target is reached"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    A = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        A.requires_grad_()
        s = model(A)
        if (s.argmax(1) == targets).all():
            break
        (g,) = torch.autograd.grad(F.cross_entropy(s, targets), A)
        d = A.detach() - step_size * g.sign() - X
        A = (X + d.clamp(-epsilon, epsilon)).clamp(0, 1)
    return A.detach()


# %% mistake="targeted_pgd" named="the generator is seeded anew"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        targets = model(X).argmin(1)
    generator.manual_seed(generator.initial_seed())
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    A = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        A.requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(model(A), targets), A)
        d = A.detach() - step_size * g.sign() - X
        A = (X + d.clamp(-epsilon, epsilon)).clamp(0, 1)
    return A


# %% mistake="targeted_pgd" named="wound back, or never drawn from"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        targets = model(X).argmin(1)
    own = torch.Generator().set_state(generator.get_state())
    start = epsilon * (2 * torch.rand(X.shape, generator=own, dtype=X.dtype) - 1)
    A = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        A.requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(model(A), targets), A)
        d = A.detach() - step_size * g.sign() - X
        A = (X + d.clamp(-epsilon, epsilon)).clamp(0, 1)
    return A


# %% mistake="targeted_pgd" named="nothing but the start may be drawn"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    if targets is None:
        targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    A = (X + start).clamp(0, 1)
    for _ in range(num_steps):
        torch.rand(X.shape, generator=generator)
        A.requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(model(A), targets), A)
        d = A.detach() - step_size * g.sign() - X
        A = (X + d.clamp(-epsilon, epsilon)).clamp(0, 1)
    return A


# %% equivalent="make_fooling_image" reason="X may be left asking for gradients, and keeps its values"
# - X_fooling = X.clone()
# + X_fooling = X

# %% equivalent="make_fooling_image" reason="the number of steps is the student's choice"
# - for _ in range(100):
# + for _ in range(99):

# %% equivalent="make_fooling_image" reason="the number of steps is the student's choice"
# - for _ in range(100):
# + for _ in range(101):

# %% equivalent="make_fooling_image" reason="a tensor with one number is a number, too"
# - if scores.argmax(1).item() == target_y:
# + if scores.argmax(1) == target_y:

# %% equivalent="make_fooling_image" reason="there is one image only"
# - (gradient,) = torch.autograd.grad(scores[0, target_y], X_fooling)
# + (gradient,) = torch.autograd.grad(scores[-1, target_y], X_fooling)

# %% equivalent="make_fooling_image" reason="a result that hangs on autograd's graph is right as well, only slower"
# - X_fooling = (X_fooling.detach() + 0.5 * gradient / gradient.norm()).clamp(0, 1)
# + X_fooling = (X_fooling + 0.5 * gradient / gradient.norm()).clamp(0, 1)

# %% equivalent="make_fooling_image" reason="the size of a step is the student's choice"
# - X_fooling = (X_fooling.detach() + 0.5 * gradient / gradient.norm()).clamp(0, 1)
# + X_fooling = (X_fooling.detach() + 0.25 * gradient / gradient.norm()).clamp(0, 1)

# %% equivalent="make_fooling_image" reason="the size of a step is the student's choice"
# - X_fooling = (X_fooling.detach() + 0.5 * gradient / gradient.norm()).clamp(0, 1)
# + X_fooling = (X_fooling.detach() + gradient / gradient.norm()).clamp(0, 1)

# %% equivalent="make_fooling_image" reason="the size of a step is the student's choice"
# - X_fooling = (X_fooling.detach() + 0.5 * gradient / gradient.norm()).clamp(0, 1)
# + X_fooling = (X_fooling.detach() + 1.0 * gradient / gradient.norm()).clamp(0, 1)

# %% equivalent="make_fooling_image" reason="a result that hangs on autograd's graph is right as well, only slower"
# - return X_fooling.detach()
# + return X_fooling

# %% equivalent="one_pixel_attack" reason="the tests run on the CPU"
# - labels = torch.full((len(scores),), y, device=x.device)
# + labels = torch.full((len(scores),), y)

# %% equivalent="one_pixel_attack" reason="SciPy makes an array of a tensor by itself"
# - return objective(scores, labels).double().cpu().numpy()
# + return objective(scores, labels).double().cpu()

# %% equivalent="one_pixel_attack" reason="SciPy keeps what it is told in float64"
# - return objective(scores, labels).double().cpu().numpy()
# + return objective(scores, labels).cpu().numpy()

# %% equivalent="one_pixel_attack" reason="the tests run on the CPU"
# - return objective(scores, labels).double().cpu().numpy()
# + return objective(scores, labels).double().numpy()

# %% equivalent="one_pixel_attack" reason="what lies between −1 and 0 is cut to 0"
# - [(0, H), (0, W), (0, 1), (0, 1), (0, 1)],
# + [(-1, H), (0, W), (0, 1), (0, 1), (0, 1)],

# %% equivalent="one_pixel_attack" reason="what lies between −1 and 0 is cut to 0"
# - [(0, H), (0, W), (0, 1), (0, 1), (0, 1)],
# + [(0, H), (-1, W), (0, 1), (0, 1), (0, 1)],

# %% equivalent="one_pixel_attack" reason="SciPy takes bounds in either order"
# - [(0, H), (0, W), (0, 1), (0, 1), (0, 1)],
# + [(H, 0), (0, W), (0, 1), (0, 1), (0, 1)],

# %% equivalent="one_pixel_attack" reason="SciPy takes bounds in either order"
# - [(0, H), (0, W), (0, 1), (0, 1), (0, 1)],
# + [(0, H), (W, 0), (0, 1), (0, 1), (0, 1)],

# %% equivalent="one_pixel_attack" reason="SciPy takes bounds in either order"
# - [(0, H), (0, W), (0, 1), (0, 1), (0, 1)],
# + [(0, H), (0, W), (1, 0), (0, 1), (0, 1)],

# %% equivalent="one_pixel_attack" reason="SciPy takes bounds in either order"
# - [(0, H), (0, W), (0, 1), (0, 1), (0, 1)],
# + [(0, H), (0, W), (0, 1), (1, 0), (0, 1)],

# %% equivalent="one_pixel_attack" reason="SciPy takes bounds in either order"
# - [(0, H), (0, W), (0, 1), (0, 1), (0, 1)],
# + [(0, H), (0, W), (0, 1), (0, 1), (1, 0)],

# %% equivalent="one_pixel_attack" reason="no spread is below either"
# - tol=0,
# + tol=-1,

# %% equivalent="one_pixel_attack" reason="a colour that is polished further is as good or better"
# - polish=False,
# + polish=True,

# %% equivalent="one_pixel_attack" reason="there is one image only"
# - return images_of(best.x[:, None])[0]
# + return images_of(best.x[:, None])[-1]

# %% equivalent="one_pixel_attack" reason="it stops sooner, where its candidates are alike"
# - tol=0,

# %% equivalent="one_pixel_attack" reason="SciPy defers by itself where it calls with many candidates"
# - updating="deferred",

# %% equivalent="one_pixel_attack" reason="a colour that is polished further is as good or better"
# - polish=False,

# %% equivalent="targeted_pgd" reason="a result that hangs on autograd's graph is right as well, only slower"
# - perturbation = X_adv.detach() - step_size * gradient.sign() - X
# + perturbation = X_adv - step_size * gradient.sign() - X


# %% equivalent="targeted_pgd" reason="the gradient is asked for later, and not of these scores"
# - with torch.no_grad():
# + if True:


# %% equivalent="targeted_pgd" reason="the tests run on the CPU"
# - X_adv = (X + start.to(X.device)).clamp(0, 1)
# + X_adv = (X + start).clamp(0, 1)


# %% equivalent="adaptive_attack" reason="only the gradient's sign is used"
# - (gradient,) = torch.autograd.grad(margins.sum(), images)
# + (gradient,) = torch.autograd.grad(margins.mean(), images)


# %% equivalent="adaptive_attack" reason="a result that hangs on autograd's graph is right as well, only slower"
# - images, margins = images.detach(), margins.detach()
# + pass


# %% equivalent="adaptive_attack" reason="a result that hangs on autograd's graph is right as well, only slower"
# - images, margins = images.detach(), margins.detach()
# + images, margins = images.detach(), margins


# %% equivalent="adaptive_attack" reason="a result that hangs on autograd's graph is right as well, only slower"
# - images, margins = images.detach(), margins.detach()
# + images, margins = images, margins.detach()


# %% equivalent="adaptive_attack" reason="two images of exactly the same margin are equally good"
# - better = margins < smallest
# + better = margins <= smallest


# %% equivalent="adaptive_attack" reason="what is compared may have another dtype"
# - X_adv, smallest = X, torch.full(y.shape, torch.inf).to(X)
# + X_adv, smallest = X, torch.full(y.shape, torch.inf)


# %% equivalent="linear_perturbation" reason="1 and −1 are their own reciprocals"
# - return epsilon * w.sign()
# + return epsilon / w.sign()


# %% equivalent="fgsm" reason="X may be left asking for gradients, and keeps its values"
# - X_adv = X.clone().requires_grad_()
# + X_adv = X.requires_grad_()


# %% equivalent="pgd" reason="X may be left asking for gradients, and keeps its values"
# - X_adv = X.clone() if start is None else (X + start).clamp(0, 1)
# + X_adv = X if start is None else (X + start).clamp(0, 1)


# %% equivalent="pgd" reason="a result that hangs on autograd's graph is right as well, only slower"
# - perturbation = X_adv.detach() + step_size * gradient.sign() - X
# + perturbation = X_adv + step_size * gradient.sign() - X


# %% equivalent="pgd_l2" reason="a result that hangs on autograd's graph is right as well, only slower"
# - delta = X_adv.detach() + step_size * gradient / length - X
# + delta = X_adv + step_size * gradient / length - X


# %% equivalent="pgd_l2" reason="a result that hangs on autograd's graph is right as well, only slower"
# - return X_adv.detach()
# + return X_adv


# %% equivalent="pgd_l2" reason="only an image without any gradient or change meets this bound"
# - length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
# + length = gradient.flatten(1).norm(dim=1).clamp(min=5e-13).view(-1, 1, 1, 1)


# %% equivalent="pgd_l2" reason="only an image without any gradient or change meets this bound"
# - length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
# + length = gradient.flatten(1).norm(dim=1).clamp(min=2e-12).view(-1, 1, 1, 1)


# %% equivalent="pgd_l2" reason="only an image without any gradient or change meets this bound"
# - length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
# + length = delta.flatten(1).norm(dim=1).clamp(min=5e-13).view(-1, 1, 1, 1)


# %% equivalent="pgd_l2" reason="only an image without any gradient or change meets this bound"
# - length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
# + length = delta.flatten(1).norm(dim=1).clamp(min=2e-12).view(-1, 1, 1, 1)


# %% equivalent="pgd_l2" reason="ε / 0 is infinite, and the factor is bounded by 1"
# - length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
# + length = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


# %% equivalent="pgd_l2" reason="the gradient is divided by its length, or only its sign is used"
# - loss = F.cross_entropy(model(X_adv), y, reduction="sum")
# + loss = F.cross_entropy(model(X_adv), y)


# %% equivalent="pgd_l2" reason="the gradient is divided by its length, or only its sign is used"
# - loss = F.cross_entropy(model(X_adv), y, reduction="sum")
# + loss = F.cross_entropy(model(X_adv), y, reduction='mean')


# %% equivalent="pgd_l2" reason="X may be left asking for gradients, and keeps its values"
# - X_adv = X.clone()
# + X_adv = X


# %% equivalent="adversarial_training_step" reason="a tensor with one number is a number, too"
# - return loss.item()
# + return loss


# %% equivalent="adversarial_training_step" reason="the gradients that flow on into the attack are not used"
# - X_adv = attack(X, y, model).detach()
# + X_adv = attack(X, y, model)


# %% equivalent="one_pixel_attack" reason="SciPy draws from below the upper bound, and never the bound itself"
# - rows = candidates[:, 0].long().clamp(max=H - 1)
# + rows = candidates[:, 0].long().clamp(max=H)


# %% equivalent="one_pixel_attack" reason="SciPy draws from below the upper bound, and never the bound itself"
# - rows = candidates[:, 0].long().clamp(max=H - 1)
# + rows = candidates[:, 0].long().clamp(max=H + 1)


# %% equivalent="one_pixel_attack" reason="SciPy draws from below the upper bound, and never the bound itself"
# - rows = candidates[:, 0].long().clamp(max=H - 1)
# + rows = candidates[:, 0].long().clamp(max=H - 0)


# %% equivalent="one_pixel_attack" reason="SciPy draws from below the upper bound, and never the bound itself"
# - rows = candidates[:, 0].long().clamp(max=H - 1)
# + rows = candidates[:, 0].long()


# %% equivalent="one_pixel_attack" reason="SciPy draws from below the upper bound, and never the bound itself"
# - columns = candidates[:, 1].long().clamp(max=W - 1)
# + columns = candidates[:, 1].long().clamp(max=W)


# %% equivalent="one_pixel_attack" reason="SciPy draws from below the upper bound, and never the bound itself"
# - columns = candidates[:, 1].long().clamp(max=W - 1)
# + columns = candidates[:, 1].long().clamp(max=W + 1)


# %% equivalent="one_pixel_attack" reason="SciPy draws from below the upper bound, and never the bound itself"
# - columns = candidates[:, 1].long().clamp(max=W - 1)
# + columns = candidates[:, 1].long().clamp(max=W - 0)


# %% equivalent="one_pixel_attack" reason="SciPy draws from below the upper bound, and never the bound itself"
# - columns = candidates[:, 1].long().clamp(max=W - 1)
# + columns = candidates[:, 1].long()
