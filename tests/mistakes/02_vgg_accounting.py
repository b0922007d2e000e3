# %% [markdown]
# # Known answers to lab 02
#
# Each cell replaces one exercise's cell. Wrong ones must lose points and be named.

# %% mistake="output_size" named="last window is forgotten"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    return (size + 2 * padding - dilation * (kernel_size - 1) - 1) // stride


# %% mistake="output_size" named="one end only"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    return (size + padding - dilation * (kernel_size - 1) - 1) // stride + 1


# %% mistake="output_size" named="padding is ignored"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    return (size - dilation * (kernel_size - 1) - 1) // stride + 1


# %% mistake="output_size" named="stride is ignored"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    return size + 2 * padding - dilation * (kernel_size - 1)


# %% mistake="output_size" named="divides the + 1 too"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    return (size + 2 * padding - dilation * (kernel_size - 1)) // stride


# %% mistake="output_size" named="isn't rounded down"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    return (size + 2 * padding - dilation * (kernel_size - 1) - 1) / stride + 1


# %% mistake="output_size" named="rounded up"
import math


def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    return math.ceil((size + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1


# %% mistake="output_size" named="dilation is ignored"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    return (size + 2 * padding - kernel_size) // stride + 1


# %% mistake="output_size" named="the last tap needs no gap"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    return (size + 2 * padding - dilation * kernel_size) // stride + 1


# %% mistake="output_size" named="pixels skipped between taps"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    covered = kernel_size + dilation * (kernel_size - 1)
    return (size + 2 * padding - covered) // stride + 1


# %% correct="output_size"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    covered, count, start = dilation * (kernel_size - 1) + 1, 0, -padding
    while start + covered <= size + padding:
        count, start = count + 1, start + stride
    return count


# %% correct="output_size"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    return float(np.floor((size + 2 * padding - dilation * (kernel_size - 1) - 1) / stride + 1))


# %% correct="output_size"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    window = dilation * (kernel_size - 1) + 1
    return len(range(0, size + 2 * padding - window + 1, stride))


# %% mistake="output_size" named="sticks out by a pixel"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    return (size + 2 * padding - dilation * (kernel_size - 1)) // stride + 1


# %% mistake="output_size" named="line 2 calls `torch.nn.Conv1d`"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    layer = nn.Conv1d(1, 1, kernel_size, stride, padding, dilation, device="meta")
    return layer(torch.zeros(1, 1, size, device="meta")).shape[-1]


# %% mistake="conv_parameters" named="bias=False is ignored"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    return out_channels * (in_channels * kernel_size[0] * kernel_size[1] + 1)


# %% mistake="conv_parameters" named="biases are missing"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    return out_channels * in_channels * kernel_size[0] * kernel_size[1]


# %% mistake="conv_parameters" named="one window for all channels"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    return out_channels * (kernel_size[0] * kernel_size[1] + bias)


# %% mistake="conv_parameters" named="single filter"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    return in_channels * kernel_size[0] * kernel_size[1] + bias


# %% mistake="conv_parameters" named="as wide as it is high"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    return out_channels * (in_channels * kernel_size[0] ** 2 + bias)


# %% mistake="conv_parameters" named="each input channel"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    weights = in_channels * out_channels * kernel_size[0] * kernel_size[1]
    return weights + in_channels if bias else weights


# %% mistake="conv_parameters" named="single bias"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    return in_channels * out_channels * kernel_size[0] * kernel_size[1] + bias


# %% mistake="conv_parameters" named="pair of channels"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    return in_channels * out_channels * (kernel_size[0] * kernel_size[1] + bias)


# %% mistake="conv_parameters" named="each weight"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    weights = in_channels * out_channels * kernel_size[0] * kernel_size[1]
    return 2 * weights if bias else weights


# %% mistake="conv_parameters" named="are added, not multiplied"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    return out_channels * (in_channels * sum(kernel_size) + bias)


# %% mistake="conv_parameters" named="line 2 calls `torch.nn.Conv2d`"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, bias=bias, device="meta")
    return sum(parameter.numel() for parameter in layer.parameters())


# %% correct="conv_parameters"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    total = 0
    for _ in range(out_channels):
        for _ in range(in_channels):
            total += kernel_size[0] * kernel_size[1]
        total += 1 if bias else 0
    return total


# %% correct="conv_parameters"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    one_filter = in_channels
    for side in kernel_size:
        one_filter *= side
    return (one_filter + (1 if bias else 0)) * out_channels


# %% correct="conv_parameters"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    weights = np.prod(kernel_size) * in_channels * out_channels
    if bias:
        weights += out_channels
    return weights


# %% mistake="conv_multiply_adds" named="FLOPs are counted"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    return int(2 * np.prod(output_shape) * in_channels * np.prod(kernel_size))


# %% mistake="conv_multiply_adds" named="bias is counted"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    return int(np.prod(output_shape) * (in_channels * np.prod(kernel_size) + 1))


# %% mistake="conv_multiply_adds" named="only one input channel"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    return int(np.prod(output_shape) * np.prod(kernel_size))


# %% mistake="conv_multiply_adds" named="only one filter"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    return int(np.prod(output_shape[1:]) * in_channels * np.prod(kernel_size))


# %% mistake="conv_multiply_adds" named="used at every position"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    return int(output_shape[0] * in_channels * np.prod(kernel_size))


# %% mistake="conv_multiply_adds" named="window is taken for square"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    return int(np.prod(output_shape) * in_channels * kernel_size[0] ** 2)


# %% mistake="conv_multiply_adds" named="output is taken for square"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    return int(output_shape[0] * output_shape[1] ** 2 * in_channels * np.prod(kernel_size))


# %% mistake="conv_multiply_adds" named="the window is left out"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    return int(np.prod(output_shape) * in_channels)


# %% mistake="conv_multiply_adds" named="without the first addition"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    products = in_channels * kernel_size[0] * kernel_size[1]
    return int(np.prod(output_shape)) * (products + products - 1)


# %% mistake="conv_multiply_adds" named="line 6 calls `torch.nn.Conv2d`"
from torch.utils.flop_counter import FlopCounterMode


def conv_multiply_adds(in_channels, output_shape, kernel_size):
    (channels, height, width), (rows, columns) = output_shape, kernel_size
    layer = nn.Conv2d(in_channels, channels, kernel_size, device="meta")
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, in_channels, height + rows - 1, width + columns - 1, device="meta"))
    return counter.get_total_flops() // 2


