"""Shipped networks, and torchvision's from a file server that stands in for the real one."""

import functools
import hashlib
import http.server
import shutil
import threading
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

import utils.models
from utils.models import (
    IMAGENET_NETWORKS,
    SCENE_NETWORKS,
    WEIGHTS,
    WeightsUnavailable,
    load_model,
    make_scene_network,
)
from utils.scenes import CLASS_NAMES


@pytest.fixture(scope="module", params=SCENE_NETWORKS)
def scene_network(request):
    return load_model(request.param)


def check_interface(model, images):
    """What every lab relies on."""
    assert not model.training
    with torch.no_grad():
        scores = model(images)
        assert scores.shape == (len(images), len(model.class_names))
        assert torch.allclose(scores, model.classifier(model.features(images)), atol=1e-5)
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    assert relus and not any(relu.inplace for relu in relus)
    assert all(parameter.requires_grad for parameter in model.parameters())
    # The named module's output is rectified, and it is the last with both rows and columns to show.
    outputs = []
    handle = model.get_submodule(model.last_conv).register_forward_hook(
        lambda *call: outputs.append(call[2])
    )
    with torch.no_grad():
        model(images)
    handle.remove()
    assert (
        outputs[0].ndim == 4
        and outputs[0].shape[2] > 1
        and outputs[0].min() == 0
        and outputs[0].max() > 0
    )
    last = [
        name for name, module in model.features.named_modules() if isinstance(module, nn.Conv2d)
    ][-1]
    block = model.last_conv.removeprefix("features.")
    assert last.startswith(block) or list(dict(model.features.named_children())).index(last) < list(
        dict(model.features.named_children())
    ).index(block)


def test_scene_networks_keep_the_interface(scene_network):
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    check_interface(scene_network, images)
    assert scene_network.class_names == CLASS_NAMES and scene_network.input_size == 64
    assert sum(parameter.numel() for parameter in scene_network.parameters()) == 283_674
    assert all(parameter.dtype == torch.float32 for parameter in scene_network.parameters())


def test_normalisation_is_inside(scene_network):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    body = nn.Sequential(*list(scene_network.features)[1:], scene_network.classifier)
    with torch.no_grad():
        assert torch.allclose(scene_network(images), body((images - 0.45) / 0.25), atol=1e-4)


def test_shipped_networks_differ_and_are_small():
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        scores = [load_model(name)(images) for name in SCENE_NETWORKS]
    assert all(not torch.allclose(a, b, atol=0.1) for i, a in enumerate(scores) for b in scores[:i])
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) <= 3_000_000


def test_loading_leaves_global_randomness_alone_and_gives_copies():
    before = torch.get_rng_state()
    first, second = load_model("base"), load_model("base")
    assert torch.equal(torch.get_rng_state(), before)
    nn.init.zeros_(first.classifier.linear.weight)
    assert second.classifier.linear.weight.any()


