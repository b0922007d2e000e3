# %% [markdown]
# What students write in lab 11: mistakes that must lose points and be named, and answers that look
# different from ours and are right.

# %% mistake="correct_answers" named="aren't divided by 255"
def correct_answers(model, corrupted, labels):
    right = []
    for series in corrupted.values():
        row = []
        for images in series:
            X = torch.from_numpy(images).permute(0, 3, 1, 2).float()
            with torch.no_grad():
                row.append(model(X).argmax(1).numpy() == labels)
        right.append(row)
    return np.array(right)


# %% mistake="correct_answers" named="reshaped where axes have to be permuted"
def correct_answers(model, corrupted, labels):
    right = []
    for series in corrupted.values():
        row = []
        for images in series:
            N, H, W, _ = images.shape
            X = torch.from_numpy(images).float().reshape(N, 3, H, W) / 255
            with torch.no_grad():
                row.append(model(X).argmax(1).numpy() == labels)
        right.append(row)
    return np.array(right)


# %% mistake="correct_answers" named="rows and columns are exchanged"
def correct_answers(model, corrupted, labels):
    right = []
    for series in corrupted.values():
        row = []
        for images in series:
            X = torch.tensor(images.transpose(0, 3, 2, 1) / 255, dtype=torch.float32)
            row.append(model(X).argmax(1).numpy() == labels)
        right.append(row)
    return np.array(right)


# %% mistake="correct_answers" named="normalised, which the network does inside"
def correct_answers(model, corrupted, labels):
    right = []
    for series in corrupted.values():
        row = []
        for images in series:
            X = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
            X = (X - 0.45) / 0.25
            row.append(model(X).argmax(1).numpy() == labels)
        right.append(row)
    return np.array(right)


# %% mistake="correct_answers" named="which answers are wrong"
def correct_answers(model, corrupted, labels):
    errors = []
    for series in corrupted.values():
        for images in series:
            X = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
            errors.append(model(X).argmax(1).numpy() != labels)
    return np.array(errors).reshape(len(corrupted), -1, len(labels))


# %% mistake="correct_answers" named="in alphabetical order"
def correct_answers(model, corrupted, labels):
    right = []
    for name in sorted(corrupted):
        row = []
        for images in corrupted[name]:
            X = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
            row.append(model(X).argmax(1).numpy() == labels)
        right.append(row)
    return np.array(right)


# %% mistake="correct_answers" named="the images are averaged"
def correct_answers(model, corrupted, labels):
    accuracy = []
    for series in corrupted.values():
        row = []
        for images in series:
            X = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
            row.append((model(X).argmax(1).numpy() == labels).mean())
        accuracy.append(row)
    return np.array(accuracy)


# %% mistake="correct_answers" named="share one axis"
def correct_answers(model, corrupted, labels):
    right = []
    for series in corrupted.values():
        for images in series:
            X = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
            right.append(model(X).argmax(1).numpy() == labels)
    return np.array(right)


# %% mistake="correct_answers" named="was left in another mode"
def correct_answers(model, corrupted, labels):
    model.train()
    right = []
    for series in corrupted.values():
        row = []
        for images in series:
            X = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
            with torch.no_grad():
                for layer in model:
                    layer.training = False
                row.append(model(X).argmax(1).numpy() == labels)
        right.append(row)
    return np.array(right)


# %% mistake="correct_answers" named="ran in training mode"
def correct_answers(model, corrupted, labels):
    right = []
    model.train()
    for series in corrupted.values():
        row = []
        for images in series:
            X = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
            row.append(model(X).argmax(1).numpy() == labels)
        right.append(row)
    model.eval()
    return np.array(right)


# %% mistake="correct_answers" named="another requires_grad"
def correct_answers(model, corrupted, labels):
    model.requires_grad_(False)
    right = []
    for series in corrupted.values():
        row = []
        for images in series:
            X = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
            row.append(model(X).argmax(1).numpy() == labels)
        right.append(row)
    model.requires_grad_(True)
    return np.array(right)


# %% correct="correct_answers"
def correct_answers(model, corrupted, labels):
    """One image at a time, with a gradient that nobody uses."""
    C, S, N = len(corrupted), len(next(iter(corrupted.values()))), len(labels)
    right = np.zeros((C, S, N), dtype=bool)
    parameter = list(model.parameters())[0]
    for c, name in enumerate(corrupted):
        print(name)
        for s in range(S):
            for n in range(N):
                image = corrupted[name][s][n].astype("float32") / 255.0
                image = torch.tensor(image.transpose(2, 0, 1)).unsqueeze(0)
                right[c, s, n] = (
                    int(torch.max(model(image.to(parameter.device)), 1)[1]) == labels[n]
                )
    return right


# %% correct="correct_answers"
from utils.images import preprocess


@torch.inference_mode()
def correct_answers(model, corrupted, labels):
    """All images at once."""
    everything = np.concatenate([np.stack(series) for series in corrupted.values()])
    X = preprocess(everything.reshape(-1, *everything.shape[2:]))
    model.eval()
    predicted = model(X.to(next(model.parameters()).device)).softmax(1).argmax(1)
    y = torch.as_tensor(labels).repeat(len(everything))
    return (predicted.cpu() == y).reshape(len(corrupted), -1, len(labels)).numpy()


# %% mistake="corruption_error" named="100 is missing"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = (errors - clean_error).sum(1) / (baseline - baseline_clean_error).sum(1)
    return each.mean(), each


