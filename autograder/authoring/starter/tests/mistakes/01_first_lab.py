# %% [markdown]
# What students write for lab 01, wrong and right; `autograder rehearse 01` grades each.

# %% mistake="instance_norm" named="the mean is not subtracted"
def instance_norm(x, eps=1e-5):
    return x / np.sqrt(x.var(axis=(2, 3), keepdims=True) + eps)


# %% mistake="instance_norm" named="divided by the variance"
def instance_norm(x, eps=1e-5):
    mean, variance = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    return (x - mean) / (variance + eps)


# %% mistake="instance_norm" named="eps is added to the root"
def instance_norm(x, eps=1e-5):
    mean, deviation = x.mean((2, 3), keepdims=True), x.std((2, 3), keepdims=True)
    return (x - mean) / (deviation + eps)


# %% mistake="instance_norm" named="eps is left out"
def instance_norm(x, eps=1e-5):
    return (x - x.mean((2, 3), keepdims=True)) / x.std((2, 3), keepdims=True)


# %% mistake="instance_norm" named="HW − 1"
def instance_norm(x, eps=1e-5):
    mean, variance = x.mean((2, 3), keepdims=True), x.var((2, 3), ddof=1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps)


# %% mistake="instance_norm" named="all channels share one mean"
def instance_norm(x, eps=1e-5):
    mean, variance = x.mean((1, 2, 3), keepdims=True), x.var((1, 2, 3), keepdims=True)
    return (x - mean) / np.sqrt(variance + eps)


# %% mistake="instance_norm" named="over the channels, not over the places"
def instance_norm(x, eps=1e-5):
    mean, variance = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps)


# %% mistake="instance_norm" named="as in batch normalisation"
def instance_norm(x, eps=1e-5):
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    return (x - mean) / np.sqrt(variance + eps)


# %% mistake="instance_norm" named="the variance of the first"
def instance_norm(x, eps=1e-5):
    mean, variance = x[0].mean((1, 2)), x[0].var((1, 2))
    return (x - mean[:, None, None]) / np.sqrt(variance[:, None, None] + eps)


# %% mistake="instance_norm" named="eps is always 1e-5"
def instance_norm(x, eps=1e-5):
    mean, variance = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5)


# %% mistake="instance_norm" named="modified in place"
def instance_norm(x, eps=1e-5):
    x -= x.mean((2, 3), keepdims=True)
    return x / np.sqrt((x**2).mean((2, 3), keepdims=True) + eps)


# %% correct="instance_norm"
def instance_norm(x, eps=1e-5):
    centred = x - x.mean((2, 3), keepdims=True)
    return centred * ((centred**2).mean((2, 3), keepdims=True) + eps) ** -0.5


# %% correct="instance_norm"
def instance_norm(x, eps=1e-5):
    y = np.empty_like(x)
    for n, image in enumerate(x):
        for c, channel in enumerate(image):
            y[n, c] = (channel - np.mean(channel)) / np.sqrt(np.var(channel) + eps)
    return y


# %% correct="instance_norm"
def instance_norm(x, eps=1e-5):
    N, C, H, W = x.shape
    rows = x.reshape(N * C, H * W)
    variance = np.einsum("ij,ij->i", rows, rows) / (H * W) - rows.mean(1) ** 2
    return ((rows - rows.mean(1)[:, None]) / np.sqrt(variance[:, None] + eps)).reshape(x.shape)


# %% equivalent="instance_norm" reason="a mean over both axes doesn't mind their order"
# - mean = x.mean(axis=(2, 3), keepdims=True)
# + mean = x.mean(axis=(3, 2), keepdims=True)

# %% equivalent="instance_norm" reason="a mean over both axes doesn't mind their order"
# - variance = x.var(axis=(2, 3), keepdims=True)
# + variance = x.var(axis=(3, 2), keepdims=True)
