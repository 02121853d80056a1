"""Push and pull against a hub on the loopback, through the library's real client."""

import json

import numpy as np
import pytest
from helpers.finished_run import a_run, answer
from helpers.hub import COMMIT, a_hub

from fedprune.common.artifacts.load import describe_model, load_model
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError, FedPruneError, IntegrityError
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.hub.bundle import make_bundle, sha256
from fedprune.simulations.hub.pull import pull
from fedprune.simulations.hub.push import push_bundle

huggingface_hub = pytest.importorskip("huggingface_hub")

FACTS = Description(labels=("cat", "dog"), offset=127.5, scale=0.01, stored="uint8")
REPO = "me/net"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, model = a_run(tmp_path_factory.mktemp("runs"), description=FACTS)
    return folder.path, model


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with a_hub() as hub:
        yield hub


@pytest.fixture
def api(hub):
    return huggingface_hub.HfApi(endpoint=hub.address, token="hf_of_a_test")  # noqa: S106


@pytest.fixture(scope="module")
def bundle(run):
    return make_bundle(run[0], REPO, packed=True)


@pytest.fixture
def sent(bundle, hub, api):
    """Return the bundle that the hub holds."""
    push_bundle(bundle, REPO, public=False, api=api)
    return bundle


def test_what_is_pulled_is_what_was_pushed(run, hub, api, sent, tmp_path):
    assert hub.files[REPO] == dict(sent.files)
    assert hub.private[REPO] is True
    found = pull(REPO, tmp_path / "new", digest=sent.digest, api=api)
    assert (found["commit"], found["digest"]) == (COMMIT, sent.digest)
    assert (found["model"], found["own_code"]) == ("small-resnet", False)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["fedprune.json", "labels.json", "model.fpz", "model.safetensors"]
    for name in names:
        data = (tmp_path / "new" / name).read_bytes()
        assert data == sent.files[name]
    path = tmp_path / "new" / "model.safetensors"
    assert np.array_equal(answer(load_model(path)), answer(run[1]))
    assert describe_model(path) == FACTS


def test_nothing_but_the_listed_files_goes_over_the_wire(run, hub, sent):
    whole = hub.everything()
    for secret in (str(run[0]), str(run[0].parent), run[0].name):
        assert secret.encode() not in whole
    commits = [body for _, path, _, body in hub.heard if "/commit/" in path]
    steps = [json.loads(line) for line in commits[0].splitlines()]
    assert [s["value"].get("path") for s in steps[1:]] == [*sent.files]


def test_a_second_push_removes_what_it_no_longer_has(run, hub, api, sent):
    hub.files[REPO]["notes.txt"] = b"mine"
    push_bundle(make_bundle(run[0], REPO), REPO, public=False, api=api)
    assert "model.fpz" not in hub.files[REPO]
    assert hub.files[REPO]["notes.txt"] == b"mine"


def test_a_public_repository_is_not_written_to_by_default(bundle, hub, api):
    hub.files[REPO], hub.private[REPO] = {}, False
    with pytest.raises(ConfigError, match=r"is public.*--public.*nothing was sent"):
        push_bundle(bundle, REPO, public=False, api=api)
    assert hub.files[REPO] == {}
    assert push_bundle(bundle, REPO, public=True, api=api)["private"] is False
    assert hub.files[REPO] == dict(bundle.files)


@pytest.fixture(scope="module")
def other_network(tmp_path_factory):
    folder, _ = a_run(tmp_path_factory.mktemp("other"), "mlp")
    return make_bundle(folder.path, REPO, packed=True).files["model.fpz"]


def facts_of(hub):
    return json.loads(hub.files[REPO]["fedprune.json"])


def put_facts(hub, facts):
    hub.files[REPO]["fedprune.json"] = json.dumps(facts).encode()


def other_bytes(hub):
    data = bytearray(hub.files[REPO]["model.safetensors"])
    data[-1] ^= 1
    hub.files[REPO]["model.safetensors"] = bytes(data)


def broken_but_named(hub):
    other_bytes(hub)
    facts = facts_of(hub)
    data = hub.files[REPO]["model.safetensors"]
    facts["files"]["model.safetensors"]["sha256"] = sha256(data)
    put_facts(hub, facts)


def a_pickle(hub):
    data = b"\x80\x04" + b"x" * 100
    hub.files[REPO]["model.safetensors"] = data
    facts = facts_of(hub)
    facts["files"] = {"model.safetensors": {"bytes": len(data), "sha256": sha256(data)}}
    put_facts(hub, facts)