# %% mistake="corruption_error" named="each severity is divided on its own"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = 100 * np.mean((errors - clean_error) / (baseline - baseline_clean_error), axis=1)
    return each.mean(), each


# %% mistake="corruption_error" named="the baseline is divided by the network"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = 100 * (baseline - baseline_clean_error).sum(1) / (errors - clean_error).sum(1)
    return each.mean(), each


# %% mistake="corruption_error" named="the sums run over the corruptions"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = 100 * (errors - clean_error).sum(0) / (baseline - baseline_clean_error).sum(0)
    return each.mean(), each


# %% mistake="corruption_error" named="the baseline's sum runs over all"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = 100 * (errors - clean_error).sum(1) / (baseline - baseline_clean_error).sum()
    return each.mean(), each


# %% mistake="corruption_error" named="accuracies are compared"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = 100 * (1 - errors).sum(1) / (1 - baseline).sum(1)
    return each.mean(), each


# %% mistake="corruption_error" named="the mean comes second"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = 100 * (errors - clean_error).sum(1) / (baseline - baseline_clean_error).sum(1)
    return each, each.mean()


# %% mistake="corruption_error" named="the ratio of the means"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    own, other = errors - clean_error, baseline - baseline_clean_error
    return 100 * own.sum() / other.sum(), 100 * own.sum(1) / other.sum(1)


# %% mistake="corruption_error" named="the corruptions are summed, not averaged"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = 100 * (errors - clean_error).sum(1) / (baseline - baseline_clean_error).sum(1)
    return each.sum(), each


# %% mistake="corruption_error" named="got a NumPy array"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    return 100 * (errors - clean_error).sum(1) / (baseline - baseline_clean_error).sum(1)


# %% mistake="corruption_error" named="the clean errors aren't subtracted"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = 100 * errors.sum(1) / baseline.sum(1)
    return each.mean(), each


# %% mistake="corruption_error" named="subtracted once from the sum"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = 100 * (errors.sum(1) - clean_error) / (baseline.sum(1) - baseline_clean_error)
    return each.mean(), each


# %% mistake="corruption_error" named="the network's clean error is subtracted from both"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = 100 * (errors - clean_error).sum(1) / (baseline - clean_error).sum(1)
    return each.mean(), each


# %% mistake="corruption_error" named="baseline's clean error isn't subtracted"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = 100 * (errors - clean_error).sum(1) / baseline.sum(1)
    return each.mean(), each


# %% mistake="corruption_error" named="are exchanged"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    each = 100 * (errors - baseline_clean_error).sum(1) / (baseline - clean_error).sum(1)
    return each.mean(), each


# %% mistake="corruption_error" named="was modified in place"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    errors -= clean_error
    baseline -= baseline_clean_error
    each = 100 * errors.sum(1) / baseline.sum(1)
    return each.mean(), each


# %% mistake="corruption_error" named="-100"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    own, other = errors - clean_error, baseline - baseline_clean_error
    each = 100 * np.abs(own).sum(1) / np.abs(other).sum(1)
    return each.mean(), each


# %% correct="corruption_error"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    C, S = errors.shape
    each = []
    for c in range(C):
        above = sum(errors[c, s] - clean_error for s in range(S))
        below = sum(baseline[c, s] - baseline_clean_error for s in range(S))
        each.append(100 * above / below)
    return sum(each) / C, np.array(each)


# %% correct="corruption_error"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    own = errors.mean(axis=-1) - clean_error
    others = baseline.mean(axis=-1) - baseline_clean_error
    print(own, others)
    return float(np.mean(100 * own / others)), 100 * own / others


# %% correct="corruption_error"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    S = errors.shape[1]
    above = np.einsum("cs->c", errors) - S * clean_error
    below = np.einsum("cs->c", baseline) - S * baseline_clean_error
    return [np.average(above / below) * 100, above / below * 100]


# %% mistake="paired_difference" named="it is A minus B"
def paired_difference(right_A, right_B):
    d = right_A.mean(0) - right_B.mean(0)
    return d.mean(), d.std(ddof=1) / len(d) ** 0.5


# %% mistake="paired_difference" named="every severity counts as an image of its own"
def paired_difference(right_A, right_B):
    d = right_B.astype(float) - right_A.astype(float)
    return d.mean(), d.std(ddof=1) / d.size**0.5


# %% mistake="paired_difference" named="as if they had seen different images"
def paired_difference(right_A, right_B):
    a, b = right_A.mean(0), right_B.mean(0)
    variance = a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)
    return b.mean() - a.mean(), variance**0.5


# %% mistake="paired_difference" named="not divided by √N"
def paired_difference(right_A, right_B):
    d = right_B.mean(0) - right_A.mean(0)
    return d.mean(), d.std(ddof=1)


# %% mistake="paired_difference" named="N stands where N − 1 belongs"
def paired_difference(right_A, right_B):
    d = right_B.mean(0) - right_A.mean(0)
    return d.mean(), d.std() / np.sqrt(len(d))


# %% mistake="paired_difference" named="it is a variance"
def paired_difference(right_A, right_B):
    d = right_B.mean(0) - right_A.mean(0)
    return d.mean(), ((d - d.mean()) ** 2).sum() / (len(d) * (len(d) - 1))


# %% mistake="paired_difference" named="got a number"
def paired_difference(right_A, right_B):
    return (right_B.mean(0) - right_A.mean(0)).mean()


# %% mistake="paired_difference" named="over the severities, not over the images"
def paired_difference(right_A, right_B):
    d = right_B.mean(1) - right_A.mean(1)
    return d.mean(), d.std(ddof=1) / len(d) ** 0.5


