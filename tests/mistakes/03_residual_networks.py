# %% [markdown]
# What students write in lab 03: mistakes that must lose points and be named, and answers that look
# different from ours and are right.

# %% mistake="residual_forward" named="there is no skip"
def residual_forward(x, w1, b1, w2, b2):
    h = np.maximum(0, x @ w1 + b1)
    out = np.maximum(0, h @ w2 + b2)
    return out, (x, w1, w2, h, out)


# %% mistake="residual_forward" named="x is added after the last ReLU"
def residual_forward(x, w1, b1, w2, b2):
    h = np.maximum(0, x @ w1 + b1)
    out = np.maximum(0, h @ w2 + b2) + x
    return out, (x, w1, w2, h, out)


# %% mistake="residual_forward" named="the last ReLU is missing"
def residual_forward(x, w1, b1, w2, b2):
    h = np.maximum(0, x @ w1 + b1)
    out = x + h @ w2 + b2
    return out, (x, w1, w2, h, out)


# %% mistake="residual_forward" named="the first ReLU is missing"
def residual_forward(x, w1, b1, w2, b2):
    h = x @ w1 + b1
    out = np.maximum(0, x + h @ w2 + b2)
    return out, (x, w1, w2, h, out)


# %% mistake="residual_forward" named="the second bias is missing"
def residual_forward(x, w1, b1, w2, b2):
    h = np.maximum(0, x @ w1 + b1)
    out = np.maximum(0, x + h @ w2)
    return out, (x, w1, w2, h, out)


# %% mistake="residual_forward" named="h is taken before its ReLU"
def residual_forward(x, w1, b1, w2, b2):
    h = x @ w1 + b1
    out = np.maximum(0, x + np.maximum(0, h) @ w2 + b2)
    return out, (x, w1, w2, h, out)


# %% mistake="residual_forward" named="out is taken before its ReLU"
def residual_forward(x, w1, b1, w2, b2):
    h = np.maximum(0, x @ w1 + b1)
    out = x + h @ w2 + b2
    cache = (x, w1, w2, h, out)
    return np.maximum(0, out), cache


# %% mistake="residual_forward" named="was modified in place"
def residual_forward(x, w1, b1, w2, b2):
    before = x.copy()
    h = np.maximum(0, x @ w1 + b1)
    x += h @ w2 + b2
    out = np.maximum(0, x)
    return out, (before, w1, w2, h, out)


# %% mistake="residual_forward" named="expected the tuple (out, cache)"
def residual_forward(x, w1, b1, w2, b2):
    h = np.maximum(0, x @ w1 + b1)
    return np.maximum(0, x + h @ w2 + b2)


# %% correct="residual_forward"
def residual_forward(x, w1, b1, w2, b2):
    N, D = x.shape
    H = w1.shape[1]
    h, out = np.zeros((N, H)), np.zeros((N, D))
    for n in range(N):
        for j in range(H):
            h[n, j] = max(0, sum(x[n, d] * w1[d, j] for d in range(D)) + b1[j])
        for d in range(D):
            out[n, d] = max(0, x[n, d] + sum(h[n, j] * w2[j, d] for j in range(H)) + b2[d])
    return out, (x, w1, w2, h, out)


# %% correct="residual_forward"
def residual_forward(x, w1, b1, w2, b2):
    h = np.einsum("nd,dh->nh", x, w1) + b1
    h *= h > 0
    total = h.dot(w2) + b2
    total += x
    out = np.where(total > 0, total, 0)
    print(out.shape)
    return [out, [x.copy(), w1, w2, h, out.copy()]]


# %% correct="residual_forward"
def residual_forward(x, w1, b1, w2, b2):
    relu = lambda a: (a + np.abs(a)) / 2
    h = relu(b1 + np.dot(x, w1))
    identity = np.eye(x.shape[1])
    stacked = np.concatenate([h, x], axis=1) @ np.concatenate([w2, identity])
    out = relu(b2 + stacked)
    return (out, (x, w1, w2, h, out))


# %% mistake="residual_forward" named="the branch goes through a ReLU before the sum"
def residual_forward(x, w1, b1, w2, b2):
    h = np.maximum(0, x @ w1 + b1)
    branch = np.maximum(0, h @ w2 + b2)
    out = np.maximum(0, x + branch)
    return out, (x, w1, w2, h, out)


# %% mistake="residual_backward" named="the skip is missing"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    dsum = dout * (out > 0)
    dh = dsum @ w2.T * (h > 0)
    return dh @ w1.T, x.T @ dh, dh.sum(0), h.T @ dsum, dsum.sum(0)


# %% mistake="residual_backward" named="the skip hands on dout as it is"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    dsum = dout * (out > 0)
    dh = dsum @ w2.T * (h > 0)
    return dout + dh @ w1.T, x.T @ dh, dh.sum(0), h.T @ dsum, dsum.sum(0)


# %% mistake="residual_backward" named="the mask of the last ReLU is missing"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    dh = dout @ w2.T * (h > 0)
    return dout + dh @ w1.T, x.T @ dh, dh.sum(0), h.T @ dout, dout.sum(0)


# %% mistake="residual_backward" named="passes the first ReLU everywhere"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    dsum = dout * (out > 0)
    dh = dsum @ w2.T
    return dsum + dh @ w1.T, x.T @ dh, dh.sum(0), h.T @ dsum, dsum.sum(0)


# %% mistake="residual_backward" named="both ReLUs are passed everywhere"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    dh = dout @ w2.T
    return dout + dh @ w1.T, x.T @ dh, dh.sum(0), h.T @ dout, dout.sum(0)