def test_a_network_moves_to_another_device_whole():
    model = load_model("base").to("meta")  # any device but the CPU shows what would be left behind
    assert model(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cpu_and_gpu_agree():
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        on_gpu = load_model("base").cuda()(images.cuda()).cpu()
        assert torch.allclose(load_model("base")(images), on_gpu, atol=1e-2)


def test_untrained_networks_follow_their_generator():
    before = torch.get_rng_state()
    first, again, other = (
        make_scene_network(["a", "b"], torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    for (name, value), same, different in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(value, same)
        if name.endswith("weight") and "norm" not in name:
            assert not torch.equal(value, different)
    assert first.training and first(torch.rand(2, 3, 64, 64)).shape == (2, 2)


def test_unknown_names_are_refused_with_the_list():
    with pytest.raises(ValueError, match=r"base.*squeezenet1_1"):
        load_model("resnet-18")


def test_damaged_and_missing_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(utils.models, "WEIGHTS", tmp_path)
    with pytest.raises(WeightsUnavailable, match=r"python -m utils\.train base"):
        load_model("base")
    for file in WEIGHTS.glob("base.*"):
        shutil.copy(file, tmp_path)
    load_model("base")
    content = bytearray((tmp_path / "base.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "base.safetensors").write_bytes(content)
    with pytest.raises(WeightsUnavailable, match=r"base\.safetensors is damaged"):
        load_model("base")


# --- Torchvision's networks ---


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A file server on this machine for SqueezeNet's weights, and an empty torch cache."""
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    handler = functools.partial(Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        weights = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1

        def publish(content: bytes, content_hash: str) -> Path:
            """Serve a file, its hash in its name as torch has it; give its place in the cache."""
            name = f"squeezenet1_1-{content_hash}.pth"
            (served / name).write_bytes(content)
            monkeypatch.setattr(
                weights.value, "url", f"http://127.0.0.1:{service.server_port}/{name}"
            )
            return tmp_path / "cache/hub/checkpoints" / name

        yield publish, service
        service.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory):
    """A network like the published one but for its values, as (network, file content, hash)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision.models.squeezenet1_1()
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(network.state_dict(), path)
    content = path.read_bytes()
    return network.eval(), content, hashlib.sha256(content).hexdigest()[:8]


def test_the_right_file_is_downloaded_once(server, squeezenet, capfd):
    (publish, service), (network, content, content_hash) = server, squeezenet
    cached = publish(content, content_hash)
    before = torch.get_rng_state()
    model = load_model("squeezenet1_1")
    assert torch.equal(torch.get_rng_state(), before)
    assert cached.exists()
    images = torch.rand(2, 3, 96, 80, generator=torch.Generator().manual_seed(0))
    check_interface(model, images)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        assert torch.allclose(model(images), network((images - mean) / std), atol=1e-5)
    assert (
        model.class_names[207] == "golden retriever"
        and len(model.class_names) == 1000
        and model.input_size == 224
    )
    service.server_close()  # gone, but the cache has it
    load_model("squeezenet1_1")
    assert capfd.readouterr().err == ""


def test_a_wrong_hash_is_refused(server, squeezenet):
    (publish, _), (_, content, _) = server, squeezenet
    cached = publish(content, "0badc0de")
    with pytest.raises(WeightsUnavailable, match=r"invalid hash.*load_model\('base'\)"):
        load_model("squeezenet1_1")
    assert not cached.exists()


def test_a_truncated_download_is_refused(server, squeezenet):
    (publish, _), (_, content, content_hash) = server, squeezenet
    cached = publish(content[: len(content) // 2], content_hash)
    with pytest.raises(WeightsUnavailable, match=r"load_model\('base'\)"):
        load_model("squeezenet1_1")
    assert not cached.exists()


def test_a_truncated_file_in_the_cache_is_named(server, squeezenet):
    (publish, _), (_, content, content_hash) = server, squeezenet
    cached = publish(content, content_hash)
    cached.parent.mkdir(parents=True)
    for part in (content[: len(content) // 2], b""):
        cached.write_bytes(part)
        with pytest.raises(WeightsUnavailable, match=r"\.pth is damaged, delete it"):
            load_model("squeezenet1_1")


def test_a_server_that_is_gone_means_one_sentence(server, squeezenet):
    (publish, service), (_, content, content_hash) = server, squeezenet
    publish(content, content_hash)
    service.shutdown()
    service.server_close()
    with pytest.raises(WeightsUnavailable) as raised:
        load_model("squeezenet1_1")
    message = str(raised.value)
    assert "squeezenet1_1" in message and "load_model('base')" in message and "\n" not in message


@pytest.mark.parametrize("name", IMAGENET_NETWORKS)
def test_every_imagenet_network_computes_what_torchvisions_does(name, monkeypatch):
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision.models.get_model(name).eval()
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: network.state_dict())
    model = load_model(name)
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    check_interface(model, images)
    with torch.no_grad():
        expected = network(weights.transforms(resize_size=224)(images))
        assert torch.allclose(model(images), expected, atol=1e-4 * expected.abs().max().item())
    assert sum(value.numel() for value in model.parameters()) == weights.meta["num_params"]


def test_gradients_come_back_in_the_layout_of_images() -> None:
    model = load_model("base")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    expected = torch.autograd.grad(model(images).sum(), images)[0]
    model.to(memory_format=torch.channels_last)
    gradient = torch.autograd.grad(model(images).sum(), images)[0]
    torch.testing.assert_close(gradient.view(2, -1), expected.view(2, -1))