# %% mistake="paired_difference" named="every disagreement counts as a plus"
def paired_difference(right_A, right_B):
    d = (right_B ^ right_A).mean(0)
    return d.mean(), d.std(ddof=1) / len(d) ** 0.5


# %% correct="paired_difference"
def paired_difference(right_A, right_B):
    S, N = right_A.shape
    d = [sum(int(right_B[s, n]) - int(right_A[s, n]) for s in range(S)) / S for n in range(N)]
    mean = sum(d) / N
    return mean, (sum((each - mean) ** 2 for each in d) / (N * (N - 1))) ** 0.5


# %% correct="paired_difference"
def paired_difference(right_A, right_B):
    from scipy.stats import sem

    d = (right_B.astype(int) - right_A.astype(int)).mean(axis=0)
    print(d)
    return [d.mean(), sem(d)]


# %% mistake="shape_bias" named="of the same class count"
def shape_bias(answers, shapes, textures):
    by_shape = (answers == shapes).sum()
    by_texture = (answers == textures).sum()
    return by_shape / (by_shape + by_texture)


# %% mistake="shape_bias" named="for the shape alone"
def shape_bias(answers, shapes, textures):
    by_shape = by_texture = 0
    for answer, shape, texture in zip(answers, shapes, textures):
        if answer == shape:
            by_shape += 1
        elif answer == texture:
            by_texture += 1
    return by_shape / (by_shape + by_texture)


# %% mistake="shape_bias" named="answers for neither cue count"
def shape_bias(answers, shapes, textures):
    conflict = shapes != textures
    return (answers == shapes)[conflict].mean()


# %% mistake="shape_bias" named="answers for neither cue count"
def shape_bias(answers, shapes, textures):
    return np.mean(answers == shapes)


# %% mistake="shape_bias" named="it is the texture's share"
def shape_bias(answers, shapes, textures):
    conflict = shapes != textures
    by_shape = np.sum(conflict & (answers == shapes))
    by_texture = np.sum(conflict & (answers == textures))
    return by_texture / (by_shape + by_texture)


# %% mistake="shape_bias" named="divided by those for the texture"
def shape_bias(answers, shapes, textures):
    conflict = shapes != textures
    return np.sum(conflict & (answers == shapes)) / np.sum(conflict & (answers == textures))


# %% mistake="shape_bias" named="answers for neither cue count"
def shape_bias(answers, shapes, textures):
    return np.mean((shapes != textures) & (answers == shapes))


# %% correct="shape_bias"
def shape_bias(answers, shapes, textures):
    votes = {"shape": 0, "texture": 0}
    for answer, shape, texture in zip(answers, shapes, textures):
        if shape == texture:
            continue
        if answer == shape:
            votes["shape"] += 1
        if answer == texture:
            votes["texture"] += 1
    print(votes)
    return votes["shape"] / sum(votes.values())


# %% correct="shape_bias"
def shape_bias(answers, shapes, textures):
    decided = (answers == shapes) != (answers == textures)
    return (answers == shapes)[decided].mean()