# %% mistake="residual_backward" named="the mean over the batch is taken"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    N = len(x)
    dsum = dout * (out > 0)
    dh = dsum @ w2.T * (h > 0)
    return dsum + dh @ w1.T, x.T @ dh / N, dh.mean(0), h.T @ dsum / N, dsum.mean(0)


# %% mistake="residual_backward" named="only the skip is there"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    dsum = dout * (out > 0)
    dh = dsum @ w2.T * (h > 0)
    return dsum, x.T @ dh, dh.sum(0), h.T @ dsum, dsum.sum(0)


# %% mistake="residual_backward" named="was modified in place"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    dout[out <= 0] = 0
    dh = dout @ w2.T
    dh[h <= 0] = 0
    return dout + dh @ w1.T, x.T @ dh, dh.sum(0), h.T @ dout, dout.sum(0)


# %% mistake="residual_backward" named="axes 0 and 1 are swapped"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    dsum = dout * (out > 0)
    dh = dsum @ w2.T * (h > 0)
    return dsum + dh @ w1.T, dh.T @ x, dh.sum(0), dsum.T @ h, dsum.sum(0)


# %% correct="residual_backward"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    dx = np.zeros_like(x)
    dw1, db1 = np.zeros_like(w1), np.zeros(w1.shape[1])
    dw2, db2 = np.zeros_like(w2), np.zeros(w2.shape[1])
    for n in range(len(x)):
        dsum = np.where(out[n] > 0, dout[n], 0)
        dh = np.where(h[n] > 0, w2 @ dsum, 0)
        dx[n] += dsum
        dx[n] += w1 @ dh
        dw1 += np.outer(x[n], dh)
        dw2 += np.outer(h[n], dsum)
        db1 += dh
        db2 += dsum
    return dx, dw1, db1, dw2, db2


# %% correct="residual_backward"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    d_out = dout.copy()
    d_out[out == 0] = 0
    d_h = d_out.dot(w2.transpose())
    d_h[h == 0] = 0
    print("dx", d_h.shape)
    return [
        d_h.dot(w1.T) + d_out,
        np.einsum("nd,nh->dh", x, d_h),
        np.ones(len(x)) @ d_h,
        np.einsum("nh,nd->hd", h, d_out),
        np.sum(d_out, axis=0),
    ]


# %% correct="residual_backward"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    upstream = np.where(out > 0, dout, 0.0)
    hidden = np.sign(h) * (w2 @ upstream.T).T
    dx = upstream.copy()
    dx += np.dot(w1, hidden.T).T
    return dx, (hidden.T @ x).T, hidden.sum(axis=0), (upstream.T @ h).T, upstream.sum(axis=0)


# %% mistake="residual_backward" named="calls `torch"
def residual_backward(dout, cache):
    x, w1, w2, h, out = (torch.tensor(value) for value in cache)
    b1, b2 = torch.zeros(w1.shape[1]).double(), torch.zeros(w2.shape[1]).double()
    variables = [value.requires_grad_() for value in (x, w1, b1, w2, b2)]
    before = x @ w1 + b1
    hidden = (before - before.detach() + h) * (h > 0)
    value = (x + hidden @ w2 + b2) * (out > 0)
    gradients = torch.autograd.grad(value, variables, torch.tensor(dout))
    return tuple(gradient.numpy() for gradient in gradients)


# %% mistake="residual_backward" named="the two ways are multiplied"
def residual_backward(dout, cache):
    x, w1, w2, h, out = cache
    dsum = dout * (out > 0)
    dh = dsum @ w2.T * (h > 0)
    return dsum * (dh @ w1.T), x.T @ dh, dh.sum(0), h.T @ dsum, dsum.sum(0)


# %% mistake="ResidualBlock" named="the shortcut isn't added: this is a plain block"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        self.shortcut(x)
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)))


# %% mistake="ResidualBlock" named="the shortcut is added after the last ReLU"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        return super().forward(x) + self.shortcut(x)


# %% mistake="ResidualBlock" named="the last ReLU is missing"
class ResidualBlock(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(out)) + self.shortcut(x)


# %% mistake="ResidualBlock" named="the ReLU between the convolutions is missing"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        out = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        return F.relu(out + self.shortcut(x))


# %% mistake="ResidualBlock" named="the branch goes through a ReLU before the sum"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        return F.relu(super().forward(x) + self.shortcut(x))


# %% mistake="ResidualBlock" named="there is a projection where x fits already"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


# %% mistake="ResidualBlock" named="expected 3 BatchNorms, one after each convolution, got 2"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


# %% mistake="ResidualBlock" named="expected two 3 × 3 convolutions, got 3"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


# %% mistake="ResidualBlock" named="the shortcut must be a 1 × 1 convolution with BatchNorm; none was made"
class ResidualBlock(PlainBlock):
    # Option A of the paper: fewer places, and zeros for the new channels.
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.stride = stride
        self.more = out_channels - in_channels

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(self.bn2(self.conv2(out)) + shortcut)


# %% mistake="ResidualBlock" named="with BatchNorm; none was made"
class ResidualBlock(PlainBlock):
    # A projection for other channels, but none where only the size changes.
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


# %% mistake="ResidualBlock" named="convolutions have no bias here"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


# %% mistake="ResidualBlock" named="the shortcut goes through a ReLU of its own"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + (x if self.shortcut is None else self.shortcut(x)))


# %% mistake="ResidualBlock" named="one BatchNorm serves twice"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn1(self.conv2(out)) + self.shortcut(x))