def another_name(name):
    def change(hub):
        facts = facts_of(hub)
        facts["files"][name] = facts["files"]["model.fpz"]
        hub.files[REPO][name] = hub.files[REPO]["model.fpz"]
        put_facts(hub, facts)

    return change


def stated(**values):
    def change(hub):
        facts = facts_of(hub)
        facts["files"]["model.safetensors"].update(values)
        put_facts(hub, facts)

    return change


def another_network(hub):
    """Swap in the small form of a network that is cut otherwise."""
    facts = facts_of(hub)
    data = hub.files["me/other"]["model.fpz"]
    hub.files[REPO]["model.fpz"] = data
    facts["files"]["model.fpz"] = {"bytes": len(data), "sha256": sha256(data)}
    put_facts(hub, facts)


def longer(hub):
    hub.files[REPO]["model.safetensors"] += b"x"


def large_facts(hub):
    hub.files[REPO]["fedprune.json"] += b" " * (1 << 20)


def no_facts(hub):
    del hub.files[REPO]["fedprune.json"]


def no_json(hub):
    hub.files[REPO]["fedprune.json"] = b"[" * 9000


ATTACKS = {
    "other bytes": (other_bytes, "is not the file that fedprune.json names"),
    "other bytes, with their digest": (broken_but_named, "digest differs"),
    "a pickle": (a_pickle, "is a pickle"),
    "a name with a path": (another_name("../x.safetensors"), "files names"),
    "a file of another kind": (another_name("model.bin"), "files names"),
    "more bytes than stated": (longer, "has more than"),
    "a size above the limit": (stated(bytes=1 << 40), "want at most"),
    "a size below 0": (stated(bytes=-1), "files names"),
    "a size that is none": (stated(bytes=True), "files names"),
    "a digest that is none": (stated(sha256="../../x"), "files names"),
    "facts without an end": (large_facts, "has more than 1048576 bytes"),
    "two networks": (another_network, "another network than that of"),
    "no facts": (no_facts, "no network that fedprune push wrote"),
    "no JSON": (no_json, "fedprune.json"),
}


@pytest.mark.parametrize(("attack", "message"), ATTACKS.values(), ids=ATTACKS)
@pytest.mark.usefixtures("sent")
def test_a_forged_repository_leaves_no_file(
    attack, message, hub, api, other_network, tmp_path
):
    hub.files["me/other"] = {"model.fpz": other_network}
    attack(hub)
    with pytest.raises(IntegrityError, match=message):
        pull(REPO, tmp_path / "new", api=api)
    assert [*tmp_path.rglob("*")] == []


def test_a_digest_that_the_user_gives_is_the_one_that_counts(hub, api, sent, tmp_path):
    with pytest.raises(IntegrityError, match="has the digest"):
        pull(REPO, tmp_path / "new", digest="0" * 64, api=api)
    with pytest.raises(ConfigError, match="64 hex digits"):
        pull(REPO, tmp_path / "new", digest="0", api=api)


@pytest.mark.parametrize("place", ["file", "file/new/deep"])
def test_a_folder_that_cannot_be_made_is_refused_before_the_hub_is_asked(
    place, tmp_path
):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=f"{tmp_path / 'file'} is a file"):
        pull(REPO, tmp_path / place, api=object())


def test_no_file_is_replaced(hub, api, sent, tmp_path):
    (tmp_path / "labels.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"labels\.json exists and is not replaced"):
        pull(REPO, tmp_path, api=api)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.json"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_right_says_how_to_log_in(hub, api, bundle, status, tmp_path):
    hub.status = status
    with pytest.raises(ConfigError, match="hf auth login"):
        push_bundle(bundle, REPO, public=False, api=api)
    with pytest.raises(ConfigError, match="HF_TOKEN"):
        pull(REPO, tmp_path / "new", api=api)


def test_an_error_of_the_hub_is_one_line(hub, api, tmp_path, monkeypatch, capsys):
    with pytest.raises(FedPruneError, match="cannot read me/net at main"):
        pull(REPO, tmp_path / "new", api=api)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert run_command_line(["pull", REPO, str(tmp_path / "new")]) == 5
    shown = capsys.readouterr().err
    assert "offline mode" in shown
    assert len(shown.splitlines()) == 1
    for revision in ("../../x", "", "a b"):
        call = ["pull", REPO, str(tmp_path / "new"), "--revision", revision]
        assert run_command_line(call) == 2


def test_a_missing_package_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("fedprune.simulations.hub.repository.find_spec", lambda _: None)
    assert run_command_line(["pull", REPO, str(tmp_path / "new")]) == 2
    assert "fedprune[hub]" in capsys.readouterr().err