# %% mistake="shuffle_patches" named="the other way round"
def shuffle_patches(images, size, orders):
    N, C, H, W = images.shape
    columns = W // size
    shuffled = torch.empty_like(images)
    for n in range(N):
        for patch, place in enumerate(orders[n].tolist()):
            i, j = size * (patch // columns), size * (patch % columns)
            top, left = size * (place // columns), size * (place % columns)
            shuffled[n, :, top : top + size, left : left + size] = images[
                n, :, i : i + size, j : j + size
            ]
    return shuffled


# %% mistake="shuffle_patches" named="the first image's order"
def shuffle_patches(images, size, orders):
    N, C, H, W = images.shape
    rows, columns = H // size, W // size
    patches = images.reshape(N, C, rows, size, columns, size).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(N, rows * columns, C, size, size)[:, orders[0]]
    patches = patches.reshape(N, rows, columns, C, size, size).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(N, C, H, W)


# %% mistake="shuffle_patches" named="column by column"
def shuffle_patches(images, size, orders):
    N, C, H, W = images.shape
    rows = H // size
    shuffled = torch.empty_like(images)
    for n in range(N):
        for place, patch in enumerate(orders[n].tolist()):
            i, j = size * (patch % rows), size * (patch // rows)
            top, left = size * (place % rows), size * (place // rows)
            shuffled[n, :, top : top + size, left : left + size] = images[
                n, :, i : i + size, j : j + size
            ]
    return shuffled


# %% mistake="shuffle_patches" named="each patch is transposed"
def shuffle_patches(images, size, orders):
    N, C, H, W = images.shape
    rows, columns = H // size, W // size
    patches = images.reshape(N, C, rows, size, columns, size).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(N, rows * columns, C, size, size)
    patches = patches[torch.arange(N)[:, None], orders]
    patches = patches.reshape(N, rows, columns, C, size, size).permute(0, 3, 1, 5, 2, 4)
    return patches.reshape(N, C, H, W)


# %% mistake="shuffle_patches" named="tears the patches apart before they are shuffled"
def shuffle_patches(images, size, orders):
    N, C, H, W = images.shape
    pieces = images.reshape(N, C, -1, size * size)
    return torch.stack([pieces[n][:, orders[n]] for n in range(N)]).reshape(N, C, H, W)


# %% mistake="shuffle_patches" named="joined by a reshape without permute"
def shuffle_patches(images, size, orders):
    N, C, H, W = images.shape
    patches = images.unfold(2, size, size).unfold(3, size, size)
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(N, -1, C, size, size)
    patches = torch.stack([patches[n, orders[n]] for n in range(N)])
    return patches.reshape(N, C, H, W)


# %% mistake="shuffle_patches" named="was modified in place"
def shuffle_patches(images, size, orders):
    N, C, H, W = images.shape
    columns = W // size
    original = images.clone()
    for n in range(N):
        for place, patch in enumerate(orders[n].tolist()):
            i, j = size * (patch // columns), size * (patch % columns)
            top, left = size * (place // columns), size * (place % columns)
            images[n, :, top : top + size, left : left + size] = original[
                n, :, i : i + size, j : j + size
            ]
    return images


# %% correct="shuffle_patches"
def shuffle_patches(images, size, orders):
    columns = images.shape[3] // size
    shuffled = torch.zeros_like(images)
    for n, order in enumerate(orders):
        for place in range(len(order)):
            patch = int(order[place])
            i, j = divmod(patch, columns)
            top, left = divmod(place, columns)
            block = images[n, :, i * size : (i + 1) * size, j * size : (j + 1) * size]
            shuffled[n, :, top * size : (top + 1) * size, left * size : (left + 1) * size] = block
    return shuffled


# %% correct="shuffle_patches"
import torch.nn.functional as F


def shuffle_patches(images, size, orders):
    columns = F.unfold(images, size, stride=size)  # (N, C·size², P)
    index = orders[:, None, :].expand(-1, columns.shape[1], -1)
    return F.fold(columns.gather(2, index), images.shape[2:], size, stride=size)


# %% mistake="disaggregate" named="right answers are counted, not divided"
def disaggregate(right, first, second, shape):
    hits, counts = np.zeros(shape), np.zeros(shape, dtype=int)
    for r, a, b in zip(right, first, second):
        hits[a, b] += r
        counts[a, b] += 1
    return hits, counts


# %% mistake="disaggregate" named="divided by all images"
def disaggregate(right, first, second, shape):
    accuracy, counts = np.zeros(shape), np.zeros(shape, dtype=int)
    for a in range(shape[0]):
        for b in range(shape[1]):
            here = (first == a) & (second == b)
            accuracy[a, b] = (right & here).mean()
            counts[a, b] = here.sum()
    return accuracy, counts


# %% mistake="disaggregate" named="either group, not over the intersection"
def disaggregate(right, first, second, shape):
    accuracy, counts = np.zeros(shape), np.zeros(shape, dtype=int)
    for a in range(shape[0]):
        for b in range(shape[1]):
            here = (first == a) | (second == b)
            accuracy[a, b] = right[here].mean()
            counts[a, b] = here.sum()
    return accuracy, counts


# %% mistake="disaggregate" named="repeated indices count once"
def disaggregate(right, first, second, shape):
    hits, counts = np.zeros(shape), np.zeros(shape, dtype=int)
    hits[first[right], second[right]] += 1
    for a, b in zip(first, second):
        counts[a, b] += 1
    return hits / counts, counts


# %% mistake="disaggregate" named="it is the error rate"
def disaggregate(right, first, second, shape):
    errors, counts = np.zeros(shape), np.zeros(shape, dtype=int)
    for a in range(shape[0]):
        for b in range(shape[1]):
            here = (first == a) & (second == b)
            errors[a, b], counts[a, b] = 1 - right[here].mean(), here.sum()
    return errors, counts


# %% mistake="disaggregate" named="averaged on its own, then multiplied"
def disaggregate(right, first, second, shape):
    by_first = np.array([right[first == a].mean() for a in range(shape[0])])
    by_second = np.array([right[second == b].mean() for b in range(shape[1])])
    counts = np.zeros(shape, dtype=int)
    np.add.at(counts, (first, second), 1)
    return np.outer(by_first, by_second), counts


# %% mistake="disaggregate" named="only right answers are counted"
def disaggregate(right, first, second, shape):
    accuracy, counts = np.zeros(shape), np.zeros(shape, dtype=int)
    for a in range(shape[0]):
        for b in range(shape[1]):
            here = right[(first == a) & (second == b)]
            accuracy[a, b], counts[a, b] = here.mean(), here.sum()
    return accuracy, counts


# %% mistake="disaggregate" named="got a NumPy array"
def disaggregate(right, first, second, shape):
    return np.array(
        [
            [right[(first == a) & (second == b)].mean() for b in range(shape[1])]
            for a in range(shape[0])
        ]
    )


# %% correct="disaggregate"
def disaggregate(right, first, second, shape):
    A, B = shape
    cells = first * B + second
    counts = np.bincount(cells, minlength=A * B).reshape(A, B)
    hits = np.bincount(cells, weights=right, minlength=A * B).reshape(A, B)
    return hits / counts, counts


# %% correct="disaggregate"
def disaggregate(right, first, second, shape):
    accuracy, counts = np.full(shape, np.nan), np.zeros(shape, dtype=int)
    for a, b in np.ndindex(*shape):
        here = np.logical_and(first == a, second == b)
        accuracy[a, b] = np.mean(right[here])
        counts[a, b] = len(right[here])
    print(counts)
    return [accuracy, counts]


# %% mistake="disaggregate" named="expected whole numbers"
def disaggregate(right, first, second, shape):
    counts, hits = np.zeros(shape), np.zeros(shape)
    np.add.at(counts, (first, second), 1)
    np.add.at(hits, (first, second), right)
    return hits / counts, counts


# %% mistake="retrain_head" named="the first of each group"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="classes are balanced, not groups"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(labels.max() + 1):
        of_g = torch.where(labels == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="within the group"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(torch.randperm(len(of_g), generator=generator)[:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="sorted"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen).sort().values
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="isn't undone"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    return W, b, chosen


# %% mistake="retrain_head" named="μ isn't undone"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b, chosen


# %% mistake="retrain_head" named="with the wrong sign"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b + W @ mean, chosen


# %% mistake="retrain_head" named="the wrong way round"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W * std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="aren't standardised"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = x
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    return W, b, chosen


# %% mistake="retrain_head" named="n − 1 below"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=True) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="summed, not averaged"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y, reduction="sum") + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="goes uphill"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W += rate * dW
            b += rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="b isn't learned"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="nothing decays"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y)
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="W decays twice as fast"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="b decays as well"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * (W.square().sum() + b.square().sum())
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="those of all examples, not of those chosen"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    everything = trunk(inputs).detach()
    mean, std = everything.mean(0), everything.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="ran in training mode"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    trunk.train()
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    trunk.eval()
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="NaN"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False)
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% mistake="retrain_head" named="the labels are the first ones"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[: len(chosen)]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% correct="retrain_head"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for g in range(groups.max() + 1):
        of_g = torch.where(groups == g)[0]
        chosen.append(of_g[torch.randperm(len(of_g), generator=generator)][:per_group])
    chosen = torch.cat(chosen)
    x, y = trunk(inputs[chosen]).detach(), labels[chosen]
    mean, std = x.mean(0), x.std(0, unbiased=False) + 1e-5
    z = (x - mean) / std
    K = labels.max() + 1
    W = torch.zeros(K, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(K, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = F.cross_entropy(z @ W.T + b, y) + decay / 2 * W.square().sum()
        dW, db = torch.autograd.grad(loss, (W, b))
        with torch.no_grad():
            W -= rate * dW
            b -= rate * db
    W, b = W.detach(), b.detach()
    W = W / std
    return W, b - W @ mean, chosen


# %% correct="retrain_head"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    """A layer, and torch's optimiser, without decay for the bias."""
    chosen = []
    for group in groups.unique().tolist():
        members = (groups == group).nonzero().squeeze(1)
        order = torch.randperm(members.numel(), generator=generator)
        chosen.extend(members[order[:per_group]].tolist())
    chosen = torch.tensor(chosen)
    with torch.inference_mode():
        features = torch.cat([trunk(inputs[[n]]) for n in chosen.tolist()])
    features = features.clone()
    mean = features.sum(0) / len(features)
    deviation = torch.sqrt(((features - mean) ** 2).mean(0)) + 1e-5
    layer = nn.Linear(features.shape[1], len(labels.unique()), dtype=features.dtype)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.SGD(
        [{"params": [layer.weight], "weight_decay": decay}, {"params": [layer.bias]}], lr=rate
    )
    for _ in range(steps):
        optimiser.zero_grad()
        loss = nn.CrossEntropyLoss()(layer((features - mean) / deviation), labels[chosen])
        loss.backward()
        optimiser.step()
    weight = layer.weight / deviation
    return weight, layer.bias - (weight * mean).sum(1), chosen


# %% correct="retrain_head"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    """In NumPy, with the bias as one feature more."""
    picked = []
    for g in range(int(groups.max()) + 1):
        where = np.flatnonzero(groups.numpy() == g)
        picked += list(where[torch.randperm(len(where), generator=generator).numpy()[:per_group]])
    with torch.no_grad():
        x = trunk(inputs[picked])
    dtype, x = x.dtype, x.double().numpy()
    mu, sigma = x.mean(0), x.std(0) + 1e-5
    z = np.column_stack([(x - mu) / sigma, np.ones(len(x))])
    Y = np.eye(int(labels.max()) + 1)[labels.numpy()[picked]]
    W = np.zeros((Y.shape[1], z.shape[1]))
    shrinks = np.append(np.ones(x.shape[1]), 0)
    for _ in range(steps):
        scores = z @ W.T
        p = np.exp(scores - scores.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        W -= rate * ((p - Y).T @ z / len(z) + decay * shrinks * W)
    weight = W[:, :-1] / sigma
    bias = W[:, -1] - weight @ mu
    return torch.tensor(weight).to(dtype), torch.tensor(bias).to(dtype), torch.tensor(picked)


# %% mistake="expected_calibration_error" named="lower edge and not its upper"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence >= m / bins) & (confidence < (m + 1) / bins + (m == bins - 1))
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = confidence[inside].mean()
    error = (counts / len(right) * np.abs(accuracy - mean_confidence)).sum()
    return error, accuracy, mean_confidence, counts


# %% mistake="expected_calibration_error" named="always ten bins"
def expected_calibration_error(confidence, right, bins=10):
    bins = 10
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = confidence[inside].mean()
    error = (counts / len(right) * np.abs(accuracy - mean_confidence)).sum()
    return error, accuracy, mean_confidence, counts


# %% mistake="expected_calibration_error" named="aren't weighted: each counts"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = confidence[inside].mean()
    error = np.abs(accuracy - mean_confidence)[counts > 0].mean()
    return error, accuracy, mean_confidence, counts


# %% mistake="expected_calibration_error" named="aren't weighted, and empty ones count"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = confidence[inside].mean()
    error = np.abs(accuracy - mean_confidence).mean()
    return error, accuracy, mean_confidence, counts


# %% mistake="expected_calibration_error" named="the largest gap"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = confidence[inside].mean()
    error = np.abs(accuracy - mean_confidence).max()
    return error, accuracy, mean_confidence, counts


# %% mistake="expected_calibration_error" named="the gaps cancel"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = confidence[inside].mean()
    error = (counts / len(right) * (accuracy - mean_confidence)).sum()
    return error, accuracy, mean_confidence, counts


# %% mistake="expected_calibration_error" named="the gaps cancel"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = confidence[inside].mean()
    error = abs((counts / len(right) * (accuracy - mean_confidence)).sum())
    return error, accuracy, mean_confidence, counts


# %% mistake="expected_calibration_error" named="squared"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = confidence[inside].mean()
    error = (counts / len(right) * (accuracy - mean_confidence) ** 2).sum()
    return error, accuracy, mean_confidence, counts


# %% mistake="expected_calibration_error" named="isn't divided by N"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = confidence[inside].mean()
    error = (counts * np.abs(accuracy - mean_confidence)).sum()
    return error, accuracy, mean_confidence, counts


# %% mistake="expected_calibration_error" named="NaN"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        with np.errstate(all="ignore"):
            accuracy[m] = right[inside].sum() / counts[m]
            mean_confidence[m] = confidence[inside].sum() / counts[m]
    error = (counts / len(right) * np.abs(accuracy - mean_confidence)).sum()
    return error, accuracy, mean_confidence, counts


# %% mistake="expected_calibration_error" named="the bin's middle"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = (m + 0.5) / bins
    error = (counts / len(right) * np.abs(accuracy - mean_confidence)).sum()
    return error, accuracy, mean_confidence, counts


# %% mistake="expected_calibration_error" named="are exchanged"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = confidence[inside].mean()
    error = (counts / len(right) * np.abs(accuracy - mean_confidence)).sum()
    return error, mean_confidence, accuracy, counts


# %% mistake="expected_calibration_error" named="divided by all answers"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].sum() / len(right)
            mean_confidence[m] = confidence[inside].mean()
    error = (counts / len(right) * np.abs(accuracy - mean_confidence)).sum()
    return error, accuracy, mean_confidence, counts


# %% mistake="expected_calibration_error" named="got a number"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = confidence[inside].mean()
    error = (counts / len(right) * np.abs(accuracy - mean_confidence)).sum()
    return error


# %% correct="expected_calibration_error"
def expected_calibration_error(confidence, right, bins=10):
    accuracy, mean_confidence, counts = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=int)
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        counts[m] = inside.sum()
        if counts[m] > 0:
            accuracy[m] = right[inside].mean()
            mean_confidence[m] = confidence[inside].mean()
    error = (counts / len(right) * np.abs(accuracy - mean_confidence)).sum()
    return error, accuracy, mean_confidence, counts


# %% correct="expected_calibration_error"
def expected_calibration_error(confidence, right, bins=10):
    """From the upper edges down."""
    totals = [[0, 0.0, 0] for _ in range(bins)]
    for c, r in zip(confidence.tolist(), right.tolist()):
        m = 0
        while c > (m + 1) / bins:
            m += 1
        totals[m][0] += r
        totals[m][1] += c
        totals[m][2] += 1
    hits, sums, counts = np.array(totals).T
    error = np.abs(hits - sums).sum() / counts.sum()
    accuracy = np.divide(hits, counts, out=np.zeros(bins), where=counts > 0)
    mean_confidence = np.divide(sums, counts, out=np.zeros(bins), where=counts > 0)
    return error, accuracy, mean_confidence, counts.astype(int)


# %% correct="expected_calibration_error"
def expected_calibration_error(confidence, right, bins=10):
    number = np.digitize(confidence, np.arange(bins + 1) / bins, right=True) - 1
    of_bin = number == np.arange(bins)[:, None]
    counts = of_bin.sum(1)
    accuracy = of_bin @ right.astype(float) / np.where(counts, counts, 1)
    mean_confidence = of_bin @ confidence / np.where(counts, counts, 1)
    error = np.average(np.abs(accuracy - mean_confidence), weights=counts)
    return error, accuracy, mean_confidence, counts


# %% correct="correct_answers"
def correct_answers(model, corrupted, labels):
    where = next(model.parameters()).device
    right = np.empty((len(corrupted), len(list(corrupted.values())[0]), len(labels)), dtype=bool)
    for c, series in enumerate(corrupted.values()):
        for s, images in enumerate(series):
            X = torch.as_tensor(np.moveaxis(images, 3, 1).copy(), device=where).float().div(255)
            with torch.no_grad():
                scores = torch.cat([model(part) for part in X.chunk(3)])
            right[c, s] = scores.cpu().numpy().argmax(axis=1) == labels
    return right


# %% correct="paired_difference"
def paired_difference(right_A, right_B):
    d = np.einsum("sn->n", 1.0 * right_B - right_A) / len(right_A)
    return np.average(d), np.sqrt(np.cov(d) / d.size)


# %% mistake="shape_bias" named="in per cent"
def shape_bias(answers, shapes, textures):
    conflict = shapes != textures
    by_shape = np.sum(conflict & (answers == shapes))
    by_texture = np.sum(conflict & (answers == textures))
    return 100 * by_shape / (by_shape + by_texture)


# %% correct="shape_bias"
def shape_bias(answers, shapes, textures):
    votes = [
        answer == shape
        for answer, shape, texture in zip(answers, shapes, textures)
        if shape != texture and answer in (shape, texture)
    ]
    return sum(votes) / len(votes)


# %% mistake="shuffle_patches" named="isn't put together"
def shuffle_patches(images, size, orders):
    N, C, H, W = images.shape
    patches = images.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5)
    return patches.reshape(N, -1, C, size, size)[torch.arange(N)[:, None], orders]


# %% correct="shuffle_patches"
def shuffle_patches(images, size, orders):
    N, C, H, W = images.shape
    rows, columns = H // size, W // size
    shuffled = []
    for image, order in zip(images, orders):
        patches = [
            image[:, i * size : (i + 1) * size, j * size : (j + 1) * size]
            for i in range(rows)
            for j in range(columns)
        ]
        patches = [patches[p] for p in order.tolist()]
        lines = [torch.cat(patches[i * columns : (i + 1) * columns], 2) for i in range(rows)]
        shuffled.append(torch.cat(lines, 1))
    return torch.stack(shuffled)


# %% correct="disaggregate"
def disaggregate(right, first, second, shape):
    cell = np.ravel_multi_index((first, second), shape)
    counts = np.bincount(cell, minlength=shape[0] * shape[1])
    hits = np.bincount(cell, weights=right, minlength=shape[0] * shape[1])
    return (hits / counts).reshape(shape), counts.reshape(shape)


# %% mistake="shuffle_patches" named="raised RuntimeError"
def shuffle_patches(images, size, orders):
    N, _, H, W = images.shape
    rows, columns = H // size, W // size
    patches = images.reshape(N, 3, rows, size, columns, size).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(N, rows * columns, 3, size, size)
    patches = patches[torch.arange(N)[:, None], orders]
    patches = patches.reshape(N, rows, columns, 3, size, size).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(N, 3, H, W)


# %% mistake="retrain_head" named="kept from falling below 1e-5"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for group in range(int(groups.max()) + 1):
        members = torch.nonzero(groups == group).flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator)[:per_group]])
    chosen = torch.cat(chosen)
    with torch.no_grad():
        x = trunk(inputs[chosen])
    mean, deviation = x.mean(0), x.std(0, correction=0).clamp(min=1e-5)
    z = (x - mean) / deviation
    targets = F.one_hot(labels[chosen], int(labels.max()) + 1).to(z.dtype)
    weight, bias = z.new_zeros(targets.shape[1], z.shape[1]), z.new_zeros(targets.shape[1])
    for _ in range(steps):
        error = ((z @ weight.T + bias).softmax(1) - targets) / len(z)
        weight = weight - rate * (error.T @ z + decay * weight)
        bias = bias - rate * error.sum(0)
    weight = weight / deviation
    return weight, bias - weight @ mean, chosen


# %% mistake="retrain_head" named="b's step is taken with the new W"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for group in range(int(groups.max()) + 1):
        members = torch.nonzero(groups == group).flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator)[:per_group]])
    chosen = torch.cat(chosen)
    with torch.no_grad():
        x = trunk(inputs[chosen])
    mean, deviation = x.mean(0), x.std(0, correction=0) + 1e-5
    z = (x - mean) / deviation
    targets = F.one_hot(labels[chosen], int(labels.max()) + 1).to(z.dtype)
    weight, bias = z.new_zeros(targets.shape[1], z.shape[1]), z.new_zeros(targets.shape[1])
    for _ in range(steps):
        weight = weight - rate * (
            (((z @ weight.T + bias).softmax(1) - targets) / len(z)).T @ z + decay * weight
        )
        bias = bias - rate * (((z @ weight.T + bias).softmax(1) - targets) / len(z)).sum(0)
    weight = weight / deviation
    return weight, bias - weight @ mean, chosen


# %% mistake="retrain_head" named="the last class is chosen: expected shape"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for group in groups.unique():
        members = torch.nonzero(groups == group).flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator)[:per_group]])
    chosen = torch.cat(chosen)
    with torch.no_grad():
        x = trunk(inputs[chosen])
    mean, deviation = x.mean(0), x.std(0, correction=0) + 1e-5
    z = (x - mean) / deviation
    targets = F.one_hot(labels[chosen]).to(z.dtype)
    weight, bias = z.new_zeros(targets.shape[1], z.shape[1]), z.new_zeros(targets.shape[1])
    for _ in range(steps):
        error = ((z @ weight.T + bias).softmax(1) - targets) / len(z)
        weight = weight - rate * (error.T @ z + decay * weight)
        bias = bias - rate * error.sum(0)
    weight = weight / deviation
    return weight, bias - weight @ mean, chosen