# %% mistake="ResidualBlock" named="the first convolution has the stride, not the second"
class ResidualBlock(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


# %% mistake="ResidualBlock" named="BatchNorm and ReLU come before the convolutions"
class ResidualBlock(PlainBlock):
    # "Pre-activation", the authors' second version.
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        out = self.conv1(F.relu(self.bn1(x)))
        return self.conv2(F.relu(self.bn2(out))) + self.shortcut(x)


# %% mistake="ResidualBlock" named="the input x is modified in place"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        x = self.shortcut(x)
        x += out
        return F.relu(x)


# %% mistake="ResidualBlock" named="is it detached?"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        identity = x.clone().detach()
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(identity))


# %% mistake="ResidualBlock" named="there is a projection where x fits already"
class ResidualBlock(PlainBlock):
    # The projection is always there, and used only where it is needed.
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.project = stride != 1 or in_channels != out_channels
        self.shortcut_conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        self.shortcut_bn = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + (self.shortcut_bn(self.shortcut_conv(x)) if self.project else x))


# %% mistake="ResidualBlock" named="those made in forward are new at every call"
class ResidualBlock(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.layers = [
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False).double(),
            nn.BatchNorm2d(out_channels).double(),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False).double(),
            nn.BatchNorm2d(out_channels).double(),
        ]

    def forward(self, x):
        out = x
        for layer in self.layers:
            out = layer(out)
        return F.relu(out + x if out.shape == x.shape else out)


# %% mistake="ResidualBlock" named="is a `return` missing?"
class ResidualBlock(PlainBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


# %% correct="ResidualBlock"
class ResidualBlock(nn.Module):
    # Other names, another order, in-place ReLUs, one ReLU used twice.
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        self.second_norm = nn.BatchNorm2d(out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(out_channels)
        self.first = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.first_norm(self.first(x)))
        out = self.second_norm(self.second(out))
        out += identity
        return self.relu(out)


# %% correct="ResidualBlock"
class ResidualBlock(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.fits = stride == 1 and in_channels == out_channels
        if not self.fits:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, (1, 1), stride, bias=False)
            self.bn_shortcut = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        print("block", x.shape)
        y = self.branch(x)
        y = y + x if self.fits else y + self.bn_shortcut(self.conv_shortcut(x))
        return torch.clamp(y, min=0)


# %% mistake="ResidualBlock" named="is made of torchvision's BasicBlock"
class ResidualBlock(torch.nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        from torchvision.models.resnet import BasicBlock

        projection = None
        if stride > 1 or in_channels != out_channels:
            projection = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        self.block = BasicBlock(in_channels, out_channels, stride, projection)

    def forward(self, x):
        return self.block(x)


# %% correct="ResidualBlock"
class ResidualBlock(PlainBlock):
    # The projection in a list that is empty where none is needed.
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.projection = nn.ModuleList()
        if (in_channels, stride) != (out_channels, 1):
            self.projection.append(nn.BatchNorm2d(out_channels))
            kernel = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            kernel.stride = (stride, stride)
            self.projection.append(kernel)

    def forward(self, x):
        y = x
        for layer in reversed(self.projection):
            y = layer(y)
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).clamp(min=0))) + y
        return torch.where(y > 0, y, torch.zeros_like(y))


# %% mistake="gradient_norms" named="in the order in which the modules run"
def gradient_norms(X, y, model, names):
    outputs = []

    def hook(module, inputs, output):
        output.retain_grad()
        outputs.append(output)

    handles = [model.get_submodule(name).register_forward_hook(hook) for name in names]
    F.cross_entropy(model(X), y).backward()
    for handle in handles:
        handle.remove()
    return torch.stack([output.grad.norm() for output in outputs])


# %% mistake="gradient_norms" named="in the order of the way back"
def gradient_norms(X, y, model, names):
    norms = []
    handles = [
        model.get_submodule(name).register_full_backward_hook(
            lambda module, dx, dout: norms.append(dout[0].norm())
        )
        for name in names
    ]
    F.cross_entropy(model(X), y).backward()
    for handle in handles:
        handle.remove()
    return torch.stack(norms)


# %% mistake="gradient_norms" named="KeyError"
def gradient_norms(X, y, model, names):
    outputs, handles = {}, []
    for name in names:
        handles.append(
            model.get_submodule(name).register_forward_hook(
                lambda module, inputs, output: outputs.update({name: output})
            )
        )
    loss = F.cross_entropy(model(X), y)
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(loss, [outputs[key] for key in names])
    return torch.stack([gradient.norm() for gradient in gradients])


# %% mistake="gradient_norms" named="it is the gradient for the module's parameters"
def gradient_norms(X, y, model, names):
    model.zero_grad()
    F.cross_entropy(model(X), y).backward()
    norms = []
    for name in names:
        gradients = [p.grad.flatten() for p in model.get_submodule(name).parameters()]
        norms.append(torch.cat(gradients).norm() if gradients else torch.tensor(0.0))
    return torch.stack(norms)


# %% mistake="gradient_norms" named="the loss is the sum over the batch"
def gradient_norms(X, y, model, names):
    outputs = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
        for name in names
    ]
    loss = F.cross_entropy(model(X), y, reduction="sum")
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(loss, [outputs[name] for name in names])
    return torch.stack([gradient.norm() for gradient in gradients])


# %% mistake="gradient_norms" named="the score of each image's class is differentiated"
def gradient_norms(X, y, model, names):
    outputs = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
        for name in names
    ]
    score = model(X)[torch.arange(len(y)), y].sum()
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(score, [outputs[name] for name in names])
    return torch.stack([gradient.norm() for gradient in gradients])


# %% mistake="gradient_norms" named="the square root is missing"
def gradient_norms(X, y, model, names):
    outputs = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
        for name in names
    ]
    loss = F.cross_entropy(model(X), y)
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(loss, [outputs[name] for name in names])
    return torch.stack([(gradient**2).sum() for gradient in gradients])