# %% correct="conv_multiply_adds"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    work = 0
    for _ in range(output_shape[1]):
        for _ in range(output_shape[2]):
            work += output_shape[0] * in_channels * kernel_size[0] * kernel_size[1]
    return work


# %% correct="conv_multiply_adds"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    count = 1
    for factor in (in_channels, *output_shape, *kernel_size):
        count *= factor
    return count


# %% correct="conv_multiply_adds"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    out_channels, height, width = output_shape
    return conv_parameters(in_channels, out_channels, kernel_size, bias=False) * height * width


# %% mistake="vgg_table" named="row of the input is missing"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = []
    for layer in convolutions:
        weights = 0
        if layer == "M":
            height, width = height // 2, width // 2
        else:
            weights, channels = 9 * channels * layer, layer
        values = channels * height * width
        table.append(((channels, height, width), values, weights, weights * height * width))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((outputs, 1, 1), outputs, inputs * outputs, inputs * outputs))
        inputs = outputs
    return table


# %% mistake="vgg_table" named="rows of the pools are missing"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [(input_shape, channels * height * width, 0, 0)]
    for layer in convolutions:
        if layer == "M":
            height, width = height // 2, width // 2
            continue
        weights, channels = 9 * channels * layer, layer
        values = channels * height * width
        table.append(((channels, height, width), values, weights, weights * height * width))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((outputs, 1, 1), outputs, inputs * outputs, inputs * outputs))
        inputs = outputs
    return table


# %% mistake="vgg_table" named="the channels come first"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [((height, width, channels), channels * height * width, 0, 0)]
    for layer in convolutions:
        weights = 0
        if layer == "M":
            height, width = height // 2, width // 2
        else:
            weights, channels = 9 * channels * layer, layer
        values = channels * height * width
        table.append(((height, width, channels), values, weights, weights * height * width))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((1, 1, outputs), outputs, inputs * outputs, inputs * outputs))
        inputs = outputs
    return table


# %% mistake="vgg_table" named="padding 1 they keep the size"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [(input_shape, channels * height * width, 0, 0)]
    for layer in convolutions:
        weights = 0
        if layer == "M":
            height, width = height // 2, width // 2
        else:
            weights, channels = 9 * channels * layer, layer
            height, width = height - 2, width - 2
        values = channels * height * width
        table.append(((channels, height, width), values, weights, weights * height * width))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((outputs, 1, 1), outputs, inputs * outputs, inputs * outputs))
        inputs = outputs
    return table


# %% mistake="vgg_table" named="pools don't halve"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [(input_shape, channels * height * width, 0, 0)]
    for layer in convolutions:
        weights = 0
        if layer != "M":
            weights, channels = 9 * channels * layer, layer
        values = channels * height * width
        table.append(((channels, height, width), values, weights, weights * height * width))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((outputs, 1, 1), outputs, inputs * outputs, inputs * outputs))
        inputs = outputs
    return table


# %% mistake="vgg_table" named="expected the tuple (C, H, W)"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [(input_shape, channels * height * width, 0, 0)]
    for layer in convolutions:
        weights = 0
        if layer == "M":
            height, width = height // 2, width // 2
        else:
            weights, channels = 9 * channels * layer, layer
        values = channels * height * width
        table.append(((channels, height, width), values, weights, weights * height * width))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((outputs,), outputs, inputs * outputs, inputs * outputs))
        inputs = outputs
    return table


# %% mistake="vgg_table" named="each value counts as one"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [(input_shape, 4 * channels * height * width, 0, 0)]
    for layer in convolutions:
        weights = 0
        if layer == "M":
            height, width = height // 2, width // 2
        else:
            weights, channels = 9 * channels * layer, layer
        values = channels * height * width
        table.append(((channels, height, width), 4 * values, weights, weights * height * width))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((outputs, 1, 1), 4 * outputs, inputs * outputs, inputs * outputs))
        inputs = outputs
    return table


# %% mistake="vgg_table" named="biases are counted"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [(input_shape, channels * height * width, 0, 0)]
    for layer in convolutions:
        weights = biases = 0
        if layer == "M":
            height, width = height // 2, width // 2
        else:
            weights, channels, biases = 9 * channels * layer, layer, layer
        values = channels * height * width
        work = weights * height * width
        table.append(((channels, height, width), values, weights + biases, work))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((outputs, 1, 1), outputs, (inputs + 1) * outputs, inputs * outputs))
        inputs = outputs
    return table


# %% mistake="vgg_table" named="every convolution sees 3 channels"
def vgg_table(convolutions, fully_connected, input_shape):
    in_channels, height, width = input_shape
    channels = in_channels
    table = [(input_shape, channels * height * width, 0, 0)]
    for layer in convolutions:
        weights = 0
        if layer == "M":
            height, width = height // 2, width // 2
        else:
            weights, channels = 9 * in_channels * layer, layer
        values = channels * height * width
        table.append(((channels, height, width), values, weights, weights * height * width))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((outputs, 1, 1), outputs, inputs * outputs, inputs * outputs))
        inputs = outputs
    return table