# %% mistake="paired_difference" named="as if they had seen different images"
def paired_difference(right_A, right_B):
    a, b, n = right_A.mean(), right_B.mean(), right_A.size
    return b - a, np.sqrt(a * (1 - a) / n + b * (1 - b) / n)


# %% mistake="shape_bias" named="the classes' biases are averaged"
def shape_bias(answers, shapes, textures):
    out = []
    for k in np.unique(shapes):
        i = (shapes == k) & (shapes != textures)
        s, t = (answers[i] == shapes[i]).sum(), (answers[i] == textures[i]).sum()
        if s + t:
            out.append(s / (s + t))
    return float(np.mean(out))


# %% mistake="retrain_head" named="added to the variance, as in BatchNorm"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    chosen = []
    for group in range(int(groups.max()) + 1):
        members = torch.nonzero(groups == group).flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator)[:per_group]])
    chosen = torch.cat(chosen)
    with torch.no_grad():
        x = trunk(inputs[chosen])
    mean, deviation = x.mean(0), (x.var(0, correction=0) + 1e-5).sqrt()
    z = (x - mean) / deviation
    targets = F.one_hot(labels[chosen], int(labels.max()) + 1).to(z.dtype)
    weight, bias = z.new_zeros(targets.shape[1], z.shape[1]), z.new_zeros(targets.shape[1])
    for _ in range(steps):
        error = ((z @ weight.T + bias).softmax(1) - targets) / len(z)
        weight = weight - rate * (error.T @ z + decay * weight)
        bias = bias - rate * error.sum(0)
    weight = weight / deviation
    return weight, bias - weight @ mean, chosen