# %% mistake="gradient_norms" named="the norm is over the whole batch"
def gradient_norms(X, y, model, names):
    outputs = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
        for name in names
    ]
    loss = F.cross_entropy(model(X), y)
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(loss, [outputs[name] for name in names])
    return torch.stack([gradient.flatten(1).norm(dim=1).mean() for gradient in gradients])


# %% mistake="gradient_norms" named="was left with other hooks"
def gradient_norms(X, y, model, names):
    outputs = {}
    for name in names:
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
    loss = F.cross_entropy(model(X), y)
    gradients = torch.autograd.grad(loss, [outputs[name] for name in names])
    return torch.stack([gradient.norm() for gradient in gradients])


# %% mistake="gradient_norms" named="the model runs in eval mode"
def gradient_norms(X, y, model, names):
    model = copy.deepcopy(model).eval()
    outputs = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
        for name in names
    ]
    loss = F.cross_entropy(model(X), y)
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(loss, [outputs[name] for name in names])
    return torch.stack([gradient.norm() for gradient in gradients])


# %% mistake="gradient_norms" named="the norm of the output itself"
def gradient_norms(X, y, model, names):
    outputs = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
        for name in names
    ]
    F.cross_entropy(model(X), y).backward()
    for handle in handles:
        handle.remove()
    return torch.stack([outputs[name].detach().norm() for name in names])


# %% mistake="gradient_norms" named="expected a torch tensor, got a list"
def gradient_norms(X, y, model, names):
    outputs = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
        for name in names
    ]
    loss = F.cross_entropy(model(X), y)
    for handle in handles:
        handle.remove()
    return [
        torch.autograd.grad(loss, outputs[n], retain_graph=True)[0].norm().item() for n in names
    ]


# %% mistake="gradient_norms" named="remove yours, and only yours"
def gradient_norms(X, y, model, names):
    outputs = {}
    for name in names:
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
    loss = F.cross_entropy(model(X), y)
    for module in model.modules():
        module._forward_hooks.clear()
    gradients = torch.autograd.grad(loss, [outputs[name] for name in names])
    return torch.stack([gradient.norm() for gradient in gradients])


# %% mistake="gradient_norms" named="was left in another mode"
def gradient_norms(X, y, model, names):
    outputs = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
        for name in names
    ]
    model.train(model.training)  # for all of its modules, whatever their own mode was
    loss = F.cross_entropy(model(X), y)
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(loss, [outputs[name] for name in names])
    return torch.stack([gradient.norm() for gradient in gradients])


# %% correct="gradient_norms"
def gradient_norms(X, y, model, names):
    found = {}

    def make_hook(name):
        def hook(module, grad_input, grad_output):
            found[name] = grad_output[0].detach().clone()

        return hook

    modules = dict(model.named_modules())
    handles = [modules[name].register_full_backward_hook(make_hook(name)) for name in names]
    try:
        loss = nn.CrossEntropyLoss()(model(X), y)
        print(loss.item())
        loss.backward()
    finally:
        for handle in handles:
            handle.remove()
    return torch.tensor([found[name].pow(2).sum().sqrt().item() for name in names])


# %% correct="gradient_norms"
def gradient_norms(X, y, model, names):
    model.zero_grad()
    outputs, handles = {}, []
    for name in names:

        def hook(module, inputs, output, name=name):
            output.retain_grad()
            outputs[name] = output

        handles.append(model.get_submodule(name).register_forward_hook(hook))
    log_probabilities = model(X).log_softmax(1)
    loss = -log_probabilities[torch.arange(len(y)), y].mean()
    loss.backward()
    for handle in handles:
        handle.remove()
    return torch.stack([outputs[name].grad.view(-1).norm() for name in names])


# %% correct="gradient_norms"
def gradient_norms(X, y, model, names):
    # One pass for each name, on a copy.
    norms = torch.zeros(len(names), dtype=X.dtype)
    for place, name in enumerate(names):
        copied = copy.deepcopy(model)
        kept = []
        copied.get_submodule(name).register_forward_hook(lambda m, i, o, kept=kept: kept.append(o))
        loss = F.cross_entropy(copied(X.clone().requires_grad_()), y)
        norms[place] = torch.norm(torch.autograd.grad(loss, kept[0])[0])
    return norms


# %% mistake="path_contributions" named="c[k] needs the c[k − 1] from before the block"
def path_contributions(x, weights):
    c = np.zeros((len(weights) + 1,) + x.shape)
    c[0] = x
    for w in weights:
        for k in range(1, len(weights) + 1):
            c[k] += c[k - 1] @ w
    return c


# %% mistake="path_contributions" named="only the path through the first k branches"
def path_contributions(x, weights):
    c = [x]
    for w in weights:
        c.append(c[-1] @ w)
    return np.array(c)


# %% mistake="path_contributions" named="c[k] is the signal after k blocks"
def path_contributions(x, weights):
    c = [x]
    for w in weights:
        c.append(c[-1] + c[-1] @ w)
    return np.array(c)


# %% mistake="path_contributions" named="what block k adds to the signal"
def path_contributions(x, weights):
    c, signal = [x], x
    for w in weights:
        c.append(signal @ w)
        signal = signal + c[-1]
    return np.array(c)


# %% mistake="path_contributions" named="the weights are transposed"
def path_contributions(x, weights):
    c = np.zeros((len(weights) + 1,) + x.shape)
    c[0] = x
    for w in weights:
        c[1:] += (w @ c[:-1].swapaxes(1, 2)).swapaxes(1, 2)
    return c