# %% mistake="vgg_table" named="as many channels as it puts out"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [(input_shape, channels * height * width, 0, 0)]
    for layer in convolutions:
        weights = 0
        if layer == "M":
            height, width = height // 2, width // 2
        else:
            channels = layer
            weights = 9 * channels * layer
        values = channels * height * width
        table.append(((channels, height, width), values, weights, weights * height * width))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((outputs, 1, 1), outputs, inputs * outputs, inputs * outputs))
        inputs = outputs
    return table


# %% mistake="vgg_table" named="it sees the whole map"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [(input_shape, channels * height * width, 0, 0)]
    for layer in convolutions:
        weights = 0
        if layer == "M":
            height, width = height // 2, width // 2
        else:
            weights, channels = 9 * channels * layer, layer
        values = channels * height * width
        table.append(((channels, height, width), values, weights, weights * height * width))
    for outputs in fully_connected:
        table.append(((outputs, 1, 1), outputs, channels * outputs, channels * outputs))
        channels = outputs
    return table


# %% mistake="vgg_table" named="FLOPs are counted"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [(input_shape, channels * height * width, 0, 0)]
    for layer in convolutions:
        weights = 0
        if layer == "M":
            height, width = height // 2, width // 2
        else:
            weights, channels = 9 * channels * layer, layer
        values = channels * height * width
        table.append(((channels, height, width), values, weights, 2 * weights * height * width))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((outputs, 1, 1), outputs, inputs * outputs, 2 * inputs * outputs))
        inputs = outputs
    return table


# %% mistake="vgg_table" named="fully connected layers take no multiply-adds"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [(input_shape, channels * height * width, 0, 0)]
    for layer in convolutions:
        weights = 0
        if layer == "M":
            height, width = height // 2, width // 2
        else:
            weights, channels = 9 * channels * layer, layer
        values = channels * height * width
        table.append(((channels, height, width), values, weights, weights * height * width))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((outputs, 1, 1), outputs, inputs * outputs, 0))
        inputs = outputs
    return table