# %% correct="expected_calibration_error"
def expected_calibration_error(confidence, right, bins=10):
    edges = torch.linspace(0, 1, bins + 1).numpy()
    acc, conf, cnt = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=np.int64)
    for m in range(bins):
        i = (confidence > edges[m]) & (confidence <= edges[m + 1])
        cnt[m] = i.sum()
        if cnt[m]:
            acc[m], conf[m] = right[i].mean(), confidence[i].mean()
    return (cnt / len(right) * abs(acc - conf)).sum(), acc, conf, cnt


# %% equivalent="correct_answers" reason="the answers are the same, only slower and with more memory"
# - with torch.no_grad():
# + if True:

# %% equivalent="correct_answers" reason="the tests run on the CPU"
# - parts = [model(part.to(where) / 255).argmax(1).cpu() for part in X.split(32)]
# + parts = [model(part.to(where) / 255).argmax(1) for part in X.split(32)]

# %% equivalent="correct_answers" reason="the tests run on the CPU"
# - parts = [model(part.to(where) / 255).argmax(1).cpu() for part in X.split(32)]
# + parts = [model(part / 255).argmax(1).cpu() for part in X.split(32)]

# %% equivalent="correct_answers" reason="any number of images at a time is right"
# - parts = [model(part.to(where) / 255).argmax(1).cpu() for part in X.split(32)]
# + parts = [model(part.to(where) / 255).argmax(1).cpu() for part in X.split(31)]

