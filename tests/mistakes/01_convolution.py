# %% [markdown]
# What students write in lab 01: mistakes that must lose points and be named, and answers that look
# different from ours and are right.

# %% mistake="cross_correlate2d" named="the kernel is flipped, which makes it a convolution"
def cross_correlate2d(x, kernel):
    kernel = kernel[::-1, ::-1]
    kH, kW = kernel.shape
    y = np.zeros((x.shape[0] - kH + 1, x.shape[1] - kW + 1))
    for r in range(y.shape[0]):
        for c in range(y.shape[1]):
            y[r, c] = (x[r : r + kH, c : c + kW] * kernel).sum()
    return y


# %% mistake="cross_correlate2d" named="the last row and the last column of windows are left out"
def cross_correlate2d(x, kernel):
    kH, kW = kernel.shape
    y = np.zeros((x.shape[0] - kH, x.shape[1] - kW))
    for r in range(x.shape[0] - kH):
        for c in range(x.shape[1] - kW):
            y[r, c] = np.sum(x[r : r + kH, c : c + kW] * kernel)
    return y


# %% mistake="cross_correlate2d" named="the image is padded"
def cross_correlate2d(x, kernel):
    kH, kW = kernel.shape
    padded = np.pad(x, ((kH // 2, (kH - 1) // 2), (kW // 2, (kW - 1) // 2)))
    y = np.zeros(x.shape)
    for r, c in np.ndindex(*y.shape):
        y[r, c] = np.sum(padded[r : r + kH, c : c + kW] * kernel)
    return y


# %% mistake="cross_correlate2d" named="only the last product is kept"
def cross_correlate2d(x, kernel):
    kH, kW = kernel.shape
    y = np.zeros((x.shape[0] - kH + 1, x.shape[1] - kW + 1))
    for r in range(y.shape[0]):
        for c in range(y.shape[1]):
            for a in range(kH):
                for b in range(kW):
                    y[r, c] = x[r + a, c + b] * kernel[a, b]
    return y


# %% mistake="cross_correlate2d" named="the mean of the products is taken"
def cross_correlate2d(x, kernel):
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape)
    return np.mean(windows * kernel, axis=(2, 3))


# %% mistake="cross_correlate2d" named="is a `return` missing?"
def cross_correlate2d(x, kernel):
    kH, kW = kernel.shape
    y = np.zeros((x.shape[0] - kH + 1, x.shape[1] - kW + 1))
    for r, c in np.ndindex(*y.shape):
        y[r, c] = np.sum(x[r : r + kH, c : c + kW] * kernel)


# %% mistake="cross_correlate2d" named="was modified in place"
def cross_correlate2d(x, kernel):
    kH, kW = kernel.shape
    y = np.zeros((x.shape[0] - kH + 1, x.shape[1] - kW + 1))
    for r, c in np.ndindex(*y.shape):
        window = x[r : r + kH, c : c + kW]
        window *= kernel
        y[r, c] = window.sum()
    return y


# %% mistake="cross_correlate2d" named="computed in int64"
def cross_correlate2d(x, kernel):
    kH, kW = kernel.shape
    y = np.zeros((x.shape[0] - kH + 1, x.shape[1] - kW + 1), dtype=int)
    for r, c in np.ndindex(*y.shape):
        y[r, c] = np.sum(x[r : r + kH, c : c + kW] * kernel)
    return y


# %% correct="cross_correlate2d"
def cross_correlate2d(x, kernel):
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape)
    return np.einsum("rcab,ab->rc", windows, kernel)


# %% correct="cross_correlate2d"
def cross_correlate2d(x, kernel):
    height, width = x.shape[0] - kernel.shape[0] + 1, x.shape[1] - kernel.shape[1] + 1
    print("output:", height, width)
    return sum(
        kernel[a, b] * x[a : a + height, b : b + width]
        for a in range(kernel.shape[0])
        for b in range(kernel.shape[1])
    )


# %% mistake="cross_correlate2d" named="line 2 calls `scipy.signal.correlate2d`"
def cross_correlate2d(x, kernel):
    return scipy.signal.correlate2d(x, kernel, mode="valid")


# %% mistake="cross_correlate2d" named="line 5 calls `torch.tensor`"
import torch


def cross_correlate2d(x, kernel):
    x, kernel = torch.tensor(x), torch.tensor(kernel)
    return torch.conv2d(x[None, None], kernel[None, None])[0, 0].numpy()


# %% correct="cross_correlate2d"
def cross_correlate2d(x, kernel):
    kH, kW = kernel.shape
    rows = range(len(x) - kH + 1)
    return np.array(
        [
            [np.vdot(x[r : r + kH, c : c + kW], kernel) for c in range(x.shape[1] - kW + 1)]
            for r in rows
        ]
    )


# %% mistake="convolve2d" named="the kernel is not flipped, which makes it a cross-correlation"
def convolve2d(x, kernel):
    kH, kW = kernel.shape
    padded = np.pad(x, ((kH - 1, kH - 1), (kW - 1, kW - 1)))
    y = np.zeros((x.shape[0] + kH - 1, x.shape[1] + kW - 1))
    for r, c in np.ndindex(*y.shape):
        y[r, c] = np.sum(padded[r : r + kH, c : c + kW] * kernel)
    return y


# %% mistake="convolve2d" named="the kernel is flipped upside down only"
def convolve2d(x, kernel):
    kH, kW = kernel.shape
    padded = np.pad(x, ((kH - 1, kH - 1), (kW - 1, kW - 1)))
    y = np.zeros((x.shape[0] + kH - 1, x.shape[1] + kW - 1))
    for r, c in np.ndindex(*y.shape):
        y[r, c] = np.sum(padded[r : r + kH, c : c + kW] * kernel[::-1])
    return y


# %% mistake="convolve2d" named="the kernel is flipped left to right only"
def convolve2d(x, kernel):
    kH, kW = kernel.shape
    padded = np.pad(x, ((kH - 1, kH - 1), (kW - 1, kW - 1)))
    y = np.zeros((x.shape[0] + kH - 1, x.shape[1] + kW - 1))
    for r, c in np.ndindex(*y.shape):
        y[r, c] = np.sum(padded[r : r + kH, c : c + kW] * np.fliplr(kernel))
    return y


# %% mistake="convolve2d" named="the kernel is transposed instead of flipped"
def convolve2d(x, kernel):
    kernel = kernel.T
    kH, kW = kernel.shape
    padded = np.pad(x, ((kH - 1, kH - 1), (kW - 1, kW - 1)))
    return np.einsum(
        "rcab,ab->rc", np.lib.stride_tricks.sliding_window_view(padded, kernel.shape), kernel
    )


# %% mistake="convolve2d" named="only stamps that lie wholly inside count"
def convolve2d(x, kernel):
    kernel = np.flip(kernel)
    kH, kW = kernel.shape
    y = np.zeros((max(x.shape[0] - kH + 1, 0), max(x.shape[1] - kW + 1, 0)))
    for r, c in np.ndindex(*y.shape):
        y[r, c] = np.sum(x[r : r + kH, c : c + kW] * kernel)
    return y


# %% mistake="convolve2d" named="the output is cut to the image's size"
def convolve2d(x, kernel):
    kH, kW = kernel.shape
    y = np.zeros((x.shape[0] + kH - 1, x.shape[1] + kW - 1))
    for r, c in np.ndindex(*x.shape):
        y[r : r + kH, c : c + kW] += x[r, c] * kernel
    top, left = (kH - 1) // 2, (kW - 1) // 2
    return y[top : top + x.shape[0], left : left + x.shape[1]]


# %% mistake="convolve2d" named="stamps overwrite each other"
def convolve2d(x, kernel):
    kH, kW = kernel.shape
    y = np.zeros((x.shape[0] + kH - 1, x.shape[1] + kW - 1))
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            y[r : r + kH, c : c + kW] = x[r, c] * kernel
    return y


# %% mistake="convolve2d" named="got a list"
def convolve2d(x, kernel):
    y = np.zeros((x.shape[0] + kernel.shape[0] - 1, x.shape[1] + kernel.shape[1] - 1))
    for r, c in np.ndindex(*x.shape):
        y[r : r + kernel.shape[0], c : c + kernel.shape[1]] += x[r, c] * kernel
    return y.tolist()


# %% mistake="convolve2d" named="line 2 calls `scipy.signal.convolve2d`"
def convolve2d(x, kernel):
    return scipy.signal.convolve2d(x, kernel)


# %% mistake="convolve2d" named="the stamp isn't scaled by its pixel's value"
def convolve2d(x, kernel):
    y = np.zeros((x.shape[0] + kernel.shape[0] - 1, x.shape[1] + kernel.shape[1] - 1))
    for r, c in zip(*np.nonzero(x)):
        y[r : r + kernel.shape[0], c : c + kernel.shape[1]] += kernel
    return y


# %% correct="convolve2d"
def convolve2d(x, kernel):
    kH, kW = kernel.shape
    padded = np.pad(x, ((kH - 1, kH - 1), (kW - 1, kW - 1)))
    flipped = np.rot90(kernel, 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
    return np.tensordot(windows, flipped, axes=2)


# %% correct="convolve2d"
def convolve2d(x, kernel):
    y = np.zeros((x.shape[0] + kernel.shape[0] - 1, x.shape[1] + kernel.shape[1] - 1))
    for r in range(y.shape[0]):
        for c in range(y.shape[1]):
            for a in range(kernel.shape[0]):
                for b in range(kernel.shape[1]):
                    if 0 <= r - a < x.shape[0] and 0 <= c - b < x.shape[1]:
                        y[r, c] += x[r - a, c - b] * kernel[a, b]
    return y


# %% correct="convolve2d"
def convolve2d(x, kernel):
    shape = np.add(x.shape, kernel.shape) - 1
    return np.fft.irfft2(np.fft.rfft2(x, shape) * np.fft.rfft2(kernel, shape), shape)


# %% mistake="kernel_gradient" named="dout is flipped, as in a convolution"
def kernel_gradient(x, dout):
    return sum(scipy.signal.convolve2d(*pair, mode="valid") for pair in zip(x, dout))


# %% mistake="kernel_gradient" named="as with exchanged arguments"
def kernel_gradient(x, dout):
    return sum(
        scipy.signal.correlate2d(upstream, image, mode="valid") for image, upstream in zip(x, dout)
    )


# %% mistake="kernel_gradient" named="x is padded"
def kernel_gradient(x, dout):
    return sum(
        scipy.signal.correlate2d(image, upstream, mode="full") for image, upstream in zip(x, dout)
    )


# %% mistake="kernel_gradient" named="x is padded to keep its size"
def kernel_gradient(x, dout):
    return sum(
        scipy.signal.correlate2d(image, upstream, mode="same") for image, upstream in zip(x, dout)
    )


# %% mistake="kernel_gradient" named="the mean over the outputs is taken"
def kernel_gradient(x, dout):
    N, H_out, W_out = dout.shape
    dkernel = np.zeros((x.shape[1] - H_out + 1, x.shape[2] - W_out + 1))
    for n in range(N):
        for a in range(dkernel.shape[0]):
            for b in range(dkernel.shape[1]):
                dkernel[a, b] += np.mean(x[n, a : a + H_out, b : b + W_out] * dout[n])
    return dkernel


# %% mistake="kernel_gradient" named="dout is left out"
def kernel_gradient(x, dout):
    windows = np.lib.stride_tricks.sliding_window_view(x, dout.shape[1:], axis=(1, 2))
    return windows.sum(axis=(0, 3, 4))


# %% mistake="kernel_gradient" named="the sign is reversed"
def kernel_gradient(x, dout):
    return -sum(scipy.signal.correlate2d(*pair, mode="valid") for pair in zip(x, dout))


# %% mistake="kernel_gradient" named="the mean over the images is taken"
def kernel_gradient(x, dout):
    return np.mean([cross_correlate2d(image, upstream) for image, upstream in zip(x, dout)], axis=0)


# %% mistake="kernel_gradient" named="the images aren't summed"
def kernel_gradient(x, dout):
    dkernels = [cross_correlate2d(image, upstream) for image, upstream in zip(x, dout)]
    return np.stack(dkernels) if len(x) > 1 else dkernels[0]


# %% mistake="kernel_gradient" named="only the last image counts"
def kernel_gradient(x, dout):
    for image, upstream in zip(x, dout):
        dkernel = cross_correlate2d(image, upstream)
    return dkernel


# %% mistake="kernel_gradient" named="every image meets the upstream gradient of all images"
def kernel_gradient(x, dout):
    return cross_correlate2d(x.sum(axis=0), dout.sum(axis=0))


# %% mistake="kernel_gradient" named="was modified in place"
def kernel_gradient(x, dout):
    N, H_out, W_out = dout.shape
    dkernel = np.zeros((x.shape[1] - H_out + 1, x.shape[2] - W_out + 1))
    for a, b in np.ndindex(*dkernel.shape):
        window = x[:, a : a + H_out, b : b + W_out]
        window *= dout
        dkernel[a, b] = window.sum()
    return dkernel


# %% correct="kernel_gradient"
def kernel_gradient(x, dout):
    N, H_out, W_out = dout.shape
    dkernel = np.zeros((x.shape[1] - H_out + 1, x.shape[2] - W_out + 1))
    for n, r, c in np.ndindex(*dout.shape):
        window = x[n, r : r + dkernel.shape[0], c : c + dkernel.shape[1]]
        dkernel += dout[n, r, c] * window
    return dkernel


# %% correct="kernel_gradient"
def kernel_gradient(x, dout):
    windows = np.lib.stride_tricks.sliding_window_view(x, dout.shape[1:], axis=(1, 2))
    return np.einsum("nabrc,nrc->ab", windows, dout)


# %% correct="kernel_gradient"
import torch


def kernel_gradient(x, dout):
    return torch.conv2d(torch.tensor(x)[None], torch.tensor(dout)[None])[0, 0].numpy()


# %% correct="kernel_gradient"
def kernel_gradient(x, dout):
    return sum(cross_correlate2d(image, upstream) for image, upstream in zip(x, dout))


# %% correct="kernel_gradient"
def kernel_gradient(x, dout):
    return scipy.signal.correlate(x, dout, mode="valid")[0]


# %% mistake="input_gradient" named="the kernel is not flipped"
def input_gradient(dout, kernel):
    return np.stack([scipy.signal.correlate2d(upstream, kernel) for upstream in dout])


# %% mistake="input_gradient" named="dout is not padded"
def input_gradient(dout, kernel):
    N, H_out, W_out = dout.shape
    kH, kW = kernel.shape
    dx = np.zeros((N, max(H_out - kH + 1, 0), max(W_out - kW + 1, 0)))
    for n, r, c in np.ndindex(*dx.shape):
        dx[n, r, c] = np.sum(dout[n, r : r + kH, c : c + kW] * kernel[::-1, ::-1])
    return dx


# %% mistake="input_gradient" named="the kernel is transposed instead of flipped"
def input_gradient(dout, kernel):
    return np.stack([scipy.signal.correlate2d(upstream, kernel.T) for upstream in dout])


# %% mistake="input_gradient" named="the gradient is cut to dout's size"
def input_gradient(dout, kernel):
    return np.stack([scipy.signal.convolve2d(upstream, kernel, mode="same") for upstream in dout])


# %% mistake="input_gradient" named="the kernel is flipped upside down only"
def input_gradient(dout, kernel):
    kH, kW = kernel.shape
    padded = np.pad(dout, ((0, 0), (kH - 1, kH - 1), (kW - 1, kW - 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kH, kW), axis=(1, 2))
    return np.einsum("nrcab,ab->nrc", windows, kernel[::-1])


# %% mistake="input_gradient" named="the gradient comes out flipped"
def input_gradient(dout, kernel):
    return np.stack([scipy.signal.convolve2d(upstream, kernel)[::-1, ::-1] for upstream in dout])


# %% mistake="input_gradient" named="the images are summed"
def input_gradient(dout, kernel):
    dx = sum(convolve2d(upstream, kernel) for upstream in dout)
    return dx if len(dout) > 1 else dx[None]


# %% mistake="input_gradient" named="only the first image gets its gradient"
def input_gradient(dout, kernel):
    for upstream in dout:
        return convolve2d(upstream, kernel)[None]


# %% mistake="input_gradient" named="only the last image gets its gradient"
def input_gradient(dout, kernel):
    N, H_out, W_out = dout.shape
    for upstream in dout:
        dx = np.zeros((N, H_out + kernel.shape[0] - 1, W_out + kernel.shape[1] - 1))
        dx[-1] = convolve2d(upstream, kernel)
    return dx


# %% mistake="input_gradient" named="each image gets a share of its gradient only"
def input_gradient(dout, kernel):
    return np.stack([convolve2d(upstream, kernel) for upstream in dout]) / len(dout)


# %% correct="input_gradient"
def input_gradient(dout, kernel):
    kH, kW = kernel.shape
    dx = np.zeros((dout.shape[0], dout.shape[1] + kH - 1, dout.shape[2] + kW - 1))
    for n, r, c in np.ndindex(*dout.shape):
        dx[n, r : r + kH, c : c + kW] += dout[n, r, c] * kernel
    return dx


# %% correct="input_gradient"
def input_gradient(dout, kernel):
    kH, kW = kernel.shape
    padded = np.pad(dout, ((0, 0), (kH - 1, kH - 1), (kW - 1, kW - 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kH, kW), axis=(1, 2))
    return np.einsum("nrcab,ab->nrc", windows, kernel[::-1, ::-1])


# %% correct="input_gradient"
import torch


def input_gradient(dout, kernel):
    dout, kernel = torch.from_numpy(dout), torch.from_numpy(kernel)
    return torch.conv_transpose2d(dout[:, None], kernel[None, None]).squeeze(1).numpy()


# %% correct="input_gradient"
def input_gradient(dout, kernel):
    return np.stack([convolve2d(upstream, kernel) for upstream in dout])


# %% mistake="conv_forward_naive" named="the kernel is flipped, as in a convolution"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    H_out, W_out = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="constant")
    out = np.zeros((N, F, H_out, W_out))
    for n in range(N):
        for f in range(F):
            for i in range(H_out):
                for j in range(W_out):
                    window = x_pad[n, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
                    out[n, f, i, j] = np.sum(window * w[f, :, ::-1, ::-1]) + b[f]
    return out, (x, w, b, conv_param)


# %% mistake="conv_forward_naive" named="the bias is missing"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x_pad, w.shape[2:], axis=(2, 3))
    out = np.einsum("nircab,fiab->nfrc", windows[:, :, ::stride, ::stride], w)
    return out, (x, w, b, conv_param)


# %% mistake="conv_forward_naive" named="the bias is added once per channel"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    H_out, W_out = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((N, F, H_out, W_out))
    for n in range(N):
        for f in range(F):
            for c in range(C):
                for i in range(H_out):
                    for j in range(W_out):
                        top, left = i * stride, j * stride
                        window = x_pad[n, c, top : top + HH, left : left + WW]
                        out[n, f, i, j] += np.sum(window * w[f, c]) + b[f]
    return out, (x, w, b, conv_param)


# %% mistake="conv_forward_naive" named="the bias is added once per weight"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    H_out, W_out = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((N, F, H_out, W_out))
    for n, f, i, j in np.ndindex(*out.shape):
        window = x_pad[n, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
        out[n, f, i, j] = np.sum(window * w[f] + b[f])
    return out, (x, w, b, conv_param)


# %% mistake="conv_forward_naive" named="only the last channel counts"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    H_out, W_out = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((N, F, H_out, W_out))
    for n, f, c, i, j in np.ndindex(N, F, C, H_out, W_out):
        window = x_pad[n, c, i * stride : i * stride + HH, j * stride : j * stride + WW]
        out[n, f, i, j] = np.sum(window * w[f, c]) + b[f]
    return out, (x, w, b, conv_param)


# %% mistake="conv_forward_naive" named="the stride is ignored where the window is placed"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    H_out, W_out = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((N, F, H_out, W_out))
    for n, f, i, j in np.ndindex(*out.shape):
        out[n, f, i, j] = np.sum(x_pad[n, :, i : i + HH, j : j + WW] * w[f]) + b[f]
    return out, (x, w, b, conv_param)


# %% mistake="conv_forward_naive" named="the padding is missing"
def conv_forward_naive(x, w, b, conv_param):
    stride = conv_param["stride"]
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    out = np.einsum("nircab,fiab->nfrc", windows[:, :, ::stride, ::stride], w)
    return out + b.reshape(1, -1, 1, 1), (x, w, b, conv_param)


# %% mistake="conv_forward_naive" named="the padding repeats the border"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(x_pad, w.shape[2:], axis=(2, 3))
    out = np.einsum("nircab,fiab->nfrc", windows[:, :, ::stride, ::stride], w)
    return out + b.reshape(1, -1, 1, 1), (x, w, b, conv_param)


# %% mistake="conv_forward_naive" named="x in the cache"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    out = np.einsum("nircab,fiab->nfrc", windows[:, :, ::stride, ::stride], w)
    return out + b.reshape(1, -1, 1, 1), (x, w, b, conv_param)


# %% mistake="conv_forward_naive" named="axes 2 and 3 are swapped"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    H_out, W_out = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((N, F, W_out, H_out))
    for n, f, i, j in np.ndindex(*out.shape):
        window = x_pad[n, :, j * stride : j * stride + HH, i * stride : i * stride + WW]
        out[n, f, i, j] = np.sum(window * w[f]) + b[f]
    return out, (x, w, b, conv_param)


# %% mistake="conv_forward_naive" named="expected the tuple (out, cache), got a NumPy array"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x_pad, w.shape[2:], axis=(2, 3))
    out = np.einsum("nircab,fiab->nfrc", windows[:, :, ::stride, ::stride], w)
    return out + b.reshape(1, -1, 1, 1)


# %% mistake="conv_forward_naive" named="conv_param in the cache"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x_pad, w.shape[2:], axis=(2, 3))
    out = np.einsum("nircab,fiab->nfrc", windows[:, :, ::stride, ::stride], w)
    return out + b.reshape(1, -1, 1, 1), (x, w, b, stride)


# %% mistake="conv_forward_naive" named="only the height is padded"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x_pad, w.shape[2:], axis=(2, 3))
    out = np.einsum("nircab,fiab->nfrc", windows[:, :, ::stride, ::stride], w)
    return out + b.reshape(1, -1, 1, 1), (x, w, b, conv_param)


# %% mistake="conv_forward_naive" named="the stride is heeded for the height only"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x_pad, w.shape[2:], axis=(2, 3))
    out = np.einsum("nircab,fiab->nfrc", windows[:, :, ::stride], w)
    return out + b.reshape(1, -1, 1, 1), (x, w, b, conv_param)


# %% mistake="conv_forward_naive" named="calls `torch."
import torch


def conv_forward_naive(x, w, b, conv_param):
    tensors = (torch.tensor(array) for array in (x, w, b))
    out = torch.conv2d(*tensors, stride=conv_param["stride"], padding=conv_param["pad"])
    return out.numpy(), (x, w, b, conv_param)


# %% correct="conv_forward_naive"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    windows = np.lib.stride_tricks.sliding_window_view(x_pad, w.shape[2:], axis=(2, 3))
    out = np.einsum("nircab,fiab->nfrc", windows[:, :, ::stride, ::stride], w)
    return out + b.reshape(1, -1, 1, 1), (x, w, b, conv_param)


# %% correct="conv_forward_naive"
def conv_forward_naive(x, w, b, conv_param):
    S, P = conv_param["stride"], conv_param["pad"]
    out = []
    for image in x:
        maps = []
        for kernels, bias in zip(w, b):
            responses = [
                scipy.signal.correlate2d(np.pad(channel, P), kernel, mode="valid")
                for channel, kernel in zip(image, kernels)
            ]
            maps.append(sum(responses)[::S, ::S] + bias)
        out.append(maps)
    return np.array(out), (x, w, b, conv_param)


# %% correct="conv_forward_naive"
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    H_out, W_out = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    out = np.zeros((N, F, H_out, W_out)) + b[:, None, None]
    for n, f, i, j, c, p, q in np.ndindex(N, F, H_out, W_out, C, HH, WW):
        row, column = i * stride + p - pad, j * stride + q - pad
        if 0 <= row < H and 0 <= column < W:
            out[n, f, i, j] += x[n, c, row, column] * w[f, c, p, q]
    return out, (x, w, b, conv_param)


# %% mistake="conv_backward_kernel" named="dout is flipped, as in a convolution"
def conv_backward_kernel(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dout = dout[:, :, ::-1, ::-1]
    dw = np.zeros_like(w)
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            window = x_pad[:, :, i::stride, j::stride][:, :, : dout.shape[2], : dout.shape[3]]
            dw[:, :, i, j] = np.tensordot(dout, window, axes=([0, 2, 3], [0, 2, 3]))
    return dw


# %% mistake="conv_backward_kernel" named="the stride is ignored"
def conv_backward_kernel(dout, cache):
    x, w, b, conv_param = cache
    pad = conv_param["pad"]
    H_out, W_out = dout.shape[2:]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dw = np.zeros_like(w)
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            window = x_pad[:, :, i : i + H_out, j : j + W_out]
            dw[:, :, i, j] = np.einsum("nfrc,nirc->fi", dout, window)
    return dw


# %% mistake="conv_backward_kernel" named="only the last image counts"
def conv_backward_kernel(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    H_out, W_out = dout.shape[2:]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dw = np.zeros_like(w)
    for n, f, c, i, j in np.ndindex(len(x), *w.shape):
        window = x_pad[n, c, i::stride, j::stride][:H_out, :W_out]
        dw[f, c, i, j] = np.sum(dout[n, f] * window)
    return dw


# %% mistake="conv_backward_kernel" named="the mean over the batch is taken"
def conv_backward_kernel(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x_pad, w.shape[2:], axis=(2, 3))
    return np.einsum("nfrc,nircab->fiab", dout, windows[:, :, ::stride, ::stride]) / len(x)


# %% mistake="conv_backward_kernel" named="the mean over images and outputs is taken"
def conv_backward_kernel(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x_pad, w.shape[2:], axis=(2, 3))
    dw = np.einsum("nfrc,nircab->fiab", dout, windows[:, :, ::stride, ::stride])
    return dw / (dout.size / dout.shape[1])


# %% mistake="conv_backward_kernel" named="only two of the four sides are padded"
def conv_backward_kernel(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, ((0, 0), (0, 0), (0, 2 * pad), (0, 2 * pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x_pad, w.shape[2:], axis=(2, 3))
    return np.einsum("nfrc,nircab->fiab", dout, windows[:, :, ::stride, ::stride])


# %% mistake="conv_backward_kernel" named="all channels share one gradient"
def conv_backward_kernel(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    H_out, W_out = dout.shape[2:]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dw = np.zeros_like(w)
    for f, i, j in np.ndindex(w.shape[0], *w.shape[2:]):
        window = x_pad[:, :, i::stride, j::stride][:, :, :H_out, :W_out]
        dw[f, :, i, j] = np.sum(dout[:, f : f + 1] * window)
    return dw


# %% mistake="conv_backward_kernel" named="axes 2 and 3 are swapped"
def conv_backward_kernel(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    H_out, W_out = dout.shape[2:]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dw = np.zeros((w.shape[0], w.shape[1], w.shape[3], w.shape[2]))
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            window = x_pad[:, :, i::stride, j::stride][:, :, :H_out, :W_out]
            dw[:, :, j, i] = np.einsum("nfrc,nirc->fi", dout, window)
    return dw


# %% mistake="conv_backward_kernel" named="was modified in place"
def conv_backward_kernel(dout, cache):
    x, dw, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    H_out, W_out = dout.shape[2:]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dw[:] = 0
    for i, j in np.ndindex(*dw.shape[2:]):
        window = x_pad[:, :, i::stride, j::stride][:, :, :H_out, :W_out]
        dw[:, :, i, j] += np.einsum("nfrc,nirc->fi", dout, window)
    return dw


# %% correct="conv_backward_kernel"
def conv_backward_kernel(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dw = np.zeros_like(w)
    for n in range(dout.shape[0]):
        for f in range(dout.shape[1]):
            for i in range(dout.shape[2]):
                for j in range(dout.shape[3]):
                    top, left = i * stride, j * stride
                    window = x_pad[n, :, top : top + w.shape[2], left : left + w.shape[3]]
                    dw[f] += dout[n, f, i, j] * window
    return dw


# %% correct="conv_backward_kernel"
def conv_backward_kernel(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x_pad, w.shape[2:], axis=(2, 3))
    return np.einsum("nfrc,nircab->fiab", dout, windows[:, :, ::stride, ::stride])


# %% mistake="conv_backward_kernel" named="calls `torch."
import torch


def conv_backward_kernel(dout, cache):
    x, w, _, conv_param = cache
    return torch.nn.grad.conv2d_weight(
        torch.tensor(x),
        w.shape,
        torch.tensor(dout),
        stride=conv_param["stride"],
        padding=conv_param["pad"],
    ).numpy()


# %% correct="conv_backward_kernel"
def conv_backward_kernel(dout, cache):
    x, w, _, conv_param = cache
    return conv_backward_naive(dout, (x, w, np.zeros(len(w)), conv_param))[1]


# %% correct="conv_backward_kernel"
def conv_backward_kernel(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, F, H_out, W_out = dout.shape
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    spread = np.zeros((N, F, stride * (H_out - 1) + 1, stride * (W_out - 1) + 1))
    spread[:, :, ::stride, ::stride] = dout
    dw = np.zeros(w.shape)
    for f, i in np.ndindex(*w.shape[:2]):
        dw[f, i] = scipy.signal.correlate(x_pad[:, i], spread[:, f], mode="valid")[0]
    return dw


# %% mistake="conv_backward_input" named="the kernel is not flipped"
def conv_backward_input(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    _, F, H_out, W_out = dout.shape
    spread = np.zeros((N, F, (H_out - 1) * stride + 1, (W_out - 1) * stride + 1))
    spread[:, :, ::stride, ::stride] = dout
    dx_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    for n, f, c in np.ndindex(N, F, C):
        dx_pad[n, c] += scipy.signal.correlate2d(spread[n, f], w[f, c], mode="full")
    return dx_pad[:, :, pad : pad + H, pad : pad + W]


# %% mistake="conv_backward_input" named="pad:-pad"
def conv_backward_input(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    dx_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    for n, f, i, j in np.ndindex(*dout.shape):
        top, left = i * stride, j * stride
        dx_pad[n, :, top : top + w.shape[2], left : left + w.shape[3]] += dout[n, f, i, j] * w[f]
    return dx_pad[:, :, pad:-pad, pad:-pad]


# %% mistake="conv_backward_input" named="the padding's share is not cut away"
def conv_backward_input(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    dx = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    for n, f, i, j in np.ndindex(*dout.shape):
        top, left = i * stride, j * stride
        dx[n, :, top : top + w.shape[2], left : left + w.shape[3]] += dout[n, f, i, j] * w[f]
    return dx


# %% mistake="conv_backward_input" named="the padding's share is cut away on two sides only"
def conv_backward_input(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    dx = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    for n, f, i, j in np.ndindex(*dout.shape):
        top, left = i * stride, j * stride
        dx[n, :, top : top + w.shape[2], left : left + w.shape[3]] += dout[n, f, i, j] * w[f]
    return dx[:, :, :H, :W]


# %% mistake="conv_backward_input" named="the stride is ignored"
def conv_backward_input(dout, cache):
    x, w, b, conv_param = cache
    pad = conv_param["pad"]
    N, C, H, W = x.shape
    dx = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    for n, f, i, j in np.ndindex(*dout.shape):
        dx[n, :, i : i + w.shape[2], j : j + w.shape[3]] += dout[n, f, i, j] * w[f]
    return dx[:, :, pad : pad + H, pad : pad + W]


# %% mistake="conv_backward_input" named="windows overwrite each other"
def conv_backward_input(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    dx = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            top, left = i * stride, j * stride
            dx[:, :, top : top + w.shape[2], left : left + w.shape[3]] = np.tensordot(
                dout[:, :, i, j], w, axes=1
            )
    return dx[:, :, pad : pad + H, pad : pad + W]


# %% mistake="conv_backward_input" named="only the last filter counts"
def conv_backward_input(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    spread = np.zeros((N, len(w), H + 2 * pad - w.shape[2] + 1, W + 2 * pad - w.shape[3] + 1))
    spread[:, :, ::stride, ::stride] = dout
    dx = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    for n, f, c in np.ndindex(N, len(w), C):
        dx[n, c] = scipy.signal.convolve2d(spread[n, f], w[f, c])
    return dx[:, :, pad : pad + H, pad : pad + W]


# %% mistake="conv_backward_input" named="axes 2 and 3 are swapped"
def conv_backward_input(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    dx = np.zeros((N, C, W + 2 * pad, H + 2 * pad))
    for n, f, i, j in np.ndindex(*dout.shape):
        top, left = i * stride, j * stride
        share = dout[n, f, i, j] * w[f].swapaxes(1, 2)
        dx[n, :, left : left + w.shape[3], top : top + w.shape[2]] += share
    return dx[:, :, pad : pad + W, pad : pad + H]


# %% correct="conv_backward_input"
def conv_backward_input(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    dx_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            top, left = i * stride, j * stride
            dx_pad[:, :, top : top + w.shape[2], left : left + w.shape[3]] += np.einsum(
                "nf,fcab->ncab", dout[:, :, i, j], w
            )
    return dx_pad[:, :, pad : H + pad, pad : W + pad]


# %% correct="conv_backward_input"
def conv_backward_input(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    kH, kW = w.shape[2:]
    spread = np.zeros((*dout.shape[:2], *(stride * (np.array(dout.shape[2:]) - 1) + 1)))
    spread[:, :, ::stride, ::stride] = dout
    spread = np.pad(spread, ((0, 0), (0, 0), (kH - 1, kH - 1), (kW - 1, kW - 1)))
    windows = np.lib.stride_tricks.sliding_window_view(spread, (kH, kW), axis=(2, 3))
    dx_pad = np.einsum("nfrcab,fiab->nirc", windows, w[:, :, ::-1, ::-1])
    return dx_pad if pad == 0 else dx_pad[:, :, pad:-pad, pad:-pad]


# %% mistake="conv_backward_input" named="calls `torch."
import torch


def conv_backward_input(dout, cache):
    x, w, _, conv_param = cache
    return torch.conv_transpose2d(
        torch.tensor(dout),
        torch.tensor(w),
        stride=conv_param["stride"],
        padding=conv_param["pad"],
    ).numpy()


# %% correct="conv_backward_input"
def conv_backward_input(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    dx = np.zeros(x.shape)
    for (n, f, r, c), upstream in np.ndenumerate(dout):
        for a, b in np.ndindex(*w.shape[2:]):
            i, j = stride * r + a - pad, stride * c + b - pad
            if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]:
                dx[n, :, i, j] += upstream * w[f, :, a, b]
    return dx


# %% mistake="conv_backward_bias" named="there is one bias per pixel"
def conv_backward_bias(dout):
    return np.sum(dout, axis=0)


# %% mistake="conv_backward_bias" named="the images are not summed"
def conv_backward_bias(dout):
    return np.sum(dout, axis=(2, 3))


# %% mistake="conv_backward_bias" named="all filters share one bias"
def conv_backward_bias(dout):
    return np.sum(dout)


# %% mistake="conv_backward_bias" named="the mean over the batch is taken"
def conv_backward_bias(dout):
    return np.sum(dout, axis=(0, 2, 3)) / dout.shape[0]


# %% mistake="conv_backward_bias" named="the mean over images and pixels is taken"
def conv_backward_bias(dout):
    return dout.mean(axis=(0, 2, 3))


# %% mistake="conv_backward_bias" named="only the last image counts"
def conv_backward_bias(dout):
    db = np.zeros(dout.shape[1])
    for n in range(dout.shape[0]):
        for f in range(dout.shape[1]):
            db[f] = dout[n, f].sum()
    return db


# %% mistake="conv_backward_bias" named="the sum's axes are kept"
def conv_backward_bias(dout):
    return dout.sum(axis=(0, 2, 3), keepdims=True)


# %% correct="conv_backward_bias"
def conv_backward_bias(dout):
    db = np.zeros(dout.shape[1])
    for n, f, i, j in np.ndindex(*dout.shape):
        db[f] += dout[n, f, i, j]
    return db


# %% correct="conv_backward_bias"
def conv_backward_bias(dout):
    return np.einsum("nfrc->f", dout)


# %% mistake="conv_backward_bias" named="the mean over the pixels is taken"
def conv_backward_bias(dout):
    return dout.mean(axis=(2, 3)).sum(axis=0)


# %% mistake="conv_backward_bias" named="only the last pixel counts"
def conv_backward_bias(dout):
    db = np.zeros(dout.shape[1])
    for n, f, i, j in np.ndindex(*dout.shape):
        db[f] = dout[n, f, i, j]
    return db


# %% correct="conv_backward_bias"
def conv_backward_bias(dout):
    return np.array([channel.sum() for channel in dout.swapaxes(0, 1)])


# %% mistake="conv_backward_naive" named="pad:-pad"
def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx_pad, dw, db = np.zeros_like(x_pad), np.zeros_like(w), np.zeros_like(b)
    for n, f, i, j in np.ndindex(*dout.shape):
        top, left = i * stride, j * stride
        db[f] += dout[n, f, i, j]
        dw[f] += x_pad[n, :, top : top + HH, left : left + WW] * dout[n, f, i, j]
        dx_pad[n, :, top : top + HH, left : left + WW] += w[f] * dout[n, f, i, j]
    return dx_pad[:, :, pad:-pad, pad:-pad], dw, db


# %% mistake="conv_backward_naive" named="windows overwrite each other"
def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx_pad, dw, db = np.zeros_like(x_pad), np.zeros_like(w), np.sum(dout, axis=(0, 2, 3))
    for n in range(N):
        for i in range(dout.shape[2]):
            for j in range(dout.shape[3]):
                for f in range(F):
                    top, left = i * stride, j * stride
                    dw[f] += x_pad[n, :, top : top + HH, left : left + WW] * dout[n, f, i, j]
                    dx_pad[n, :, top : top + HH, left : left + WW] = w[f] * dout[n, f, i, j]
    return dx_pad[:, :, pad : pad + H, pad : pad + W], dw, db


# %% mistake="conv_backward_naive" named="the order is not (dx, dw, db)"
def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    H, W = x.shape[2:]
    HH, WW = w.shape[2:]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx_pad, dw = np.zeros_like(x_pad), np.zeros_like(w)
    for n, f, i, j in np.ndindex(*dout.shape):
        window = np.s_[n, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
        dw[f] += x_pad[window] * dout[n, f, i, j]
        dx_pad[window] += w[f] * dout[n, f, i, j]
    dx = dx_pad[:, :, pad : pad + H, pad : pad + W]
    return dw, dx, dout.sum(axis=(0, 2, 3))


# %% mistake="conv_backward_naive" named="only the last output counts"
def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx_pad, dw, db = np.zeros_like(x_pad), np.zeros_like(w), np.zeros_like(b)
    for n, f, i, j in np.ndindex(*dout.shape):
        top, left = i * stride, j * stride
        db[f] += dout[n, f, i, j]
        dw[f] = x_pad[n, :, top : top + HH, left : left + WW] * dout[n, f, i, j]
        dx_pad[n, :, top : top + HH, left : left + WW] += w[f] * dout[n, f, i, j]
    return dx_pad[:, :, pad : pad + H, pad : pad + W], dw, db


# %% mistake="conv_backward_naive" named="there is one bias per pixel"
def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    H, W = x.shape[2:]
    HH, WW = w.shape[2:]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx_pad, dw = np.zeros_like(x_pad), np.zeros_like(w)
    for n, f, i, j in np.ndindex(*dout.shape):
        window = np.s_[n, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
        dw[f] += x_pad[window] * dout[n, f, i, j]
        dx_pad[window] += w[f] * dout[n, f, i, j]
    dx = dx_pad[:, :, pad : pad + H, pad : pad + W]
    return dx, dw, dout.sum(axis=0)


# %% mistake="conv_backward_naive" named="the padding's share is not cut away"
def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    HH, WW = w.shape[2:]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx, dw, db = np.zeros_like(x_pad), np.zeros_like(w), np.zeros_like(b)
    for n, f, i, j in np.ndindex(*dout.shape):
        window = np.s_[n, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
        db[f] += dout[n, f, i, j]
        dw[f] += x_pad[window] * dout[n, f, i, j]
        dx[window] += w[f] * dout[n, f, i, j]
    return dx, dw, db


# %% mistake="conv_backward_naive" named="the stride is ignored"
def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    pad = conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx_pad, dw, db = np.zeros_like(x_pad), np.zeros_like(w), np.zeros_like(b)
    for n, f, i, j in np.ndindex(*dout.shape):
        db[f] += dout[n, f, i, j]
        dw[f] += x_pad[n, :, i : i + HH, j : j + WW] * dout[n, f, i, j]
        dx_pad[n, :, i : i + HH, j : j + WW] += w[f] * dout[n, f, i, j]
    return dx_pad[:, :, pad : pad + H, pad : pad + W], dw, db


# %% mistake="conv_backward_naive" named="the mean over the batch is taken"
def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    H, W = x.shape[2:]
    HH, WW = w.shape[2:]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx_pad, dw = np.zeros_like(x_pad), np.zeros_like(w)
    for n, f, i, j in np.ndindex(*dout.shape):
        window = np.s_[n, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
        dw[f] += x_pad[window] * dout[n, f, i, j]
        dx_pad[window] += w[f] * dout[n, f, i, j]
    dx = dx_pad[:, :, pad : pad + H, pad : pad + W]
    return dx, dw / len(x), dout.sum(axis=(0, 2, 3)) / len(x)


# %% mistake="conv_backward_naive" named="was modified in place"
def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    H, W = x.shape[2:]
    HH, WW = w.shape[2:]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx_pad, dw = np.zeros_like(x_pad), np.zeros_like(w)
    for n, f, i, j in np.ndindex(*dout.shape):
        window = np.s_[n, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
        dw[f] += x_pad[window] * dout[n, f, i, j]
        dx_pad[window] += w[f] * dout[n, f, i, j]
    dx = dx_pad[:, :, pad : pad + H, pad : pad + W]
    x[...] = dx
    return x, dw, dout.sum(axis=(0, 2, 3))


# %% correct="conv_backward_naive"
def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    HH, WW = w.shape[2:]
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx_pad = np.zeros_like(x_pad)
    dw = np.zeros_like(w)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            top, left = i * stride, j * stride
            window = x_pad[:, :, top : top + HH, left : left + WW]
            dw += np.tensordot(dout[:, :, i, j], window, axes=([0], [0]))
            dx_pad[:, :, top : top + HH, left : left + WW] += np.tensordot(
                dout[:, :, i, j], w, axes=1
            )
    return dx_pad[:, :, pad : H + pad, pad : W + pad], dw, dout.sum((0, 2, 3))


# %% correct="conv_backward_naive"
def conv_backward_naive(dout, cache):
    return (
        conv_backward_input(dout, cache),
        conv_backward_kernel(dout, cache),
        conv_backward_bias(dout),
    )


# %% mistake="conv_backward_naive" named="calls `torch."
import torch


def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    x, w, b = (torch.tensor(array, requires_grad=True) for array in (x, w, b))
    out = torch.conv2d(x, w, b, stride=conv_param["stride"], padding=conv_param["pad"])
    out.backward(torch.tensor(dout))
    return x.grad.numpy(), w.grad.numpy(), b.grad.numpy()


# %% correct="conv_backward_naive"
def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(b.shape)
    for (n, f, r, c), upstream in np.ndenumerate(dout):
        db[f] += upstream
        for p, q in np.ndindex(*w.shape[2:]):
            i, j = stride * r + p - pad, stride * c + q - pad
            if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]:
                dx[n, :, i, j] += upstream * w[f, :, p, q]
                dw[f, :, p, q] += upstream * x[n, :, i, j]
    return dx, dw, db


# %% mistake="im2col" named="the windows stand in rows"
def im2col(x, kernel_height, kernel_width, stride, pad):
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(
        x_pad, (kernel_height, kernel_width), axis=(2, 3)
    )[:, :, ::stride, ::stride]
    N, C, H_out, W_out = windows.shape[:4]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(N, H_out * W_out, -1)


# %% mistake="im2col" named="the channel changes fastest down a column"
def im2col(x, kernel_height, kernel_width, stride, pad):
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(
        x_pad, (kernel_height, kernel_width), axis=(2, 3)
    )[:, :, ::stride, ::stride]
    N, C, H_out, W_out = windows.shape[:4]
    return windows.transpose(0, 4, 5, 1, 2, 3).reshape(N, -1, H_out * W_out)


# %% mistake="im2col" named="the array is reshaped before its axes are in order"
def im2col(x, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x.shape
    H_out = (H + 2 * pad - kernel_height) // stride + 1
    W_out = (W + 2 * pad - kernel_width) // stride + 1
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    patches = []
    for i in range(H_out):
        for j in range(W_out):
            top, left = i * stride, j * stride
            patch = x_pad[:, :, top : top + kernel_height, left : left + kernel_width]
            patches.append(patch.reshape(N, -1))
    return np.stack(patches, axis=1).reshape(N, C * kernel_height * kernel_width, H_out * W_out)


# %% mistake="im2col" named="all images share one matrix, in turns"
def im2col(x, kernel_height, kernel_width, stride, pad):
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(
        x_pad, (kernel_height, kernel_width), axis=(2, 3)
    )[:, :, ::stride, ::stride]
    rows = x.shape[1] * kernel_height * kernel_width
    columns = windows.transpose(1, 4, 5, 2, 3, 0).reshape(rows, -1)
    return columns if len(x) > 1 else columns[None]


# %% mistake="im2col" named="a window is read column by column"
def im2col(x, kernel_height, kernel_width, stride, pad):
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(
        x_pad, (kernel_height, kernel_width), axis=(2, 3)
    )[:, :, ::stride, ::stride]
    N, C, H_out, W_out = windows.shape[:4]
    return windows.transpose(0, 1, 5, 4, 2, 3).reshape(N, -1, H_out * W_out)


# %% mistake="im2col" named="calls `torch."
import torch


def im2col(x, kernel_height, kernel_width, stride, pad):
    return torch.nn.functional.unfold(
        torch.tensor(x), (kernel_height, kernel_width), stride=stride, padding=pad
    ).numpy()


# %% mistake="im2col" named="the stride is ignored"
def im2col(x, kernel_height, kernel_width, stride, pad):
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    N, C, H, W = x_pad.shape
    columns = []
    for r in range(H - kernel_height + 1):
        for c in range(W - kernel_width + 1):
            columns.append(x_pad[:, :, r : r + kernel_height, c : c + kernel_width].reshape(N, -1))
    return np.stack(columns, axis=-1)


# %% mistake="im2col" named="the padding is missing"
def im2col(x, kernel_height, kernel_width, stride, pad):
    windows = np.lib.stride_tricks.sliding_window_view(
        x, (min(kernel_height, x.shape[2]), min(kernel_width, x.shape[3])), axis=(2, 3)
    )[:, :, ::stride, ::stride]
    N, C, H_out, W_out = windows.shape[:4]
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(N, -1, H_out * W_out)


# %% mistake="im2col" named="the windows stand column by column"
def im2col(x, kernel_height, kernel_width, stride, pad):
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    N, C, H, W = x_pad.shape
    columns = []
    for c in range(0, W - kernel_width + 1, stride):
        for r in range(0, H - kernel_height + 1, stride):
            columns.append(x_pad[:, :, r : r + kernel_height, c : c + kernel_width].reshape(N, -1))
    return np.stack(columns, axis=-1)


# %% correct="im2col"
def im2col(x, kernel_height, kernel_width, stride, pad):
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    N, C, H, W = x_pad.shape
    columns = []
    for r in range(0, H - kernel_height + 1, stride):
        for c in range(0, W - kernel_width + 1, stride):
            columns.append(x_pad[:, :, r : r + kernel_height, c : c + kernel_width].reshape(N, -1))
    return np.stack(columns, axis=-1)


# %% correct="im2col"
def im2col(x, kernel_height, kernel_width, stride, pad):
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(
        x_pad, (kernel_height, kernel_width), axis=(2, 3)
    )[:, :, ::stride, ::stride]
    N, C, H_out, W_out = windows.shape[:4]
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(N, -1, H_out * W_out)


# %% correct="im2col"
def im2col(x, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x.shape
    H_out = (H + 2 * pad - kernel_height) // stride + 1
    W_out = (W + 2 * pad - kernel_width) // stride + 1
    i0 = np.tile(np.repeat(np.arange(kernel_height), kernel_width), C)
    j0 = np.tile(np.arange(kernel_width), kernel_height * C)
    i = i0[:, None] + stride * np.repeat(np.arange(H_out), W_out)
    j = j0[:, None] + stride * np.tile(np.arange(W_out), H_out)
    k = np.repeat(np.arange(C), kernel_height * kernel_width)[:, None]
    return np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))[:, k, i, j]


# %% mistake="conv_forward_matmul" named="the bias is missing"
def conv_forward_matmul(columns, w, b):
    return w.reshape(w.shape[0], -1) @ columns


# %% mistake="conv_forward_matmul" named="the bias is added per window"
def conv_forward_matmul(columns, w, b):
    out = w.reshape(w.shape[0], -1) @ columns
    return out + np.resize(b, out.shape[-1])


# %% mistake="conv_forward_matmul" named="scrambles the filters"
def conv_forward_matmul(columns, w, b):
    weights = w.reshape(-1, w.shape[0]).T
    return weights @ columns + b[:, None]


# %% mistake="conv_forward_matmul" named="the axes F and L are exchanged"
def conv_forward_matmul(columns, w, b):
    return columns.transpose(0, 2, 1) @ w.reshape(len(w), -1).T + b


# %% mistake="conv_forward_matmul" named="a filter's channel changes fastest"
def conv_forward_matmul(columns, w, b):
    weights = w.transpose(0, 2, 3, 1).reshape(len(w), -1)
    return np.einsum("fk,nkl->nfl", weights, columns) + b[None, :, None]


# %% mistake="conv_forward_matmul" named="the images are added up"
def conv_forward_matmul(columns, w, b):
    out = 0
    for image in columns:
        out = out + w.reshape(len(w), -1) @ image + b[:, None]
    return out


# %% correct="conv_forward_matmul"
def conv_forward_matmul(columns, w, b):
    weights = w.reshape(len(w), -1)
    return np.stack([weights.dot(image) + b.reshape(-1, 1) for image in columns])


# %% correct="conv_forward_matmul"
def conv_forward_matmul(columns, w, b):
    F = w.shape[0]
    out = np.einsum("fk,nkl->nfl", w.reshape(F, -1), columns)
    out += b[None, :, None]
    return out


# %% mistake="conv_forward_matmul" named="a filter is read column by column"
def conv_forward_matmul(columns, w, b):
    return w.swapaxes(2, 3).reshape(len(w), -1) @ columns + b[:, None]


# %% mistake="conv_forward_matmul" named="all images get the first one's result"
def conv_forward_matmul(columns, w, b):
    out = w.reshape(len(w), -1) @ columns[0] + b[:, None]
    return np.stack([out] * len(columns))


# %% correct="conv_forward_matmul"
def conv_forward_matmul(columns, w, b):
    out = np.zeros((len(columns), len(w), columns.shape[2]))
    for n, f in np.ndindex(*out.shape[:2]):
        out[n, f] = w[f].ravel() @ columns[n] + b[f]
    return out


# %% mistake="conv_backward_matmul" named="the images are not summed"
def conv_backward_matmul(dout, columns, w):
    dcolumns = w.reshape(len(w), -1).T @ dout
    dw = dout @ columns.transpose(0, 2, 1)
    return dcolumns, dw.reshape(-1, *w.shape), dout.sum(axis=2)


# %% mistake="conv_backward_matmul" named="it is not reshaped to w's shape"
def conv_backward_matmul(dout, columns, w):
    dcolumns = w.reshape(len(w), -1).T @ dout
    dw = (dout @ columns.transpose(0, 2, 1)).sum(axis=0)
    return dcolumns, dw, dout.sum(axis=(0, 2))


# %% mistake="conv_backward_matmul" named="it is reshaped to w's shape while still transposed"
def conv_backward_matmul(dout, columns, w):
    dcolumns = w.reshape(len(w), -1).T @ dout
    dw = np.einsum("nkl,nfl->kf", columns, dout).reshape(w.shape)
    return dcolumns, dw, dout.sum(axis=(0, 2))


# %% mistake="conv_backward_matmul" named="the mean over the batch is taken"
def conv_backward_matmul(dout, columns, w):
    dcolumns = w.reshape(len(w), -1).T @ dout
    dw = (dout @ columns.transpose(0, 2, 1)).mean(axis=0).reshape(w.shape)
    return dcolumns, dw, dout.sum(axis=2).mean(axis=0)


# %% mistake="conv_backward_matmul" named="there is one bias per window"
def conv_backward_matmul(dout, columns, w):
    dcolumns = w.reshape(len(w), -1).T @ dout
    dw = (dout @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(w.shape)
    return dcolumns, dw, dout.sum(axis=(0, 1))


# %% mistake="conv_backward_matmul" named="scrambles the filters"
def conv_backward_matmul(dout, columns, w):
    dcolumns = w.reshape(-1, len(w)) @ dout
    dw = (dout @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(w.shape)
    return dcolumns, dw, dout.sum(axis=(0, 2))


# %% mistake="conv_backward_matmul" named="the order is not (dcolumns, dw, db)"
def conv_backward_matmul(dout, columns, w):
    dcolumns = w.reshape(len(w), -1).T @ dout
    dw = (dout @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(w.shape)
    return dw, dcolumns, dout.sum(axis=(0, 2))


# %% correct="conv_backward_matmul"
def conv_backward_matmul(dout, columns, w):
    dw, db, dcolumns = np.zeros((len(w), columns.shape[1])), np.zeros(len(w)), []
    for upstream, image in zip(dout, columns):
        dcolumns.append(w.reshape(len(w), -1).T.dot(upstream))
        dw += upstream.dot(image.T)
        db += upstream.sum(axis=1)
    return np.array(dcolumns), dw.reshape(w.shape), db


# %% correct="conv_backward_matmul"
def conv_backward_matmul(dout, columns, w):
    weights = w.reshape(len(w), -1)
    return [
        np.einsum("fk,nfl->nkl", weights, dout),
        np.einsum("nfl,nkl->fk", dout, columns).reshape(w.shape),
        np.einsum("nfl->f", dout),
    ]


# %% mistake="conv_backward_matmul" named="the images are added up, but each has its own columns"
def conv_backward_matmul(dout, columns, w):
    dcolumns = (w.reshape(len(w), -1).T @ dout).sum(axis=0)
    dw = (dout @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(w.shape)
    return dcolumns, dw, dout.sum(axis=(0, 2))


# %% correct="conv_backward_matmul"
def conv_backward_matmul(dout, columns, w):
    F = len(w)
    flat_dout = dout.transpose(1, 0, 2).reshape(F, -1)
    flat_columns = columns.transpose(1, 0, 2).reshape(columns.shape[1], -1)
    dcolumns = np.tensordot(dout, w.reshape(F, -1), axes=([1], [0])).transpose(0, 2, 1)
    return dcolumns, (flat_dout @ flat_columns.T).reshape(w.shape), flat_dout.sum(axis=1)


# %% mistake="col2im" named="windows overwrite each other"
def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x_shape
    x_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    W_out = (W + 2 * pad - kernel_width) // stride + 1
    for k in range(columns.shape[2]):
        top, left = k // W_out * stride, k % W_out * stride
        patch = columns[:, :, k].reshape(N, C, kernel_height, kernel_width)
        x_pad[:, :, top : top + kernel_height, left : left + kernel_width] = patch
    return x_pad[:, :, pad : pad + H, pad : pad + W]


# %% mistake="col2im" named="values overwrite each other"
def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x_shape
    H_out = (H + 2 * pad - kernel_height) // stride + 1
    W_out = (W + 2 * pad - kernel_width) // stride + 1
    columns = columns.reshape(N, C, kernel_height, kernel_width, H_out, W_out)
    x_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    for i in range(kernel_height):
        for j in range(kernel_width):
            bottom, right = i + stride * H_out, j + stride * W_out
            x_pad[:, :, i:bottom:stride, j:right:stride] = columns[:, :, i, j]
    return x_pad[:, :, pad : pad + H, pad : pad + W]


# %% mistake="col2im" named="pad:-pad"
def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x_shape
    x_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    W_out = (W + 2 * pad - kernel_width) // stride + 1
    for k in range(columns.shape[2]):
        top, left = k // W_out * stride, k % W_out * stride
        patch = columns[:, :, k].reshape(N, C, kernel_height, kernel_width)
        x_pad[:, :, top : top + kernel_height, left : left + kernel_width] += patch
    return x_pad[:, :, pad:-pad, pad:-pad]


# %% mistake="col2im" named="the mean of overlapping values is taken"
def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x_shape
    x_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    count = np.zeros(x_pad.shape)
    W_out = (W + 2 * pad - kernel_width) // stride + 1
    for k in range(columns.shape[2]):
        top, left = k // W_out * stride, k % W_out * stride
        patch = columns[:, :, k].reshape(N, C, kernel_height, kernel_width)
        x_pad[:, :, top : top + kernel_height, left : left + kernel_width] += patch
        count[:, :, top : top + kernel_height, left : left + kernel_width] += 1
    return (x_pad / np.maximum(count, 1))[:, :, pad : pad + H, pad : pad + W]


# %% mistake="col2im" named="the padding's share is not cut away"
def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x_shape
    x_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    W_out = (W + 2 * pad - kernel_width) // stride + 1
    for k in range(columns.shape[2]):
        top, left = k // W_out * stride, k % W_out * stride
        patch = columns[:, :, k].reshape(N, C, kernel_height, kernel_width)
        x_pad[:, :, top : top + kernel_height, left : left + kernel_width] += patch
    return x_pad


# %% mistake="col2im" named="the padding's share is cut away on two sides only"
def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x_shape
    x_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    W_out = (W + 2 * pad - kernel_width) // stride + 1
    for k in range(columns.shape[2]):
        top, left = k // W_out * stride, k % W_out * stride
        patch = columns[:, :, k].reshape(N, C, kernel_height, kernel_width)
        x_pad[:, :, top : top + kernel_height, left : left + kernel_width] += patch
    return x_pad[:, :, :H, :W]


# %% mistake="col2im" named="the channel is taken to change fastest down a column"
def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x_shape
    x_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    W_out = (W + 2 * pad - kernel_width) // stride + 1
    for k in range(columns.shape[2]):
        top, left = k // W_out * stride, k % W_out * stride
        patch = columns[:, :, k].reshape(N, kernel_height, kernel_width, C)
        patch = patch.transpose(0, 3, 1, 2)
        x_pad[:, :, top : top + kernel_height, left : left + kernel_width] += patch
    return x_pad[:, :, pad : pad + H, pad : pad + W]


# %% mistake="col2im" named="the windows are taken to stand column by column"
def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x_shape
    x_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    H_out = (H + 2 * pad - kernel_height) // stride + 1
    for k in range(columns.shape[2]):
        top, left = k % H_out * stride, k // H_out * stride
        patch = columns[:, :, k].reshape(N, C, kernel_height, kernel_width)
        x_pad[:, :, top : top + kernel_height, left : left + kernel_width] += patch
    return x_pad[:, :, pad : pad + H, pad : pad + W]


# %% correct="col2im"
def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x_shape
    x_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    k = 0
    for top in range(0, H + 2 * pad - kernel_height + 1, stride):
        for left in range(0, W + 2 * pad - kernel_width + 1, stride):
            patch = columns[:, :, k].reshape(N, C, kernel_height, kernel_width)
            x_pad[:, :, top : top + kernel_height, left : left + kernel_width] += patch
            k += 1
    return x_pad[:, :, pad : pad + H, pad : pad + W]


# %% correct="col2im"
def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x_shape
    index = np.arange(C * (H + 2 * pad) * (W + 2 * pad), dtype=float)
    index = index.reshape(1, C, H + 2 * pad, W + 2 * pad)
    windows = np.lib.stride_tricks.sliding_window_view(
        index[0], (kernel_height, kernel_width), axis=(1, 2)
    )[:, ::stride, ::stride]
    index = windows.transpose(0, 3, 4, 1, 2).reshape(columns.shape[1:]).astype(int)
    x_pad = np.zeros((N, C * (H + 2 * pad) * (W + 2 * pad)))
    for n in range(N):
        np.add.at(x_pad[n], index, columns[n])
    return x_pad.reshape(N, C, H + 2 * pad, W + 2 * pad)[:, :, pad : pad + H, pad : pad + W]


# %% mistake="col2im" named="calls `torch."
import torch


def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    return torch.nn.functional.fold(
        torch.tensor(columns),
        x_shape[2:],
        (kernel_height, kernel_width),
        stride=stride,
        padding=pad,
    ).numpy()


# %% correct="col2im"
def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    N, C, H, W = x_shape
    x_pad = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    W_out = (W + 2 * pad - kernel_width) // stride + 1
    for k in reversed(range(columns.shape[2])):
        top, left = k // W_out * stride, k % W_out * stride
        patch = columns[:, :, k].reshape(N, C, kernel_height, kernel_width)
        x_pad[:, :, top : top + kernel_height, left : left + kernel_width] += patch
    return x_pad[:, :, pad : H + pad, pad : W + pad]


# %% mistake="max_pool_forward_naive" named="the maximum is sought from zero upwards"
def max_pool_forward_naive(x, pool_param):
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H, W = x.shape
    out = np.zeros((N, C, (H - pH) // S + 1, (W - pW) // S + 1))
    for n, c, i, j in np.ndindex(*out.shape):
        for a in range(pH):
            for b in range(pW):
                out[n, c, i, j] = max(out[n, c, i, j], x[n, c, i * S + a, j * S + b])
    return out, (x, pool_param)


# %% mistake="max_pool_forward_naive" named="the window is taken to be square, as wide as it is high"
def max_pool_forward_naive(x, pool_param):
    size, S = pool_param["pool_height"], pool_param["stride"]
    N, C, H, W = x.shape
    out = np.zeros((N, C, (H - size) // S + 1, (max(W, size) - size) // S + 1))
    for i, j in np.ndindex(*out.shape[2:]):
        window = x[:, :, i * S : i * S + size, j * S : j * S + size]
        out[:, :, i, j] = window.max(axis=(2, 3))
    return out, (x, pool_param)


# %% mistake="max_pool_forward_naive" named="pool_param in the cache"
def max_pool_forward_naive(x, pool_param):
    window, S = (pool_param["pool_height"], pool_param["pool_width"]), pool_param["stride"]
    windows = np.lib.stride_tricks.sliding_window_view(x, window, axis=(2, 3))
    return windows[:, :, ::S, ::S].max(axis=(-2, -1)), (x, window)


# %% mistake="max_pool_forward_naive" named="the stride is ignored"
def max_pool_forward_naive(x, pool_param):
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H, W = x.shape
    out = np.zeros((N, C, (H - pH) // S + 1, (W - pW) // S + 1))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = np.max(x[:, :, i : i + pH, j : j + pW], axis=(2, 3))
    return out, (x, pool_param)


# %% mistake="max_pool_forward_naive" named="the stride is ignored, and windows lie side by side"
def max_pool_forward_naive(x, pool_param):
    pH, pW = pool_param["pool_height"], pool_param["pool_width"]
    N, C, H, W = x.shape
    x_cut = x[:, :, : H // pH * pH, : W // pW * pW]
    out = x_cut.reshape(N, C, H // pH, pH, W // pW, pW).max(axis=(3, 5))
    return out, (x, pool_param)


# %% mistake="max_pool_forward_naive" named="the mean of the window is taken"
def max_pool_forward_naive(x, pool_param):
    window, S = (pool_param["pool_height"], pool_param["pool_width"]), pool_param["stride"]
    windows = np.lib.stride_tricks.sliding_window_view(x, window, axis=(2, 3))
    return windows[:, :, ::S, ::S].mean(axis=(-2, -1)), (x, pool_param)


# %% mistake="max_pool_forward_naive" named="the channels are pooled together"
def max_pool_forward_naive(x, pool_param):
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H, W = x.shape
    out = np.zeros((N, C, (H - pH) // S + 1, (W - pW) // S + 1))
    for n, c, i, j in np.ndindex(*out.shape):
        out[n, c, i, j] = np.max(x[n, :, i * S : i * S + pH, j * S : j * S + pW])
    return out, (x, pool_param)


# %% mistake="max_pool_forward_naive" named="every value is zero"
def max_pool_forward_naive(x, pool_param):
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H, W = x.shape
    out = np.zeros((N, C, (H - pH) // S + 1, (W - pW) // S + 1))
    for value in out[0, 0]:
        value = np.max(x)
    return out, (x, pool_param)


# %% mistake="max_pool_forward_naive" named="axes 2 and 3 are swapped"
def max_pool_forward_naive(x, pool_param):
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H, W = x.shape
    out = np.zeros((N, C, (W - pW) // S + 1, (H - pH) // S + 1))
    for n, c, i, j in np.ndindex(*out.shape):
        out[n, c, i, j] = np.max(x[n, c, j * S : j * S + pH, i * S : i * S + pW])
    return out, (x, pool_param)


# %% correct="max_pool_forward_naive"
def max_pool_forward_naive(x, pool_param):
    window, S = (pool_param["pool_height"], pool_param["pool_width"]), pool_param["stride"]
    windows = np.lib.stride_tricks.sliding_window_view(x, window, axis=(2, 3))
    return windows[:, :, ::S, ::S].max(axis=(-2, -1)), (x, pool_param)


# %% correct="max_pool_forward_naive"
def max_pool_forward_naive(x, pool_param):
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H, W = x.shape
    out = np.full((N, C, 1 + (H - pH) // S, 1 + (W - pW) // S), -np.inf)
    for n, c, i, j in np.ndindex(*out.shape):
        for a in range(pH):
            for b in range(pW):
                out[n, c, i, j] = max(out[n, c, i, j], x[n, c, i * S + a, j * S + b])
    return out, (x, pool_param)


# %% mistake="max_pool_forward_naive" named="calls `torch."
import torch


def max_pool_forward_naive(x, pool_param):
    window = pool_param["pool_height"], pool_param["pool_width"]
    out = torch.nn.functional.max_pool2d(torch.tensor(x), window, pool_param["stride"])
    return out.numpy(), (x, pool_param)


# %% correct="max_pool_forward_naive"
def max_pool_forward_naive(x, pool_param):
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    H_out, W_out = (x.shape[2] - pH) // S + 1, (x.shape[3] - pW) // S + 1
    shifted = [
        x[:, :, a : a + S * H_out : S, b : b + S * W_out : S][:, :, :H_out, :W_out]
        for a in range(pH)
        for b in range(pW)
    ]
    return np.maximum.reduce(shifted), (x, pool_param)


# %% mistake="max_pool_backward_naive" named="windows overwrite each other"
def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*dout.shape):
        window = x[n, c, i * S : i * S + pH, j * S : j * S + pW]
        mask = window == np.max(window)
        dx[n, c, i * S : i * S + pH, j * S : j * S + pW] = mask * dout[n, c, i, j]
    return dx


# %% mistake="max_pool_backward_naive" named="values overwrite each other"
def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*dout.shape):
        window = x[n, c, i * S : i * S + pH, j * S : j * S + pW]
        a, b = np.unravel_index(np.argmax(window), window.shape)
        dx[n, c, i * S + a, j * S + b] = dout[n, c, i, j]
    return dx


# %% mistake="max_pool_backward_naive" named="the whole window gets dout"
def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*dout.shape):
        dx[n, c, i * S : i * S + pH, j * S : j * S + pW] += dout[n, c, i, j]
    return dx


# %% mistake="max_pool_backward_naive" named="as in mean pooling"
def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*dout.shape):
        dx[n, c, i * S : i * S + pH, j * S : j * S + pW] += dout[n, c, i, j] / (pH * pW)
    return dx


# %% mistake="max_pool_backward_naive" named="dout is left out"
def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*dout.shape):
        window = x[n, c, i * S : i * S + pH, j * S : j * S + pW]
        dx[n, c, i * S : i * S + pH, j * S : j * S + pW] += window == window.max()
    return dx


# %% mistake="max_pool_backward_naive" named="dout is multiplied by the maximum"
def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*dout.shape):
        window = x[n, c, i * S : i * S + pH, j * S : j * S + pW]
        share = np.where(window == window.max(), window, 0) * dout[n, c, i, j]
        dx[n, c, i * S : i * S + pH, j * S : j * S + pW] += share
    return dx


# %% mistake="max_pool_backward_naive" named="was modified in place"
def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*dout.shape):
        window = x[n, c, i * S : i * S + pH, j * S : j * S + pW]
        a, b = np.unravel_index(np.argmax(window), window.shape)
        dx[n, c, i * S + a, j * S + b] += dout[n, c, i, j]
        x[n, c, i * S + a, j * S + b] = 0
    return dx


# %% correct="max_pool_backward_naive"
def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            window = x[:, :, i * S : i * S + pH, j * S : j * S + pW]
            mask = window == window.max(axis=(2, 3), keepdims=True)
            dx[:, :, i * S : i * S + pH, j * S : j * S + pW] += mask * dout[:, :, i, j, None, None]
    return dx


# %% correct="max_pool_backward_naive"
def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*dout.shape):
        window = x[n, c, i * S : i * S + pH, j * S : j * S + pW]
        best = window == window.max()
        dx[n, c, i * S : i * S + pH, j * S : j * S + pW] += dout[n, c, i, j] * best / best.sum()
    return dx


# %% mistake="max_pool_backward_naive" named="calls `torch."
import torch


def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    images = torch.tensor(x, requires_grad=True)
    window = pool_param["pool_height"], pool_param["pool_width"]
    out = torch.nn.functional.max_pool2d(images, window, pool_param["stride"])
    out.backward(torch.tensor(dout))
    return images.grad.numpy()


# %% correct="max_pool_backward_naive"
def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    pH, pW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    windows = np.lib.stride_tricks.sliding_window_view(x, (pH, pW), axis=(2, 3))
    winners = windows[:, :, ::S, ::S].reshape(*dout.shape, -1).argmax(axis=-1)
    n, i, r, c = np.indices(dout.shape)
    dx = np.zeros(x.shape)
    np.add.at(dx, (n, i, S * r + winners // pW, S * c + winners % pW), dout)
    return dx


# %% [markdown]
# Changes to the solutions that no test can notice.

# %% equivalent="cross_correlate2d" reason="every value is written"
# - y = np.zeros((x.shape[0] - kernel_height + 1, x.shape[1] - kernel_width + 1))
# + y = np.ones((x.shape[0] - kernel_height + 1, x.shape[1] - kernel_width + 1))

# %% equivalent="kernel_gradient" reason="every value is written"
# - dkernel = np.zeros((x.shape[1] - H_out + 1, x.shape[2] - W_out + 1))
# + dkernel = np.ones((x.shape[1] - H_out + 1, x.shape[2] - W_out + 1))

# %% equivalent="conv_forward_naive" reason="an image of zeros more is never read"
# - x_padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
# + x_padded = np.pad(x, ((0, 1), (0, 0), (pad, pad), (pad, pad)))

# %% equivalent="conv_forward_naive" reason="every value is written"
# - out = np.zeros((N, F, (H + 2 * pad - kH) // stride + 1, (W + 2 * pad - kW) // stride + 1))
# + out = np.ones((N, F, (H + 2 * pad - kH) // stride + 1, (W + 2 * pad - kW) // stride + 1))

# %% equivalent="conv_backward_kernel" reason="every value is written"
# - dw = np.zeros(w.shape)
# + dw = np.ones(w.shape)

# %% equivalent="conv_backward_input" reason="convolution commutes"
# - dx_padded[n, i] += scipy.signal.convolve2d(spread[n, f], w[f, i], mode="full")
# + dx_padded[n, i] += scipy.signal.convolve2d(w[f, i], spread[n, f], mode="full")

# %% equivalent="conv_backward_input" reason="full is SciPy's default"
# - dx_padded[n, i] += scipy.signal.convolve2d(spread[n, f], w[f, i], mode="full")
# + dx_padded[n, i] += scipy.signal.convolve2d(spread[n, f], w[f, i])

# %% equivalent="conv_backward_bias" reason="axes are summed in any order"
# - return dout.sum(axis=(0, 2, 3))
# + return dout.sum(axis=(2, 0, 3))

# %% equivalent="conv_backward_bias" reason="axes are summed in any order"
# - return dout.sum(axis=(0, 2, 3))
# + return dout.sum(axis=(0, 3, 2))

# %% equivalent="im2col" reason="every value is written"
# - columns = np.zeros((N, C, kernel_height, kernel_width, H_out, W_out))
# + columns = np.ones((N, C, kernel_height, kernel_width, H_out, W_out))

# %% equivalent="conv_forward_matmul" reason="NumPy takes any negative size for the open one"
# - return w.reshape(len(w), -1) @ columns + b[:, np.newaxis]
# + return w.reshape(len(w), -2) @ columns + b[:, np.newaxis]

# %% equivalent="conv_backward_matmul" reason="NumPy takes any negative size for the open one"
# - dcolumns = w.reshape(len(w), -1).T @ dout
# + dcolumns = w.reshape(len(w), -2).T @ dout

# %% equivalent="conv_backward_matmul" reason="axes are summed in any order"
# - return dcolumns, dw, dout.sum(axis=(0, 2))
# + return dcolumns, dw, dout.sum(axis=(2, 0))

# %% equivalent="col2im" reason="a border that is too wide is cut away all the same"
# - x_padded = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
# + x_padded = np.zeros((N, C, H + 3 * pad, W + 2 * pad))

# %% equivalent="col2im" reason="a border that is too wide is cut away all the same"
# - x_padded = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
# + x_padded = np.zeros((N, C, H + 2 * pad, W + 3 * pad))

# %% equivalent="max_pool_forward_naive" reason="every value is written"
# - out = np.zeros((N, C, (H - height) // stride + 1, (W - width) // stride + 1))
# + out = np.ones((N, C, (H - height) // stride + 1, (W - width) // stride + 1))

# %% equivalent="max_pool_forward_naive" reason="the maximum over axes in any order"
# - out[:, :, r, c] = x[:, :, top : top + height, left : left + width].max(axis=(2, 3))
# + out[:, :, r, c] = x[:, :, top : top + height, left : left + width].max(axis=(3, 2))

# %% equivalent="conv_forward_naive" reason="sizes divide evenly, says the stub"
# - out = np.zeros((N, F, (H + 2 * pad - kH) // stride + 1, (W + 2 * pad - kW) // stride + 1))
# + out = np.zeros((N, F, -(-(H + 2 * pad - kH) // (stride)) + 1, (W + 2 * pad - kW) // stride + 1))

# %% equivalent="conv_forward_naive" reason="sizes divide evenly, says the stub"
# - out = np.zeros((N, F, (H + 2 * pad - kH) // stride + 1, (W + 2 * pad - kW) // stride + 1))
# + out = np.zeros((N, F, (H + 2 * pad - kH) // stride + 1, -(-(W + 2 * pad - kW) // (stride)) + 1))

# %% equivalent="im2col" reason="sizes divide evenly, says the stub"
# - H_out = (H + 2 * pad - kernel_height) // stride + 1
# + H_out = -(-(H + 2 * pad - kernel_height) // (stride)) + 1

# %% equivalent="im2col" reason="sizes divide evenly, says the stub"
# - W_out = (W + 2 * pad - kernel_width) // stride + 1
# + W_out = -(-(W + 2 * pad - kernel_width) // (stride)) + 1

# %% equivalent="col2im" reason="sizes divide evenly, says the stub"
# - H_out = (H + 2 * pad - kernel_height) // stride + 1
# + H_out = -(-(H + 2 * pad - kernel_height) // (stride)) + 1

# %% equivalent="col2im" reason="sizes divide evenly, says the stub"
# - W_out = (W + 2 * pad - kernel_width) // stride + 1
# + W_out = -(-(W + 2 * pad - kernel_width) // (stride)) + 1

# %% equivalent="max_pool_forward_naive" reason="sizes divide evenly, says the stub"
# - out = np.zeros((N, C, (H - height) // stride + 1, (W - width) // stride + 1))
# + out = np.zeros((N, C, -(-(H - height) // (stride)) + 1, (W - width) // stride + 1))

# %% equivalent="max_pool_forward_naive" reason="sizes divide evenly, says the stub"
# - out = np.zeros((N, C, (H - height) // stride + 1, (W - width) // stride + 1))
# + out = np.zeros((N, C, (H - height) // stride + 1, -(-(W - width) // (stride)) + 1))


# %% mistake="three_layer_loss" named="losses are added up: the mean is asked for"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y])
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="the ReLU is missing"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = a
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="b2 is missing"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"])
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="the minus sign is missing"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(shifted[np.arange(N), y] - np.log(sums[:, 0])) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="without the logarithm"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = -probs[np.arange(N), y].mean()
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="y is ignored: the predicted class is taken"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted.max(axis=1)) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="the values are flattened in another order"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.transpose(0, 2, 3, 1).reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="it isn't divided by N"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="the 1 of the right class isn't subtracted"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="the sign is wrong"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    dscores = -dscores
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="what comes before the ReLU is multiplied"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": pool[0](a)[0].reshape(N, -1).T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="the gradient passes the ReLU everywhere"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="the gradient itself is rectified"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = np.maximum(dh, 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="the gradient is multiplied by the ReLU's output"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * h
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="exponentials overflow"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="grads has no 'b1'"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], _ = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="expected the tuple (loss, grads)"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads, scores


# %% mistake="three_layer_loss" named="is a `return` missing?"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)


# %% mistake="three_layer_loss" named="calls `torch"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = torch.nn.functional.cross_entropy(torch.tensor(scores), torch.tensor(y)).item()
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% mistake="three_layer_loss" named="isn't what the convolution's backward pass gives"
def three_layer_loss(x, y, params, conv, pool):
    def value(params):
        maps, _ = conv[0](x, params["w1"], params["b1"])
        pooled, _ = pool[0](np.maximum(maps, 0))
        scores = pooled.reshape(len(x), -1) @ params["w2"] + params["b2"]
        scores = scores - scores.max(axis=1, keepdims=True)
        log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return -log_p[np.arange(len(y)), y].mean()

    grads = {name: np.zeros_like(values) for name, values in params.items()}
    for name, values in params.items():
        for place in np.ndindex(values.shape):
            step = np.zeros_like(values)
            step[place] = 1e-5
            above, below = (
                value({**params, name: values + step}),
                value({**params, name: values - step}),
            )
            grads[name][place] = (above - below) / 2e-5
    return value(params), grads


# %% correct="three_layer_loss"
def three_layer_loss(x, y, params, conv, pool):
    N = x.shape[0]
    a, conv_cache = conv[0](x, params["w1"], params["b1"])
    h = np.maximum(0, a)
    p, pool_cache = pool[0](h)
    flat = p.reshape(N, -1)
    scores = flat.dot(params["w2"]) + params["b2"]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    probs = exps / sums
    loss = np.sum(np.log(sums[:, 0]) - shifted[np.arange(N), y]) / N
    dscores = probs.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    grads = {"w2": flat.T.dot(dscores), "b2": dscores.sum(axis=0)}
    dp = dscores.dot(params["w2"].T).reshape(p.shape)
    dh = pool[1](dp, pool_cache)
    da = dh * (a > 0)
    dx, grads["w1"], grads["b1"] = conv[1](da, conv_cache)
    return loss, grads


# %% correct="three_layer_loss"
def softmax_loss(scores, y):
    losses, gradient = [], np.zeros_like(scores)
    for n, (row, right) in enumerate(zip(scores, y)):
        row = row - max(row)
        p = np.exp(row) / sum(np.exp(row))
        losses.append(np.log(np.exp(row).sum()) - row[right])
        for c in range(len(row)):
            gradient[n, c] = (p[c] - (c == right)) / len(y)
    return np.mean(losses), gradient


def three_layer_loss(x, y, params, conv, pool):
    out, conv_cache = conv[0](x, params["w1"], params["b1"])
    mask = out > 0
    pooled, pool_cache = pool[0](out * mask)
    rows = pooled.reshape(len(x), params["w2"].shape[0])
    loss, dscores = softmax_loss(rows @ params["w2"] + params["b2"][None], y)
    drows = dscores @ params["w2"].T
    dout = pool[1](drows.reshape(pooled.shape), pool_cache)
    _, dw1, db1 = conv[1](np.where(mask, dout, 0), conv_cache)
    print(loss)
    return [
        loss,
        dict(
            b2=np.ones(len(x)) @ dscores, w2=np.einsum("nd,nk->dk", rows, dscores), w1=dw1, b1=db1
        ),
    ]


# %% correct="three_layer_loss"
def three_layer_loss(x, y, params, conv, pool):
    w1, b1, w2, b2 = (params[name] for name in ("w1", "b1", "w2", "b2"))
    maps, first = conv[0](x, w1, b1)
    relu = np.where(maps >= 0, maps, 0)
    small, second = pool[0](relu)
    flat = small.reshape(small.shape[0], -1)
    scores = np.einsum("nd,dk->nk", flat, w2) + b2
    one_hot = (np.arange(len(b2)) == np.array(y)[:, None]).astype(float)
    margins = scores - (scores * one_hot).sum(1, keepdims=True)
    top = margins.max(1, keepdims=True)
    log_sum = top + np.log(np.sum(np.exp(margins - top), 1, keepdims=True))
    loss = float(log_sum.mean())
    upstream = (np.exp(margins - log_sum) - one_hot) / x.shape[0]
    back = pool[1]((upstream @ w2.T).reshape(small.shape), second)
    back = back * np.sign(relu)
    gradients = conv[1](back, first)
    return loss, {
        "w1": gradients[1],
        "b1": gradients[2],
        "w2": flat.T @ upstream,
        "b2": upstream.sum(0),
    }


# %% equivalent="three_layer_loss" reason="there is a class for each image"
# - N = len(x)
# + N = len(y)

# %% equivalent="three_layer_loss" reason="NumPy works out a size that is negative, whichever"
# - flat = pooled.reshape(N, -1)
# + flat = pooled.reshape(N, -2)

# %% equivalent="three_layer_loss" reason="at 0 every slope from 0 to 1 is one of ReLU's"
# - dmaps = pool_backward(dflat.reshape(pooled.shape), pool_cache) * (maps > 0)
# + dmaps = pool_backward(dflat.reshape(pooled.shape), pool_cache) * (maps >= 0)