# %% mistake="path_contributions" named="the mean over the paths is taken"
def path_contributions(x, weights):
    from itertools import combinations

    L = len(weights)
    c = np.zeros((L + 1,) + x.shape)
    for k in range(min(L, 8) + 1):
        paths = []
        for chosen in combinations(weights[:8], k):
            value = x
            for w in chosen:
                value = value @ w
            paths.append(value)
        c[k] = np.mean(paths, axis=0)
    return c


# %% mistake="path_contributions" named="the path through the branch is missing"
def path_contributions(x, weights):
    c = np.zeros((len(weights) + 1,) + x.shape)
    c[0] = x
    for w in weights:
        c[1:] += c[:-1] @ w
    return c[: len(weights)]


# %% mistake="path_contributions" named="the blocks are taken from the last to the first"
def path_contributions(x, weights):
    c = np.zeros((len(weights) + 1,) + x.shape)
    c[0] = x
    for w in weights[::-1]:
        c[1:] += c[:-1] @ w
    return c


# %% mistake="path_contributions" named="only the output is returned"
def path_contributions(x, weights):
    for w in weights:
        x = x + x @ w
    return x


# %% correct="path_contributions"
def path_contributions(x, weights):
    c = [x.copy()] + [np.zeros_like(x) for _ in weights]
    for w in weights:
        for k in reversed(range(1, len(c))):
            c[k] = c[k] + np.dot(c[k - 1], w)
    return np.stack(c)


# %% correct="path_contributions"
def path_contributions(x, weights):
    paths = {0: x}
    for w in weights:
        following = {}
        for length, value in paths.items():
            following[length] = following.get(length, 0) + value
            following[length + 1] = following.get(length + 1, 0) + value @ w
        paths = following
    print(len(paths))
    return np.array([paths[length] for length in sorted(paths)])


# %% correct="path_contributions"
def path_contributions(x, weights):
    # The paths without the last block, and those through it, by recursion.
    if len(weights) == 0:
        return x[None]
    before = path_contributions(x, weights[:-1])
    zero = np.zeros((1,) + x.shape)
    straight = np.concatenate([before, zero])
    through = np.concatenate([zero, before @ weights[-1]])
    return straight + through


# %% mistake="zero_init_last_norm" named="β (`bias`) is set to 0, not γ"
def zero_init_last_norm(model):
    for module in model.modules():
        if hasattr(module, "bn3"):
            nn.init.zeros_(module.bn3.bias)
        elif hasattr(module, "bn2"):
            nn.init.zeros_(module.bn2.bias)


# %% mistake="zero_init_last_norm" named="both γ and β are set to 0"
def zero_init_last_norm(model):
    for module in model.modules():
        if hasattr(module, "bn2"):
            last = getattr(module, "bn3", module.bn2)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


# %% mistake="zero_init_last_norm" named="all BatchNorms are set to 0"
def zero_init_last_norm(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.weight)


# %% mistake="zero_init_last_norm" named="a Bottleneck's last BatchNorm is bn3"
def zero_init_last_norm(model):
    for module in model.modules():
        if hasattr(module, "bn2"):
            module.bn2.weight.data.zero_()


# %% mistake="zero_init_last_norm" named="but bn3 alone is its last"
def zero_init_last_norm(model):
    for module in model.modules():
        for name in ("bn2", "bn3"):
            if hasattr(module, name):
                getattr(module, name).weight.data.zero_()


# %% mistake="zero_init_last_norm" named="which may be the shortcut's"
def zero_init_last_norm(model):
    for block in model.modules():
        if hasattr(block, "bn2"):
            norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
            nn.init.zeros_(norms[-1].weight)


# %% mistake="zero_init_last_norm" named="no block is found"
def zero_init_last_norm(model):
    for block in model.children():
        if hasattr(block, "bn2"):
            last = block.bn3 if hasattr(block, "bn3") else block.bn2
            nn.init.zeros_(last.weight)


# %% mistake="zero_init_last_norm" named="or aren't torchvision's"
def zero_init_last_norm(model):
    for module in model.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)


# %% mistake="zero_init_last_norm" named="the last convolution's weights are set to 0"
def zero_init_last_norm(model):
    for block in model.modules():
        if hasattr(block, "bn2"):
            last = block.conv3 if hasattr(block, "conv3") else block.conv2
            nn.init.zeros_(last.weight)


# %% mistake="zero_init_last_norm" named="another requires_grad"
def zero_init_last_norm(model):
    for block in model.modules():
        if hasattr(block, "bn2"):
            last = block.bn3 if hasattr(block, "bn3") else block.bn2
            last.weight.requires_grad_(False)
            last.weight.zero_()


# %% mistake="zero_init_last_norm" named="was given other parameters"
def zero_init_last_norm(model):
    for block in model.modules():
        if hasattr(block, "bn2"):
            last = block.bn3 if hasattr(block, "bn3") else block.bn2
            last.weight = nn.Parameter(torch.zeros_like(last.weight))


# %% mistake="zero_init_last_norm" named="γ is changed, but isn't 0"
def zero_init_last_norm(model):
    for block in model.modules():
        if hasattr(block, "bn2"):
            last = block.bn3 if hasattr(block, "bn3") else block.bn2
            nn.init.ones_(last.weight)


# %% correct="zero_init_last_norm"
def zero_init_last_norm(model):
    modules = dict(model.named_modules())
    for name, block in modules.items():
        if "bn2" in dict(block.named_children()):
            print(name)
            last = "bn3" if "bn3" in dict(block.named_children()) else "bn2"
            with torch.no_grad():
                getattr(block, last).weight.fill_(0)