# %% equivalent="correct_answers" reason="any number of images at a time is right"
# - parts = [model(part.to(where) / 255).argmax(1).cpu() for part in X.split(32)]
# + parts = [model(part.to(where) / 255).argmax(1).cpu() for part in X.split(33)]

# %% equivalent="correct_answers" reason="on the CPU a tensor compares with an array, and np.array takes tensors as well"
# - right.append(torch.cat(parts).numpy() == labels)
# + right.append(torch.cat(parts) == labels)

# %% equivalent="correct_answers" reason="NumPy takes any negative size for what is left"
# - return np.array(right).reshape(len(corrupted), -1, len(labels))
# + return np.array(right).reshape(len(corrupted), -2, len(labels))

# %% equivalent="shuffle_patches" reason="size divides H and W"
# - rows, columns = H // size, W // size
# + rows, columns = -(-(H) // (size)), W // size

# %% equivalent="shuffle_patches" reason="size divides H and W"
# - rows, columns = H // size, W // size
# + rows, columns = H // size, -(-(W) // (size))

# %% equivalent="shuffle_patches" reason="the axes of a patch stay together, and the next reshape names them anew"
# - patches = patches.reshape(N, rows * columns, C, size, size)
# + patches = patches.reshape(N, rows * columns, size, C, size)

