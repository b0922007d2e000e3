# %% [markdown]
# # Lab 01: One photograph, whatever the light
#
# A photograph taken at dusk and the same one taken at noon show the same things, in other numbers. Instance normalisation, which networks for style transfer apply after each convolution, takes out what differs: each channel of each image gets the mean 0 and the variance 1.

# %% given=true
import matplotlib.pyplot as plt
import numpy as np

from utils.checks import check_close
from utils.figures import contact_sheet
from utils.scenes import make_scenes


def noise(seed, *shape):
    """Uniform numbers in [0, 1), float64."""
    return np.random.default_rng(seed).random(shape)


# %% [markdown]
# ## Exercise: `instance_norm`
#
# ★☆☆ · 10 minutes
#
# With the mean $\mu_{nc}$ and the variance $\sigma^2_{nc}$ of the $HW$ values of image $n$ in channel $c$:
#
# $$y_{nchw} = \frac{x_{nchw} - \mu_{nc}}{\sqrt{\sigma^2_{nc} + \varepsilon}}$$
#
# The small $\varepsilon$ keeps a channel without any contrast from a division by zero.
#
# <details><summary>Hint</summary>
#
# `x.mean(axis=(2, 3), keepdims=True)` has the shape (N, C, 1, 1), which fits `x`.
#
# </details>


# %% exercise="instance_norm"
def instance_norm(x, eps=1e-5):
    """Each channel of each image with mean 0 and variance 1.

    Args:
        x: float64 array (N, C, H, W), the images.
        eps: a small number above 0, added to the variance (the mean of squared differences).

    Returns:
        float64 array (N, C, H, W).
    """
    ### BEGIN SOLUTION
    mean = x.mean(axis=(2, 3), keepdims=True)
    variance = x.var(axis=(2, 3), keepdims=True)
    return (x - mean) / np.sqrt(variance + eps)
    ### END SOLUTION


# %% test="instance_norm" points=2 aspect="one image"
x = noise(0, 1, 3, 4, 5)
### BEGIN EXPECTED
expected = reference.instance_norm(x)
centred = x - x.mean((2, 3), keepdims=True)
variance = x.var((2, 3), keepdims=True)
mistakes = {
    "the mean is not subtracted": x / np.sqrt(variance + 1e-5),
    "it is divided by the variance, not by its root": centred / (variance + 1e-5),
    "eps is added to the root, not under it": centred / (np.sqrt(variance) + 1e-5),
    "eps is left out": centred / np.sqrt(variance),
    "the sum is divided by HW − 1, not by HW": centred / np.sqrt(variance * 20 / 19 + 1e-5),
    "all channels share one mean and one variance": (x - x.mean()) / np.sqrt(x.var() + 1e-5),
    "means are taken over the channels, not over the places": (
        (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    ),
}
### END EXPECTED
check_close(instance_norm(x), expected, "instance_norm(x)", mistakes=mistakes)

# %% test="instance_norm" points=1 aspect="a batch"
x = noise(1, 2, 3, 4, 5)
### BEGIN EXPECTED
expected = reference.instance_norm(x)
axes = (0, 2, 3)
mistakes = {
    "all images share their means and variances, as in batch normalisation": (
        (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    ),
    "every image gets the mean and the variance of the first": (
        (x - x[:1].mean((2, 3), keepdims=True)) / np.sqrt(x[:1].var((2, 3), keepdims=True) + 1e-5)
    ),
}
### END EXPECTED
check_close(instance_norm(x), expected, "instance_norm(x)", mistakes=mistakes)

# %% test="instance_norm" points=1 aspect="another eps"
x = noise(2, 2, 3, 4, 5)
### BEGIN EXPECTED
expected = reference.instance_norm(x, eps=0.1)
mistakes = {"eps is always 1e-5": reference.instance_norm(x)}
### END EXPECTED
check_close(instance_norm(x, eps=0.1), expected, "instance_norm(x, eps=0.1)", mistakes=mistakes)

# %% test="instance_norm" points=2 aspect="general shapes"
# Other shapes and numbers are tried here.
### BEGIN HIDDEN TESTS
for number, shape in enumerate([(1, 1, 1, 1), (4, 2, 7, 3), (2, 5, 1, 6)]):
    x = noise(reference.seed + number, *shape)
    x[0, 0] = 0.5  # no contrast at all
    check_close(instance_norm(x), reference.instance_norm(x), f"instance_norm for {shape}")
### END HIDDEN TESTS

# %% fold="Figure: dusk, noon and fog in three rows, and what instance normalisation leaves of them"
scenes = make_scenes(4, np.random.default_rng(0)).images / 255
photographs = np.concatenate([0.3 * scenes, scenes, 0.7 + 0.3 * scenes])
normalised = instance_norm(photographs.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
shown = np.concatenate([photographs, 0.5 + normalised / 6], axis=2)
contact_sheet(
    shown,
    columns=4,
    inches=2.2,
    heading="Dusk, noon, fog (left halves): normalised (right halves), they are the same",
)
plt.show()

# %% [markdown]
# What only brightness and contrast tell is lost, too: whether it was dusk can't be seen any more.

# %% [markdown] question="why_each_image" points=2
# Batch normalisation takes its means and variances from the whole batch. What would become of one dark photograph in a batch of bright ones, and why is that no loss where the network is to tell dusk from noon?
#
# ### BEGIN SOLUTION
# One point: it stays darker than the others, as all are shifted and scaled by the same numbers. One point: how bright it is among others is then still there to be used; instance normalisation takes it out.
# ### END SOLUTION