# %% correct="zero_init_last_norm"
def zero_init_last_norm(model):
    if hasattr(model, "bn2"):
        last = getattr(model, "bn3", model.bn2)
        last.weight.data *= 0
    for child in model.children():
        zero_init_last_norm(child)


# %% correct="zero_init_last_norm"
@torch.no_grad()
def zero_init_last_norm(model):
    for module in model.modules():
        if hasattr(module, "bn3"):
            module.bn3.weight[:] = 0
        elif hasattr(module, "bn2"):
            module.bn2.weight.data = torch.zeros_like(module.bn2.weight)
    return model


# %% mistake="remove_blocks" named="was given other submodules: work on a deep copy"
def remove_blocks(model, names):
    for name in names:
        model.set_submodule(name, nn.Identity())
    return model


# %% mistake="remove_blocks" named="was given other submodules: work on a deep copy"
def remove_blocks(model, names):
    copied = copy.copy(model)
    for name in names:
        parent, _, own = name.rpartition(".")
        copied.get_submodule(parent)._modules[own] = nn.Identity()
    return copied


# %% mistake="remove_blocks" named="nothing is taken out"
def remove_blocks(model, names):
    copied = copy.deepcopy(model)
    for name, child in copied.named_children():
        if name in names:
            setattr(copied, name, nn.Identity())
    return copied


# %% mistake="remove_blocks" named="only the last block of names is taken out"
def remove_blocks(model, names):
    for name in names:
        copied = copy.deepcopy(model)
        copied.set_submodule(name, nn.Identity())
    return copied if names else copy.deepcopy(model)


# %% mistake="remove_blocks" named="blocks move up when one is deleted"
def remove_blocks(model, names):
    copied = copy.deepcopy(model)
    for name in names:
        parent, _, own = name.rpartition(".")
        if own.isdigit():
            del copied.get_submodule(parent)[int(own)]
        else:
            copied.set_submodule(name, nn.Identity())
    return copied


# %% mistake="remove_blocks" named="the block's weights are set to 0"
def remove_blocks(model, names):
    copied = copy.deepcopy(model)
    for name in names:
        for parameter in copied.get_submodule(name).parameters():
            nn.init.zeros_(parameter)
    return copied


# %% mistake="remove_blocks" named="the others are taken out"
def remove_blocks(model, names):
    copied = copy.deepcopy(model)
    for name, module in list(copied.named_modules()):
        if isinstance(module, PlainBlock) and name not in names:
            copied.set_submodule(name, nn.Identity())
    return copied


# %% mistake="remove_blocks" named="the copy runs in training mode"
def remove_blocks(model, names):
    copied = copy.deepcopy(model)
    for name in names:
        copied.set_submodule(name, nn.Identity())
    return copied.train()


# %% mistake="remove_blocks" named="is a `return` missing?"
def remove_blocks(model, names):
    copied = copy.deepcopy(model)
    for name in names:
        copied.set_submodule(name, nn.Identity())


# %% mistake="remove_blocks" named="KeyError"
def remove_blocks(model, names):
    # From the last, so that no name moves before its turn; but not every block is in a list.
    copied = copy.deepcopy(model)
    for name in sorted(names, reverse=True):
        parent, _, own = name.rpartition(".")
        place = list(copied.get_submodule(parent)._modules).index(own)
        copied.get_submodule(parent).__delitem__(place)
    return copied


# %% mistake="remove_blocks" named="blocks deeper inside the model are left in"
def remove_blocks(model, names):
    copied = copy.deepcopy(model)
    for part, stage in copied.named_children():
        for number, _ in list(stage.named_children()):
            if f"{part}.{number}" in names:
                setattr(stage, number, nn.Identity())
    return copied


# %% correct="remove_blocks"
def remove_blocks(model, names):
    copied = copy.deepcopy(model)
    for name in names:
        copied.get_submodule(name).forward = lambda x: x
    return copied


# %% correct="remove_blocks"
def remove_blocks(model, names):
    new = copy.deepcopy(model)
    for name in sorted(names):
        *path, last = name.split(".")
        parent = new
        for part in path:
            parent = getattr(parent, part)
        print(name, type(getattr(parent, last)).__name__)
        setattr(parent, last, nn.Sequential())
    return new


# %% correct="remove_blocks"
class Skipped(nn.Module):
    def forward(self, x):
        return x


def remove_blocks(model, names):
    new = copy.deepcopy(model)
    for name in sorted(names, reverse=True):
        parent, _, own = name.rpartition(".")
        new.get_submodule(parent)._modules[own] = Skipped()
    return new


# %% mistake="make_resnet" named="the stem has no max pooling"
def make_resnet(block, blocks_per_stage, classes, width=64):
    stem = OrderedDict(conv1=nn.Conv2d(3, width, 7, 2, 3, bias=False), bn1=nn.BatchNorm2d(width))
    network = nn.Sequential(stem)
    network.relu = nn.ReLU()
    inputs = width
    for number, count in enumerate(blocks_per_stage):
        channels, stride = width * 2**number, 1 + (number > 0)
        stage = [block(inputs, channels, stride)]
        stage += [block(channels, channels) for _ in range(1, count)]
        network.add_module(f"layer{number + 1}", nn.Sequential(*stage))
        inputs = channels
    network.avgpool = nn.AdaptiveAvgPool2d(1)
    network.flatten = nn.Flatten()
    network.fc = nn.Linear(inputs, classes)
    return network