# %% equivalent="retrain_head" reason="range takes a tensor of one whole number"
# - for group in range(int(groups.max()) + 1):
# + for group in range(groups.max() + 1):

# %% equivalent="retrain_head" reason="a group without examples adds nothing, and draws nothing"
# - for group in range(int(groups.max()) + 1):
# + for group in range(int(groups.max()) + 2):

# %% equivalent="retrain_head" reason="the values are the same; the result is part of a graph"
# - with torch.no_grad():
# + if True:

# %% equivalent="retrain_head" reason="a float minus a whole number is a float"
# - targets = F.one_hot(labels[chosen], int(labels.max()) + 1).to(z.dtype)
# + targets = F.one_hot(labels[chosen], int(labels.max()) + 1)

# %% equivalent="retrain_head" reason="one_hot takes a tensor of one whole number"
# - targets = F.one_hot(labels[chosen], int(labels.max()) + 1).to(z.dtype)
# + targets = F.one_hot(labels[chosen], labels.max() + 1).to(z.dtype)

# %% equivalent="expected_calibration_error" reason="no confidence is above the last edge, which is 1"
# - number = np.searchsorted(np.arange(1, bins + 1) / bins, confidence)
# + number = np.searchsorted(np.arange(1, bins) / bins, confidence)

# %% equivalent="expected_calibration_error" reason="no confidence is above the last edge, which is 1"
# - number = np.searchsorted(np.arange(1, bins + 1) / bins, confidence)
# + number = np.searchsorted(np.arange(1, bins * 1) / bins, confidence)

# %% equivalent="expected_calibration_error" reason="no confidence is above the last edge, which is 1"
# - number = np.searchsorted(np.arange(1, bins + 1) / bins, confidence)
# + number = np.searchsorted(np.arange(1, bins + 2) / bins, confidence)

# %% equivalent="expected_calibration_error" reason="no confidence is above the last edge, which is 1"
# - number = np.searchsorted(np.arange(1, bins + 1) / bins, confidence)
# + number = np.searchsorted(np.arange(1, bins + 0) / bins, confidence)

# %% equivalent="expected_calibration_error" reason="the absolute value is symmetric"
# - error = np.abs(hits - confidences).sum() / len(confidence)
# + error = np.abs(confidences - hits).sum() / len(confidence)