# %% mistake="vgg_table" named="pools round up"
# VGG-16 on 224 × 224 never meets an odd size.
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [(input_shape, channels * height * width, 0, 0)]
    for layer in convolutions:
        weights = 0
        if layer == "M":
            height, width = -(height // -2), -(width // -2)
        else:
            weights, channels = 9 * channels * layer, layer
        values = channels * height * width
        table.append(((channels, height, width), values, weights, weights * height * width))
    inputs = channels * height * width
    for outputs in fully_connected:
        table.append(((outputs, 1, 1), outputs, inputs * outputs, inputs * outputs))
        inputs = outputs
    return table


# %% correct="vgg_table"
def vgg_table(convolutions, fully_connected, input_shape):
    channels, height, width = input_shape
    table = [[list(input_shape), channels * height * width, 0, 0]]
    for layer in convolutions:
        weights = 0
        if layer == "M":
            height, width = output_size(height, 2, 2), output_size(width, 2, 2)
        else:
            weights, channels = conv_parameters(channels, layer, (3, 3), bias=False), layer
        values = channels * height * width
        table.append([[channels, height, width], values, weights, weights * height * width])
    for outputs in fully_connected:
        weights = conv_parameters(channels, outputs, (height, width), bias=False)
        channels, height, width = outputs, 1, 1
        table.append([[outputs, 1, 1], outputs, weights, weights])
    return table


# %% correct="vgg_table"
def vgg_table(convolutions, fully_connected, input_shape):
    shapes, weights = [tuple(input_shape)], [0]
    for layer in convolutions:
        C, H, W = shapes[-1]
        pool = layer == "M"
        shapes.append((C, H // 2, W // 2) if pool else (layer, H, W))
        weights.append(0 if pool else layer * C * 9)
    for outputs in fully_connected:
        weights.append(outputs * int(np.prod(shapes[-1])))
        shapes.append((outputs, 1, 1))
    return [
        (shape, int(np.prod(shape)), count, count * shape[1] * shape[2])
        for shape, count in zip(shapes, weights, strict=True)
    ]


# %% correct="vgg_table"
def vgg_table(convolutions, fully_connected, input_shape):
    def walk(shape, layers):
        if not layers:
            return []
        channels, height, width = shape
        kind, layer = layers[0]
        if kind == "pool":
            out, count = (channels, height // 2, width // 2), 0
        elif kind == "conv":
            out, count = (layer, height, width), 9 * channels * layer
        else:
            out, count = (layer, 1, 1), channels * height * width * layer
        row = (out, out[0] * out[1] * out[2], count, count * out[1] * out[2])
        return [row, *walk(out, layers[1:])]

    layers = [("pool" if layer == "M" else "conv", layer) for layer in convolutions]
    layers += [("full", layer) for layer in fully_connected]
    values = input_shape[0] * input_shape[1] * input_shape[2]
    return [(input_shape, values, 0, 0), *walk(input_shape, layers)]


# %% mistake="vgg_table" named="calls `torch.zeros`"
def vgg_table(convolutions, fully_connected, input_shape):
    x = torch.zeros(1, *input_shape, device="meta")
    table = [(x.shape[1:], x.numel(), 0, 0)]
    for layer in convolutions:
        if layer == "M":
            x = nn.functional.max_pool2d(x, 2)
            table.append((x.shape[1:], x.numel(), 0, 0))
        else:
            conv = nn.Conv2d(x.shape[1], layer, 3, padding=1, bias=False, device="meta")
            x = conv(x)
            work = conv.weight.numel() * x.shape[2] * x.shape[3]
            table.append((x.shape[1:], x.numel(), conv.weight.numel(), work))
    for outputs in fully_connected:
        conv = nn.Conv2d(x.shape[1], outputs, x.shape[2:], bias=False, device="meta")
        x = conv(x)
        table.append((x.shape[1:], x.numel(), conv.weight.numel(), conv.weight.numel()))
    return table


# %% mistake="total_with_inputs" named="only the outputs are entered"
def total_with_inputs(table):
    return sum(row[1] for row in table)


# %% mistake="total_with_inputs" named="pools enter their inputs too"
def total_with_inputs(table):
    return sum(row[1] for row in table) + sum(row[1] for row in table[:-1])


# %% mistake="total_with_inputs" named="it is the input that is entered"
def total_with_inputs(table):
    return sum(row[1] * (2 if row[2] else 1) for row in table)


# %% mistake="total_with_inputs" named="every layer enters its own"
def total_with_inputs(table):
    total = 0
    for i in range(1, len(table)):
        if table[i][2] > 0:
            total += table[i][1] + table[i - 1][1]
    return total


# %% mistake="total_with_inputs" named="the row after"
def total_with_inputs(table):
    total = sum(row[1] for row in table)
    for i in range(len(table) - 1):
        if table[i][2]:
            total += table[i + 1][1]
    return total


# %% mistake="total_with_inputs" named="everything is entered twice"
def total_with_inputs(table):
    return 2 * sum(row[1] for row in table)


# %% mistake="total_with_inputs" named="only the inputs of layers"
def total_with_inputs(table):
    return sum(table[i - 1][1] for i in range(1, len(table)) if table[i][2])


# %% mistake="total_with_inputs" named="the image itself is left out"
def total_with_inputs(table):
    total = 0
    for i in range(1, len(table)):
        total += table[i][1]
        if table[i][2]:
            total += table[i - 1][1]
    return total


# %% mistake="total_with_inputs" named="those of the layers without parameters"
def total_with_inputs(table):
    total = sum(row[1] for row in table)
    for before, row in zip(table, table[1:]):
        if row[2] == 0:
            total += before[1]
    return total


# %% mistake="total_with_inputs" named="it is the row itself that has to learn"
def total_with_inputs(table):
    total = sum(row[1] for row in table)
    for before, row in zip(table, table[1:]):
        if before[2]:
            total += before[1]
    return total


# %% mistake="total_with_inputs" named="a fully connected layer enters no input"
def total_with_inputs(table):
    total = table[0][1]
    for before, row in zip(table, table[1:]):
        total += row[1]
        if row[2] > 0 and row[0][1:] != (1, 1):
            total += before[1]
    return total


# %% correct="total_with_inputs"
def total_with_inputs(table):
    if len(table) == 1:
        return table[0][1]
    *first, before, last = table
    return total_with_inputs([*first, before]) + last[1] + (before[1] if last[2] else 0)


# %% correct="total_with_inputs"
def total_with_inputs(table):
    total = table[0][1]
    for i in range(1, len(table)):
        total += table[i][1]
        if table[i][2] > 0:
            total += table[i - 1][1]
    return total


# %% correct="total_with_inputs"
def total_with_inputs(table):
    values = np.array([row[1] for row in table])
    learns = np.array([row[2] > 0 for row in table])
    return values.sum() + (values[:-1] * learns[1:]).sum()


# %% mistake="inference_peak" named="all values are added up"
def inference_peak(values):
    return sum(values)


# %% mistake="inference_peak" named="only the largest tensor"
def inference_peak(values):
    return max(values)


# %% mistake="inference_peak" named="needn't be neighbours"
def inference_peak(values):
    return sum(sorted(values)[-2:])


# %% mistake="inference_peak" named="first layer's input is left out"
def inference_peak(values):
    return max(values[i] + values[i + 1] for i in range(1, len(values) - 1))


# %% mistake="inference_peak" named="the last output is taken"
def inference_peak(values):
    return max(values[i] + values[i - 1] for i in range(len(values)))


# %% mistake="inference_peak" named="three tensors in a row"
def inference_peak(values):
    return max(sum(values[i : i + 3]) for i in range(len(values)))


# %% mistake="inference_peak" named="twice the largest tensor"
def inference_peak(values):
    return 2 * max(values)


# %% mistake="inference_peak" named="the last layer's output is left out"
def inference_peak(values):
    return max(values[i] + values[i + 1] for i in range(len(values) - 2))


# %% mistake="inference_peak" named="every second layer is left out"
def inference_peak(values):
    return max(values[i] + values[i + 1] for i in range(0, len(values) - 1, 2))


# %% correct="inference_peak"
def inference_peak(values):
    before, *rest = values
    peak = 0
    while rest:
        after = rest.pop(0)
        peak = max(before + after, peak)
        before = after
    return peak


# %% correct="inference_peak"
def inference_peak(values):
    peak = 0
    for i in range(1, len(values)):
        peak = max(peak, values[i - 1] + values[i])
    return peak


# %% correct="inference_peak"
def inference_peak(values):
    values = np.array(values)
    return (values[1:] + values[:-1]).max()


# %% mistake="bytes_for_backward" named="not bytes"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear"):
            needed.add(i - 1)
        elif kind == "relu":
            needed.add(i)
        elif kind in ("pool", "dropout"):
            extra += values
    return sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="count a tensor each"
def bytes_for_backward(layers):
    total = 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear"):
            total += 4 * layers[i - 1][1]
        elif kind == "relu":
            total += 4 * values
        elif kind in ("pool", "dropout"):
            total += values
    return total


# %% mistake="bytes_for_backward" named="output of a layer that learns is kept"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear", "relu"):
            needed.add(i)
        elif kind in ("pool", "dropout"):
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="whether needed or not"
def bytes_for_backward(layers):
    total = 0
    for kind, values in layers:
        total += 4 * values
        if kind in ("pool", "dropout"):
            total += values
    return total


# %% mistake="bytes_for_backward" named="count a tensor each"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear", "relu"):
            needed.add(i - 1)
        elif kind in ("pool", "dropout"):
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="ReLU's input is kept"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear", "relu"):
            needed.add(i - 1)
        if kind == "relu":
            needed.add(i)
        elif kind in ("pool", "dropout"):
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="a linear layer keeps nothing"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind == "conv":
            needed.add(i - 1)
        elif kind == "relu":
            needed.add(i)
        elif kind in ("pool", "dropout"):
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="ReLU needs nothing"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear"):
            needed.add(i - 1)
        elif kind in ("pool", "dropout"):
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="a pool keeps its input, too"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear", "pool"):
            needed.add(i - 1)
        elif kind == "relu":
            needed.add(i)
        if kind in ("pool", "dropout"):
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="a dropout keeps its input, too"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear", "dropout"):
            needed.add(i - 1)
        elif kind == "relu":
            needed.add(i)
        if kind in ("pool", "dropout"):
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="places and masks take 4 bytes each"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear"):
            needed.add(i - 1)
        elif kind == "relu":
            needed.add(i)
        elif kind in ("pool", "dropout"):
            extra += values
    return 4 * (sum(layers[i][1] for i in needed) + extra)


# %% mistake="bytes_for_backward" named="a pool keeps nothing"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear"):
            needed.add(i - 1)
        elif kind == "relu":
            needed.add(i)
        elif kind == "dropout":
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="the image itself is left out"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers[1:], start=1):
        if kind in ("conv", "linear") and i > 1:
            needed.add(i - 1)
        elif kind == "relu":
            needed.add(i)
        elif kind in ("pool", "dropout"):
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="a conv layer keeps nothing"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind == "linear":
            needed.add(i - 1)
        elif kind == "relu":
            needed.add(i)
        elif kind in ("pool", "dropout"):
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="ReLU keeps a byte for each value"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear"):
            needed.add(i - 1)
        elif kind in ("relu", "pool", "dropout"):
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="instead of the place of each maximum"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear", "pool"):
            needed.add(i - 1)
        elif kind == "relu":
            needed.add(i)
        elif kind == "dropout":
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% mistake="bytes_for_backward" named="a dropout keeps nothing"
def bytes_for_backward(layers):
    needed, extra = set(), 0
    for i, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear"):
            needed.add(i - 1)
        elif kind == "relu":
            needed.add(i)
        elif kind == "pool":
            extra += values
    return 4 * sum(layers[i][1] for i in needed) + extra


# %% correct="bytes_for_backward"
def bytes_for_backward(layers):
    extra, tensors = 0, [0] * len(layers)
    for i in range(1, len(layers)):
        kind, values = layers[i]
        match kind:
            case "conv" | "linear":
                tensors[i - 1] = layers[i - 1][1]
            case "relu":
                tensors[i] = values
            case _:
                extra += values
    return sum(tensors) * 4 + extra


# %% correct="bytes_for_backward"
def bytes_for_backward(layers):
    total = 0
    for i, (kind, values) in enumerate(layers):
        by_next = i + 1 < len(layers) and layers[i + 1][0] in ("conv", "linear")
        if by_next or kind == "relu":
            total += 4 * values
        if kind in ("pool", "dropout"):
            total += values
    return total


# %% correct="bytes_for_backward"
def bytes_for_backward(layers):
    keep = np.zeros(len(layers), dtype=bool)
    values = np.array([n for _, n in layers])
    kinds = np.array([kind for kind, _ in layers])
    keep[:-1] |= np.isin(kinds[1:], ["conv", "linear"])
    keep |= kinds == "relu"
    return (4 * values[keep]).sum() + values[np.isin(kinds, ["pool", "dropout"])].sum()


# %% mistake="largest_batch" named="it should be 0"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    copies = {"sgd": 2, "momentum": 3, "adam": 4}[optimizer]
    return (card_bytes - 4 * parameters * copies) // bytes_per_image


# %% mistake="largest_batch" named="round down"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    copies = {"sgd": 2, "momentum": 3, "adam": 4}[optimizer]
    return max(0, (card_bytes - 4 * parameters * copies) / bytes_per_image)


# %% mistake="largest_batch" named="rounded up"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    copies = {"sgd": 2, "momentum": 3, "adam": 4}[optimizer]
    return max(0, -((card_bytes - 4 * parameters * copies) // -bytes_per_image))


# %% mistake="largest_batch" named="or their gradients, are left out"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    copies = {"sgd": 1, "momentum": 2, "adam": 3}[optimizer]
    return max(0, (card_bytes - 4 * parameters * copies) // bytes_per_image)


# %% mistake="largest_batch" named="what the optimiser remembers is left out"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    return max(0, (card_bytes - 8 * parameters) // bytes_per_image)


# %% mistake="largest_batch" named="not their bytes"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    copies = {"sgd": 2, "momentum": 3, "adam": 4}[optimizer]
    return max(0, (card_bytes - parameters * copies) // bytes_per_image)


# %% mistake="largest_batch" named="they are shared"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    copies = {"sgd": 2, "momentum": 3, "adam": 4}[optimizer]
    return card_bytes // (4 * parameters * copies + bytes_per_image)


# %% mistake="largest_batch" named="all that goes with them are left out"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    return card_bytes // bytes_per_image


# %% mistake="largest_batch" named="a value too many"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    copies = {"sgd": 3, "momentum": 4, "adam": 5}[optimizer]
    return max(0, (card_bytes - 4 * parameters * copies) // bytes_per_image)


# %% mistake="largest_batch" named="it is in bytes already"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    copies = {"sgd": 2, "momentum": 3, "adam": 4}[optimizer]
    return max(0, (card_bytes - 4 * parameters * copies) // (4 * bytes_per_image))


# %% mistake="largest_batch" named="there is one image where none fits"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    copies = {"sgd": 2, "momentum": 3, "adam": 4}[optimizer]
    return max(1, (card_bytes - 4 * parameters * copies) // bytes_per_image)


# %% mistake="largest_batch" named="to the last byte fits"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    copies = {"sgd": 2, "momentum": 3, "adam": 4}[optimizer]
    return max(0, (card_bytes - 4 * parameters * copies - 1) // bytes_per_image)


# %% correct="largest_batch"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    copies = 2
    if optimizer != "sgd":
        copies += 1 if optimizer == "momentum" else 2
    fixed = copies * parameters * 4
    if fixed > card_bytes:
        return 0
    images, _ = divmod(card_bytes - fixed, bytes_per_image)
    return images


# %% correct="largest_batch"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    per_parameter = 8
    if optimizer == "momentum":
        per_parameter = 12
    elif optimizer == "adam":
        per_parameter = 16
    left = card_bytes - per_parameter * parameters
    return left // bytes_per_image if left > 0 else 0


# %% correct="largest_batch"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    fixed = 4 * parameters * (2 + ["sgd", "momentum", "adam"].index(optimizer))
    return np.maximum(0, np.floor((card_bytes - fixed) / bytes_per_image))


# %% mistake="receptive_field" named="starts at 1"
def receptive_field(layers):
    size, jump = 0, 1
    for kernel_size, stride, dilation in layers:
        size += dilation * (kernel_size - 1) * jump
        jump *= stride
    return size, jump


# %% mistake="receptive_field" named="one less, as the windows overlap"
def receptive_field(layers):
    size, jump = 1, 1
    for kernel_size, stride, dilation in layers:
        size += dilation * kernel_size * jump
        jump *= stride
    return size, jump


# %% mistake="receptive_field" named="update the jump afterwards"
def receptive_field(layers):
    size, jump = 1, 1
    for kernel_size, stride, dilation in layers:
        jump *= stride
        size += dilation * (kernel_size - 1) * jump
    return size, jump


# %% mistake="receptive_field" named="strides are ignored"
def receptive_field(layers):
    size, jump = 1, 1
    for kernel_size, stride, dilation in layers:
        size += dilation * (kernel_size - 1)
        jump *= stride
    return size, jump


# %% mistake="receptive_field" named="dilation is ignored"
def receptive_field(layers):
    size, jump = 1, 1
    for kernel_size, stride, dilation in layers:
        size += (kernel_size - 1) * jump
        jump *= stride
    return size, jump


# %% mistake="receptive_field" named="from the top down"
def receptive_field(layers):
    size, jump = 1, 1
    for kernel_size, stride, dilation in reversed(layers):
        size += dilation * (kernel_size - 1) * jump
        jump *= stride
    return size, jump


# %% mistake="receptive_field" named="strides are added"
def receptive_field(layers):
    size, jump, total = 1, 1, 0
    for kernel_size, stride, dilation in layers:
        size += dilation * (kernel_size - 1) * jump
        jump *= stride
        total += stride
    return size, total


# %% mistake="receptive_field" named="from a start of 0"
def receptive_field(layers):
    size, jump = 0, 1
    for kernel_size, stride, dilation in layers:
        size += dilation * kernel_size * jump
        jump *= stride
    return size, jump


# %% mistake="receptive_field" named="counted once for the layer"
def receptive_field(layers):
    size, jump = 1, 1
    for kernel_size, stride, dilation in layers:
        size += (kernel_size - 1 + dilation - 1) * jump
        jump *= stride
    return size, jump


# %% mistake="receptive_field" named="only the last stride counts"
def receptive_field(layers):
    size, before, jump = 1, 1, 1
    for kernel_size, stride, dilation in layers:
        size += dilation * (kernel_size - 1) * before
        before = stride
        jump *= stride
    return size, jump


# %% mistake="receptive_field" named="it only widens the window"
def receptive_field(layers):
    size, jump, product = 1, 1, 1
    for kernel_size, stride, dilation in layers:
        size += dilation * (kernel_size - 1) * jump
        jump *= stride
        product *= stride * dilation
    return size, product


# %% mistake="receptive_field" named="windows are multiplied"
def receptive_field(layers):
    size, jump = 1, 1
    for kernel_size, stride, dilation in layers:
        size *= dilation * (kernel_size - 1) + 1
        jump *= stride
    return size, jump


# %% mistake="receptive_field" named="size and jump are exchanged"
def receptive_field(layers):
    size, jump = 1, 1
    for kernel_size, stride, dilation in layers:
        size += dilation * (kernel_size - 1) * jump
        jump *= stride
    return jump, size


# %% correct="receptive_field"
# From the top down, as it is often written: n values of a layer see (n − 1)·s + d(k − 1) + 1.
def receptive_field(layers):
    size = 1
    for kernel_size, stride, dilation in layers[::-1]:
        size = (size - 1) * stride + dilation * (kernel_size - 1) + 1
    return [size, int(np.prod([layer[1] for layer in layers]))]


# %% correct="receptive_field"
def receptive_field(layers):
    if not layers:
        return 1, 1
    size, jump = receptive_field(layers[:-1])
    kernel_size, stride, dilation = layers[-1]
    return size + dilation * jump * (kernel_size - 1), jump * stride


# %% correct="receptive_field"
def receptive_field(layers):
    seen, jump = {0}, 1
    for kernel_size, stride, dilation in layers:
        seen = {pixel + tap * dilation * jump for pixel in seen for tap in range(kernel_size)}
        jump *= stride
    return max(seen) + 1, jump


# %% mistake="account" named="was left with other hooks"
def account(model, input_shape):
    rows, called = [], set()

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters()) * (name not in called)
            called.add(name)
            learns = isinstance(module, (nn.Conv2d, nn.Linear))
            work = output.numel() * module.weight[0].numel() if learns else 0
            rows.append((name, tuple(output.shape[1:]), parameters, work))

        return hook

    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(make_hook(name))
    model(torch.zeros(1, *input_shape, device="meta"))
    return rows


# %% mistake="account" named="after an exception"
def account(model, input_shape):
    rows, called, handles = [], set(), []

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters()) * (name not in called)
            called.add(name)
            learns = isinstance(module, (nn.Conv2d, nn.Linear))
            work = output.numel() * module.weight[0].numel() if learns else 0
            rows.append((name, tuple(output.shape[1:]), parameters, work))

        return hook

    for name, module in model.named_modules():
        if not list(module.children()):
            handles.append(module.register_forward_hook(make_hook(name)))
    model(torch.zeros(1, *input_shape, device="meta"))
    for handle in handles:
        handle.remove()
    return rows


# %% mistake="account" named="only the innermost"
def account(model, input_shape):
    rows, called, handles = [], set(), []

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters()) * (name not in called)
            called.add(name)
            learns = isinstance(module, (nn.Conv2d, nn.Linear))
            work = output.numel() * module.weight[0].numel() if learns else 0
            rows.append((name, tuple(output.shape[1:]), parameters, work))

        return hook

    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_hook(make_hook(name)))
        model(torch.zeros(1, *input_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return rows


# %% mistake="account" named="modules inside of modules are left out"
def account(model, input_shape):
    rows, called, handles = [], set(), []

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters()) * (name not in called)
            called.add(name)
            learns = isinstance(module, (nn.Conv2d, nn.Linear))
            work = output.numel() * module.weight[0].numel() if learns else 0
            rows.append((name, tuple(output.shape[1:]), parameters, work))

        return hook

    try:
        for name, module in model.named_children():
            if not list(module.children()):
                handles.append(module.register_forward_hook(make_hook(name)))
        model(torch.zeros(1, *input_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return rows


# %% mistake="account" named="share the last name"
def account(model, input_shape):
    rows, called, handles = [], set(), []
    try:
        for name, module in model.named_modules():
            if not list(module.children()):

                def hook(module, inputs, output):
                    parameters = sum(p.numel() for p in module.parameters())
                    parameters = 0 if module in called else parameters
                    called.add(module)
                    learns = isinstance(module, (nn.Conv2d, nn.Linear))
                    work = output.numel() * module.weight[0].numel() if learns else 0
                    rows.append((name, tuple(output.shape[1:]), parameters, work))

                handles.append(module.register_forward_hook(hook))
        model(torch.zeros(1, *input_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return rows


# %% mistake="account" named="each *call* should have one"
def account(model, input_shape):
    found, handles = {}, []

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters())
            learns = isinstance(module, (nn.Conv2d, nn.Linear))
            work = output.numel() * module.weight[0].numel() if learns else 0
            found[name] = (name, tuple(output.shape[1:]), parameters, work)

        return hook

    try:
        for name, module in model.named_modules():
            if not list(module.children()):
                handles.append(module.register_forward_hook(make_hook(name)))
        model(torch.zeros(1, *input_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


# %% mistake="account" named="leave out the axis of the batch"
def account(model, input_shape):
    rows, called, handles = [], set(), []

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters()) * (name not in called)
            called.add(name)
            learns = isinstance(module, (nn.Conv2d, nn.Linear))
            work = output.numel() * module.weight[0].numel() if learns else 0
            rows.append((name, tuple(output.shape), parameters, work))

        return hook

    try:
        for name, module in model.named_modules():
            if not list(module.children()):
                handles.append(module.register_forward_hook(make_hook(name)))
        model(torch.zeros(1, *input_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return rows


# %% mistake="account" named="they exist once"
def account(model, input_shape):
    rows, handles = [], []

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters())
            learns = isinstance(module, (nn.Conv2d, nn.Linear))
            work = output.numel() * module.weight[0].numel() if learns else 0
            rows.append((name, tuple(output.shape[1:]), parameters, work))

        return hook

    try:
        for name, module in model.named_modules():
            if not list(module.children()):
                handles.append(module.register_forward_hook(make_hook(name)))
        model(torch.zeros(1, *input_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return rows


# %% mistake="account" named="groups are ignored"
def account(model, input_shape):
    rows, called, handles = [], set(), []

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters()) * (name not in called)
            called.add(name)
            work = 0
            if isinstance(module, nn.Conv2d):
                height, width = module.kernel_size
                work = output.numel() * module.in_channels * height * width
            elif isinstance(module, nn.Linear):
                work = module.in_features * module.out_features
            rows.append((name, tuple(output.shape[1:]), parameters, work))

        return hook

    try:
        for name, module in model.named_modules():
            if not list(module.children()):
                handles.append(module.register_forward_hook(make_hook(name)))
        model(torch.zeros(1, *input_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return rows


# %% mistake="account" named="fully connected layers take no multiply-adds"
def account(model, input_shape):
    rows, called, handles = [], set(), []

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters()) * (name not in called)
            called.add(name)
            learns = isinstance(module, nn.Conv2d)
            work = output.numel() * module.weight[0].numel() if learns else 0
            rows.append((name, tuple(output.shape[1:]), parameters, work))

        return hook

    try:
        for name, module in model.named_modules():
            if not list(module.children()):
                handles.append(module.register_forward_hook(make_hook(name)))
        model(torch.zeros(1, *input_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return rows


# %% mistake="account" named="was left in another mode"
def account(model, input_shape):
    rows, called, handles = [], set(), []

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters()) * (name not in called)
            called.add(name)
            learns = isinstance(module, (nn.Conv2d, nn.Linear))
            work = output.numel() * module.weight[0].numel() if learns else 0
            rows.append((name, tuple(output.shape[1:]), parameters, work))

        return hook

    was_training = model.training
    model.eval()
    try:
        for name, module in model.named_modules():
            if not list(module.children()):
                handles.append(module.register_forward_hook(make_hook(name)))
        model(torch.zeros(1, *input_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    return rows


# %% mistake="account" named="it works at each position"
def account(model, input_shape):
    rows, called, handles = [], set(), []

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters()) * (name not in called)
            called.add(name)
            work = 0
            if isinstance(module, nn.Conv2d):
                work = output.numel() * module.weight[0].numel()
            elif isinstance(module, nn.Linear):
                work = module.in_features * module.out_features
            rows.append((name, tuple(output.shape[1:]), parameters, work))

        return hook

    try:
        for name, module in model.named_modules():
            if not list(module.children()):
                handles.append(module.register_forward_hook(make_hook(name)))
        model(torch.zeros(1, *input_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return rows


# %% mistake="account" named="remove yours, and only yours"
def account(model, input_shape):
    rows, called = [], set()

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters()) * (name not in called)
            called.add(name)
            learns = isinstance(module, (nn.Conv2d, nn.Linear))
            work = output.numel() * module.weight[0].numel() if learns else 0
            rows.append((name, tuple(output.shape[1:]), parameters, work))

        return hook

    try:
        for name, module in model.named_modules():
            if not list(module.children()):
                module.register_forward_hook(make_hook(name))
        model(torch.zeros(1, *input_shape, device="meta"))
    finally:
        for module in model.modules():
            module._forward_hooks.clear()
    return rows


# %% correct="account"
# One hook for all, which looks the names up; a batch of two; lists for tuples.
def account(model, input_shape):
    names = {module: name for name, module in model.named_modules()}
    rows = []

    def hook(module, inputs, output):
        name, work, parameters = names[module], 0, 0
        if name not in [row[0] for row in rows]:
            for parameter in module.parameters():
                parameters += parameter.numel()
        if isinstance(module, nn.Conv2d):
            kernel_height, kernel_width = module.kernel_size
            _, channels, height, width = output.shape
            work = channels * height * width * kernel_height * kernel_width
            work = work * module.in_channels // module.groups
        if isinstance(module, nn.Linear):
            work = module.in_features * output[0].numel()
        rows.append([name, list(output.shape[1:]), parameters, work])

    handles = [m.register_forward_hook(hook) for m in names if len(list(m.children())) == 0]
    try:
        model(torch.zeros(2, *input_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return rows


# %% correct="account"
# Works on a copy, so nothing has to be put back.
import copy


def account(model, input_shape):
    model, rows, seen = copy.deepcopy(model).eval(), [], set()
    for name, module in model.named_modules():
        if len(list(module.children())) == 0:

            def hook(module, inputs, output, name=name):
                parameters = 0 if module in seen else sum(p.numel() for p in module.parameters())
                seen.add(module)
                work = 0
                if type(module) in (nn.Conv2d, nn.Linear):
                    work = module.weight.numel() // len(module.weight) * output.numel()
                rows.append((name, output.shape[1:], parameters, work))

            module.register_forward_hook(hook)
    model(torch.empty((1, *input_shape), device="meta"))
    return rows


# %% correct="account"
from functools import partial


# Evaluates, and puts every module's mode back.
def account(model, input_shape):
    rows, called, handles = [], set(), []
    modes = {module: module.training for module in model.modules()}

    def note(name, module, inputs, output):
        parameters = 0 if name in called else sum(p.numel() for p in module.parameters())
        called.add(name)
        work = 0
        if isinstance(module, nn.Conv2d):
            products = module.in_channels // module.groups * int(np.prod(module.kernel_size))
            work = int(np.prod(output.shape[1:])) * products
        elif isinstance(module, nn.Linear):
            work = int(np.prod(output.shape[1:])) * module.in_features
        rows.append((name, tuple(output.shape)[1:], parameters, work))

    try:
        for name, module in model.named_modules():
            if next(module.children(), None) is None:
                handles.append(module.register_forward_hook(partial(note, name)))
        model.eval()
        with torch.inference_mode():
            model(torch.zeros((1, *input_shape), device="meta"))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return rows


# %% equivalent="total_with_inputs" reason="what has parameters has multiply-adds, nothing else has"
# - if row[2]:
# + if row[3]:

# %% equivalent="largest_batch" reason="the larger of two is the same in any order"
# - return max(0, left // bytes_per_image)
# + return max(left // bytes_per_image, 0)

# %% equivalent="bytes_for_backward" reason="a set of two in any order"
# - if kind in ("conv", "linear"):
# + if kind in ("linear", "conv"):

# %% equivalent="bytes_for_backward" reason="a set of two in any order"
# - elif kind in ("pool", "dropout"):
# + elif kind in ("dropout", "pool"):

# %% equivalent="account" reason="all filters have as many weights"
# - multiply_adds = output.numel() * module.weight[0].numel()
# + multiply_adds = output.numel() * module.weight[-1].numel()

# %% equivalent="account" reason="a torch.Size is a tuple"
# - rows.append((name, tuple(output.shape[1:]), parameters, multiply_adds))
# + rows.append((name, output.shape[1:], parameters, multiply_adds))

# %% equivalent="account" reason="no gradient is asked for; autograd's graph is dropped"
# - with torch.no_grad():
# + if True:

# %% equivalent="account" reason="a tensor on the meta device holds no numbers"
# - model(torch.zeros(1, *input_shape, device="meta"))
# + model(torch.ones(1, *input_shape, device="meta"))