# %% mistake="make_resnet" named="the stem's ReLU is missing"
def make_resnet(block, blocks_per_stage, classes, width=64):
    parts = OrderedDict()
    parts["conv1"] = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    parts["bn1"] = nn.BatchNorm2d(width)
    parts["maxpool"] = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
    inputs, channels = width, width
    for number, count in enumerate(blocks_per_stage, start=1):
        stage = nn.Sequential(block(inputs, channels, 1 if number == 1 else 2))
        for _ in range(count - 1):
            stage.append(block(channels, channels))
        parts[f"layer{number}"] = stage
        inputs, channels = channels, 2 * channels
    parts["avgpool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(parts)


# %% mistake="make_resnet" named="the stem's max pooling has no padding"
def make_resnet(block, blocks_per_stage, classes, width=64):
    parts = OrderedDict()
    parts["conv1"] = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    parts["bn1"] = nn.BatchNorm2d(width)
    parts["relu"] = nn.ReLU(inplace=True)
    parts["maxpool"] = nn.MaxPool2d(3, 2)
    inputs, channels = width, width
    for number, count in enumerate(blocks_per_stage, start=1):
        stage = nn.Sequential(block(inputs, channels, 1 if number == 1 else 2))
        for _ in range(count - 1):
            stage.append(block(channels, channels))
        parts[f"layer{number}"] = stage
        inputs, channels = channels, 2 * channels
    parts["avgpool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(parts)


# %% mistake="make_resnet" named="layer1 halves the size as well"
def make_resnet(block, blocks_per_stage, classes, width=64):
    parts = OrderedDict()
    parts["conv1"] = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    parts["bn1"] = nn.BatchNorm2d(width)
    parts["relu"] = nn.ReLU()
    parts["maxpool"] = nn.MaxPool2d(3, 2, 1)
    inputs, channels = width, width
    for number, count in enumerate(blocks_per_stage, start=1):
        stage = nn.Sequential(block(inputs, channels, 2))
        for _ in range(count - 1):
            stage.append(block(channels, channels))
        parts[f"layer{number}"] = stage
        inputs, channels = channels, 2 * channels
    parts["avgpool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(parts)


# %% mistake="make_resnet" named="no stage halves the size"
def make_resnet(block, blocks_per_stage, classes, width=64):
    parts = OrderedDict()
    parts["conv1"] = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    parts["bn1"] = nn.BatchNorm2d(width)
    parts["relu"] = nn.ReLU()
    parts["maxpool"] = nn.MaxPool2d(3, 2, 1)
    inputs, channels = width, width
    for number, count in enumerate(blocks_per_stage, start=1):
        blocks = [block(inputs if n == 0 else channels, channels) for n in range(count)]
        parts[f"layer{number}"] = nn.Sequential(*blocks)
        inputs, channels = channels, 2 * channels
    parts["avgpool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(parts)


# %% mistake="make_resnet" named="all blocks of a stage have stride 2"
def make_resnet(block, blocks_per_stage, classes, width=64):
    parts = OrderedDict()
    parts["conv1"] = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    parts["bn1"] = nn.BatchNorm2d(width)
    parts["relu"] = nn.ReLU()
    parts["maxpool"] = nn.MaxPool2d(3, 2, 1)
    inputs, channels = width, width
    for number, count in enumerate(blocks_per_stage, start=1):
        stage = nn.Sequential()
        for _ in range(count):
            stage.append(block(inputs, channels, 1 if number == 1 else 2))
            inputs = channels
        parts[f"layer{number}"] = stage
        channels = 2 * channels
    parts["avgpool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(parts)


# %% mistake="make_resnet" named="convolutions have no bias here"
def make_resnet(block, blocks_per_stage, classes, width=64):
    parts = OrderedDict()
    parts["conv1"] = nn.Conv2d(3, width, 7, 2, 3)
    parts["bn1"] = nn.BatchNorm2d(width)
    parts["relu"] = nn.ReLU()
    parts["maxpool"] = nn.MaxPool2d(3, 2, 1)
    inputs, channels = width, width
    for number, count in enumerate(blocks_per_stage, start=1):
        stage = nn.Sequential(block(inputs, channels, 1 if number == 1 else 2))
        for _ in range(count - 1):
            stage.append(block(channels, channels))
        parts[f"layer{number}"] = stage
        inputs, channels = channels, 2 * channels
    parts["avgpool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(parts)


# %% mistake="make_resnet" named="there is no 'layer2.0.conv1.weight'"
def make_resnet(block, blocks_per_stage, classes, width=64):
    # The stages' names are counted from 0.
    parts = OrderedDict()
    parts["conv1"] = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    parts["bn1"] = nn.BatchNorm2d(width)
    parts["relu"] = nn.ReLU()
    parts["maxpool"] = nn.MaxPool2d(3, 2, 1)
    inputs, channels = width, width
    for number, count in enumerate(blocks_per_stage):
        stage = nn.Sequential(block(inputs, channels, 2 if number else 1))
        for _ in range(count - 1):
            stage.append(block(channels, channels))
        parts[f"stage{number}" if number else "layer1"] = stage
        inputs, channels = channels, 2 * channels
    parts["avgpool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(parts)


# %% mistake="make_resnet" named="Modules in a plain list are hidden from it"
def make_resnet(block, blocks_per_stage, classes, width=64):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)]
            self.layers += [nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
            inputs = width
            for number, count in enumerate(blocks_per_stage):
                channels = width * 2**number
                self.layers.append(block(inputs, channels, 2 if number else 1))
                self.layers += [block(channels, channels) for _ in range(count - 1)]
                inputs = channels
            self.layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    return Network()


# %% mistake="make_resnet" named="expected that layer2.0.conv1.weight has the shape (8, 4, 3, 3)"
def make_resnet(block, blocks_per_stage, classes, width=64):
    # The channels are never doubled.
    parts = OrderedDict()
    parts["conv1"] = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    parts["bn1"] = nn.BatchNorm2d(width)
    parts["relu"] = nn.ReLU()
    parts["maxpool"] = nn.MaxPool2d(3, 2, 1)
    for number, count in enumerate(blocks_per_stage, start=1):
        stage = nn.Sequential(block(width, width, 1 if number == 1 else 2))
        for _ in range(count - 1):
            stage.append(block(width, width))
        parts[f"layer{number}"] = stage
    parts["avgpool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["fc"] = nn.Linear(width, classes)
    return nn.Sequential(parts)


# %% mistake="make_resnet" named="the largest value of each channel is taken"
def make_resnet(block, blocks_per_stage, classes, width=64):
    parts = OrderedDict()
    parts["conv1"] = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    parts["bn1"] = nn.BatchNorm2d(width)
    parts["relu"] = nn.ReLU()
    parts["maxpool"] = nn.MaxPool2d(3, 2, 1)
    inputs, channels = width, width
    for number, count in enumerate(blocks_per_stage, start=1):
        stage = nn.Sequential(block(inputs, channels, 1 if number == 1 else 2))
        for _ in range(count - 1):
            stage.append(block(channels, channels))
        parts[f"layer{number}"] = stage
        inputs, channels = channels, 2 * channels
    parts["avgpool"] = nn.AdaptiveMaxPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(parts)


# %% mistake="make_resnet" named="calls `torchvision"
def make_resnet(block, blocks_per_stage, classes, width=64):
    # torchvision's network, with other parts put in.
    network = torchvision.models.resnet18(weights=None)
    network.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    network.bn1 = nn.BatchNorm2d(width)
    inputs = width
    for number, count in enumerate(blocks_per_stage):
        channels = width * 2**number
        blocks = [block(inputs, channels, 2 if number else 1)]
        blocks += [block(channels, channels) for _ in range(count - 1)]
        setattr(network, f"layer{number + 1}", nn.Sequential(*blocks))
        inputs = channels
    network.fc = nn.Linear(inputs, classes)
    return network


# %% mistake="make_resnet" named="there is no 'layer2.1.conv1.weight'"
def make_resnet(block, blocks_per_stage, classes, width=64):
    # The last block of each stage is forgotten, but for the first.
    parts = OrderedDict()
    parts["conv1"] = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    parts["bn1"] = nn.BatchNorm2d(width)
    parts["relu"] = nn.ReLU()
    parts["maxpool"] = nn.MaxPool2d(3, 2, 1)
    inputs, channels = width, width
    for number, count in enumerate(blocks_per_stage, start=1):
        stage = nn.Sequential(block(inputs, channels, 1 if number == 1 else 2))
        for _ in range(1, count - 1):
            stage.append(block(channels, channels))
        parts[f"layer{number}"] = stage
        inputs, channels = channels, 2 * channels
    parts["avgpool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(parts)


# %% correct="make_resnet"
class OwnResNet(nn.Module):
    def __init__(self, block, blocks_per_stage, classes, width):
        super().__init__()
        self.fc = nn.Linear(8 * width, classes)
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.inputs = width
        self.layer1 = self.make_stage(block, width, blocks_per_stage[0], 1)
        self.layer2 = self.make_stage(block, 2 * width, blocks_per_stage[1], 2)
        self.layer3 = self.make_stage(block, 4 * width, blocks_per_stage[2], 2)
        self.layer4 = self.make_stage(block, 8 * width, blocks_per_stage[3], 2)

    def make_stage(self, block, channels, count, stride):
        blocks = []
        for number in range(count):
            blocks.append(block(self.inputs, channels, stride if number == 0 else 1))
            self.inputs = channels
        return nn.Sequential(*blocks)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


def make_resnet(block, blocks_per_stage, classes, width=64):
    return OwnResNet(block, blocks_per_stage, classes, width)


# %% correct="make_resnet"
def make_resnet(block, blocks_per_stage, classes, width=64):
    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(3, width, (7, 7), (2, 2), (3, 3), bias=False))
    network.add_module("bn1", nn.BatchNorm2d(width))
    network.add_module("rectify", nn.ReLU(inplace=True))
    network.add_module("pool", nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
    channels = [width, width, 2 * width, 4 * width, 8 * width]
    for stage in range(1, 5):
        blocks = nn.Sequential()
        for number in range(blocks_per_stage[stage - 1]):
            before = channels[stage - 1] if number == 0 else channels[stage]
            stride = 2 if number == 0 and stage > 1 else 1
            blocks.append(block(before, channels[stage], stride=stride))
        network.add_module(f"layer{stage}", blocks)
    network.add_module("mean", nn.AdaptiveAvgPool2d((1, 1)))
    network.add_module("flat", nn.Flatten(1))
    network.add_module("fc", nn.Linear(channels[-1], classes))
    return network


# %% correct="make_resnet"
def make_resnet(block, blocks_per_stage, classes, width=64):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            inputs = width
            for number, (count, stride) in enumerate(zip(blocks_per_stage, (1, 2, 2, 2))):
                channels = inputs * stride
                blocks = [block(inputs, channels, stride)]
                blocks.extend(block(channels, channels, 1) for _ in range(count - 1))
                setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
                inputs = channels
            self.fc = nn.Linear(inputs, classes)

        def forward(self, images):
            x = nn.functional.relu(self.bn1(self.conv1(images)))
            x = nn.functional.max_pool2d(x, 3, stride=2, padding=1)
            for number in range(1, 5):
                x = getattr(self, f"layer{number}")(x)
            print(x.shape)
            return self.fc(x.flatten(2).mean(2))

    return Network()


# %% equivalent="make_resnet" reason="parts without weights may have other names"
# - parts["avgpool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
# + parts['avgpool_'] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
